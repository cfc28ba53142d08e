package service

import (
	"context"
	"errors"
	"strings"
	"sync"
	"testing"
	"time"

	"crier/api"
	"crier/internal/auth"
	"crier/internal/authority"
	"crier/job"
	"crier/state/sql/access"
)

// as is a context in which a key of a tenant asks.
func as(t *testing.T, tenant string, role job.Role) context.Context {
	return api.WithCaller(t.Context(), api.Caller{Key: "key_of_" + tenant, Name: "k", Role: role, Tenant: tenant})
}

// withAcme makes the tenant acme, its account "of acme" with 1,000 followers.
func withAcme(f *fixture) context.Context {
	f.t.Helper()
	_, err := f.CreateTenant(asked(f.t), api.CreateTenant{Name: "acme"})
	f.must(err)
	ctx := as(f.t, "acme", job.Submitter)
	_, err = f.CreateAccount(as(f.t, "acme", job.Admin), api.CreateAccount{Name: "news"})
	f.must(err)
	ids := make([]job.Recipient, 1000)
	for i := range ids {
		ids[i] = job.Recipient(i)
	}
	_, err = f.AddFollowers(ctx, "news", ids)
	f.must(err)
	return ctx
}

func TestNobodyIsDeniedEverything(t *testing.T) {
	f := newFixture(t)
	id := f.submit(toFollowers("")).Job
	for name, do := range map[string]func(context.Context) error{
		"accounts": func(ctx context.Context) error { _, err := f.ListAccounts(ctx, api.Page{}); return err },
		"account":  func(ctx context.Context) error { _, err := f.GetAccount(ctx, "news"); return err },
		"submit":   func(ctx context.Context) error { _, err := f.SubmitJob(ctx, toFollowers("")); return err },
		"jobs":     func(ctx context.Context) error { _, err := f.ListJobs(ctx, api.ListJobs{}); return err },
		"cancel":   func(ctx context.Context) error { _, err := f.CancelJob(ctx, id); return err },
		"keys":     func(ctx context.Context) error { _, err := f.ListKeys(ctx, "", api.Page{}); return err },
		"audit":    func(ctx context.Context) error { _, err := f.ListAudit(ctx, api.ListAudit{}); return err },
		"status":   func(ctx context.Context) error { _, err := f.Status(ctx); return err },
	} {
		for _, ctx := range []context.Context{t.Context(), api.WithCaller(t.Context(), api.Caller{}), api.WithCaller(t.Context(), api.Caller{Key: "key_1"})} {
			if err := do(ctx); job.CodeOf(err) != job.CodeDenied {
				t.Errorf("%s without a caller: %v", name, err)
			}
		}
	}
}

// Two tenants have accounts of one name and use one idempotency key: each has its own job.
func TestTenantsShareNoNamesAndNoKeys(t *testing.T) {
	f := newFixture(t)
	acme := withAcme(f)
	ours, err := f.SubmitJob(acme, toFollowers("once"))
	f.must(err)
	theirs := f.submit(toFollowers("once"))
	if ours.Job == theirs.Job || ours.Tenant != "acme" || theirs.Tenant != job.DefaultTenant || ours.AccountID == theirs.AccountID || ours.SubmittedBy != "key_of_acme" {
		t.Errorf("one key makes %+v and %+v", ours, theirs)
	}
	if again, err := f.SubmitJob(acme, toFollowers("once")); err != nil || again.Job != ours.Job {
		t.Errorf("again: %s, %v", again.Job, err)
	}
	spec := f.accepted()[0].Spec
	if spec.Tenant != "acme" || spec.SubmittedBy != "key_of_acme" {
		t.Errorf("the ledger has %+v", spec)
	}
	// What is another's is told as what is not there.
	_, foreign := f.GetJob(as(t, "other", job.Viewer), ours.Job)
	_, none := f.GetJob(as(t, "other", job.Viewer), job.ID{15: 1})
	if foreign == nil || none == nil || strings.ReplaceAll(foreign.Error(), ours.Job.String(), "") != strings.ReplaceAll(none.Error(), job.ID{15: 1}.String(), "") {
		t.Errorf("%v, but %v", foreign, none)
	}
	_, foreign = f.GetAccount(as(t, "other", job.Viewer), "news")
	_, none = f.GetAccount(as(t, "other", job.Viewer), "nuws")
	if foreign == nil || none == nil || strings.ReplaceAll(foreign.Error(), "news", "nuws") != none.Error() {
		t.Errorf("%v, but %v", foreign, none)
	}
}

