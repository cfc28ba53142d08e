package sqltest

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"reflect"
	"slices"
	"sync"
	"testing"
	"time"

	"crier/job"
	"crier/state/outbox"
	"crier/state/sql"
)

// together runs n functions at once and gives their errors.
func together(n int, fn func(i int) error) []error {
	errs := make([]error, n)
	var wg sync.WaitGroup
	for i := range n {
		wg.Go(func() { errs[i] = fn(i) })
	}
	wg.Wait()
	return errs
}

// jobRecorders lets several recorders project the same transitions at once, each as
// one that was cut off would: in stretches that begin anywhere it has been before.
func jobRecorders(t *testing.T, s Store) {
	const versions = 40
	sp := spec(0, 7, 1)
	states := []job.State{job.Submitted, job.Packed, job.Queued, job.Sending, job.Paused}
	at := func(v uint64) job.Transition { return step(sp, v, states[v%uint64(len(states))]) }
	for i, err := range together(4, func(i int) error {
		rng := rand.New(rand.NewPCG(uint64(i), 3))
		for done := uint64(0); done < versions; {
			from := done - min(done, rng.Uint64N(4))
			to := min(versions, done+1+rng.Uint64N(4))
			var p sql.Projection
			for v := from + 1; v <= to; v++ {
				p.Transitions = append(p.Transitions, at(v))
			}
			p.Recorder, p.Through = "r", to
			if err := s.Jobs.Project(context.Background(), p); err != nil {
				return err
			}
			done = to
		}
		return nil
	}) {
		if err != nil {
			t.Errorf("recorder %d: %v", i, err)
		}
	}
	last := at(versions)
	wantJob(t, s, sql.Job{Spec: *sp, Version: versions, State: last.State, Reason: last.Reason, StateAt: stepAt(sp, versions)})
	if w, err := s.Jobs.Watermark(t.Context(), "r"); w != versions || err != nil {
		t.Errorf("the watermark is %d, %v", w, err)
	}
	seen := map[uint64]int{}
	for _, r := range take(t, s, "a", 1000) {
		seen[r.Event.Version]++
		if want := at(r.Event.Version); r.Event.State != want.State.String() {
			t.Errorf("the event of version %d says %s, want %s", r.Event.Version, r.Event.State, want.State)
		}
	}
	for v := uint64(1); v <= versions; v++ {
		if seen[v] != 1 {
			t.Errorf("version %d has %d events", v, seen[v])
		}
	}
}

func slice(id job.ID, number uint32, version uint64) sql.Slice {
	return sql.Slice{Job: id, Number: number, Version: version, State: job.SliceState(version % 10), Worker: fmt.Sprint("w-", version),
		Epoch: version / 2, Since: Start().Add(time.Duration(version) * time.Second)}
}

func wantSlices(t *testing.T, s Store, id job.ID, want ...sql.Slice) {
	t.Helper()
	got, err := s.Jobs.Slices(t.Context(), id, 0, 1000)
	must(t, err)
	if !reflect.DeepEqual(got, want) {
		t.Errorf("the slices are %+v, want %+v", got, want)
	}
}

func slicesLatest(t *testing.T, s Store) {
	ctx := t.Context()
	a, b := spec(0, 7, 1).ID, spec(1, 7, 2).ID
	must(t, s.Jobs.ProjectSlices(ctx, nil))
	wantSlices(t, s, a)
	must(t, s.Jobs.ProjectSlices(ctx, []sql.Slice{slice(a, 4294967295, 3), slice(b, 0, 9), slice(a, 0, 1), slice(a, 0, 5)}))
	must(t, s.Jobs.ProjectSlices(ctx, []sql.Slice{slice(a, 4294967295, 2), slice(a, 0, 5), slice(b, 0, 8), slice(a, 7, 1)}))
	wantSlices(t, s, a, slice(a, 0, 5), slice(a, 7, 1), slice(a, 4294967295, 3))
	wantSlices(t, s, b, slice(b, 0, 9))
	page, err := s.Jobs.Slices(ctx, a, 1, 1)
	must(t, err)
	if len(page) != 1 || page[0] != slice(a, 7, 1) {
		t.Errorf("a page from 1 is %+v", page)
	}
	var events []string
	for _, r := range take(t, s, "o", 100) {
		events = append(events, r.Event.ID()+" "+r.Event.State)
		if !r.Event.At.Equal(Start().Add(time.Duration(r.Event.Version) * time.Second)) {
			t.Errorf("%s is at %s", r.Event.ID(), r.Event.At)
		}
	}
	slices.Sort(events)
	want := []string{
		fmt.Sprintf("%s-0/1 offered", a), fmt.Sprintf("%s-0/5 sent", a), fmt.Sprintf("%s-4294967295/3 sending", a),
		fmt.Sprintf("%s-7/1 offered", a), fmt.Sprintf("%s-0/9 abandoned", b),
	}
	slices.Sort(want)
	if !slices.Equal(events, want) {
		t.Errorf("the events are %q, want %q", events, want)
	}
}

