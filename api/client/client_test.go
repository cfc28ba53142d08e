package client_test

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"reflect"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"crier/api"
	"crier/api/apitest"
	"crier/api/client"
	"crier/api/server"
	"crier/job"
)

func handler(t *testing.T, svc api.Service) http.Handler {
	t.Helper()
	s, err := server.New(server.Config{Service: svc, Keys: apitest.Keys("good"), Trail: apitest.Trail{}, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func dial(t *testing.T, url string, change func(*client.Config)) *client.Client {
	t.Helper()
	cfg := client.Config{Server: url, Key: "good", Sleep: func(ctx context.Context, _ time.Duration) error { return ctx.Err() }}
	if change != nil {
		change(&cfg)
	}
	c, err := client.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

// pair gives a client over a server over one fake, and a second fake that is
// called directly. What the two answer must be equal.
func pair(t *testing.T) (far, near api.Service) {
	t.Helper()
	ts := httptest.NewServer(handler(t, apitest.New()))
	t.Cleanup(ts.Close)
	return dial(t, ts.URL, nil), apitest.New()
}

// script is every operation at least once, with its errors, as a list of answers.
func script(ctx context.Context, s api.Service) (got []any) {
	add := func(v any, err error) {
		if err == nil {
			got = append(got, v)
		}
		var je *job.Error
		if errors.As(err, &je) {
			got = append(got, job.Error{Code: je.Code, Message: je.Message, Field: je.Field})
		} else {
			got = append(got, err)
		}
	}
	name := `Ä?#%+&;b`
	add(s.CreateAccount(ctx, api.CreateAccount{Name: name}))
	add(s.CreateAccount(ctx, api.CreateAccount{Name: "second"}))
	add(s.CreateAccount(ctx, api.CreateAccount{Name: "second"}))
	add(s.ListAccounts(ctx, api.Page{}))
	first, err := s.ListAccounts(ctx, api.Page{Limit: 1})
	add(first, err)
	add(s.ListAccounts(ctx, api.Page{Limit: 1, Cursor: first.Next}))
	add(s.GetAccount(ctx, name))
	add(s.GetAccount(ctx, "2"))
	add(s.GetAccount(ctx, "nobody"))
	add(s.AddFollowers(ctx, name, []job.Recipient{1, 2, 2, 4294967295}))
	add(s.RemoveFollowers(ctx, name, []job.Recipient{2, 7}))
	add(s.AddFollowers(ctx, "nobody", []job.Recipient{1}))
	add(s.ImportFollowers(ctx, api.ImportFollowers{Format: "edges", Skip: 1}, strings.NewReader("4,4\n1 9\n2 9\n3\t3\n")))
	add(s.ImportFollowers(ctx, api.ImportFollowers{Format: "ids", Account: name}, strings.NewReader("1,5\n6\n")))
	add(s.ImportFollowers(ctx, api.ImportFollowers{Format: "ids", Account: name}, strings.NewReader("-1\n")))
	add(s.AddSuppressed(ctx, api.SuppressionChange{IDs: []job.Recipient{1, 2}}))
	add(s.AddSuppressed(ctx, api.SuppressionChange{Account: name, IDs: []job.Recipient{3}}))
	add(s.RemoveSuppressed(ctx, api.SuppressionChange{IDs: []job.Recipient{2, 3}}))
	add(s.GetSuppression(ctx, ""))
	add(s.GetSuppression(ctx, name))
	add(s.GetSuppression(ctx, "nobody"))
	add(s.ImportSuppressed(ctx, "", api.ImportIDs{Skip: 1}, strings.NewReader("id\n7,7\n8\n")))
	add(s.ImportSuppressed(ctx, name, api.ImportIDs{}, strings.NewReader("x\n")))
	add(s.ImportSuppressed(ctx, "nobody", api.ImportIDs{}, strings.NewReader("1\n")))
	add(s.ListSuppression(ctx, api.Page{}))
	lists, err := s.ListSuppression(ctx, api.Page{Limit: 1})
	add(lists, err)
	add(s.ListSuppression(ctx, api.Page{Cursor: lists.Next}))
	segmentScript(ctx, s, add, name)
	p, err := s.ImportPackage(ctx, api.ImportPackage{Account: name, Name: "p"}, strings.NewReader("the bytes"))
	add(p, err)
	add(s.ImportPackage(ctx, api.ImportPackage{Account: "nobody"}, strings.NewReader("x")))
	add(s.ImportPackage(ctx, api.ImportPackage{Account: name}, strings.NewReader("")))
	add(s.ListPackages(ctx, name, api.Page{}))
	add(s.ListPackages(ctx, "", api.Page{Limit: 1}))
	add(s.GetPackage(ctx, p.ID))
	add(s.GetPackage(ctx, job.Digest{9}))
	got = append(got, jobScript(ctx, s, add, name, p.ID))
	clusterScript(ctx, s, add)
	accessScript(ctx, s, add)
	return got
}

func accessScript(ctx context.Context, s api.Service, add func(any, error)) {
	add(s.Self(ctx))
	add(s.CreateTenant(ctx, api.CreateTenant{Name: "acme", Limits: job.Limits{Jobs: 4, Recipients: 1 << 40}}))
	add(s.CreateTenant(ctx, api.CreateTenant{Name: "acme"}))
	add(s.ListTenants(ctx, api.Page{Limit: 1}))
	zero, rate := uint32(0), uint32(7)
	for _, name := range []string{"acme", "nobody", "..", "a/b", ""} {
		add(s.MakeWebhookSecret(ctx, name))
		add(s.SetLimits(ctx, name, api.SetLimits{Jobs: &zero, Rate: &rate}))
		add(s.GetTenant(ctx, name))
	}
	r := job.Recipient(0)
	k, err := s.CreateKey(ctx, api.CreateKey{Name: "Ä", Role: job.Submitter})
	add(k, err)
	add(s.CreateKey(ctx, api.CreateKey{Name: "phone", Role: job.Device, Tenant: "acme", Recipient: &r}))
	add(s.CreateKey(ctx, api.CreateKey{Name: "x", Role: job.Viewer, Tenant: "nobody"}))
	add(s.ListKeys(ctx, "acme", api.Page{}))
	add(s.RevokeKey(ctx, k.ID))
	add(s.RevokeKey(ctx, "key_00000000000000000000000000"))
	add(s.RevokeKey(ctx, k.Secret))
	add(s.ListKeys(ctx, "", api.Page{Limit: 1}))
	for _, req := range []api.ListAudit{{}, {Tenant: "acme"}, {Key: "key_x"}, {Operation: "revoke-key"}, {Object: "tenant/acme", Result: "done", Within: api.Duration(time.Hour)}, {Page: api.Page{Limit: 1}}} {
		list, err := s.ListAudit(ctx, req)
		for i := range list.Acts {
			list.Acts[i].Request = "" // only the network has requests
		}
		add(list, err)
	}
}

func segmentScript(ctx context.Context, s api.Service, add func(any, error), name string) {
	for _, n := range []string{name, "vip", "vip"} {
		add(s.CreateSegment(ctx, api.CreateSegment{Name: n}))
	}
	for _, n := range []string{name, "nothing", "", ".", ".."} {
		add(s.AddToSegment(ctx, n, []job.Recipient{1, 2, 2, 4294967295}))
		add(s.RemoveFromSegment(ctx, n, []job.Recipient{2, 7}))
		add(s.ImportSegment(ctx, n, api.ImportIDs{Skip: 1}, strings.NewReader("9\n1 5\n6\n")))
		add(s.ImportSegment(ctx, n, api.ImportIDs{}, strings.NewReader("-1\n")))
		add(s.GetSegment(ctx, n))
		add(s.ArchiveSegment(ctx, n))
		add(s.AddToSegment(ctx, n, []job.Recipient{1}))
		add(s.ListSegments(ctx, api.ListSegments{Archived: true}))
		if req := (api.SubmitJob{Account: name, Audience: "followers", Body: "x", ExcludeSegments: []string{n}}); req.Validate() == nil {
			add(s.SubmitJob(ctx, req))
		}
		add(s.RestoreSegment(ctx, n))
	}
	first, err := s.ListSegments(ctx, api.ListSegments{Page: api.Page{Limit: 1}})
	add(first, err)
	add(s.ListSegments(ctx, api.ListSegments{Page: api.Page{Limit: 1, Cursor: first.Next}}))
	for _, kind := range append([]string{"king", ""}, api.SetKinds...) {
		for _, of := range []string{"", name, "nothing"} {
			req := api.ExportSet{Kind: kind, Of: of}
			if req.Validate() != nil {
				continue // the fake takes what is valid only
			}
			var file strings.Builder
			err := s.ExportSet(ctx, req, &file)
			add(file.String(), err)
		}
	}
	aimed := api.SubmitJob{Account: name, Audience: "followers", Body: "x", IncludeSegments: []string{name}, ExcludeSegments: []string{"vip"}, ControlGroup: 0.5, IdempotencyKey: "aimed"}
	j, err := s.SubmitJob(ctx, aimed)
	add(j, err)
	add(s.CancelJob(ctx, j.Job))
	aimed.ControlGroup = 0.5001
	add(s.SubmitJob(ctx, aimed))
}

func clusterScript(ctx context.Context, s api.Service, add func(any, error)) {
	add(s.ListMembers(ctx))
	for _, id := range []string{"m1", "nobody", "..", ".", "a/b", ""} {
		add(s.GetMember(ctx, id))
		add(s.SilenceMember(ctx, id, api.Operate{Reason: "Umbau"}))
		add(s.GetMember(ctx, id))
		add(s.ResumeMember(ctx, id, api.Operate{}))
	}
	for _, kind := range append([]string{"", "king"}, api.RingKinds...) {
		add(s.Ring(ctx, api.AskRing{Kind: kind}))
		add(s.Ring(ctx, api.AskRing{Kind: kind, Diff: true, Page: api.Page{Limit: 1}}))
	}
	first, err := s.ListJournals(ctx, api.Page{Limit: 1})
	add(first, err)
	add(s.ListJournals(ctx, api.Page{Cursor: first.Next}))
	add(s.ListJournals(ctx, api.Page{Cursor: "nonsense"}))
	add(s.ListLanes(ctx))
}

func jobScript(ctx context.Context, s api.Service, add func(any, error), account string, pkg job.Digest) (lines []any) {
	spec := api.SubmitJob{Account: account, Audience: "followers", Body: "héllo\n", Class: job.Realtime, Priority: 99, Rate: 10,
		TTL: api.Duration(36 * time.Hour), OnUnknown: job.Resend, CollapseKey: "k", DisplayAt: time.Date(2026, 2, 3, 4, 5, 6, 7000, time.UTC), IdempotencyKey: "once"}
	j, err := s.SubmitJob(ctx, spec)
	add(j, err)
	add(s.SubmitJob(ctx, spec))
	spec.Body = "other"
	add(s.SubmitJob(ctx, spec))
	k, err := s.SubmitJob(ctx, api.SubmitJob{Account: account, Package: pkg, BodyBase64: []byte("bytes")})
	add(k, err)
	add(s.SubmitJob(ctx, api.SubmitJob{Account: account, Package: job.Digest{9}, Body: "x"}))
	add(s.ListJobs(ctx, api.ListJobs{}))
	add(s.ListJobs(ctx, api.ListJobs{Stuck: true}))
	add(s.ListJobs(ctx, api.ListJobs{State: "queued", Account: account, Page: api.Page{Limit: 1}}))
	add(s.GetJob(ctx, j.Job))
	add(s.GetJob(ctx, job.ID{1}))
	add(s.PauseJob(ctx, j.Job))
	add(s.ResumeJob(ctx, j.Job))
	add(s.SetRate(ctx, j.Job, 0))
	add(s.WaitJob(ctx, j.Job, api.WaitJob{For: job.Sent}))
	add(s.ResolveJob(ctx, j.Job, job.DecideDrop))
	add(s.ResolveJob(ctx, j.Job, job.DecideResend))
	add(s.ExplainJob(ctx, j.Job, 1))
	add(s.ExplainJob(ctx, j.Job, 4294967295))
	add(s.ReconcileJob(ctx, j.Job))
	add(s.GetRecipient(ctx, 7))
	add(s.EraseRecipient(ctx, 7, api.Erase{Reason: "asked for it"}))
	add(s.EraseRecipient(ctx, 4294967295, api.Erase{}))
	for _, req := range []api.ExportJob{{Standings: []job.Standing{{Outcome: job.Delivered}, {Outcome: job.Dropped, Reason: job.ReasonRelation}}}, {Standings: []job.Standing{{Outcome: job.Failed}}, Format: api.FormatIDs}} {
		var ids strings.Builder
		add(nil, s.ExportJob(ctx, j.Job, req, &ids))
		add(ids.String(), s.ExportJob(ctx, job.ID{1}, req, &ids))
	}
	add(nil, s.WatchJob(ctx, j.Job, func(j api.Job) error { lines = append(lines, j); return nil }))
	add(s.CancelJob(ctx, k.Job)) // before the watch, which would move it on
	stop := errors.New("enough")
	if err := s.WatchJob(ctx, k.Job, func(j api.Job) error { lines = append(lines, j); return stop }); !errors.Is(err, stop) {
		lines = append(lines, err)
	}
	add(s.PauseJob(ctx, k.Job))
	add(s.RecallJob(ctx, j.Job, api.Recall{Reason: "a typo"}))
	add(s.RecallJob(ctx, j.Job, api.Recall{}))
	add(s.GetJob(ctx, job.WithdrawalID(j.Job)))
	add(s.ReconcileJob(ctx, j.Job))
	add(s.RecallJob(ctx, job.WithdrawalID(j.Job), api.Recall{Reason: "a typo"}))
	add(s.RecallJob(ctx, job.ID{1}, api.Recall{Reason: "a typo"}))
	add(nil, s.TailLedger(ctx, api.TailLedger{From: 2}, func(e api.LedgerEntry) error { lines = append(lines, e); return nil }))
	add(nil, s.WatchJob(ctx, job.ID{1}, func(api.Job) error { return nil }))
	for _, req := range []api.TailEvents{{}, {After: 2}, {Job: k.Job}, {Job: j.Job, Within: api.Duration(time.Hour)}, {After: 99}} {
		add(nil, s.TailEvents(ctx, req, func(e api.Event) error { lines = append(lines, e); return nil }))
	}
	add(s.VerifyLedger(ctx))
	add(s.Status(ctx))
	r := job.Recipient(0)
	add(s.MintToken(ctx, api.MintToken{Recipient: &r, TTL: api.Duration(time.Hour)}))
	var copied strings.Builder
	err = s.Backup(ctx, &copied)
	add(copied.String(), err)
	return lines
}

// Each operation gives the same through client and server as called directly.
func TestRoundTrip(t *testing.T) {
	far, near := pair(t)
	want, got := script(t.Context(), near), script(t.Context(), far)
	if diff := cmp.Diff(want, got, cmpopts.EquateEmpty(), cmpopts.EquateApproxTime(0)); diff != "" {
		t.Errorf("directly (-) and through the network (+):\n%s", diff)
	}
	errs := 0
	for _, v := range want {
		if _, ok := v.(job.Error); ok {
			errs++
		}
	}
	if errs < 12 {
		t.Errorf("only %d of the script's answers are errors", errs)
	}
}

// breaking is a service whose exports break off after a part.
type breaking struct {
	*apitest.Fake
	part int
}

func (b breaking) ExportSet(_ context.Context, _ api.ExportSet, w io.Writer) error {
	if _, err := w.Write(make([]byte, b.part)); err != nil {
		return err
	}
	return errors.New("the inside")
}

// full is a disk without room.
type full struct{}

func (full) Write([]byte) (int, error) { return 0, errFull }

var errFull = errors.New("no room")

// A part of an export is never taken for the whole, and what is wrong here is not said of
// the server.
func TestExportBreaksOff(t *testing.T) {
	for _, part := range []int{0, 1, 1 << 20} {
		ts := httptest.NewServer(handler(t, breaking{apitest.New(), part}))
		err := dial(t, ts.URL, nil).ExportSet(t.Context(), api.ExportSet{Kind: api.SetSuppression}, io.Discard)
		if err == nil || strings.Contains(err.Error(), "inside") {
			t.Errorf("after %d bytes: %v", part, err)
		}
		ts.Close()
	}
	far, _ := pair(t)
	if err := far.ExportSet(t.Context(), api.ExportSet{Kind: api.SetSuppression}, full{}); !errors.Is(err, errFull) || job.CodeOf(err) != "" {
		t.Errorf("to a full disk: %v", err)
	}
	if err := far.ExportSet(t.Context(), api.ExportSet{Kind: "../king"}, io.Discard); job.CodeOf(err) != job.CodeNotFound {
		t.Errorf("an odd kind: %v", err)
	}
}

// The script calls every method of the interface; a new one must join it.
func TestScriptIsComplete(t *testing.T) {
	called := map[string]bool{}
	f := apitest.New()
	f.Fail = func(m string) error { called[m] = true; return nil }
	script(t.Context(), f)
	for m := range reflect.TypeFor[api.Service]().Methods() {
		if !called[m.Name] {
			t.Errorf("the script does not call %s", m.Name)
		}
	}
}

// cutBackup fails after it has written something, or before.
type cutBackup struct {
	*apitest.Fake
	bytes int
}

func (c cutBackup) Backup(_ context.Context, w io.Writer) error {
	if _, err := w.Write(make([]byte, c.bytes)); err != nil {
		return err
	}
	return job.Conflict("no backup here")
}

// A backup that breaks off is never taken for a whole one.
func TestCutBackup(t *testing.T) {
	for bytes, want := range map[int]job.Code{0: job.CodeConflict, 1: job.CodeUnavailable, 10 << 20: job.CodeUnavailable} {
		ts := httptest.NewServer(handler(t, cutBackup{apitest.New(), bytes}))
		var got strings.Builder
		if err := dial(t, ts.URL, nil).Backup(t.Context(), &got); job.CodeOf(err) != want {
			t.Errorf("a backup that fails after %d bytes: %v, want %s", bytes, err, want)
		}
		ts.Close()
	}
}

func TestNoServer(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	url := "http://" + l.Addr().String()
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	c := dial(t, url, nil)
	if _, err := c.Status(t.Context()); job.CodeOf(err) != job.CodeUnavailable || !strings.Contains(err.Error(), "no server answers at "+url) {
		t.Errorf("no server: %v", err)
	}
	if _, err := c.SubmitJob(t.Context(), api.SubmitJob{Account: "a", Audience: "followers", Body: "x"}); job.CodeOf(err) != job.CodeUnavailable {
		t.Errorf("a submit that was never sent: %v; want unavailable", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := c.Status(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
}

// hangUp cuts the connection of every request once it has come in.
func hangUp(t *testing.T) string {
	ts := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		panic(http.ErrAbortHandler)
	}))
	t.Cleanup(ts.Close)
	return ts.URL
}

// After a cut, an operation that may be repeated is unavailable; one that may
// not says that its outcome is unknown.
func TestCut(t *testing.T) {
	c := dial(t, hangUp(t), nil)
	req := api.SubmitJob{Account: "a", Audience: "followers", Body: "x"}
	_, err := c.SubmitJob(t.Context(), req)
	if err == nil || job.CodeOf(err) != "" || !strings.Contains(err.Error(), "unknown") {
		t.Errorf("submit without a key: %v; want unknown", err)
	}
	req.IdempotencyKey = "k"
	if _, err := c.SubmitJob(t.Context(), req); job.CodeOf(err) != job.CodeUnavailable {
		t.Errorf("submit with a key: %v; want unavailable", err)
	}
}

func TestStrangeServers(t *testing.T) {
	for name, h := range map[string]http.HandlerFunc{
		"not ours": func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(502); _, _ = io.WriteString(w, "<html>") },
		"redirect": func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, "http://127.0.0.1:1/", http.StatusFound)
		},
		"not JSON":  func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "hello") },
		"truncated": func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, `{"healthy":`) },
	} {
		ts := httptest.NewServer(h)
		if _, err := dial(t, ts.URL, nil).Status(t.Context()); err == nil {
			t.Errorf("%s: no error", name)
		}
		ts.Close()
	}
}

