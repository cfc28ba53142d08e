package sweep

import (
	"context"
	"slices"
	"testing"
	"time"

	"crier/internal/idset"
	"crier/job"
	"crier/state/jobs"
	"crier/state/ledger"
	"crier/state/parked"
	"crier/state/parked/kv"
	"crier/worker/home"
)

// fixture is an index that is fed by one journal, and a job that is over by its time.
type fixture struct {
	t      *testing.T
	index  *parked.Index
	sweep  *Sweep
	job    jobs.Job
	ids    map[job.Range]*idset.Set
	n      uint64
	posted []job.Range
}

// PackageRange implements parked.Packages.
func (f *fixture) PackageRange(_ context.Context, _ job.ID, r job.Range) (*idset.Set, error) {
	return f.ids[r].Clone(), nil
}

func (f *fixture) Live() []jobs.Job { return []jobs.Job{f.job} }
func (f *fixture) Post(_ context.Context, ev any) {
	f.posted = append(f.posted, ev.(home.Ending).Range)
}
func (f *fixture) Holds(r job.Range) bool { return r < 3 }
func (f *fixture) journal() job.Journal   { return job.Journal{Worker: "w", Incarnation: 1} }
func (f *fixture) ref(n uint64, entry uint16) job.Ref {
	return job.Ref{Journal: f.journal(), N: n, Entry: entry}
}

func (f *fixture) apply(entries ...ledger.Entry) {
	f.t.Helper()
	var encoded [][]byte
	for _, e := range entries {
		encoded = append(encoded, ledger.EncodeEntry(e))
	}
	st := ledger.Stored{Seq: f.n + 1, Data: ledger.EncodeRecord(ledger.Record{Journal: f.journal(), N: f.n}, encoded)}
	if _, err := f.index.Apply(f.t.Context(), st); err != nil {
		f.t.Fatal(err)
	}
	f.n++
}

// asked gives the ranges that a round asks to end the job in.
func (f *fixture) asked() []job.Range {
	f.t.Helper()
	f.posted = nil
	if err := f.sweep.over(f.t.Context()); err != nil {
		f.t.Fatal(err)
	}
	return f.posted
}

// TestOverAsksWhereSomebodyIsLeft: the home of a range is asked to end a job that is over while
// somebody of it is parked there, also when that is so again after nobody was.
func TestOverAsksWhereSomebodyIsLeft(t *testing.T) {
	f := &fixture{t: t, job: jobs.Job{Spec: job.Spec{ID: job.ID{1}}}, ids: map[job.Range]*idset.Set{}}
	x, err := parked.New(t.Context(), kv.NewMemory(), f, nil)
	if err != nil {
		t.Fatal(err)
	}
	f.index = x
	f.sweep = &Sweep{Index: x, Jobs: f, Holds: f.Holds, Post: f.Post}
	inc := job.Incarnation{Gateway: "g", Start: 1}
	first := []ledger.Entry{ledger.Open{}}
	for _, r := range []job.Range{0, 1, 3} { // nobody of the job is in 2, and 3 is another's
		f.ids[r] = idset.Of(r.Lo()+1, r.Lo()+5)
		at := idset.Of(r.Lo() + 5)
		first = append(first, &ledger.Reserve{Job: job.ID{1}, Span: job.Span{Lo: uint64(r.Lo()), Hi: uint64(r.Lo()) + 10}, IDs: 2, Rest: job.Parked,
			Targets: ledger.Targets{Incs: []job.Incarnation{inc}, Sets: []*idset.Set{at}}})
	}
	f.apply(first...)
	for r := range job.Range(3) {
		if _, err := x.MayWait(r); err != nil { // as the other round does
			t.Fatal(err)
		}
	}
	if got := f.asked(); !slices.Equal(got, []job.Range{0, 1}) {
		t.Errorf("asked are %v, want 0 and 1", got)
	}
	f.apply(&ledger.Outcome{Job: job.ID{1}, Range: 0, Outcome: job.Expired, Set: idset.Of(1)})
	for range 2 {
		if got := f.asked(); !slices.Equal(got, []job.Range{1}) {
			t.Errorf("range 0 is ended; asked are %v, want 1", got)
		}
	}
	f.apply(&ledger.Done{Job: job.ID{1}, Range: 0, Of: f.ref(0, 1), Inc: inc, NotHere: idset.Of(5)})
	if got := f.asked(); !slices.Equal(got, []job.Range{0, 1}) {
		t.Errorf("somebody came back from a gateway; asked are %v, want 0 and 1", got)
	}
	f.apply(&ledger.Outcome{Job: job.ID{1}, Range: 0, Outcome: job.Expired, Set: idset.Of(5)},
		&ledger.Done{Job: job.ID{1}, Range: 1, Of: f.ref(0, 2), Inc: inc, Mute: idset.Of(job.Range(1).Lo() + 5)},
		&ledger.Outcome{Job: job.ID{1}, Range: 1, Outcome: job.Expired, Set: idset.Of(job.Range(1).Lo() + 1)},
		&ledger.Outcome{Job: job.ID{1}, Range: 3, Outcome: job.Expired, Set: idset.Of(job.Range(3).Lo() + 1)})
	if got := f.asked(); !slices.Equal(got, []job.Range{1}) {
		t.Errorf("one is in doubt and nobody parked; asked are %v, want 1", got)
	}
}

// TestEveryRangeIsLookedAt: a round of parts asks for each range once, and the next one again.
func TestEveryRangeIsLookedAt(t *testing.T) {
	asked := map[job.Range]int{}
	f := &fixture{t: t, job: jobs.Job{Spec: job.Spec{ID: job.ID{1}}}}
	s := &Sweep{Jobs: f, Info: func(jobs.Job, time.Time) home.JobInfo { return home.JobInfo{} },
		Holds: func(r job.Range) bool { asked[r]++; return false }}
	x, err := parked.New(t.Context(), kv.NewMemory(), f, nil)
	if err != nil {
		t.Fatal(err)
	}
	s.Index = x
	look := s.waiting()
	for round := range 2 {
		for part := range parts {
			if err := look(t.Context()); err != nil {
				t.Fatal(err)
			}
			if want := round*job.Ranges + (part+1)*job.Ranges/parts; sum(asked) != want {
				t.Fatalf("after part %d of round %d %d ranges are looked at, want %d", part, round, sum(asked), want)
			}
		}
		for r := range job.Range(job.Ranges) {
			if asked[r] != round+1 {
				t.Fatalf("range %d is looked at %d times in %d rounds", r, asked[r], round+1)
			}
		}
	}
}

func sum(counts map[job.Range]int) (n int) {
	for _, c := range counts {
		n += c
	}
	return n
}
