package quota

import (
	"errors"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"crier/job"
)

// world is the limits of tenants, and what the table of jobs has.
type world struct {
	sync.Mutex
	limits map[string]job.Limits
	jobs   map[job.ID]string // under way, by tenant
	sent   map[job.ID]bool   // live, but not under way
}

func newWorld() *world {
	return &world{limits: map[string]job.Limits{}, jobs: map[job.ID]string{}, sent: map[job.ID]bool{}}
}

// Limits implements Limits.
func (w *world) Limits(tenant string) job.Limits { return w.limits[tenant] }

// UnderWay implements Jobs.
func (w *world) UnderWay() map[string]uint64 {
	w.Lock()
	defer w.Unlock()
	n := map[string]uint64{}
	for _, tenant := range w.jobs {
		n[tenant]++
	}
	return n
}

// IsLive implements Jobs.
func (w *world) IsLive(id job.ID) bool {
	w.Lock()
	defer w.Unlock()
	_, underWay := w.jobs[id]
	return underWay || w.sent[id]
}

// seen is the moment at which the table of jobs has a job.
func (w *world) seen(spec job.Spec) {
	w.Lock()
	defer w.Unlock()
	w.jobs[spec.ID] = spec.TenantOf()
}

func (w *world) send(id job.ID) {
	w.Lock()
	defer w.Unlock()
	delete(w.jobs, id)
	w.sent[id] = true
}

func (w *world) end(id job.ID) {
	w.Lock()
	defer w.Unlock()
	delete(w.jobs, id)
	delete(w.sent, id)
}

// of is the n-th job of a tenant.
func of(tenant string, n int) job.Spec {
	return job.Spec{ID: job.KeyID(tenant, string(rune('a'+n))), Tenant: tenant}
}

// limited reports whether an error is the limit of jobs, which says when to come again.
func limited(t *testing.T, err error) bool {
	t.Helper()
	var e *job.Error
	if err != nil && (!errors.As(err, &e) || e.Code != job.CodeLimited || e.After <= 0 || e.Message == "") {
		t.Errorf("%v is no limit", err)
	}
	return err != nil
}

// Of many at once as many enter as the limit says, whether the table of jobs has seen the
// others by then or not; and another tenant's are counted apart.
func TestManyEnterAtOnce(t *testing.T) {
	const most, tries = 7, 26
	w := newWorld()
	w.limits["acme"], w.limits["other"] = job.Limits{Jobs: most}, job.Limits{Jobs: 1}
	q := New(w, w)
	var mu sync.Mutex
	passed := map[string]int{}
	var wg sync.WaitGroup
	for _, tenant := range []string{"acme", "other", "free"} {
		for n := range tries {
			wg.Go(func() {
				spec := of(tenant, n)
				if _, err := q.Enter(spec); limited(t, err) {
					return
				}
				if n%2 == 0 {
					w.seen(spec) // the table has half of them at once
				}
				mu.Lock()
				defer mu.Unlock()
				passed[tenant]++
			})
		}
	}
	wg.Wait()
	if passed["acme"] != most || passed["other"] != 1 || passed["free"] != tries {
		t.Errorf("entered: %v", passed)
	}
}

// A place is free again when its job is sent, is over, or was not accepted after all.
func TestPlacesAreGivenBack(t *testing.T) {
	w := newWorld()
	w.limits["acme"] = job.Limits{Jobs: 2}
	q := New(w, w)
	enter := func(n int, want bool) (leave func()) {
		t.Helper()
		leave, err := q.Enter(of("acme", n))
		if limited(t, err) == want {
			t.Fatalf("job %d: %v", n, err)
		}
		return leave
	}
	leave := enter(0, true)
	enter(1, true)
	enter(2, false)
	leave() // the ledger did not take it
	enter(2, true)
	enter(3, false)
	w.seen(of("acme", 1))
	enter(3, false) // it is counted once
	w.send(of("acme", 1).ID)
	enter(3, true)
	w.seen(of("acme", 2))
	w.seen(of("acme", 3))
	enter(4, false)
	w.end(of("acme", 2).ID)
	enter(4, true)
	enter(5, false)
	w.limits["acme"] = job.Limits{Jobs: 3}
	enter(5, true)
	w.limits["acme"] = job.Limits{Jobs: 1} // less than there are
	enter(6, false)
	w.limits["acme"] = job.Limits{}
	enter(6, true)
}

// A job that the table never shows, because it was sent and over between two looks, holds
// its place for a bounded time.
func TestAPlaceIsNotHeldForEver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld()
		w.limits["acme"] = job.Limits{Jobs: 1}
		q := New(w, w)
		if _, err := q.Enter(of("acme", 0)); err != nil {
			t.Fatal(err)
		}
		time.Sleep(seenWithin)
		if _, err := q.Enter(of("acme", 1)); !limited(t, err) {
			t.Error("the place is free too early")
		}
		time.Sleep(time.Nanosecond)
		if _, err := q.Enter(of("acme", 1)); err != nil {
			t.Errorf("the place is held: %v", err)
		}
	})
}

func TestRate(t *testing.T) {
	w := newWorld()
	w.limits["acme"] = job.Limits{Rate: 100}
	q := New(w, w)
	for _, c := range []struct {
		tenant      string
		asked, want uint32
		refused     bool
	}{
		{"acme", 0, 100, false}, {"acme", 1, 1, false}, {"acme", 100, 100, false}, {"acme", 101, 0, true}, {"free", 0, 0, false}, {"free", 1 << 31, 1 << 31, false},
	} {
		got, err := q.Rate(c.tenant, c.asked)
		var e *job.Error
		if got != c.want || (err != nil) != c.refused || err != nil && (!errors.As(err, &e) || e.Field != "rate") {
			t.Errorf("%s asks for %d: %d, %v", c.tenant, c.asked, got, err)
		}
	}
}

func TestSize(t *testing.T) {
	w := newWorld()
	w.limits[job.DefaultTenant] = job.Limits{Recipients: 10}
	q := New(w, w)
	for _, c := range []struct {
		tenant     string
		recipients uint64
		code       job.Code
	}{{"", 10, ""}, {"", 11, job.CodeTooLarge}, {"free", 1 << 32, ""}} {
		err := q.Size(job.Spec{Tenant: c.tenant, Recipients: c.recipients})
		if (err != nil) != (c.code != "") || err != nil && job.CodeOf(err) != c.code {
			t.Errorf("%d recipients of %q: %v", c.recipients, c.tenant, err)
		}
	}
}
