package sqltest

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"crier/job"
	"crier/state/sql"
	"crier/state/sql/access"
	"crier/state/sql/engine"
)

// RunAccess holds stores that open makes, each empty and with the clock given, to what
// access.Store promises.
func RunAccess(t *testing.T, open func(t *testing.T, clock *Clock) *sql.DB) {
	for name, test := range map[string]func(*testing.T, *sql.DB, *Clock){
		"tenants": accessTenants, "keys": accessKeys, "changes": accessChanges, "changes at once": accessAtOnce,
		"the audit log": auditLog, "an act in the transaction of its change": auditInTransaction, "acts of the ledger": auditOfLedger,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			clock := &Clock{}
			test(t, open(t, clock), clock)
		})
	}
}

func accessTenants(t *testing.T, db *sql.DB, clock *Clock) {
	ctx, s := t.Context(), db.Access
	if d, err := s.GetTenant(ctx, job.DefaultTenant); err != nil || d != (access.Tenant{Name: job.DefaultTenant}) {
		t.Errorf("from the start there is %+v, %v", d, err)
	}
	made, err := s.CreateTenant(ctx, "acme", job.Limits{Jobs: 3})
	must(t, err)
	_, err = s.CreateTenant(ctx, "acme", job.Limits{})
	wantCode(t, "a name twice", err, job.CodeConflict)
	if got, err := s.GetTenant(ctx, "acme"); err != nil || got != made || got.CreatedAt != Start() || got.Limits.Jobs != 3 {
		t.Errorf("it is %+v, %v", got, err)
	}
	changed, err := s.SetLimits(ctx, "acme", func(l *job.Limits) { l.Recipients = 1 << 40 })
	must(t, err)
	if got, err := s.GetTenant(ctx, "acme"); err != nil || got != changed || got.Limits != (job.Limits{Jobs: 3, Recipients: 1 << 40}) {
		t.Errorf("with other limits it is %+v, %v", got, err)
	}
	_, err = s.SetLimits(ctx, "nobody", func(*job.Limits) {})
	wantCode(t, "limits of nobody", err, job.CodeNotFound)
	_, err = s.GetTenant(ctx, "ACME")
	wantCode(t, "a name in another case", err, job.CodeNotFound)
	for after, want := range map[string][]string{"": {"acme", "default"}, "acme": {"default"}, "default": nil} {
		list, err := s.ListTenants(ctx, after, 10)
		must(t, err)
		var names []string
		for _, x := range list {
			names = append(names, x.Name)
		}
		if !slices.Equal(names, want) {
			t.Errorf("after %q there are %v", after, names)
		}
	}
}

func accessKey(n byte, tenant string) access.Key {
	return access.Key{ID: fmt.Sprintf("key_%02d", n), Hash: job.Digest{n}, Name: fmt.Sprint("key number ", n), Role: job.Submitter, Tenant: tenant, CreatedBy: job.BootstrapKey}
}

