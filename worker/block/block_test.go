package block_test

import (
	"context"
	"iter"
	"log/slog"
	"runtime"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"crier/filters"
	"crier/internal/badinput"
	"crier/internal/bus"
	"crier/internal/guard"
	"crier/internal/idset"
	"crier/job"
	"crier/presence"
	"crier/state/jobs"
	"crier/state/ledger"
	"crier/state/parked/charge"
	"crier/state/parked/kv"
	"crier/worker/block"
	"crier/worker/holds"
	"crier/worker/lane"
)

// everybody is a package of the first ten ids of each range.
type everybody struct{}

func (everybody) Range(r job.Range) (*idset.Set, error) {
	s := idset.New(r)
	for i := range uint32(10) {
		s.Add(r.Lo() + i)
	}
	return s, nil
}

func (everybody) Cardinality() uint64 { return 10 * job.Ranges }

func (everybody) Ranges() iter.Seq2[job.Range, int] {
	return func(yield func(job.Range, int) bool) {
		for r := range job.Range(job.Ranges) {
			if !yield(r, 10) {
				return
			}
		}
	}
}

type content struct{}

func (content) Package(context.Context, job.Spec) (block.Package, error) { return everybody{}, nil }
func (content) Lists(context.Context, job.Spec) (filters.Lists, error)   { return filters.Lists{}, nil }

// odd drops whoever has an odd id.
type odd struct{}

func (odd) Reason() job.Reason { return job.ReasonRelation }
func (odd) Refuse(_ context.Context, in *idset.Set) (*idset.Set, error) {
	out := idset.New(in.Range)
	for id := range in.All() {
		if id%2 == 1 {
			out.Add(id)
		}
	}
	return out, nil
}

// trap breaks whoever filters the third recipient of range 6.
type trap struct{}

func (trap) Reason() job.Reason { return job.ReasonRelation }
func (trap) Refuse(_ context.Context, in *idset.Set) (*idset.Set, error) {
	if in.Range == 6 && in.Has(job.Range(6).Lo()+2) {
		panic("trapped")
	}
	return idset.New(in.Range), nil
}

var gateway = job.Incarnation{Gateway: "g1", Start: 1}

// maker makes a maker of a worker that is home to some ranges; the others' home is w2.
// Whoever's id ends with 4 is online.
func maker(b bus.Bus, name string, home ...job.Range) *block.Maker {
	h := holds.New()
	for _, r := range home {
		h.Begin(r, true)
	}
	return block.New(block.Config{Name: name, Content: content{}, Holds: h, Bus: b, Logger: slog.New(slog.DiscardHandler),
		Job:     func(_ context.Context, id job.ID) (jobs.Job, error) { return jobs.Job{Spec: job.Spec{ID: id}}, nil },
		Filters: func(filters.Lists) filters.Chain { return filters.Chain{odd{}, trap{}} },
		Split: func(keep *idset.Set) ([]presence.Target, *idset.Set) {
			on, off := idset.New(keep.Range), idset.New(keep.Range)
			for id := range keep.All() {
				if id&0xf == 4 {
					on.Add(id)
				} else {
					off.Add(id)
				}
			}
			return []presence.Target{{Inc: gateway, Set: on}}, off
		},
		Home:    func(job.Range) string { return "w2" },
		Want:    func(...job.Range) {},
		Full:    func(job.Incarnation) bool { return false },
		Charges: charge.Book{Rows: kv.NewMemory()}, Now: time.Now,
	})
}

func task(r job.Range) lane.Task {
	return lane.Task{Job: job.ID{1}, Span: r.Span(), Void: job.Parked}
}

// What the home of a range says of a block is the same, whoever sends it.
func TestWhoeverSendsABlockTheHomeDecides(t *testing.T) {
	b := bus.NewMemory()
	defer b.Close()
	home := maker(b, "w2", 5)
	sub, err := b.Subscribe(block.To("w2"), func(m bus.Msg) { home.Answer(t.Context(), m) })
	if err != nil {
		t.Fatal(err)
	}
	defer sub.Unsubscribe()
	for name, m := range map[string]*block.Maker{"itself": home, "another": maker(b, "w1")} {
		res, took, err := m.Make(t.Context(), task(5))
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		lo := job.Range(5).Lo()
		dropped, targets := slices.Collect(res.Dropped[0].Set.All()), slices.Collect(res.Targets.Sets[0].All())
		if took != job.Range(5).Span() || res.IDs != 10 || !slices.Equal(dropped, []uint32{lo + 1, lo + 3, lo + 5, lo + 7, lo + 9}) ||
			res.Targets.Incs[0] != gateway || !slices.Equal(targets, []uint32{lo + 4}) {
			t.Errorf("%s: took %s: %+v, dropped %v, targets %v", name, took, res, dropped, targets)
		}
	}
}