// slicesAtOnce lets several projectors write the same slices in any order.
func slicesAtOnce(t *testing.T, s Store) {
	const numbers, versions = 8, 15
	id := spec(0, 7, 1).ID
	for i, err := range together(4, func(i int) error {
		rng := rand.New(rand.NewPCG(uint64(i), 4))
		var all []sql.Slice
		for n := range uint32(numbers) {
			for v := uint64(1); v <= versions; v++ {
				all = append(all, slice(id, n, v))
			}
		}
		rng.Shuffle(len(all), func(i, j int) { all[i], all[j] = all[j], all[i] })
		for part := range slices.Chunk(all, 7) {
			if err := s.Jobs.ProjectSlices(context.Background(), part); err != nil {
				return err
			}
		}
		return nil
	}) {
		if err != nil {
			t.Errorf("projector %d: %v", i, err)
		}
	}
	var want []sql.Slice
	for n := range uint32(numbers) {
		want = append(want, slice(id, n, versions))
	}
	wantSlices(t, s, id, want...)
	// Each event is of a version that was the newest when it was written.
	newest, seen := map[uint32]uint64{}, map[string]bool{}
	for {
		rows := take(t, s, "o", 1000)
		if len(rows) == 0 {
			break
		}
		var ids []uint64
		for _, r := range rows {
			if seen[r.Event.ID()] {
				t.Errorf("%s is told twice", r.Event.ID())
			}
			seen[r.Event.ID()] = true
			newest[*r.Event.Slice] = max(newest[*r.Event.Slice], r.Event.Version)
			ids = append(ids, r.ID)
		}
		must(t, s.Outbox.Mark(t.Context(), ids))
	}
	for n := range uint32(numbers) {
		if newest[n] != versions {
			t.Errorf("of slice %d version %d is told last", n, newest[n])
		}
	}
}

const leased = 3 * time.Second

func take(t *testing.T, s Store, owner string, limit int) []outbox.Row {
	t.Helper()
	rows, err := s.Outbox.Take(t.Context(), outbox.Lease{Owner: owner, For: leased, Limit: limit})
	must(t, err)
	return rows
}

func wantEvents(t *testing.T, what string, got []outbox.Row, want ...job.Transition) {
	t.Helper()
	events := make([]job.Event, len(want))
	for i, tr := range want {
		at, err := time.Parse(time.RFC3339Nano, tr.At)
		must(t, err)
		events[i] = job.Event{Job: tr.Job, Version: tr.Version, State: tr.State.String(), Reason: tr.Reason, At: at.UTC()}
	}
	var have []job.Event
	for _, r := range got {
		have = append(have, r.Event)
	}
	if len(have)+len(want) > 0 && !reflect.DeepEqual(have, events) {
		t.Errorf("%s: events %+v, want %+v", what, have, events)
	}
}

// eventsOnce holds that an event is there if and only if its transition is.
func eventsOnce(t *testing.T, s Store) {
	sp := spec(0, 7, 1)
	if rows := take(t, s, "a", 10); len(rows) != 0 {
		t.Errorf("an empty outbox has %+v", rows)
	}
	first, second, third := step(sp, 1, job.Submitted), step(sp, 2, job.Packed), step(sp, 3, job.Queued)
	second.Reason = "größer \xff 'so'" // what is not UTF-8 stays as it is
	project(t, s, 1, first)
	project(t, s, 2, first, second)
	err := s.Jobs.Project(t.Context(), sql.Projection{Recorder: "r", Through: 9, Transitions: []job.Transition{third, step(sp, 5, job.Sending)}})
	var gap *sql.GapError
	if !errors.As(err, &gap) {
		t.Fatalf("a gap: %v", err)
	}
	must(t, s.Jobs.Project(t.Context(), sql.Projection{Recorder: "r", Counts: []sql.JobCounts{{Job: sp.ID, AsOf: 4, Counts: job.Counts{Package: 12}}}}))
	wantEvents(t, "two transitions", take(t, s, "a", 10), first, second)
}