// What one tenant sends once to all its accounts' recipients keeps nobody from getting it
// of another.
func TestSendOnceIsATenants(t *testing.T) {
	f := newFixture(t)
	acme := withAcme(f)
	for _, key := range []string{"", "offer"} {
		once := func(scope string) func(*api.SubmitJob) {
			return func(r *api.SubmitJob) { r.SendOnce = &api.SendOnce{Scope: scope, Key: key} }
		}
		ours, err := f.SubmitJob(acme, toFollowers("", once(api.ScopeAll)))
		f.must(err)
		again, err := f.SubmitJob(acme, toFollowers("", once(api.ScopeAll)))
		f.must(err)
		theirs := f.submit(toFollowers("", once(api.ScopeAll)))
		if ours.SendOnce.Key != again.SendOnce.Key || ours.SendOnce.Key == theirs.SendOnce.Key {
			t.Errorf("key %q: acme's are %s and %s, the default tenant's is %s", key, ours.SendOnce.Key, again.SendOnce.Key, theirs.SendOnce.Key)
		}
	}
	_, err := f.SubmitJob(acme, toFollowers("", func(r *api.SubmitJob) { r.IncludeSegments = []string{"vip"} }))
	if job.CodeOf(err) != job.CodeNotFound {
		t.Errorf("a segment of another tenant, before it is there: %v", err)
	}
	_, made := f.CreateSegment(asked(t), api.CreateSegment{Name: "vip"})
	f.must(made)
	_, there := f.SubmitJob(acme, toFollowers("", func(r *api.SubmitJob) { r.IncludeSegments = []string{"vip"} }))
	if there == nil || there.Error() != err.Error() {
		t.Errorf("and when it is there: %v, not %v", there, err)
	}
}

func TestADeviceSeesItsRecipientOnly(t *testing.T) {
	f := newFixture(t)
	acme := withAcme(f)
	j, err := f.SubmitJob(acme, toFollowers(""))
	f.must(err)
	r := job.Recipient(5)
	device := api.WithCaller(t.Context(), api.Caller{Key: "key_d", Role: job.Device, Tenant: "acme", Recipient: &r})
	if x, err := f.ExplainJob(device, j.Job, 5); err != nil || x.Recipient != 5 {
		t.Errorf("its own: %+v, %v", x, err)
	}
	_, other := f.ExplainJob(device, j.Job, 6)
	_, outside := f.ExplainJob(device, j.Job, 5000)
	if job.CodeOf(other) != job.CodeNotFound || job.CodeOf(outside) != job.CodeNotFound ||
		strings.Replace(other.Error(), "6", "", 1) != strings.Replace(outside.Error(), "5000", "", 1) {
		t.Errorf("another's: %v; one who is not in the package: %v", other, outside)
	}
}

func TestWhatAllShareIsForTheOperator(t *testing.T) {
	f := newFixture(t)
	withAcme(f)
	admin := as(t, "acme", job.Admin)
	_, err := f.AddSuppressed(admin, api.SuppressionChange{IDs: []job.Recipient{1}})
	wantError(t, "the global list", err, job.CodeDenied, "account")
	_, err = f.ImportFollowers(admin, api.ImportFollowers{Format: api.FormatEdges}, strings.NewReader("1 2\n"))
	wantError(t, "edges of all accounts", err, job.CodeInvalid, "account")
	if list, err := f.GetSuppression(asked(t), ""); err != nil || list.Entries != 0 {
		t.Errorf("the global list has %+v, %v", list, err)
	}
	if list, err := f.ListAccounts(asked(t), api.Page{}); err != nil || len(list.Accounts) != 3 {
		t.Errorf("the accounts are %+v, %v", list, err)
	}
	_, err = f.CreateAccount(admin, api.CreateAccount{Name: "x", Tenant: "default"})
	wantError(t, "an account of another tenant", err, job.CodeNotFound, "tenant")
	_, err = f.CreateKey(admin, api.CreateKey{Name: "x", Role: job.Admin, Tenant: "default"})
	wantError(t, "a key of another tenant", err, job.CodeNotFound, "tenant")
	if a, err := f.CreateAccount(asked(t), api.CreateAccount{Name: "for acme", Tenant: "acme"}); err != nil || a.Tenant != "acme" {
		t.Errorf("the operator makes %+v, %v", a, err)
	}
	_, err = f.CreateAccount(asked(t), api.CreateAccount{Name: "x", Tenant: "nobody"})
	wantError(t, "an account of nobody", err, job.CodeNotFound, "tenant")
}

