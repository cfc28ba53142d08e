package app_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"crier/api"
	"crier/api/client"
	"crier/audience"
	"crier/audience/source"
	"crier/internal/app"
	"crier/job"
)

// house is a server with the tenants acme and other besides the default one, each with a
// key of each role, and acme with one object of each kind.
type house struct {
	t       *testing.T
	url     string
	boot    *client.Client
	keys    map[string]string // by who
	account uint32
	pkg     []byte
	pkgID   string
	live    job.ID   // parked for everybody
	over    job.ID   // cancelled
	marks   []string // what stands only in answers to those who see acme's
	made    int
}

// startHouse runs a server in this process until the test ends.
func startHouse(t *testing.T, change func(*app.Config)) (ready app.Ready, log *logBuffer) {
	t.Helper()
	log = &logBuffer{}
	announced := make(chan app.Ready, 1)
	cfg := app.Config{Data: t.TempDir(), Listen: "127.0.0.1:0", Logger: slog.New(slog.NewTextHandler(log, &slog.HandlerOptions{Level: slog.LevelDebug})),
		Announce: func(r app.Ready) { announced <- r }}
	if change != nil {
		change(&cfg)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- app.Run(ctx, cfg) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("the server: %v", err)
		}
	})
	select {
	case ready = <-announced:
	case err := <-ended:
		ended <- err
		t.Fatalf("the server did not start: %v", err)
	case <-time.After(time.Minute):
		t.Fatal("the server did not start")
	}
	return ready, log
}

func newHouse(t *testing.T, change func(*app.Config)) (*house, *logBuffer) {
	t.Helper()
	ready, log := startHouse(t, change)
	h := &house{t: t, url: ready.API, keys: map[string]string{"bootstrap": ready.Token}}
	h.boot = h.dial(ready.Token)
	ctx := t.Context()
	r := job.Recipient(1)
	for _, tenant := range []string{"acme", "other", "default"} {
		if tenant != "default" {
			_, err := h.boot.CreateTenant(ctx, api.CreateTenant{Name: tenant})
			h.must(err)
		}
		for _, role := range []job.Role{job.Viewer, job.Submitter, job.Admin, job.Device} {
			req := api.CreateKey{Name: tenant + " " + role.String(), Role: role, Tenant: tenant}
			if role == job.Device {
				req.Recipient = &r
			}
			k, err := h.boot.CreateKey(ctx, req)
			h.must(err)
			h.keys[req.Name] = k.Secret
			if tenant == "acme" {
				h.marks = append(h.marks, k.ID)
			}
		}
	}
	revoked, err := h.boot.CreateKey(ctx, api.CreateKey{Name: "revoked", Role: job.Admin, Tenant: "acme"})
	h.must(err)
	_, err = h.boot.RevokeKey(ctx, revoked.ID)
	h.must(err)
	token, err := h.boot.MintToken(ctx, api.MintToken{Recipient: &r})
	h.must(err)
	h.keys["revoked"], h.keys["token"], h.keys["wrong"], h.keys["none"] = revoked.Secret, token.Token, "crk_"+strings.Repeat("A", 48), ""
	h.furnish()
	return h, log
}

// furnish gives acme its objects.
func (h *house) furnish() {
	ctx, acme := h.t.Context(), h.dial(h.keys["acme admin"])
	a, err := acme.CreateAccount(ctx, api.CreateAccount{Name: "news of acme"})
	h.must(err)
	h.account = a.ID
	_, err = acme.AddFollowers(ctx, "news of acme", []job.Recipient{1, 2})
	h.must(err)
	dir := h.t.TempDir()
	info, err := audience.Build(ctx, dir, source.NewText(source.Input{Name: "p", File: "p", R: io.NopCloser(strings.NewReader("1\n2\n"))}))
	h.must(err)
	h.pkgID = info.SHA256.String()
	h.pkg, err = os.ReadFile(filepath.Join(dir, "p.crpk"))
	h.must(err)
	_, err = acme.ImportPackage(ctx, api.ImportPackage{Account: "news of acme"}, bytes.NewReader(h.pkg))
	h.must(err)
	h.live, h.over = h.submit(), h.submit()
	_, err = acme.CancelJob(ctx, h.over)
	h.must(err)
	_, err = acme.WaitJob(ctx, h.over, api.WaitJob{For: job.Completed, Timeout: 30 * time.Second})
	h.must(err)
	_, err = acme.WaitJob(ctx, h.live, api.WaitJob{For: job.Sent, Timeout: 30 * time.Second})
	h.must(err)
	for _, name := range []string{"segment", "archived", "a segment"} {
		_, err = h.boot.CreateSegment(ctx, api.CreateSegment{Name: name})
		h.must(err)
	}
	_, err = acme.AddSuppressed(ctx, api.SuppressionChange{Account: "news of acme", IDs: []job.Recipient{76}})
	h.must(err)
	h.marks = append(h.marks, "news of acme", h.pkgID, h.live.String(), h.over.String(), `"acme"`)
}