func eventsLeases(t *testing.T, s Store) {
	ctx := t.Context()
	sp := spec(0, 7, 1)
	all := []job.Transition{step(sp, 1, job.Submitted), step(sp, 2, job.Packed), step(sp, 3, job.Queued)}
	project(t, s, 1, all...)
	mine := take(t, s, "a", 2)
	wantEvents(t, "a takes two", mine, all[:2]...)
	wantEvents(t, "b gets the rest", take(t, s, "b", 2), all[2])
	wantEvents(t, "a takes its own again", take(t, s, "a", 5), all[:2]...)
	must(t, s.Outbox.Mark(ctx, []uint64{mine[0].ID, 1 << 40}))
	must(t, s.Outbox.Mark(ctx, []uint64{mine[0].ID}))
	must(t, s.Outbox.Mark(ctx, nil))
	wantEvents(t, "a marked one", take(t, s, "a", 5), all[1])
	for range 4 {
		s.clock.advance()
	}
	rest := take(t, s, "c", 5)
	wantEvents(t, "the leases lapse", rest, all[1], all[2])
	must(t, s.Outbox.Mark(ctx, []uint64{rest[0].ID, rest[1].ID}))
	for _, w := range []struct {
		age   time.Duration
		limit int
		want  int
	}{{4 * time.Second, 10, 0}, {3 * time.Second, 10, 1}, {0, 10, 0}, {-time.Second, 1, 1}, {-time.Second, 10, 1}, {-time.Second, 10, 0}} {
		if n, err := s.Outbox.Sweep(ctx, w.age, w.limit); n != w.want || err != nil {
			t.Errorf("sweeping what is older than %s, %d at most: %d, %v; want %d", w.age, w.limit, n, err, w.want)
		}
	}
	wantEvents(t, "all is published", take(t, s, "a", 10))
}

// eventsMany lets two owners share many rows: none is left, none is given to both.
func eventsMany(t *testing.T, s Store) {
	const jobs = 700
	var ts []job.Transition
	for i := range jobs {
		ts = append(ts, step(spec(i, 7, byte(i)), 1, job.Submitted))
	}
	project(t, s, 1, ts...)
	got := make([]map[uint64]bool, 2)
	for i, err := range together(2, func(i int) error {
		got[i] = map[uint64]bool{}
		for {
			rows, err := s.Outbox.Take(context.Background(), outbox.Lease{Owner: fmt.Sprint("owner ", i), For: leased, Limit: 200})
			if err != nil || len(rows) == 0 {
				return err
			}
			var ids []uint64
			for _, r := range rows {
				got[i][r.ID] = true
				ids = append(ids, r.ID)
			}
			if err := s.Outbox.Mark(context.Background(), ids); err != nil {
				return err
			}
		}
	}) {
		if err != nil {
			t.Errorf("owner %d: %v", i, err)
		}
	}
	for id := range got[0] {
		if got[1][id] {
			t.Errorf("row %d was given to both", id)
		}
	}
	if n := len(got[0]) + len(got[1]); n != jobs {
		t.Errorf("%d rows were given, want %d", n, jobs)
	}
	if rows := take(t, s, "c", 10); len(rows) != 0 {
		t.Errorf("%d rows are left", len(rows))
	}
}

// accountsAtOnce makes accounts from several sides: each name and each number once.
func accountsAtOnce(t *testing.T, s Store) {
	const sides, names = 6, 5
	made := make([]int, names)
	var mu sync.Mutex
	for i, err := range together(sides, func(int) error {
		for n := range names {
			_, err := s.Accounts.Create(context.Background(), fmt.Sprint("name ", n), nil)
			if job.CodeOf(err) == job.CodeConflict {
				continue
			}
			if err != nil {
				return err
			}
			mu.Lock()
			made[n]++
			mu.Unlock()
		}
		return nil
	}) {
		if err != nil {
			t.Errorf("side %d: %v", i, err)
		}
	}
	all, err := s.Accounts.List(t.Context(), 0, 100)
	must(t, err)
	for i, a := range all {
		if int(a.Number) != i+1 {
			t.Errorf("account %q has number %d, want %d", a.Name, a.Number, i+1)
		}
	}
	for n, count := range made {
		if count != 1 || len(all) != names {
			t.Errorf("name %d was made %d times; there are %d accounts", n, count, len(all))
		}
	}
}

// namesByByte holds that names differ where their bytes do, and are in their order.
func namesByByte(t *testing.T, s Store) {
	names := []string{" a", "A", "B", "a", "a ", "a\x00", "b", "e\u0301", "z", "é", "ｚ", "𝛼"}
	slices.Sort(names)
	for i, name := range names {
		_, err := s.Packages.Put(t.Context(), sql.Package{Account: 1, Name: name, Set: job.Digest{byte(i)}, Blob: job.Digest{1}})
		if err != nil {
			t.Errorf("%q: %v", name, err)
		}
	}
	all, err := s.Packages.List(t.Context(), 1, "", 100)
	must(t, err)
	var got []string
	for _, p := range all {
		got = append(got, p.Name)
	}
	if !slices.Equal(got, names) {
		t.Errorf("listed %q, want %q", got, names)
	}
	for _, name := range []string{"Weather", "weather", "wéather"} {
		_, err := s.Accounts.Create(t.Context(), name, nil)
		must(t, err)
	}
}