// A key is stored as its hash only, and a revoked one is told to the authority.
func TestKeysAreKeptAsHashes(t *testing.T) {
	f := newFixture(t)
	withAcme(f)
	who := authority.New(authority.Config{Admin: noAdmin{}, Store: f.cfg.Store.Access})
	f.Rights.Authority = who
	made, err := f.CreateKey(as(t, "acme", job.Admin), api.CreateKey{Name: "x", Role: job.Submitter})
	f.must(err)
	kept, err := f.cfg.Store.Access.GetKey(t.Context(), "acme", made.ID)
	f.must(err)
	if kept.Hash != auth.HashKey(made.Secret) || made.CreatedBy != "key_of_acme" || made.Tenant != "acme" || !auth.IsKey(made.Secret) {
		t.Errorf("made %+v, kept %+v", made.Key, kept)
	}
	if c, err := who.Identify(t.Context(), made.Secret); err != nil || c.Key != made.ID || c.Role != job.Submitter {
		t.Errorf("it is the key of %+v, %v", c, err)
	}
	_, err = f.RevokeKey(as(t, "other", job.Admin), made.ID)
	wantError(t, "another tenant's key", err, job.CodeNotFound, "")
	_, err = f.RevokeKey(as(t, "acme", job.Admin), made.Secret)
	wantError(t, "a key in the place of its id", err, job.CodeNotFound, "")
	if strings.Contains(err.Error(), made.Secret) {
		t.Errorf("the error repeats a key: %v", err)
	}
	_, err = f.RevokeKey(as(t, "acme", job.Admin), made.ID)
	f.must(err)
	if _, err := who.Identify(t.Context(), made.Secret); job.CodeOf(err) != job.CodeDenied {
		t.Errorf("a revoked key: %v", err)
	}
	for path, text := range f.files() {
		if strings.Contains(text, made.Secret) {
			t.Errorf("the key stands in %s", path)
		}
	}
}

type noAdmin struct{}

func (noAdmin) VerifyAdmin(string) error { return errors.New("no") }

// codeAnd holds an error to a code, and to saying when to try again if it is a limit.
func codeAnd(t *testing.T, what string, err error, code job.Code) {
	t.Helper()
	var e *job.Error
	if !errors.As(err, &e) || e.Code != code || (e.After > 0) != (code == job.CodeLimited) {
		t.Errorf("%s: %v; want %s", what, err, code)
	}
}

func TestLimitOfRecipients(t *testing.T) {
	f := newFixture(t)
	acme := withAcme(f)
	f.limits["acme"] = job.Limits{Recipients: 999}
	before := f.kept()
	_, err := f.SubmitJob(acme, toFollowers(""))
	codeAnd(t, "1,000 recipients of 999", err, job.CodeTooLarge)
	if len(f.accepted()) != 0 {
		t.Errorf("accepted is %+v; before there was %v", f.accepted(), before)
	}
	f.limits["acme"] = job.Limits{Recipients: 1000}
	_, err = f.SubmitJob(acme, toFollowers(""))
	f.must(err)
	f.submit(toFollowers("")) // another tenant's
}

func TestLimitOfTheRate(t *testing.T) {
	f := newFixture(t)
	acme := withAcme(f)
	f.limits["acme"] = job.Limits{Rate: 100}
	rate := func(n uint32) func(*api.SubmitJob) { return func(r *api.SubmitJob) { r.Rate = n } }
	_, err := f.SubmitJob(acme, toFollowers("", rate(101)))
	wantError(t, "a higher rate", err, job.CodeInvalid, "rate")
	for asked, want := range map[uint32]uint32{0: 100, 1: 1, 100: 100} {
		j, err := f.SubmitJob(acme, toFollowers("", rate(asked)))
		f.must(err)
		if j.Rate != want {
			t.Errorf("who asks for %d gets %d", asked, j.Rate)
		}
		f.waitFor(j.Job)
		_, err = f.SetRate(acme, j.Job, 101)
		wantError(t, "a higher rate later", err, job.CodeInvalid, "rate")
		if j, err := f.SetRate(acme, j.Job, 0); err != nil || j.Rate != 100 {
			t.Errorf("no rate later is %d, %v", j.Rate, err)
		}
	}
}

