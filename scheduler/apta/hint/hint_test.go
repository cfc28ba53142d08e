package hint

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"pgregory.net/rapid"
)

func crowd(n int) []Member {
	list := make([]Member, n)
	for i := range list {
		list[i] = Member{ID: fmt.Sprintf("m%03d", i), Weight: 100}
	}
	return list
}

// TestNoMembers: a table of nobody has no choices.
func TestNoMembers(t *testing.T) {
	table := New([]Member{{"zero", 0}, {"heavy", MaxWeight + 1}})
	if at := table.At(7, 0); at != "" {
		t.Errorf("shard 7 goes to %q of nobody", at)
	}
	if c := table.Choice("zero", 7); c != None {
		t.Errorf("who has no weight is choice %d", c)
	}
	one := New(crowd(1))
	if one.At(4095, 0) != "m000" || one.At(4095, 1) != "" || one.Held("m000") != Shards {
		t.Errorf("a lone member holds %d shards", one.Held("m000"))
	}
	if one.At(Shards, 0) != "" || one.Choice("m000", Shards) != None || one.Choice("x", 1) != None {
		t.Error("there is a choice for a shard or a member that does not exist")
	}
}

// TestLoad holds the cap that apta.md states, and the figures of its model.
func TestLoad(t *testing.T) {
	for _, c := range []struct {
		members int
		limit   float64
	}{{2, 1.25}, {3, 1.26}, {50, 1.25}, {200, 1.28}, {1000, 1.47}} {
		table := New(crowd(c.members))
		most, least := 0, Shards
		for _, m := range table.members {
			most, least = max(most, table.Held(m.ID)), min(least, table.Held(m.ID))
		}
		ratio := float64(most) * float64(c.members) / Shards
		t.Logf("%d members: max/mean %.3f, least %d", c.members, ratio, least)
		if ratio > c.limit {
			t.Errorf("%d members: max/mean %.3f, want at most %.2f", c.members, ratio, c.limit)
		}
	}
}

// TestNeedlessMoves: when a member leaves, what others held stays where it was, but
// for at most 0.1 % of the shards.
func TestNeedlessMoves(t *testing.T) {
	for _, n := range []int{50, 200} {
		before := New(crowd(n))
		moved, worst := 0, 0
		for gone := range n {
			left := crowd(n)[gone].ID
			after, needless := New(slices.Delete(crowd(n), gone, gone+1)), 0
			for shard := range uint16(Shards) {
				if was := before.At(shard, 0); was != left && was != after.At(shard, 0) {
					needless++
				}
			}
			moved, worst = moved+needless, max(worst, needless)
		}
		share := float64(moved) / float64(n) / Shards
		t.Logf("%d members: needless moves on a leave %.4f %% (worst leave %.4f %%)", n, 100*share, 100*float64(worst)/Shards)
		if share > 0.001 {
			t.Errorf("%d members: %.4f %% of the shards move needlessly when one leaves, want at most 0.1 %%", n, 100*share)
		}
	}
}

// TestWeights: shares follow the weights.
func TestWeights(t *testing.T) {
	list := crowd(40)
	for i := range list {
		list[i].Weight = []uint16{50, 100, 400}[i%3]
	}
	table, total, sums := New(list), 0.0, map[uint16]float64{}
	for _, m := range list {
		total += float64(m.Weight)
		sums[m.Weight] += float64(table.Held(m.ID))
	}
	for weight, sum := range sums {
		want := 0.0
		for _, m := range list {
			if m.Weight == weight {
				want += float64(weight) / total * Shards
			}
		}
		if ratio := sum / want; ratio < 0.9 || ratio > 1.1 {
			t.Errorf("the members of weight %d hold %.2f of their share", weight, ratio)
		}
	}
}

