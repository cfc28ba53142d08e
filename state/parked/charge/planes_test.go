package charge

import (
	"math/rand/v2"
	"testing"

	"pgregory.net/rapid"

	"crier/internal/idset"
	"crier/job"
)

// Counters as bits are what counters as numbers are.
func TestPlanesAgainstNumbers(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		rng := rand.New(rand.NewPCG(rapid.Uint64().Draw(t, "seed"), 1))
		const r, i = job.Range(5), 3
		ids := make([]uint32, 40)
		for n := range ids {
			ids[n] = rng.Uint32N(1 << idset.ContainerBits)
		}
		counts := map[uint32]int{}
		var p planes
		for range rapid.IntRange(0, 60).Draw(t, "changes") {
			var c idset.Container
			up := rng.IntN(3) > 0
			for _, id := range ids {
				if rng.IntN(2) == 0 && c[id>>6]>>(id&63)&1 == 0 && (up || counts[id] > 0) {
					c[id>>6] |= 1 << (id & 63)
					if up {
						counts[id]++
					} else {
						counts[id]--
					}
				}
			}
			change := (*planes).add
			if !up {
				change = (*planes).sub
			}
			if err := change(&p, &c); err != nil {
				t.Fatal(err)
			}
			if len(p) > 0 && *p[len(p)-1] == (idset.Container{}) {
				t.Fatal("the highest plane is empty")
			}
			got, err := parsePlanes(p.bytes(r, i), r, i)
			if err != nil {
				t.Fatal(err)
			}
			p = got
		}
		for _, id := range ids {
			if got := p.of(job.Recipient(id)); got != counts[id] {
				t.Fatalf("%d was counted %d times, want %d", id, got, counts[id])
			}
		}
		for n := 1; n < 40; n++ {
			var out idset.Container
			p.atLeast(n, &out)
			want := map[uint32]bool{}
			for id, c := range counts {
				want[id] = c >= n
			}
			for id := range uint32(1 << idset.ContainerBits) {
				if got := out[id>>6]>>(id&63)&1 == 1; got != want[id] {
					t.Fatalf("%d with %d is among those with %d: %v", id, counts[id], n, got)
				}
			}
		}
	})
}

func TestNobodyIsCountedBelowNothing(t *testing.T) {
	var p planes
	c := idset.Container{3: 5}
	if err := p.add(&c); err != nil {
		t.Fatal(err)
	}
	c[3] = 7
	if p.sub(&c) == nil {
		t.Fatal("a counter went below 0")
	}
}