func accessKeys(t *testing.T, db *sql.DB, clock *Clock) {
	ctx, s := t.Context(), db.Access
	_, err := s.CreateKey(ctx, accessKey(1, "nobody"))
	wantCode(t, "a key of no tenant", err, job.CodeNotFound)
	_, err = s.CreateTenant(ctx, "acme", job.Limits{})
	must(t, err)
	recipient := job.Recipient(4294967295)
	device := accessKey(2, "acme")
	device.Role, device.Recipient = job.Device, &recipient
	for _, k := range []access.Key{accessKey(1, "default"), device, accessKey(3, "acme")} {
		_, err := s.CreateKey(ctx, k)
		must(t, err)
	}
	_, err = s.CreateKey(ctx, accessKey(3, "acme"))
	if err == nil {
		t.Error("an id was given twice")
	}
	list, err := s.ListKeys(ctx, "acme", "", 10)
	must(t, err)
	if len(list) != 2 || list[0].ID != "key_02" || list[0].Recipient == nil || *list[0].Recipient != recipient || list[0].Hash != (job.Digest{2}) ||
		list[0].Role != job.Device || list[0].CreatedAt != Start() || list[1].Recipient != nil || !list[1].UsedAt.IsZero() || !list[1].RevokedAt.IsZero() {
		t.Errorf("acme has %+v", list)
	}
	if list, err := s.ListKeys(ctx, "", "key_01", 1); err != nil || len(list) != 1 || list[0].ID != "key_02" {
		t.Errorf("the second page is %+v, %v", list, err)
	}
	_, err = s.RevokeKey(ctx, "default", "key_02")
	wantCode(t, "another tenant's key", err, job.CodeNotFound)
	_, err = s.RevokeKey(ctx, "", "key_99")
	wantCode(t, "no key", err, job.CodeNotFound)
	clock.advance()
	revoked, err := s.RevokeKey(ctx, "acme", "key_02")
	must(t, err)
	clock.advance()
	if again, err := s.RevokeKey(ctx, "", "key_02"); err != nil || again.RevokedAt != revoked.RevokedAt || revoked.RevokedAt != Start().Add(time.Second) {
		t.Errorf("revoked at %s, and again at %s, %v", revoked.RevokedAt, again.RevokedAt, err)
	}
	other := job.Recipient(8)
	for n, of := range map[byte]*job.Recipient{4: &recipient, 5: &recipient, 6: &other} {
		k := accessKey(n, []string{"acme", "default"}[n%2])
		k.Role, k.Recipient = job.Device, of
		_, err := s.CreateKey(ctx, k)
		must(t, err)
	}
	before, err := s.Since(ctx, 0)
	must(t, err)
	for _, want := range []int{2, 0} { // key_02 was revoked before
		if n, err := s.RevokeOf(ctx, recipient); err != nil || n != want {
			t.Errorf("%d keys of a recipient are revoked, %v; want %d", n, err, want)
		}
	}
	after, err := s.Since(ctx, before.Through)
	must(t, err)
	slices.SortFunc(after.Keys, func(a, b access.Key) int { return strings.Compare(a.ID, b.ID) })
	if len(after.Keys) != 2 || after.Keys[0].ID != "key_04" || after.Keys[1].ID != "key_05" || after.Keys[0].RevokedAt.IsZero() || after.Keys[1].RevokedAt.IsZero() || after.Through != before.Through+1 {
		t.Errorf("what changed by it is %+v", after)
	}
	if k, err := s.GetKey(ctx, "", "key_02"); err != nil || k.RevokedAt != revoked.RevokedAt {
		t.Errorf("what was revoked before is %+v, %v", k, err)
	}
	if n, err := s.RevokeOf(ctx, other); err != nil || n != 1 {
		t.Errorf("another's: %d, %v", n, err)
	}
	keysUsed(t, s)
}

// keysUsed notes uses of keys, by a clock that is behind, too.
func keysUsed(t *testing.T, s *access.Store) {
	ctx, used := t.Context(), Start().Add(time.Hour)
	must(t, s.Used(ctx, map[string]time.Time{"key_01": used, "key_99": used}))
	must(t, s.Used(ctx, map[string]time.Time{"key_01": used.Add(-time.Minute)}))
	if list, err := s.ListKeys(ctx, "default", "", 9); err != nil || len(list) != 2 || !list[0].UsedAt.Equal(used) {
		t.Errorf("the use is noted as %+v, %v", list, err)
	}
	must(t, s.Used(ctx, map[string]time.Time{"key_05": Start()})) // by a clock that is behind
	if k, err := s.GetKey(ctx, "", "key_05"); err != nil || !k.CreatedAt.After(Start()) || k.UsedAt != k.CreatedAt {
		t.Errorf("used before it was made: %+v, %v", k, err)
	}
}

func accessChanges(t *testing.T, db *sql.DB, _ *Clock) {
	ctx, s := t.Context(), db.Access
	all, err := s.Since(ctx, 0)
	must(t, err)
	if len(all.Tenants) != 1 || len(all.Keys) != 0 || all.Through == 0 {
		t.Errorf("from the start: %+v", all)
	}
	_, err = s.CreateKey(ctx, accessKey(1, "default"))
	must(t, err)
	_, err = s.CreateKey(ctx, accessKey(2, "default"))
	must(t, err)
	some, err := s.Since(ctx, all.Through)
	must(t, err)
	if len(some.Keys) != 2 || len(some.Tenants) != 0 || some.Through <= all.Through {
		t.Errorf("after two keys: %+v", some)
	}
	must(t, s.Used(ctx, map[string]time.Time{"key_01": Start()}))
	if none, err := s.Since(ctx, some.Through); err != nil || len(none.Keys) != 0 || none.Through != some.Through {
		t.Errorf("a use is no change: %+v, %v", none, err)
	}
	_, err = s.RevokeKey(ctx, "", "key_01")
	must(t, err)
	if last, err := s.Since(ctx, some.Through); err != nil || len(last.Keys) != 1 || last.Keys[0].RevokedAt.IsZero() {
		t.Errorf("after a revocation: %+v, %v", last, err)
	}
}