// A wait and a watch outlive a server that is away for a while, and give up on
// one that stays away.
func TestPatience(t *testing.T) {
	fake := apitest.New()
	real := handler(t, fake)
	var away atomic.Int32
	ts := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if away.Add(-1) >= 0 {
			w.WriteHeader(http.StatusBadGateway)
			return
		}
		real.ServeHTTP(w, r)
	}))
	t.Cleanup(ts.Close)
	var mu sync.Mutex
	var slept time.Duration
	c := dial(t, ts.URL, func(cfg *client.Config) {
		cfg.Patience = 10 * time.Second
		cfg.Sleep = func(_ context.Context, d time.Duration) error {
			mu.Lock()
			defer mu.Unlock()
			slept += d
			return nil
		}
	})
	if _, err := c.CreateAccount(t.Context(), api.CreateAccount{Name: "a"}); err != nil {
		t.Fatal(err)
	}
	j, err := c.SubmitJob(t.Context(), api.SubmitJob{Account: "a", Audience: "followers", Body: "x"})
	if err != nil {
		t.Fatal(err)
	}
	away.Store(3)
	if got, err := c.WaitJob(t.Context(), j.Job, api.WaitJob{For: job.Sent}); err != nil || got.State != job.Sent {
		t.Errorf("wait over an outage: %v, %v", got.State, err)
	}
	if slept != 700*time.Millisecond {
		t.Errorf("three tries paused for %v; want 100+200+400 ms", slept)
	}
	away.Store(2)
	last := job.Queued
	if err := c.WatchJob(t.Context(), j.Job, func(j api.Job) error { last = j.State; return nil }); err != nil || last != job.Completed {
		t.Errorf("watch over an outage: %v, %v", last, err)
	}
	away.Store(1000)
	slept = 0
	if _, err := c.WaitJob(t.Context(), j.Job, api.WaitJob{For: job.Sent}); job.CodeOf(err) != job.CodeUnavailable {
		t.Errorf("wait for a server that stays away: %v", err)
	}
	if slept < 10*time.Second || slept > 12*time.Second {
		t.Errorf("gave up after %v; want 10 s", slept)
	}
}

