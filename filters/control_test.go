package filters

import (
	"context"
	"encoding/binary"
	"math"
	"math/big"
	"math/bits"
	"math/rand/v2"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"crier/internal/idset"
	"crier/job"
)

// xxh64 is written after the specification of XXH64, with seed 0, for inputs of whole
// words of 8 bytes.
func xxh64(in ...uint64) uint64 {
	const p1, p2, p3, p4, p5 uint64 = 0x9E3779B185EBCA87, 0xC2B2AE3D27D4EB4F, 0x165667B19E3779F9, 0x85EBCA77C2B2AE63, 0x27D4EB2F165667C5
	round := func(acc, x uint64) uint64 { return bits.RotateLeft64(acc+x*p2, 31) * p1 }
	h, size := p5, uint64(8*len(in))
	if len(in) >= 4 {
		acc := [4]uint64{}
		acc[0] = p1
		acc[0] += p2
		acc[1] = p2
		acc[3] -= p1
		for ; len(in) >= 4; in = in[4:] {
			for i := range acc {
				acc[i] = round(acc[i], in[i])
			}
		}
		h = 0
		for i, turn := range []int{1, 7, 12, 18} {
			h += bits.RotateLeft64(acc[i], turn)
		}
		for _, a := range acc {
			h = (h^round(0, a))*p1 + p4
		}
	}
	h += size
	for _, x := range in {
		h = bits.RotateLeft64(h^round(0, x), 27)*p1 + p4
	}
	h = (h ^ h>>33) * p2
	h = (h ^ h>>29) * p3
	return h ^ h>>32
}

// naiveHeld is the oracle: one recipient, digit by digit, with fractions.
func naiveHeld(g ControlGroup, id uint32) bool {
	var salt [4]uint64
	for i := range salt {
		salt[i] = binary.LittleEndian.Uint64(g.Salt[8*i:])
	}
	lot := new(big.Rat)
	for d := range uint32(32) {
		if xxh64(xxh64(salt[:]...), uint64(id>>6)|uint64(d)<<32)>>(id&63)&1 == 1 {
			lot.Add(lot, big.NewRat(1, 2<<d))
		}
	}
	return lot.Cmp(big.NewRat(int64(g.Share), 1_000_000)) < 0
}

func held(t interface{ Fatal(...any) }, g ControlGroup, keep *idset.Set) *idset.Set {
	out, err := g.Refuse(context.Background(), keep)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func fullRange(r job.Range) *idset.Set {
	s := idset.New(r)
	s.AddSpan(r.Span())
	return s
}

// Lots that were dealt once are dealt for ever: these stand in the definition's terms,
// worked out by another implementation of XXH64.
func TestLotsNeverChange(t *testing.T) {
	salt := job.Digest{}
	for i := range salt {
		salt[i] = byte(i)
	}
	for who, want := range map[job.Recipient]uint32{0: 2648239232, 1: 4158612451, 63: 1917168720, 64: 4026348120, 65535: 3745642445, 1048576: 2251054924, 123456789: 3167162509, 4294967295: 3005543069} {
		if got := Lot(salt, who); got != want {
			t.Errorf("the lot of %d is %d, want %d: every control group would change", who, got, want)
		}
	}
}

// The whole group is what the naive rule holds out, at the ends of the id space too.
func TestControlGroupIsTheNaiveOne(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		g := ControlGroup{Share: job.Percent(rapid.OneOf(rapid.Uint32Range(0, 1_000_000), rapid.SampledFrom([]uint32{0, 1, 2, 500_000, 250_000, 999_999, 1_000_000})).Draw(t, "share"))}
		rng := rand.New(rand.NewPCG(rapid.Uint64().Draw(t, "seed"), 1))
		for i := range g.Salt {
			g.Salt[i] = byte(rng.Uint32())
		}
		keep := idset.New(rapid.SampledFrom([]job.Range{0, 1, 2047, 4095}).Draw(t, "range"))
		for range 100 {
			keep.Add(keep.Range.Lo() + rng.Uint32N(1<<20))
		}
		keep.Add(keep.Range.Lo())
		keep.Add(keep.Range.Lo() + 1<<20 - 1)
		out := held(t, g, keep)
		for id := range keep.All() {
			if out.Has(id) != naiveHeld(g, id) {
				t.Fatalf("%d with lot %d at %s: held out %v", id, Lot(g.Salt, job.Recipient(id)), g.Share, out.Has(id))
			}
		}
		if out.AndNot(keep); !out.IsEmpty() {
			t.Fatal("somebody is held out who was not asked about")
		}
	})
}

// Whoever is held out at a share is held out at a larger one, and it does not matter who
// else is asked about.
func TestControlGroupGrows(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		small, large := rapid.Uint32Range(0, 1_000_000).Draw(t, "a"), rapid.Uint32Range(0, 1_000_000).Draw(t, "b")
		small, large = min(small, large), max(small, large)
		salt := job.Digest{byte(rapid.IntRange(0, 255).Draw(t, "salt"))}
		keep := fullRange(7)
		inSmall, inLarge := held(t, ControlGroup{job.Percent(small), salt}, keep), held(t, ControlGroup{job.Percent(large), salt}, keep)
		some := keep.Clone()
		some.KeepSpan(job.Span{Lo: 7<<20 + 12345, Hi: 7<<20 + 777_777})
		alone, want := held(t, ControlGroup{job.Percent(large), salt}, some), inLarge.Clone()
		want.And(some)
		if !alone.Equal(want) {
			t.Fatal("who is held out depends on who else is there")
		}
		inSmall.AndNot(inLarge)
		if n := inSmall.Card(); n > 0 {
			t.Fatalf("%d are held out at %s and not at %s", n, job.Percent(small), job.Percent(large))
		}
	})
}