// accessAtOnce makes keys from many sides while one reads what changed: it misses none.
func accessAtOnce(t *testing.T, db *sql.DB, _ *Clock) {
	const sides, each = 4, 8
	var writers sync.WaitGroup
	for side := range sides {
		writers.Go(func() {
			for i := range each {
				if _, err := db.Access.CreateKey(context.Background(), accessKey(byte(side*each+i), "default")); err != nil {
					t.Error(err)
				}
			}
		})
	}
	done := make(chan struct{})
	go func() { writers.Wait(); close(done) }()
	seen, through := map[string]bool{}, uint64(0)
	for last := false; !last; {
		select {
		case <-done:
			last = true // what is there now is all
		default:
		}
		c, err := db.Access.Since(t.Context(), through)
		must(t, err)
		for _, k := range c.Keys {
			seen[k.ID] = true
		}
		through = c.Through
	}
	if len(seen) != sides*each {
		t.Errorf("%d keys were seen, of %d", len(seen), sides*each)
	}
}

func act(id string, change ...func(*access.Act)) access.Act {
	a := access.Act{ID: id, At: Start(), Tenant: "default", Key: "key_01", KeyName: "n", Operation: "create-account", Object: "account/" + id, Result: access.Done, Reason: "why", Request: "req", Detail: "300 a second"}
	for _, c := range change {
		c(&a)
	}
	return a
}

func auditLog(t *testing.T, db *sql.DB, clock *Clock) {
	ctx, s := t.Context(), db.Access
	_, err := s.CreateKey(ctx, accessKey(1, "default"))
	must(t, err)
	for _, a := range []access.Act{act("1"), act("2", func(a *access.Act) { a.Tenant, a.Key, a.KeyName = "acme", "key_02", "" }),
		act("3", func(a *access.Act) { a.Operation, a.Result, a.At = "revoke-key", "denied", Start().Add(time.Hour) }), act("4", func(a *access.Act) { a.KeyName = "" })} {
		must(t, s.Record(ctx, a))
		must(t, s.Record(ctx, act(a.ID, func(a *access.Act) { a.Result = "another" }))) // it stays as it was
	}
	for name, c := range map[string]struct {
		f    access.Filter
		want []string
	}{
		"all": {access.Filter{}, []string{"4", "3", "2", "1"}}, "tenant": {access.Filter{Tenant: "acme"}, []string{"2"}}, "key": {access.Filter{Key: "key_01"}, []string{"4", "3", "1"}},
		"operation": {access.Filter{Operation: "revoke-key"}, []string{"3"}}, "object": {access.Filter{Object: "account/1"}, []string{"1"}},
		"result": {access.Filter{Result: "denied"}, []string{"3"}}, "since": {access.Filter{Since: Start().Add(time.Minute)}, []string{"3"}},
		"page": {access.Filter{Limit: 2}, []string{"4", "3"}}, "two": {access.Filter{Tenant: "acme", Result: "denied"}, nil},
	} {
		if c.f.Limit == 0 {
			c.f.Limit = 10
		}
		list, err := s.List(ctx, c.f)
		must(t, err)
		var ids []string
		for _, a := range list {
			ids = append(ids, a.ID)
		}
		if !slices.Equal(ids, c.want) {
			t.Errorf("%s: %v, want %v", name, ids, c.want)
		}
	}
	list, err := s.List(ctx, access.Filter{Limit: 10})
	must(t, err)
	want := act("1")
	want.Seq = list[3].Seq
	if list[3] != want || list[0].KeyName != "key number 1" || list[2].KeyName != "" {
		t.Errorf("the log has %+v", list)
	}
	if before, err := s.List(ctx, access.Filter{Before: list[1].Seq, Limit: 10}); err != nil || len(before) != 2 || before[0].ID != "2" {
		t.Errorf("the next page is %+v, %v", before, err)
	}
}