// A tail that is cut goes on behind the last record it got.
func TestTailGoesOn(t *testing.T) {
	for path, tail := range map[string]func(*client.Client, func(place uint64) error) error{
		"/v1/ledger": func(c *client.Client, fn func(uint64) error) error {
			return c.TailLedger(t.Context(), api.TailLedger{Follow: true}, func(e api.LedgerEntry) error { return fn(e.Seq) })
		},
		"/v1/events": func(c *client.Client, fn func(uint64) error) error {
			return c.TailEvents(t.Context(), api.TailEvents{Follow: true, Within: api.Duration(time.Hour)}, func(e api.Event) error { return fn(e.Cursor) })
		},
	} {
		fake := apitest.New()
		real := handler(t, fake)
		var cuts atomic.Int32
		ts := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path == path && cuts.Add(1) == 1 {
				ctx, cancel := context.WithCancel(r.Context())
				defer func() { cancel(); panic(http.ErrAbortHandler) }()
				real.ServeHTTP(&firstLine{ResponseWriter: w, stop: cancel}, r.WithContext(ctx))
				return
			}
			real.ServeHTTP(w, r)
		}))
		t.Cleanup(ts.Close)
		c := dial(t, ts.URL, nil)
		for _, name := range []string{"a", "b"} {
			if _, err := c.CreateAccount(t.Context(), api.CreateAccount{Name: name}); err != nil {
				t.Fatal(err)
			}
			if _, err := c.SubmitJob(t.Context(), api.SubmitJob{Account: name, Audience: "followers", Body: "x"}); err != nil {
				t.Fatal(err)
			}
		}
		var seen []uint64
		enough := errors.New("enough")
		err := tail(c, func(place uint64) error {
			if seen = append(seen, place); place == 2 {
				return enough
			}
			return nil
		})
		if !errors.Is(err, enough) || !reflect.DeepEqual(seen, []uint64{1, 2}) || cuts.Load() != 2 {
			t.Errorf("%s: saw %v over %d connections, %v; want 1 and 2, each once, over 2", path, seen, cuts.Load(), err)
		}
	}
}

