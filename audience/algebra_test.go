package audience

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"

	"github.com/RoaringBitmap/roaring/v2"
)

// TestSteps holds sets of all shapes, run through random steps, to the roaring library.
func TestSteps(t *testing.T) {
	rng := rand.New(rand.NewPCG(11, 4))
	for round := range 30 {
		dir := t.TempDir()
		var operands []Operand
		want := shapes(rng)
		ids := want.ToArray()
		for i := range rng.IntN(5) {
			other := shapes(rng)
			other.Or(sample(rng, want))
			name := fmt.Sprint("operand", i)
			if _, err := Build(t.Context(), dir, &slicesSource{name: name, ids: other.ToArray()}); err != nil {
				t.Fatal(err)
			}
			o := Operand{Minus: rng.IntN(2) == 0, Path: filepath.Join(dir, name+Extension)}
			if operands = append(operands, o); o.Minus {
				want.AndNot(other)
			} else {
				want.And(other)
			}
		}
		steps, done, err := OpenSteps(t.Context(), operands)
		if err != nil {
			t.Fatal(err)
		}
		infos, err := BuildAll(t.Context(), dir, []Source{&slicesSource{name: "set", ids: ids}}, steps)
		if err = errors.Join(err, done()); err != nil {
			t.Fatal(err)
		}
		if infos[0].Cardinality != want.GetCardinality() || infos[0].SHA256 != naiveDigest(want.ToArray()) || infos[0].Repeated != 0 {
			t.Errorf("round %d, %+v: %+v, want %d ids", round, operands, infos[0], want.GetCardinality())
		}
		if got, err := Inspect(t.Context(), filepath.Join(dir, "set"+Extension)); err != nil || got != infos[0] {
			t.Errorf("inspected %+v, %v", got, err)
		}
	}
}

// sample takes about half of a set.
func sample(rng *rand.Rand, of *roaring.Bitmap) *roaring.Bitmap {
	some := roaring.New()
	for it := of.Iterator(); it.HasNext(); {
		if id := it.Next(); rng.IntN(2) == 0 {
			some.Add(id)
		}
	}
	return some
}

// TestStepsThatCannotBeUsed: nothing is built, and nothing stays open.
func TestStepsThatCannotBeUsed(t *testing.T) {
	dir := t.TempDir()
	if _, err := Build(t.Context(), dir, &slicesSource{name: "good", ids: []uint32{1, 2}}); err != nil {
		t.Fatal(err)
	}
	good := filepath.Join(dir, "good"+Extension)
	b, err := os.ReadFile(good)
	if err != nil {
		t.Fatal(err)
	}
	b[len(b)-1] ^= 1
	bad := filepath.Join(dir, "bad"+Extension)
	if err := os.WriteFile(bad, b, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{bad, filepath.Join(dir, "nowhere.crpk"), dir} {
		if _, _, err := OpenSteps(context.Background(), []Operand{{Path: good}, {Path: path}}); err == nil {
			t.Errorf("%s was opened", path)
		}
	}
}