// chiSquare compares counts with equal expectations.
func chiSquare(counts []int, total int) (x float64) {
	want := float64(total) / float64(len(counts))
	for _, n := range counts {
		x += (float64(n) - want) * (float64(n) - want) / want
	}
	return x
}

// Lots are spread evenly, at each place of a word and over neighbours, and do not depend
// on another account's. Of k equally likely cells chi-square has the mean k - 1 and the
// deviation sqrt(2(k - 1)); what lies 6 deviations above it happens to a fair lot with a
// probability of some 1e-8. The salts are fixed, so that the test says the same always.
func TestLotsAreFair(t *testing.T) {
	fair := func(what string, counts []int, total int) {
		t.Helper()
		df := float64(len(counts) - 1)
		if x, most := chiSquare(counts, total), df+6*math.Sqrt(2*df); x > most {
			t.Errorf("%s: chi-square %.0f of %d cells, want at most %.0f", what, x, len(counts), most)
		}
	}
	const n = 1 << 17
	for s := range byte(4) {
		salt, other := job.Digest{s}, job.Digest{s, 1}
		high, low, pairs, accounts := make([]int, 256), make([]int, 256), make([]int, 256), make([]int, 256)
		place := make([]int, 64*16)
		before := uint32(0)
		for i := range uint32(n) {
			who := job.Recipient(i + uint32(s)<<30)
			lot := Lot(salt, who)
			high[lot>>24]++
			low[lot&255]++
			pairs[lot>>28<<4|before>>28]++
			accounts[lot>>28<<4|Lot(other, who)>>28]++
			place[uint32(who)%64*16+lot>>28]++
			before = lot
		}
		fair("highest digits", high, n)
		fair("lowest digits", low, n)
		fair("neighbours", pairs, n)
		fair("accounts", accounts, n)
		fair("places of a word", place, n)
	}
}

// The size of a group is what its share says, within 5 deviations of a binomial.
func TestControlGroupHasItsSize(t *testing.T) {
	for _, share := range []job.Percent{1, 100, 5_000, 50_000, 333_333, 500_000, 999_000} {
		got, n := 0, 0
		for r := range job.Range(8) {
			keep := fullRange(r * 500)
			n += keep.Card()
			got += held(t, ControlGroup{share, job.Digest{9}}, keep).Card()
		}
		p := float64(share) / 1e6
		if want, most := float64(n)*p, 5*math.Sqrt(float64(n)*p*(1-p)); math.Abs(float64(got)-want) > most {
			t.Errorf("%s of %d: %d are held out, want %.0f give or take %.0f", share, n, got, want, most)
		}
	}
}

// A stage allocates a set and at most its containers, which the pool may have dropped,
// however many recipients there are.
func TestControlGroupAllocatesNothingPerRecipient(t *testing.T) {
	for name, keep := range map[string]*idset.Set{"one": idset.Of(5), "a full range": fullRange(0)} {
		g := ControlGroup{50_000, job.Digest{9}}
		held(t, g, keep).Release() // the pool has containers
		if n := testing.AllocsPerRun(20, func() { held(t, g, keep).Release() }); n > 1+idset.Containers {
			t.Errorf("%s: %v allocations", name, n)
		}
	}
}

func TestWhy(t *testing.T) {
	in := func(name string, revision uint64, ids ...uint32) Segment {
		l := list{}
		for _, id := range ids {
			l[id] = true
		}
		return Segment{name, revision, l}
	}
	l := Lists{Include: []Segment{in("vip", 2, 1, 2), in("new", 5, 3)}, Exclude: []Segment{in("left", 7, 2, 9)}, Control: ControlGroup{500_000, job.Digest{1}}}
	inGroup, outside := job.Recipient(0), job.Recipient(0)
	for id := range uint32(64) {
		if naiveHeld(l.Control, id) {
			inGroup = job.Recipient(id)
		} else {
			outside = job.Recipient(id)
		}
	}
	for _, c := range []struct {
		lists  Lists
		reason job.Reason
		who    job.Recipient
		want   string
	}{
		{l, job.ReasonTargeting, 2, `in segment "left" at revision 7, which the job excludes`},
		{l, job.ReasonTargeting, 4, `in none of the segments that the job includes: segment "vip" at revision 2, segment "new" at revision 5`},
		{l, job.ReasonTargeting, 3, `not borne out: in segment "new" at revision 5`},
		{Lists{Exclude: l.Exclude}, job.ReasonTargeting, 3, "not borne out"},
		{l, job.ReasonControl, inGroup, "in the control group of 50%: its lot is "},
		{l, job.ReasonControl, outside, "not borne out: its lot is "},
		{l, job.ReasonRelation, 3, ""},
		{l, job.ReasonSuppressed, 3, ""},
	} {
		got, err := c.lists.Why(c.reason, c.who)
		if err != nil || !strings.HasPrefix(got, c.want) || (c.want == "") != (got == "") {
			t.Errorf("%s of %s: %q, %v; want %q", c.reason, c.who, got, err, c.want)
		}
	}
	l.Exclude = append(l.Exclude, Segment{"broken", 1, broken{}})
	if _, err := l.Why(job.ReasonTargeting, 4); err == nil || !strings.Contains(err.Error(), `segment "broken" at revision 1`) {
		t.Errorf("a segment that cannot be read: %v", err)
	}
}
