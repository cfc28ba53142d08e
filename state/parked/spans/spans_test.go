package spans

import (
	"fmt"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"crier/job"
)

// TestSpansAreTheirIDs: what is added, written, read and asked for is what a map of single ids says.
func TestSpansAreTheirIDs(t *testing.T) {
	const size = 40
	rapid.Check(t, func(t *rapid.T) {
		var s Set
		var in [size]bool
		for range rapid.IntRange(0, 12).Draw(t, "spans") {
			lo := rapid.Uint64Range(0, size-1).Draw(t, "from")
			x := job.Span{Lo: lo, Hi: rapid.Uint64Range(lo+1, size).Draw(t, "to")}
			free := !slices.Contains(in[x.Lo:x.Hi], true)
			if s.Add(x) != free {
				t.Fatalf("%v is added to %v: want %v", x, s, free)
			}
			for i := x.Lo; free && i < x.Hi; i++ {
				in[i] = true
			}
		}
		back, err := Parse(s.Bytes())
		if err != nil || !slices.Equal(back, s) {
			t.Fatalf("%v is read as %v, %v", s, back, err)
		}
		for i := 1; i < len(s); i++ {
			if s[i-1].Hi >= s[i].Lo {
				t.Fatalf("%v touch or are in no order", s)
			}
		}
		of := job.Span{Lo: 3, Hi: size - 3}
		gaps := s.Gaps(of)
		for i := range uint64(size) {
			if s.Has(job.Recipient(i)) != in[i] {
				t.Fatalf("%d in %v: want %v", i, s, in[i])
			}
			gap := slices.ContainsFunc(gaps, func(x job.Span) bool { return x.Has(job.Recipient(i)) })
			if want := !in[i] && i >= of.Lo && i < of.Hi; gap != want {
				t.Fatalf("%d in the gaps %v of %v: want %v", i, gaps, s, want)
			}
		}
	})
	if _, err := Parse(append(Set{{Lo: 1, Hi: 2}}.Bytes(), 0)); err == nil {
		t.Error("a byte too many is read")
	}
}

func TestGaps(t *testing.T) {
	c := Set{{Lo: 10, Hi: 20}, {Lo: 30, Hi: 40}}
	for _, x := range []struct{ in, want string }{
		{"[0, 50)", "[[0, 10) [20, 30) [40, 50)]"}, {"[12, 18)", "[]"}, {"[15, 35)", "[[20, 30)]"}, {"[20, 30)", "[[20, 30)]"},
		{"[22, 24)", "[[22, 24)]"}, {"[25, 60)", "[[25, 30) [40, 60)]"}, {"[40, 41)", "[[40, 41)]"}, {"[5, 5)", "[]"},
	} {
		var s job.Span
		fmt.Sscanf(x.in, "[%d, %d)", &s.Lo, &s.Hi)
		if got := fmt.Sprint(c.Gaps(s)); got != x.want {
			t.Errorf("gaps in %s: %s, want %s", x.in, got, x.want)
		}
	}
}