// A block that breaks its home breaks neither that nor the sender: it is told apart from
// what may pass, and the next block goes on.
func TestABlockThatBreaksItsHome(t *testing.T) {
	b := bus.NewMemory()
	defer b.Close()
	home := maker(b, "w2", 5, 6)
	sub, err := b.Subscribe(block.To("w2"), func(m bus.Msg) { home.Answer(t.Context(), m) })
	if err != nil {
		t.Fatal(err)
	}
	defer sub.Unsubscribe()
	for name, m := range map[string]*block.Maker{"itself": home, "another": maker(b, "w1")} {
		for range 2 * runtime.GOMAXPROCS(0) { // it keeps no turn
			_, _, err := m.Make(t.Context(), task(6))
			if broken := guard.Of(err); broken == nil || !strings.Contains(err.Error(), "trapped") {
				t.Fatalf("%s: %v", name, err)
			}
		}
		void := task(6)
		void.Void = job.Cancelled
		for _, good := range []lane.Task{task(5), void} {
			if res, _, err := m.Make(t.Context(), good); err != nil || res.IDs != 10 {
				t.Errorf("%s, then block %s: %+v, %v", name, good.Span, res, err)
			}
		}
	}
}

// Whatever is asked of a home, it answers: with the reserve of a block, or why not.
func TestQuestionsThatAreNone(t *testing.T) {
	home := maker(bus.NewMemory(), "w2", 5, 0, 4095)
	answer := func(ask string) (got []byte) {
		home.Answer(t.Context(), bus.NewMsg(block.To("w2"), []byte(ask), func(b []byte) error { got = b; return nil }))
		return got
	}
	good := `{"job":"job_04000000000000000000000000","span":{"lo":5242880,"hi":6291456}}`
	if got := answer(good); len(got) < 2 || got[0] != 1 {
		t.Fatalf("a good question is answered with %q", got)
	}
	for _, span := range []string{`{"lo":4294967296,"hi":4294967297}`, `{"lo":18446744073709551615,"hi":18446744073709551615}`, `{"lo":72057594037927936,"hi":1}`, `{"lo":5242880,"hi":4294967297}`,
		`{"lo":5242880,"hi":5242880}`, `{"lo":5242880,"hi":6291457}`, `{"lo":0,"hi":4294967296}`, `{}`, `null`, `{"lo":-1}`} {
		if got := answer(strings.Replace(good, `{"lo":5242880,"hi":6291456}`, span, 1)); len(got) < 2 || got[0] != 2 {
			t.Errorf("%s is answered with %q", span, got)
		}
	}
	taken := 0
	for m := range badinput.Mutants(2000, []byte(good)) {
		if got := answer(string(m.Bytes)); len(got) == 0 || got[0] < 1 || got[0] > 4 {
			t.Errorf("%s %q is answered with %q", m, m.Bytes, got)
		} else if got[0] == 1 {
			taken++
			if e, err := ledger.ParseEntry(got[1:]); err != nil {
				t.Errorf("%s is answered with %+v, %v", m, e, err)
			}
		}
	}
	if taken == 0 {
		t.Error("no mutant is a question for a block")
	}
}

// A block that waits for another home keeps no processor from another block.
func TestABlockThatWaitsHoldsUpNoOther(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := bus.NewMemory()
		defer b.Close()
		asked := 0
		sub, err := b.Subscribe(block.To("w2"), func(bus.Msg) { asked++ }) // and never answered
		if err != nil {
			t.Fatal(err)
		}
		defer sub.Unsubscribe()
		m := maker(b, "w1", 7)
		waiting := 4 * runtime.GOMAXPROCS(0)
		failed := make(chan error, waiting)
		for i := range waiting {
			go func() {
				_, _, err := m.Make(t.Context(), task(job.Range(100+i)))
				failed <- err
			}()
		}
		synctest.Wait()
		if asked != waiting {
			t.Errorf("%d of %d blocks are asked about", asked, waiting)
		}
		began := time.Now()
		if _, _, err := m.Make(t.Context(), task(7)); err != nil {
			t.Error(err)
		}
		if d := time.Since(began); d > 0 {
			t.Errorf("a block of this worker's own range took %s", d)
		}
		for range waiting {
			if err := <-failed; err == nil || !strings.Contains(err.Error(), "w2") {
				t.Errorf("a home that does not answer: %v", err)
			}
		}
	})
}