func (h *house) must(err error) {
	h.t.Helper()
	if err != nil {
		h.t.Fatal(err)
	}
}

func (h *house) dial(key string) *client.Client {
	h.t.Helper()
	c, err := client.New(client.Config{Server: h.url, Key: key})
	h.must(err)
	h.t.Cleanup(c.Close)
	return c
}

func (h *house) submit() job.ID {
	h.t.Helper()
	j, err := h.boot.SubmitJob(h.t.Context(), api.SubmitJob{Account: fmt.Sprint(h.account), Audience: api.AudienceFollowers, Body: "x"})
	h.must(err)
	return j.Job
}

// cell is one request of the table: where, and with which body.
type cell struct{ path, body string }

// ask makes a request with a key and gives the status and the answer.
func (h *house) ask(method, key string, c cell) (int, string, http.Header) {
	h.t.Helper()
	req, err := http.NewRequestWithContext(h.t.Context(), method, h.url+c.path, strings.NewReader(c.body))
	h.must(err)
	if key != "" {
		req.Header.Set("Authorization", "Bearer "+key)
	}
	resp, err := http.DefaultClient.Do(req)
	h.must(err)
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	h.must(err)
	return resp.StatusCode, string(b), resp.Header
}

// who are the identities of the table, in its order, behind those that are nobody.
var who = []string{"acme device", "acme viewer", "acme submitter", "acme admin", "other viewer", "other submitter", "other admin",
	"default viewer", "default submitter", "default admin", "bootstrap"}

// row is an operation: what each of who is answered, and the request, about acme's
// objects.
//
//   - done, and acme's objects may stand in the answer; where the row has one, it does
//     .  done, and nothing of acme's stands in the answer
//     0  not found, as what is not there
//     x  denied
//     c  conflict: it came to the service
type row struct {
	want string
	has  func(h *house) string
	make func(h *house, n int) cell
}

func at(format string, of ...func(*house) any) func(*house, int) cell {
	return func(h *house, _ int) cell {
		var args []any
		for _, f := range of {
			args = append(args, f(h))
		}
		path, body, _ := strings.Cut(fmt.Sprintf(format, args...), " ")
		return cell{path, body}
	}
}

func account(h *house) any   { return h.account }
func live(h *house) any      { return h.live }
func over(h *house) any      { return h.over }
func liveID(h *house) string { return h.live.String() }
func named(h *house) string  { return "news of acme" }