// auditInTransaction writes an act with a change: both are there, or neither is.
func auditInTransaction(t *testing.T, db *sql.DB, _ *Clock) {
	refuse := errors.New("refused")
	var failing error
	with := func(id string) (context.Context, *engine.Addition) {
		return engine.Also(t.Context(), func(ctx context.Context, e *engine.Engine, tx *engine.Tx) error {
			if err := access.Insert(ctx, e, tx, act(id)); err != nil {
				return err
			}
			return failing
		})
	}
	ctx, first := with("1")
	_, err := db.Accounts.Create(ctx, "news", nil)
	must(t, err)
	if !first.Done() {
		t.Error("the act was not written")
	}
	_, err = db.Accounts.Create(ctx, "more", nil) // the act is written already
	must(t, err)
	ctx, taken := with("2")
	_, err = db.Accounts.Create(ctx, "news", nil)
	wantCode(t, "a name twice", err, job.CodeConflict)
	failing = refuse
	ctx, failed := with("3")
	if _, err = db.Accounts.Create(ctx, "third", nil); !errors.Is(err, refuse) {
		t.Errorf("a change whose act cannot be written: %v", err)
	}
	if taken.Done() || failed.Done() {
		t.Error("an act without its change counts as written")
	}
	if n, err := db.Accounts.Count(t.Context()); err != nil || n != 2 {
		t.Errorf("%d accounts, %v; want 2", n, err)
	}
	if list, err := db.Access.List(t.Context(), access.Filter{Limit: 9}); err != nil || len(list) != 1 || list[0].ID != "1" {
		t.Errorf("the log has %+v, %v", list, err)
	}
}

// auditOfLedger writes acts that the ledger tells of, which the API may have written.
func auditOfLedger(t *testing.T, db *sql.DB, _ *Clock) {
	ctx, s := t.Context(), db.Access
	sp := spec(1, 7, 1)
	sp.Tenant, sp.SubmittedBy, sp.Why = "acme", "key_01", "because"
	told := access.Submitted(*sp)
	told.Request = "of the API"
	must(t, s.Record(ctx, told))
	for range 2 {
		must(t, db.Jobs.Project(ctx, sql.Projection{Recorder: "r", Through: 1, Transitions: []job.Transition{step(sp, 1, job.Submitted)}}))
	}
	quiet := spec(2, 7, 2) // from before there were keys
	must(t, db.Jobs.Project(ctx, sql.Projection{Recorder: "r", Through: 2, Transitions: []job.Transition{step(quiet, 1, job.Submitted)}}))
	late := spec(3, 7, 3)
	late.SubmittedBy = "key_02"
	must(t, db.Jobs.Project(ctx, sql.Projection{Recorder: "r", Through: 3, Transitions: []job.Transition{step(late, 1, job.Submitted)}}))
	for _, mark := range []uint64{8, 5} {
		must(t, s.RecordThrough(ctx, "controls", mark, access.Controlled(*sp, job.Control{Cancel: true, By: "key_03", At: Start(), Why: "a mistake"}, 8)))
	}
	if m, err := s.Mark(ctx, "controls"); err != nil || m != 8 {
		t.Errorf("the mark is %d, %v", m, err)
	}
	if m, err := s.Mark(ctx, "none"); err != nil || m != 0 {
		t.Errorf("a mark that was never set is %d, %v", m, err)
	}
	list, err := s.List(ctx, access.Filter{Limit: 9})
	must(t, err)
	var got []string
	for _, a := range list {
		got = append(got, fmt.Sprint(a.Operation, " ", a.Object, " ", a.Key, " ", a.Tenant, " ", a.Reason, " ", a.Request))
	}
	want := []string{"cancel-job job/" + sp.ID.String() + " key_03 acme a mistake ", "submit-job job/" + late.ID.String() + " key_02 default  ",
		"submit-job job/" + sp.ID.String() + " key_01 acme because of the API"}
	if !slices.Equal(got, want) {
		t.Errorf("the log has\n%q\nwant\n%q", got, want)
	}
}
