package audience

import (
	"context"
	"errors"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/RoaringBitmap/roaring/v2"

	"crier/job"
)

func TestDiffAgreesWithRoaring(t *testing.T) {
	dir := t.TempDir()
	paths := [2]string{filepath.Join(dir, "a.crpk"), filepath.Join(dir, "b.crpk")}
	for seed := range uint64(20) {
		rng := rand.New(rand.NewPCG(seed, 6))
		o := [2]*roaring.Bitmap{shapes(rng), shapes(rng)}
		if seed%4 > 0 { // sets that have much in common
			o[1].Or(o[0])
			o[1].RemoveRange(0, uint64(rng.Uint32()))
		}
		for i, path := range paths {
			if err := os.WriteFile(path, write(t, "x", o[i]), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		var got [3][]uint32
		d, err := DiffFiles(context.Background(), paths[0], paths[1], func(p DiffPart) error {
			got[0] = slices.AppendSeq(got[0], p.OnlyA.All())
			got[1] = slices.AppendSeq(got[1], p.OnlyB.All())
			got[2] = slices.AppendSeq(got[2], p.Both.All())
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		want := [3]*roaring.Bitmap{roaring.AndNot(o[0], o[1]), roaring.AndNot(o[1], o[0]), roaring.And(o[0], o[1])}
		for i, n := range []uint64{d.OnlyA, d.OnlyB, d.Both} {
			if n != want[i].GetCardinality() || !slices.Equal(got[i], want[i].ToArray()) {
				t.Fatalf("seed %d, part %d: counted %d, listed %d, want %d", seed, i, n, len(got[i]), want[i].GetCardinality())
			}
		}
	}
}

func TestDiffStops(t *testing.T) {
	path := filepath.Join(t.TempDir(), "a.crpk")
	b := write(t, "x", roaring.BitmapOf(1, 1<<22, 1<<30))
	if err := os.WriteFile(path, b, 0o600); err != nil {
		t.Fatal(err)
	}
	enough, calls := errors.New("enough"), 0
	if _, err := DiffFiles(context.Background(), path, path, func(DiffPart) error { calls++; return enough }); !errors.Is(err, enough) || calls != 1 {
		t.Errorf("%d calls, %v", calls, err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := DiffFiles(ctx, path, path, nil); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	b[len(b)-1] ^= 1
	if err := os.WriteFile(path+"2", b, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := DiffFiles(context.Background(), path, path+"2", nil); job.CodeOf(err) != job.CodeInvalid {
		t.Errorf("a damaged file: %v", err)
	}
}
