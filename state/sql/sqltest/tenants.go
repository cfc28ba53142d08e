package sqltest

import (
	"slices"
	"testing"

	"crier/job"
	"crier/state/sql"
)

// tenantsApart gives two tenants objects of the same names, and looks from each side.
func tenantsApart(t *testing.T, s Store) {
	ctx := t.Context()
	acme, other, house := s.Of("acme"), s.Of("other"), s.Of(job.DefaultTenant)
	a, err := acme.Accounts.Create(ctx, "news", nil)
	must(t, err)
	o, err := other.Accounts.Create(ctx, "news", nil)
	must(t, err)
	h, err := s.Accounts.Create(ctx, "news", nil)
	must(t, err)
	if a.Tenant != "acme" || o.Tenant != "other" || h.Tenant != job.DefaultTenant || a.Number == o.Number || o.Number == h.Number {
		t.Fatalf("made %+v, %+v and %+v", a, o, h)
	}
	_, err = acme.Accounts.Create(ctx, "news", nil)
	wantCode(t, "a name twice in a tenant", err, job.CodeConflict)
	_, err = acme.Accounts.Create(ctx, "12", nil)
	wantCode(t, "a number for a name", err, job.CodeInvalid)
	for who, view := range map[string]struct {
		Tenanted
		own, foreign sql.Account
	}{"acme": {acme, a, o}, "other": {other, o, a}, "default": {house, h, a}} {
		if got, err := view.Accounts.Find(ctx, "news"); err != nil || got != view.own {
			t.Errorf("%s finds %+v, %v", who, got, err)
		}
		if list, err := view.Accounts.List(ctx, 0, 10); err != nil || !slices.Equal(list, []sql.Account{view.own}) {
			t.Errorf("%s lists %+v, %v", who, list, err)
		}
		if got, err := view.Accounts.Get(ctx, view.own.Number); err != nil || got != view.own {
			t.Errorf("%s gets %+v, %v", who, got, err)
		}
		_, err := view.Accounts.Get(ctx, view.foreign.Number)
		wantCode(t, who+" gets another's account", err, job.CodeNotFound)
	}
	if list, err := s.Accounts.List(ctx, 0, 10); err != nil || len(list) != 3 {
		t.Errorf("there are %+v, %v", list, err)
	}
	if got, err := s.Accounts.Find(ctx, numberOf(o)); err != nil || got != o {
		t.Errorf("by its number, over all tenants: %+v, %v", got, err)
	}
	packagesApart(t, s, a, o)
	jobsApart(t, s, a, o)
}

func numberOf(a sql.Account) string { return string('0' + rune(a.Number)) } // of one digit

// packagesApart gives one set to both tenants, and another to one of them.
func packagesApart(t *testing.T, s Store, a, o sql.Account) {
	ctx := t.Context()
	shared, mine := job.Digest{1}, job.Digest{2}
	for _, p := range []sql.Package{{Account: a.Number, Name: "shared", Set: shared}, {Account: o.Number, Name: "shared", Set: shared}, {Account: a.Number, Name: "mine", Set: mine}} {
		_, err := s.Packages.Put(ctx, p)
		must(t, err)
	}
	if p, err := s.Of("other").Packages.BySet(ctx, shared); err != nil || p.Account != o.Number {
		t.Errorf("other's shared package is %+v, %v", p, err)
	}
	_, err := s.Of("other").Packages.BySet(ctx, mine)
	wantCode(t, "another's package", err, job.CodeNotFound)
	for tenant, want := range map[string]int{"acme": 2, "other": 1, job.DefaultTenant: 0} {
		list, _, err := s.Of(tenant).Packages.Newest(ctx, nil, "", 10)
		if err != nil || len(list) != want {
			t.Errorf("%s has %d packages, %v; want %d", tenant, len(list), err, want)
		}
	}
	if list, _, err := s.Of("other").Packages.Newest(ctx, &a.Number, "", 10); err != nil || len(list) != 0 {
		t.Errorf("other sees %d packages of acme's account, %v", len(list), err)
	}
}

// jobsApart projects a job of each tenant, and one from before there were tenants.
func jobsApart(t *testing.T, s Store, a, o sql.Account) {
	ctx := t.Context()
	of := func(tenant string, account uint32, id byte) job.ID {
		sp := spec(int(id), account, id)
		sp.Tenant = tenant
		project(t, s, uint64(id), step(sp, 1, job.Submitted))
		return sp.ID
	}
	want := map[string]job.ID{"acme": of("acme", a.Number, 1), "other": of("other", o.Number, 2), job.DefaultTenant: of("", 77, 3)}
	for tenant, id := range want {
		list, _, err := s.Of(tenant).Jobs.List(ctx, sql.JobFilter{Limit: 10})
		if err != nil || len(list) != 1 || list[0].Spec.ID != id {
			t.Errorf("%s lists %+v, %v", tenant, list, err)
		}
		if n, err := s.Of(tenant).Jobs.CountByState(ctx); err != nil || n[job.Submitted] != 1 {
			t.Errorf("%s counts %v, %v", tenant, n, err)
		}
	}
	if list, _, err := s.Of("other").Jobs.List(ctx, sql.JobFilter{Account: &a.Number}); err != nil || len(list) != 0 {
		t.Errorf("other sees %d jobs of acme's account, %v", len(list), err)
	}
	if list, _, err := s.Jobs.List(ctx, sql.JobFilter{}); err != nil || len(list) != len(want) {
		t.Errorf("there are %d jobs, %v", len(list), err)
	}
}