// TestChoices: three different members each, and Choice agrees with At.
func TestChoices(t *testing.T) {
	table := New(crowd(20))
	second := map[string]int{}
	for shard := range uint16(Shards) {
		seen := map[string]bool{}
		for n := range Choices {
			id := table.At(shard, n)
			if id == "" || seen[id] || table.Choice(id, shard) != n {
				t.Fatalf("shard %d, choice %d: %q (Choice says %d)", shard, n, id, table.Choice(id, shard))
			}
			seen[id] = true
		}
		second[table.At(shard, 1)]++
	}
	for id, n := range second {
		if mean := Shards / 20; n > 3*mean {
			t.Errorf("%s is the second choice of %d shards, the mean is %d", id, n, mean)
		}
	}
}

// TestUniqueUnderPermutation: the table does not depend on the order of the members.
func TestUniqueUnderPermutation(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		list := drawMembers(t)
		shuffled := rapid.Permutation(list).Draw(t, "order")
		a, b := New(list), New(shuffled)
		if a.choices != b.choices {
			t.Fatal("the same members in another order have another table")
		}
	})
}

func drawMembers(t *rapid.T) []Member {
	ids := rapid.SliceOfNDistinct(rapid.StringMatching(`[a-z]{1,6}`), 1, 24, rapid.ID[string]).Draw(t, "ids")
	list := make([]Member, len(ids))
	for i, id := range ids {
		list[i] = Member{id, uint16(rapid.IntRange(1, 300).Draw(t, "weight"))}
	}
	return list
}

// TestAgainstGreedy compares with another algorithm: as both sides judge by one
// cost, the stable assignment is the one that gives out the cheapest pair of all
// that are left, again and again.
func TestAgainstGreedy(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		members := clean(drawMembers(t))
		table, owner := New(members), greedy(members)
		for shard := range uint16(Shards) {
			if got := table.At(shard, 0); got != owner[shard] {
				t.Fatalf("shard %d: %q, the greedy assignment says %q", shard, got, owner[shard])
			}
		}
	})
}

func greedy(members []Member) []string {
	type pair struct {
		cost   uint64
		member int
		shard  int
	}
	m := newMatching(members)
	var pairs []pair
	for shard := range Shards {
		for i := range members {
			pairs = append(pairs, pair{m.cost(i, mix(uint64(shard)+1)), i, shard})
		}
	}
	slices.SortFunc(pairs, func(a, b pair) int {
		switch {
		case a.cost != b.cost:
			return map[bool]int{true: -1, false: 1}[a.cost < b.cost]
		case a.member != b.member:
			return a.member - b.member
		}
		return a.shard - b.shard
	})
	owner, room := make([]string, Shards), make([]int, len(members))
	total := 0.0
	for _, one := range members {
		total += float64(one.Weight)
	}
	for i, one := range members {
		room[i] = max(1, int(math.Floor(1.25*Shards*float64(one.Weight)/total+0.5)))
	}
	for _, p := range pairs {
		if owner[p.shard] == "" && room[p.member] > 0 {
			owner[p.shard] = members[p.member].ID
			room[p.member]--
		}
	}
	return owner
}

// TestExponential compares the integer logarithm with that of the library.
func TestExponential(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	for _, h := range []uint64{1, 3, 1 << 20, 1<<63 - 1, 1 << 63, math.MaxUint64, r.Uint64(), r.Uint64(), r.Uint64() >> 9} {
		got := float64(exponential(h)) / (1 << fracBits)
		if want := 64 - math.Log2(float64(h|1)); math.Abs(got-want) > 1e-6 {
			t.Errorf("exponential(%x) = %.9f, want %.9f", h, got, want)
		}
	}
	for range 1_000_000 {
		if h := r.Uint64() | r.Uint64()>>(r.Uint64()%64); atLeast(h) > exponential(h) {
			t.Fatalf("atLeast(%x) = %d is over %d", h, atLeast(h), exponential(h))
		}
	}
}

func BenchmarkNew200(b *testing.B) {
	list := crowd(200)
	for b.Loop() {
		New(list)
	}
}