// table says who may do what to what is acme's, written down here apart from the code.
var table = map[string]row{
	//                    device viewer submitter admin | other: v s a | default: v s a | bootstrap
	"get-self":          {want: "++++ ... ... .", make: at("/v1/self")},
	"list-accounts":     {want: "x+++ ... ... +", has: named, make: at("/v1/accounts?limit=500")},
	"get-account":       {want: "x+++ 000 000 +", has: named, make: at("/v1/accounts/%d", account)},
	"create-account":    {want: "xxx+ xx. xx. +", make: func(_ *house, n int) cell { return cell{"/v1/accounts", fmt.Sprintf(`{"name":"account %d"}`, n)} }},
	"add-followers":     {want: "xx++ x00 x00 +", make: at(`/v1/accounts/%d/followers/add {"ids":[1,2]}`, account)},
	"remove-followers":  {want: "xx++ x00 x00 +", make: at(`/v1/accounts/%d/followers/remove {"ids":[99]}`, account)},
	"import-followers":  {want: "xx++ x00 x00 +", make: at("/v1/followers/import?format=ids&account=%d 1\n2\n", account)},
	"get-suppression":   {want: "x+++ 000 000 +", make: at("/v1/suppression?account=%d", account)},
	"add-suppressed":    {want: "xx++ x00 x00 +", make: at(`/v1/suppression/add {"account":"%d","ids":[77]}`, account)},
	"remove-suppressed": {want: "xxx+ xx0 xx0 +", make: at(`/v1/suppression/remove {"account":"%d","ids":[78]}`, account)},
	"list-suppression":  {want: "x+++ ... ... +", has: named, make: at("/v1/suppression/lists")},
	"import-suppressed": {want: "xx++ x00 x00 +", make: at("/v1/suppression/import?account=%d 79\n", account)},
	"export-set":        {want: "xx++ x00 x00 +", make: at("/v1/sets/followers?of=%d", account)},
	// Segments are the default tenant's.
	"list-segments":       {want: "xxxx xxx +++ +", has: func(*house) string { return "a segment" }, make: at("/v1/segments")},
	"get-segment":         {want: "xxxx xxx +++ +", make: at("/v1/segments/segment")},
	"create-segment":      {want: "xxxx xxx xx+ +", make: func(_ *house, n int) cell { return cell{"/v1/segments", fmt.Sprintf(`{"name":"segment %d"}`, n)} }},
	"archive-segment":     {want: "xxxx xxx xx+ +", make: at("/v1/segments/archived/archive")},
	"restore-segment":     {want: "xxxx xxx xx+ +", make: at("/v1/segments/segment/restore")},
	"add-to-segment":      {want: "xxxx xxx x++ +", make: at(`/v1/segments/segment/add {"ids":[1]}`)},
	"remove-from-segment": {want: "xxxx xxx x++ +", make: at(`/v1/segments/segment/remove {"ids":[2]}`)},
	"import-segment":      {want: "xxxx xxx x++ +", make: at("/v1/segments/segment/import 3\n")},
	"list-packages":       {want: "x+++ ... ... +", has: func(h *house) string { return h.pkgID }, make: at("/v1/packages?limit=500")},
	"get-package":         {want: "x+++ 000 000 +", make: at("/v1/packages/%s", func(h *house) any { return h.pkgID })},
	"import-package": {want: "xx++ x00 x00 +", make: func(h *house, _ int) cell {
		return cell{fmt.Sprintf("/v1/packages?account=%d", h.account), string(h.pkg)}
	}},
	"submit-job":      {want: "xx++ x00 x00 +", make: at(`/v1/jobs {"account":"%d","audience":"followers","body":"x"}`, account)},
	"list-jobs":       {want: "x+++ ... ... +", has: liveID, make: at("/v1/jobs?limit=500")},
	"get-job":         {want: "x+++ 000 000 +", make: at("/v1/jobs/%s", live)},
	"watch-job":       {want: "x+++ 000 000 +", make: at("/v1/jobs/%s/watch", over)},
	"wait-job":        {want: "x+++ 000 000 +", make: at("/v1/jobs/%s/wait?timeout=20s", live)},
	"explain-job":     {want: "++++ 000 000 +", make: at("/v1/jobs/%s/recipients/1", live)},
	"export-job":      {want: "xx++ x00 x00 +", make: at("/v1/jobs/%s/recipients?outcome=parked", live)},
	"reconcile-job":   {want: "x+++ 000 000 +", make: at("/v1/jobs/%s/reconcile", live)},
	"get-recipient":   {want: "x+++ ... ... +", has: liveID, make: at("/v1/recipients/1")},
	"erase-recipient": {want: "xxxx xxx xx. +", make: at(`/v1/recipients/4000000000/erase {"reason":"asked for it"}`)},
	"tail-events":     {want: "x+++ ... ... +", has: liveID, make: at("/v1/events")},
	"pause-job":       {want: "xx++ x00 x00 +", make: at("/v1/jobs/%s/pause", live)},
	"resume-job":      {want: "xx++ x00 x00 +", make: at("/v1/jobs/%s/resume", live)},
	"set-rate":        {want: "xx++ x00 x00 +", make: at(`/v1/jobs/%s/rate {"rate":5}`, live)},
	"resolve-job":     {want: "xx++ x00 x00 +", make: at(`/v1/jobs/%s/resolve {"decision":"drop"}`, live)},
	"recall-job": {want: "xx++ x00 x00 +", make: func(h *house, _ int) cell {
		return cell{fmt.Sprintf("/v1/jobs/%s/recall", h.submit()), `{"reason":"a test"}`}
	}},
	"cancel-job":          {want: "xx++ x00 x00 +", make: func(h *house, _ int) cell { return cell{fmt.Sprintf("/v1/jobs/%s/cancel", h.submit()), ""} }},
	"create-key":          {want: "xxx+ xx. xx. +", make: at(`/v1/keys {"name":"k","role":"viewer"}`)},
	"list-keys":           {want: "xxx+ xx. xx. +", has: func(h *house) string { return h.marks[0] }, make: at("/v1/keys?limit=500")},
	"revoke-key":          {want: "xxx+ xx0 xx0 +", make: func(h *house, _ int) cell { return cell{"/v1/keys/" + h.spareKey() + "/revoke", ""} }},
	"get-tenant":          {want: "x+++ 000 000 +", make: at("/v1/tenants/acme")},
	"list-audit":          {want: "xxx+ xx. xx. +", has: liveID, make: at("/v1/audit?limit=500&operation=submit-job")},
	"make-webhook-secret": {want: "xxx+ xx0 xx0 +", make: func(h *house, _ int) cell { return cell{"/v1/tenants/acme/webhook-secret", ""} }},
	"list-tenants":        {want: "xxxx xxx xxx +", make: at("/v1/tenants")},
	"create-tenant":       {want: "xxxx xxx xxx +", make: func(_ *house, n int) cell { return cell{"/v1/tenants", fmt.Sprintf(`{"name":"t%d"}`, n)} }},
	"set-limits":          {want: "xxxx xxx xxx +", make: at(`/v1/tenants/acme/limits {"jobs":0}`)},
	"mint-token":          {want: "xxxx xxx xx. +", make: at(`/v1/tokens {"recipient":1}`)},
	"status":              {want: "xxxx xxx ... +", make: at("/v1/status")},
	"list-members":        {want: "xxxx xxx ... +", make: at("/v1/members")},
	"get-member":          {want: "xxxx xxx ... +", make: at("/v1/members/%s", member)},
	"silence-member":      {want: "xxxx xxx xxc c", make: at(`/v1/members/%s/silence {}`, member)},
	"resume-member":       {want: "xxxx xxx xx. +", make: at(`/v1/members/%s/resume {}`, member)},
	"list-journals":       {want: "xxxx xxx ... +", make: at("/v1/journals")},
	"get-ring":            {want: "xxxx xxx xxx +", make: at("/v1/ring?kind=job&diff=true")},
	"list-lanes":          {want: "xxxx xxx xxx +", make: at("/v1/lanes")},
	"tail-ledger":         {want: "xxxx xxx xxx +", has: liveID, make: at("/v1/ledger")},
	"verify-ledger":       {want: "xxxx xxx xxx +", make: at("/v1/ledger/verify")},
	"backup":              {want: "xxxx xxx xxx +", make: at("/v1/backup")},
}