// waitFor waits until the table of jobs has a job.
func (f *fixture) waitFor(id job.ID) {
	for <-f.seenJobs != id {
	}
}

// Of many submits at once as many pass as the limit says, also before the table of jobs
// has seen the first; who is sent or over makes place, and repeats need none.
func TestLimitOfJobsUnderWay(t *testing.T) {
	f := newFixture(t)
	acme := withAcme(f)
	f.limits["acme"] = job.Limits{Jobs: 3}
	var passed []job.ID
	var mu sync.Mutex
	var wg sync.WaitGroup
	for range 20 {
		wg.Go(func() {
			j, err := f.SubmitJob(acme, toFollowers(""))
			if err != nil {
				codeAnd(t, "over the limit", err, job.CodeLimited)
				return
			}
			mu.Lock()
			defer mu.Unlock()
			passed = append(passed, j.Job)
		})
	}
	wg.Wait()
	if len(passed) != 3 || len(f.accepted()) != 3 {
		t.Fatalf("%d passed, %d are in the ledger; want 3", len(passed), len(f.accepted()))
	}
	f.submit(toFollowers("")) // another tenant's
	for range 4 {
		<-f.seenJobs
	}
	_, err := f.SubmitJob(acme, toFollowers(""))
	codeAnd(t, "when the table has them", err, job.CodeLimited)
	f.move(passed[0], toSent...)
	one, err := f.SubmitJob(acme, toFollowers("key"))
	f.must(err)
	_, err = f.SubmitJob(acme, toFollowers(""))
	codeAnd(t, "after one is sent, and another came", err, job.CodeLimited)
	if again, err := f.SubmitJob(acme, toFollowers("key")); err != nil || again.Job != one.Job {
		t.Errorf("a repeat: %s, %v", again.Job, err)
	}
	f.move(passed[1], job.Cancelling, job.JobCancelled)
	_, err = f.SubmitJob(acme, toFollowers("", func(r *api.SubmitJob) { r.Body = "\xff" }))
	codeAnd(t, "a job that is refused takes no place", err, job.CodeInvalid)
	last, err := f.SubmitJob(acme, toFollowers(""))
	f.must(err)
	f.waitFor(last.Job)
	if tenant, err := f.GetTenant(acme, "acme"); err != nil || tenant.Jobs != 3 || tenant.Limits != (job.Limits{}) {
		t.Errorf("the tenant is %+v, %v", tenant, err)
	}
}

// trail runs an operation as the server does, and gives what the audit log says of it.
func (f *fixture) trail(ctx context.Context, operation string, inSQL bool, do func(context.Context) error) []access.Act {
	f.t.Helper()
	c, err := api.CallerOf(ctx)
	f.must(err)
	before, err := f.cfg.Store.Access.List(f.t.Context(), access.Filter{Limit: 1000})
	f.must(err)
	tr := &authority.Trail{Store: f.cfg.Store.Access}
	a := &api.Act{Caller: c, Operation: operation, Reason: "because", Request: "req"}
	ctx = tr.Begin(api.WithAct(ctx, a), a, inSQL)
	err = do(ctx)
	if a.Operation != "" {
		tr.End(ctx, a, err)
	}
	after, err := f.cfg.Store.Access.List(f.t.Context(), access.Filter{Limit: 1000})
	f.must(err)
	return after[:len(after)-len(before)]
}

func wantAct(t *testing.T, what string, got []access.Act, tenant, key, object, result string) {
	t.Helper()
	if len(got) != 1 || got[0].Tenant != tenant || got[0].Key != key || got[0].Object != object || got[0].Result != result || got[0].Reason != "because" ||
		time.Since(got[0].At) > time.Minute || got[0].Request != "req" {
		t.Errorf("%s: the log has %+v; want one act of %s about %s of %s, %s", what, got, key, object, tenant, result)
	}
}

