package filters

import (
	"context"
	"errors"
	"math/rand/v2"
	"slices"
	"strings"
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
		l[1<<20-1000+rng.Uint32N(60_000)] = true
	}
	return l
}

func TestKeepAndDroppedAreWhatCameIn(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		rng := rand.New(rand.NewPCG(rapid.Uint64().Draw(t, "seed"), 0))
		in, followers, suppressed := randomList(rng, 1000), randomList(rng, 30000), randomList(rng, 10000)
		marked, full, fullHere := randomList(rng, 10000), randomList(rng, 10000), randomList(rng, 10000)
		l := Lists{Followers: followers, Suppressed: suppressed, Marked: marked, Full: []Set{full, fullHere}}
		var include, exclude []list
		for range rapid.IntRange(0, 3).Draw(t, "include") {
			include = append(include, randomList(rng, 20000))
			l.Include = append(l.Include, Segment{Name: "in", Set: include[len(include)-1]})
		}
		for range rapid.IntRange(0, 2).Draw(t, "exclude") {
			exclude = append(exclude, randomList(rng, 10000))
			l.Exclude = append(l.Exclude, Segment{Name: "out", Set: exclude[len(exclude)-1]})
		}
		l.Control.Share = job.Percent(rapid.SampledFrom([]uint32{0, 1, 5000, 250000, 333333, 999999, 1000000}).Draw(t, "share"))
		l.Control.Salt[3] = 7
		keep, _ := in.Range(1)
		b, err := New(l).Run(context.Background(), keep)
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
		anyOf := func(lists []list, id uint32) bool {
			return slices.ContainsFunc(lists, func(l list) bool { return l[id] })
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
			case len(include) > 0 && !anyOf(include, id) || anyOf(exclude, id):
				want = job.ReasonTargeting
			case naiveHeld(l.Control, id):
				want = job.ReasonControl
			case marked[id]:
				want = job.ReasonSendOnce
			case full[id] || fullHere[id]:
				want = job.ReasonFrequency
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
	one := list{1: true}
	for name, l := range map[string]Lists{
		"followers":  {Followers: broken{}, Suppressed: list{}},
		"suppressed": {Followers: one, Suppressed: broken{}},
		"included":   {Followers: one, Suppressed: list{}, Include: []Segment{{"a", 1, one}, {"vip", 4, broken{}}}},
		"excluded":   {Followers: one, Suppressed: list{}, Exclude: []Segment{{"a", 1, list{}}, {"vip", 4, broken{}}}},
		"sent once":  {Followers: one, Suppressed: list{}, Marked: broken{}},
		"full":       {Followers: one, Suppressed: list{}, Full: []Set{list{}, broken{}}},
	} {
		_, err := New(l).Run(context.Background(), idset.Of(1))
		if err == nil {
			t.Errorf("%s: the chain went on without a list", name)
		} else if strings.HasSuffix(name, "ded") && !strings.Contains(err.Error(), `segment "vip" at revision 4`) {
			t.Errorf("%s: %v does not name the segment", name, err)
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

// What a stage takes out is the caller's: asked again with the same keep, whatever became
// of the first answer, it answers the same, and keep is as it was.
func TestStagesChangeNothing(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 1))
	in := randomList(rng, 3000)
	l := Lists{Followers: randomList(rng, 30000), Suppressed: randomList(rng, 10000), Include: []Segment{{"a", 1, randomList(rng, 30000)}},
		Exclude: []Segment{{"b", 1, randomList(rng, 30000)}}, Control: ControlGroup{250_000, job.Digest{1}}}
	for _, stage := range New(l) {
		keep, _ := in.Range(1)
		before := keep.Clone()
		first, err := stage.Refuse(context.Background(), keep)
		if err != nil || first.IsEmpty() || !keep.Equal(before) {
			t.Fatalf("%s: %d refused, %v; keep has %d of %d", stage.Reason(), first.Card(), err, keep.Card(), before.Card())
		}
		want := first.Clone()
		first.AndNot(first.Clone())
		again, err := stage.Refuse(context.Background(), keep)
		if err != nil || !again.Equal(want) {
			t.Errorf("%s: %d refused, and %d when asked again, %v", stage.Reason(), want.Card(), again.Card(), err)
		}
	}
}

// Each stage, and all of them, on a full range of 2^20 recipients and on 1,000 spread ones.
func BenchmarkStages(b *testing.B) {
	rng := rand.New(rand.NewPCG(2, 2))
	l := Lists{Followers: spread(rng, 900_000), Suppressed: spread(rng, 10_000),
		Include: []Segment{{"a", 1, spread(rng, 500_000)}, {"b", 1, spread(rng, 500_000)}}, Exclude: []Segment{{"c", 1, spread(rng, 10_000)}},
		Control: ControlGroup{50_000, job.Digest{1}}}
	full := idset.New(1)
	full.AddSpan(job.Range(1).Span())
	for name, keep := range map[string]*idset.Set{"full": full, "spread": spread(rng, 1000).Set} {
		for _, stage := range New(l) {
			b.Run(name+"/"+stage.Reason().String(), func(b *testing.B) {
				b.ReportAllocs()
				for b.Loop() {
					out, err := stage.Refuse(context.Background(), keep)
					if err != nil {
						b.Fatal(err)
					}
					out.Release()
				}
				b.ReportMetric(float64(keep.Card())*float64(b.N)/b.Elapsed().Seconds()/1e6, "Mrecipients/s")
			})
		}
	}
}

// fixed is a set of one range, in memory as it is used.
type fixed struct{ *idset.Set }

func (f fixed) Range(job.Range) (*idset.Set, error) { return f.Clone(), nil }

func spread(rng *rand.Rand, n int) fixed {
	s := idset.New(1)
	for range n {
		s.Add(1<<20 + rng.Uint32N(1<<20))
	}
	return fixed{s}
}