func member(h *house) any {
	list, err := h.boot.ListMembers(h.t.Context())
	h.must(err)
	return list.Members[0].ID
}

// spareKey makes a key of acme's that nobody needs.
func (h *house) spareKey() string {
	k, err := h.boot.CreateKey(h.t.Context(), api.CreateKey{Name: "spare", Role: job.Viewer, Tenant: "acme"})
	h.must(err)
	return k.ID
}

type documented struct{ id, method, path string }

// operations reads what there is from the document that the server serves.
func (h *house) operations() (all []documented) {
	_, body, _ := h.ask(http.MethodGet, "", cell{"/openapi.json", ""})
	var doc struct {
		Paths map[string]map[string]struct{ OperationID string }
	}
	h.must(json.Unmarshal([]byte(body), &doc))
	for path, methods := range doc.Paths {
		for method, op := range methods {
			all = append(all, documented{op.OperationID, strings.ToUpper(method), path})
		}
	}
	return all
}

// TestEveryOperationByEveryIdentity goes through every operation of the document, with
// every kind of key there is and those that are none.
func TestEveryOperationByEveryIdentity(t *testing.T) {
	t.Parallel()
	h, log := newHouse(t, nil)
	ops := h.operations()
	if len(ops) != len(table) {
		t.Errorf("the server has %d operations, the table %d", len(ops), len(table))
	}
	for _, op := range ops {
		r, ok := table[op.id]
		if !ok {
			t.Errorf("%s %s (%s) is not in the table: who may do it?", op.method, op.path, op.id)
			continue
		}
		for _, nobody := range []string{"none", "wrong", "revoked", "token"} {
			h.made++
			status, body, header := h.ask(op.method, h.keys[nobody], r.make(h, h.made))
			if status != http.StatusUnauthorized || header.Get("WWW-Authenticate") == "" {
				t.Errorf("%s with the key %q: %d %s", op.id, nobody, status, body)
			}
		}
		for i, want := range strings.ReplaceAll(r.want, " ", "") {
			h.made++
			status, body, _ := h.ask(op.method, h.keys[who[i]], r.make(h, h.made))
			if is := h.judge(r, want, status, body); is != "" {
				t.Errorf("%s by %s: %s, want %c: %d %s", op.id, who[i], is, want, status, body)
			}
		}
	}
	// Who takes a key for an id gets no help, and no trace of it.
	if status, body, _ := h.ask("POST", h.keys["acme admin"], cell{"/v1/keys/" + h.keys["acme viewer"] + "/revoke", ""}); status != 404 || strings.Contains(body, h.keys["acme viewer"]) {
		t.Errorf("a key in the place of its id: %d %s", status, body)
	}
	// What one may do to one's own kind of set, another kind does not let in.
	for _, c := range []struct {
		who, path string
		want      int
	}{{"acme admin", "/v1/sets/segment?of=segment", 404}, {"default submitter", "/v1/sets/segment?of=segment", 200}, {"acme admin", "/v1/sets/suppression", 403},
		{"default admin", "/v1/sets/suppression", 403}, {"bootstrap", "/v1/sets/suppression", 200}, {"acme admin", fmt.Sprintf("/v1/sets/suppression?of=%d", h.account), 200},
		{"other admin", fmt.Sprintf("/v1/sets/suppression?of=%d", h.account), 404}} {
		if status, body, _ := h.ask("GET", h.keys[c.who], cell{c.path, ""}); status != c.want {
			t.Errorf("%s by %s: %d %s, want %d", c.path, c.who, status, body, c.want)
		}
	}
	aimed := cell{"/v1/jobs", fmt.Sprintf(`{"account":"%d","audience":"followers","body":"x","include_segments":["segment"]}`, h.account)}
	if status, body, _ := h.ask("POST", h.keys["acme submitter"], aimed); status != 404 {
		t.Errorf("a job to another tenant's segment: %d %s", status, body)
	}
	for name, key := range h.keys {
		if key != "" && log.has(key) {
			t.Errorf("the key of %q is in the log", name)
		}
	}
}

// judge says what is wrong with an answer, or nothing.
func (h *house) judge(r row, want rune, status int, body string) string {
	codes := map[rune]int{'x': http.StatusForbidden, '0': http.StatusNotFound, 'c': http.StatusConflict}
	switch want {
	case '+', '.':
		if status/100 != 2 {
			return "refused"
		}
	default:
		if status != codes[want] {
			return "another status"
		}
	}
	if want == '+' {
		if r.has != nil && !strings.Contains(body, r.has(h)) {
			return "what it has is not there"
		}
		return ""
	}
	for _, mark := range h.marks {
		// What was asked for may be repeated to whoever asked.
		if strings.Contains(body, mark) && (want == '.' || !strings.Contains(body, "there is no")) {
			return "it tells of " + mark
		}
	}
	return ""
}