// firstLine lets one line through and then stops the stream.
type firstLine struct {
	http.ResponseWriter
	stop func()
	n    int
}

func (f *firstLine) Write(b []byte) (int, error) {
	if f.n++; f.n > 1 {
		return 0, io.ErrClosedPipe
	}
	defer f.stop()
	return f.ResponseWriter.Write(b)
}

func (f *firstLine) Unwrap() http.ResponseWriter { return f.ResponseWriter }

func TestSilentStreamIsCut(t *testing.T) {
	ts := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.WriteHeader(http.StatusOK)
		_ = http.NewResponseController(w).Flush()
		<-r.Context().Done()
	}))
	t.Cleanup(ts.Close)
	c := dial(t, ts.URL, func(cfg *client.Config) { cfg.Silence, cfg.Patience = 20*time.Millisecond, time.Millisecond })
	if err := c.WatchJob(t.Context(), job.ID{1}, func(api.Job) error { return nil }); job.CodeOf(err) != job.CodeUnavailable {
		t.Errorf("a silent stream: %v; want unavailable", err)
	}
}

func TestConfigValidate(t *testing.T) {
	for field, cfg := range map[string]client.Config{
		"server": {Server: "127.0.0.1:7420", Key: "k"},
		"token":  {Server: "http://127.0.0.1:7420"},
	} {
		_, err := client.New(cfg)
		var je *job.Error
		if !errors.As(err, &je) || je.Field != field {
			t.Errorf("%+v: %v; want field %s", cfg, err, field)
		}
	}
	if _, err := client.New(client.Config{Server: "ftp://x", Key: "k"}); err == nil {
		t.Error("ftp was accepted")
	}
}

// A stream of events that is cut before the first one is asked for again from the moment at
// which it was to begin, not from a later one.
func TestTailBeginsOnce(t *testing.T) {
	var asked []time.Duration
	ts := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		within, err := time.ParseDuration(r.URL.Query().Get("since"))
		if err != nil {
			t.Error(err)
		}
		w.Header().Set("Content-Type", "application/jsonl")
		if asked = append(asked, within); len(asked) == 1 {
			_ = http.NewResponseController(w).Flush() // or the transport may try again by itself
			panic(http.ErrAbortHandler)
		}
	}))
	t.Cleanup(ts.Close)
	c := dial(t, ts.URL, func(cfg *client.Config) {
		cfg.Sleep = func(context.Context, time.Duration) error { <-time.After(2 * time.Millisecond); return nil }
	})
	if err := c.TailEvents(t.Context(), api.TailEvents{Within: api.Duration(time.Second)}, nil); err != nil {
		t.Fatal(err)
	}
	if len(asked) != 2 || asked[0] < time.Second || asked[1] <= asked[0] {
		t.Errorf("asked for %v", asked)
	}
}
