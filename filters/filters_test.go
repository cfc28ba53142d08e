package filters

import (
	"context"
	"errors"
	"math/rand/v2"
	"testing"

	"pgregory.net/rapid"

	"crier/internal/idset"
	"crier/job"
)

// list is a Set made of a map, which is also the oracle.
type list map[uint32]bool

func (l list) Range(r job.Range) (*idset.Set, error) {
	s := idset.New(r)
	for id := range l {
		if job.Recipient(id).Range() == r {
			s.Add(id)
		}
	}
	return s, nil
}

type broken struct{}

func (broken) Range(job.Range) (*idset.Set, error) { return nil, errors.New("disk gone") }

func randomList(rng *rand.Rand, n int) list {
	l := list{}
	for range n {
		l[rng.Uint32N(3<<20)] = true
	}
	return l
}

func TestKeepAndDroppedAreWhatCameIn(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		rng := rand.New(rand.NewPCG(rapid.Uint64().Draw(t, "seed"), 0))
		in, followers, suppressed := randomList(rng, 3000), randomList(rng, 300000), randomList(rng, 100000)
		keep, _ := in.Range(1)
		b, err := New(Lists{Followers: followers, Suppressed: suppressed}).Run(context.Background(), keep)
		if err != nil {
			t.Fatal(err)
		}
		got := map[uint32]job.Reason{}
		for _, d := range b.Dropped {
			for id := range d.Set.All() {
				if _, twice := got[id]; twice {
					t.Fatalf("%d is dropped twice", id)
				}
				got[id] = d.Reason
			}
		}
		for id := range in {
			if job.Recipient(id).Range() != 1 {
				continue
			}
			want := job.NoReason
			switch {
			case !followers[id]:
				want = job.ReasonRelation
			case suppressed[id]:
				want = job.ReasonSuppressed
			}
			if got[id] != want || b.Keep.Has(id) != (want == job.NoReason) {
				t.Fatalf("%d: dropped for %q, kept %v, want %q", id, got[id], b.Keep.Has(id), want)
			}
			delete(got, id)
		}
		if len(got) > 0 {
			t.Fatalf("%d were dropped that never came in", len(got))
		}
	})
}

func TestAnUnreadableListStopsTheChain(t *testing.T) {
	for _, l := range []Lists{{Followers: broken{}, Suppressed: list{}}, {Followers: list{1: true}, Suppressed: broken{}}} {
		if _, err := New(l).Run(context.Background(), idset.Of(1)); err == nil {
			t.Error("the chain went on without a list")
		}
	}
}

// A withdrawal reaches those, too, who left or were suppressed since they got the message.
func TestAWithdrawalGoesToEverybody(t *testing.T) {
	b, err := New(Lists{Mode: Withdraw}).Run(t.Context(), idset.Of(1, 2, 3))
	if err != nil || len(b.Dropped) > 0 || !b.Keep.Equal(idset.Of(1, 2, 3)) {
		t.Errorf("%+v, %v", b, err)
	}
}
