package place

import (
	"math"
	"testing"

	"pgregory.net/rapid"

	"crier/job"
)

func TestPlaces(t *testing.T) {
	draw := func(t *rapid.T) (p Place) {
		p.By = rapid.Int64Range(-3, 3).Draw(t, "by")
		p.ID[15] = rapid.Byte().Draw(t, "id")
		return p
	}
	rapid.Check(t, func(t *rapid.T) {
		a, b := draw(t), draw(t)
		if back, err := Parse(a.String()); err != nil || back != a {
			t.Fatalf("%s reads as %s, %v", a, back, err)
		}
		if a.Compare(b) != -b.Compare(a) || (a.Compare(b) == 0) != (a == b) || a.By < b.By && a.Compare(b) >= 0 {
			t.Fatalf("%s and %s: %d and %d", a, b, a.Compare(b), b.Compare(a))
		}
		first, err := Parse("")
		if err != nil || first.Compare(a) >= 0 {
			t.Fatalf("the start %s is not before %s, %v", first, a, err)
		}
	})
	for _, s := range []string{"x", "1", "1.", ".", "9223372036854775808." + job.ID{}.String(), "1.x"} {
		if p, err := Parse(s); job.CodeOf(err) != job.CodeInvalid {
			t.Errorf("%q is %v, %v", s, p, err)
		}
	}
	if p, err := Parse("-9223372036854775808." + job.ID{}.String()); err != nil || p.By != math.MinInt64 {
		t.Errorf("the least is %v, %v", p, err)
	}
}