// Whatever an operation changes has one act, with whose it is, and what fails has one,
// too; what the ledger records has the one that the ledger tells.
func TestWhatTheAuditLogSays(t *testing.T) {
	f := newFixture(t)
	acme := withAcme(f)
	a, err := f.GetAccount(acme, "news")
	if err != nil || a.ID == f.news.ID {
		t.Fatal(a, err)
	}
	number := job.Recipient(a.ID).String()
	got := f.trail(as(t, "acme", job.Admin), "create-account", true, func(ctx context.Context) error {
		_, err := f.CreateAccount(ctx, api.CreateAccount{Name: "more"})
		return err
	})
	wantAct(t, "an account", got, "acme", "key_of_acme", "account/more", "done")
	got = f.trail(as(t, "acme", job.Admin), "create-account", true, func(ctx context.Context) error {
		_, err := f.CreateAccount(ctx, api.CreateAccount{Name: "more"})
		return err
	})
	wantAct(t, "a name twice", got, "acme", "key_of_acme", "account/more", "conflict")
	for what, ids := range map[string][]job.Recipient{"followers": {5000}, "followers who are there": {1}} {
		got = f.trail(asked(t), "add-followers", true, func(ctx context.Context) error {
			_, err := f.AddFollowers(ctx, number, ids)
			return err
		})
		wantAct(t, what+" of acme by the operator", got, "acme", job.BootstrapKey, "account/news", "done")
	}
	got = f.trail(acme, "add-suppressed", true, func(ctx context.Context) error {
		_, err := f.AddSuppressed(ctx, api.SuppressionChange{Account: number, IDs: []job.Recipient{5000}})
		return err
	})
	wantAct(t, "an account's suppression list", got, "acme", "key_of_acme", "suppression/account/news", "done")
	for tenant, code := range map[string]job.Code{"": "", "acme": "", "nope": job.CodeNotFound, job.DefaultTenant: job.CodeNotFound} {
		if _, err := f.ListKeys(as(t, "acme", job.Admin), tenant, api.Page{}); job.CodeOf(err) != code {
			t.Errorf("the keys of %q: %v", tenant, err)
		}
	}
	if _, err := f.ListKeys(asked(t), "nope", api.Page{}); job.CodeOf(err) != job.CodeNotFound {
		t.Errorf("the operator's list of keys of no tenant: %v", err)
	}
	var id job.ID
	submit := func(ctx context.Context) error {
		j, err := f.SubmitJob(ctx, toFollowers("key"))
		id = j.Job
		return err
	}
	got = f.trail(acme, "submit-job", false, submit)
	wantAct(t, "a submit", got, "acme", "key_of_acme", "job/"+id.String(), "done")
	if len(got) == 1 && got[0].ID != access.Submitted(f.accepted()[0].Spec).ID {
		t.Errorf("the act is %+v, and the ledger tells %+v", got[0], access.Submitted(f.accepted()[0].Spec))
	}
	f.waitFor(id)
	if got = f.trail(asked(t), "submit-job", false, func(ctx context.Context) error { _, err := f.GetJob(ctx, id); return err }); len(got) != 1 {
		t.Errorf("another act: %+v", got)
	}
	if got = f.trail(acme, "submit-job", false, submit); len(got) != 0 {
		t.Errorf("a repeat is an act: %+v", got)
	}
	got = f.trail(acme, "pause-job", false, func(ctx context.Context) error { _, err := f.PauseJob(ctx, id); return err })
	wantAct(t, "a pause", got, "acme", "key_of_acme", "job/"+id.String(), "done")
	got = f.trail(as(t, "other", job.Admin), "pause-job", false, func(ctx context.Context) error { _, err := f.PauseJob(ctx, id); return err })
	if len(got) != 1 || got[0].Tenant != "other" || got[0].Result != "not_found" {
		t.Errorf("a pause of another's job: %+v", got)
	}
	var key api.NewKey
	got = f.trail(asked(t), "create-key", true, func(ctx context.Context) (err error) {
		key, err = f.CreateKey(ctx, api.CreateKey{Name: "x", Role: job.Viewer, Tenant: "acme"})
		return err
	})
	wantAct(t, "a key", got, "acme", job.BootstrapKey, "key/"+key.ID, "done")
	got = f.trail(asked(t), "mint-token", false, func(ctx context.Context) error {
		r := job.Recipient(7)
		_, err := f.MintToken(ctx, api.MintToken{Recipient: &r, TTL: 1})
		return err
	})
	wantAct(t, "a token", got, job.DefaultTenant, job.BootstrapKey, "recipient/7", "invalid")
}
