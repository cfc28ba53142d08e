package bench

import (
	"errors"
	"strings"
	"testing"
	"time"

	"crier/api"
	"crier/internal/idset"
	"crier/job"
)

func small() *SmallJobs {
	return &SmallJobs{Pipeline: Pipeline{Population: Population{Recipients: 30_000, Gateways: 2, Seed: 7}}, Jobs: 4, Each: 1000, Packages: 3, UnderWay: 2}
}

// Packages are of the size that was asked for, lie in the population, and differ; what is
// expected of each, counted recipient by recipient, is what set algebra says.
func TestParts(t *testing.T) {
	b := small()
	ids := make([]map[uint32]bool, b.Packages)
	universe := map[uint32]bool{}
	if err := b.Ranges(func(s *idset.Set) error {
		for id := range s.All() {
			universe[id] = true
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	for i := range ids {
		ids[i] = map[uint32]bool{}
		var x, want Expected
		if err := b.part(i, func(s *idset.Set) error {
			follows, suppressed := b.Followers(s.Range), b.Suppressed(s.Range)
			at := []*idset.Set{b.At(s.Range, 0), b.At(s.Range, 1)}
			for id := range s.All() {
				ids[i][id] = true
				one := idset.Of(id)
				if !universe[id] {
					t.Errorf("%d is nobody", id)
				}
				switch {
				case !follows.Has(id):
					want.Relation++
				case suppressed.Has(id):
					want.Suppressed++
				case at[0].Has(id) || at[1].Has(id):
					want.add(one)
				default:
					want.Parked++
				}
			}
			return nil
		}); err != nil {
			t.Fatal(err)
		}
		x, err := b.expected(i)
		if err != nil || x != want {
			t.Errorf("package %d: expected is %+v, %v; counted %+v", i, x, err, want)
		}
		if len(ids[i]) != int(b.Each) || x.N == 0 || x.Parked == 0 || x.Relation == 0 {
			t.Errorf("package %d has %d recipients: %+v", i, len(ids[i]), x)
		}
	}
	same := 0
	for id := range ids[0] {
		if ids[1][id] {
			same++
		}
	}
	if same > int(b.Each)/2 {
		t.Errorf("%d of %d recipients are in both of two packages", same, b.Each)
	}
	b.Recipients, b.Each = 1000, 1000
	if err := b.part(0, func(*idset.Set) error { return nil }); err != nil {
		t.Errorf("everybody: %v", err)
	}
}

func TestKeepFirst(t *testing.T) {
	for n, want := range map[uint64]int{1: 1, 3: 3, 4: 4, 9: 4} {
		s := idset.Of(5, 6, 7, 70)
		if keepFirst(s, n); s.Card() != want || !s.Has(5) {
			t.Errorf("the first %d of four are %d", n, s.Card())
		}
	}
}

func TestTally(t *testing.T) {
	var a, b, twice, other Tally
	a.add(idset.Of(1, 2, 3))
	b.add(idset.Of(3))
	b.add(idset.Of(1, 2))
	twice.add(idset.Of(1, 2))
	twice.add(idset.Of(2))
	other.add(idset.Of(1, 2, 4))
	if a != b || a == twice || a == other || twice == other || a.N != 3 {
		t.Errorf("%v %v %v %v", a, b, twice, other)
	}
}

// A simulated gateway with many jobs keeps whom it got by job, and notices who is not its own.
func TestGatewayWithManyJobs(t *testing.T) {
	g := &Gateway{Many: true}
	g.mu.result.Jobs = map[string]Tally{}
	g.mu.due = map[job.Range]*idset.Set{0: idset.Of(1, 2, 3)}
	one, two := job.KeyID("t", "1"), job.KeyID("t", "2")
	g.count(one, idset.Of(1, 2))
	g.count(two, idset.Of(1, 9))
	g.count(one, idset.Of(1<<job.RangeBits))
	r := g.Result()
	var want Tally
	want.add(idset.Of(1, 2))
	want.add(idset.Of(1 << job.RangeBits))
	if r.Jobs[one.String()] != want || r.Jobs[two.String()].N != 2 || r.Received != 5 || r.Strange != 2 || r.Missing != 0 {
		t.Errorf("%+v", r)
	}
}

func TestPercentile(t *testing.T) {
	var times []time.Duration
	for i := 200; i > 0; i-- {
		times = append(times, time.Duration(i)*time.Millisecond)
	}
	if a, b, c := percentile(times, 50), percentile(times, 99), percentile(times[:1], 99); a != 100 || b != 198 || c != 200 {
		t.Errorf("%v %v %v", a, b, c)
	}
}

func TestDiffer(t *testing.T) {
	x := Expected{Tally: Tally{N: 5}, Parked: 4, Relation: 3, Suppressed: 2}
	good := api.Reconciliation{Conserved: true, Counts: job.Counts{Delivered: 5, Parked: 4,
		Dropped: map[job.Reason]uint64{job.ReasonRelation: 3, job.ReasonSuppressed: 2}}}
	if all := x.differ(good); len(all) != 0 {
		t.Errorf("a good one: %q", all)
	}
	for name, change := range map[string]func(*api.Reconciliation){"conserved": func(r *api.Reconciliation) { r.Conserved = false },
		"delivered": func(r *api.Reconciliation) { r.Delivered++ }, "parked": func(r *api.Reconciliation) { r.Parked-- },
		"relation": func(r *api.Reconciliation) { r.Dropped = map[job.Reason]uint64{job.ReasonSuppressed: 2} }} {
		bad := good
		change(&bad)
		if all := x.differ(bad); len(all) != 1 || !strings.Contains(all[0], name) {
			t.Errorf("%s: %q", name, all)
		}
	}
}

func TestValidateSmallJobs(t *testing.T) {
	if err := small().Validate(); err != nil {
		t.Error(err)
	}
	for field, change := range map[string]func(*SmallJobs){"jobs": func(b *SmallJobs) { b.Jobs = -1 }, "recipients": func(b *SmallJobs) { b.Each = 0 },
		"packages": func(b *SmallJobs) { b.Packages = maxPackages + 1 }, "under-way": func(b *SmallJobs) { b.UnderWay = 0 },
		"among": func(b *SmallJobs) { b.Recipients = b.Each - 1 }} {
		b := small()
		change(b)
		var bad *job.Error
		if err := b.Validate(); !errors.As(err, &bad) || bad.Field != field {
			t.Errorf("%s: %v", field, err)
		}
	}
}
