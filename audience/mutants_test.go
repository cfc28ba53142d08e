package audience

import (
	"bytes"
	"context"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/RoaringBitmap/roaring/v2"

	"crier/internal/badinput"
	"crier/internal/testdata"
	"crier/job"
)

// realBitmaps are the valid bitmaps of the test data, or made ones.
func realBitmaps(t *testing.T) map[string][]byte {
	t.Helper()
	files := map[string][]byte{}
	dir, ok := testdata.Path(t, "roaring/valid32")
	if !ok {
		for seed := range uint64(4) {
			o := shapes(rand.New(rand.NewPCG(seed, 21)))
			if seed%2 == 0 {
				o.RunOptimize()
			}
			files["made "+string(rune('0'+seed))] = portableBytes(t, o)
		}
		return files
	}
	entries, err := os.ReadDir(dir)
	if err != nil || len(entries) == 0 {
		t.Fatal(err)
	}
	for _, e := range entries {
		if files[e.Name()], err = os.ReadFile(filepath.Join(dir, e.Name())); err != nil {
			t.Fatal(err)
		}
	}
	return files
}

// bound is the most memory that reading any bytes may take: buffers, the containers of
// a range and their ids, and a fixed multiple of the input.
func bound(b []byte) uint64 { return 2<<20 + 8*uint64(len(b)) }

// TestRealBitmapsMutated: raw roaring has no checksum, so that a mutant may be another
// set; but it is one for roaring too, which calls it valid, and nothing that it says of
// itself makes the readers take more memory than the bytes justify.
func TestRealBitmapsMutated(t *testing.T) {
	files := realBitmaps(t)
	for name, b := range files {
		if !checkHostile(t, b) {
			t.Fatalf("%s itself is refused", name)
		}
		n, accepted, most := badinput.Number(t, b), 0, 0.0
		for m := range badinput.Mutants(n, b, slices.Collect(maps.Values(files))...) {
			took := badinput.Allocated(func() {
				if p, err := openPortable(m.Bytes); err == nil {
					_ = p.Validate(context.Background())
				}
			})
			if took > bound(m.Bytes) {
				t.Fatalf("%s, %s: %d bytes were allocated, more than %d", name, m, took, bound(m.Bytes))
			}
			most = max(most, float64(took)/float64(bound(m.Bytes)))
			if checkHostile(t, m.Bytes) {
				accepted++
				if o := roaring.New(); o.UnmarshalBinary(m.Bytes) != nil || o.Validate() != nil {
					t.Errorf("%s, %s: accepted, but roaring calls it invalid: %v", name, m, o.Validate())
				}
			}
		}
		t.Logf("%s: %d mutants, %d accepted, at most %.0f %% of the memory that they may take", name, n, accepted, 100*most)
	}
}

// TestRealEnvelopesMutated: not one mutant of an envelope is taken; of those that get
// right checksums again, only such whose ids are the same.
func TestRealEnvelopesMutated(t *testing.T) {
	for name, raw := range realBitmaps(t) {
		o := roaring.New()
		if err := o.UnmarshalBinary(raw); err != nil {
			t.Fatal(err)
		}
		ids, b := o.ToArray(), write(t, "real", o)
		digest := naiveDigest(ids)
		n, same, most := badinput.Number(t, b), 0, 0.0
		mended := rand.New(rand.NewPCG(1, 22))
		for m := range badinput.Mutants(n, b, raw) {
			right := mended.IntN(2) == 0
			if right {
				mend(mended, m.Bytes)
			}
			var s *Set
			var err error
			took := badinput.Allocated(func() { s, err = openBytes(m.Bytes) })
			if took > bound(m.Bytes) {
				t.Fatalf("%s, %s: %d bytes were allocated, more than %d", name, m, took, bound(m.Bytes))
			}
			most = max(most, float64(took)/float64(bound(m.Bytes)))
			switch {
			case err != nil && !IsFormat(err):
				t.Errorf("%s, %s: an error that is not about the format: %v", name, m, err)
			case err != nil:
			case !right:
				t.Errorf("%s, %s: accepted", name, m)
			default:
				same++
				if got, err := collectIDs(s); err != nil || !slices.Equal(got, ids) || s.Info().SHA256 != digest {
					t.Errorf("%s, %s: accepted, but %d ids instead of %d (%v)", name, m, len(got), len(ids), err)
				}
			}
		}
		t.Logf("%s: %d mutants, %d accepted as the same set, at most %.0f %% of the memory that they may take", name, n, same, 100*most)
		cutInTheMiddle(t, b)
	}
}

// cutInTheMiddle holds the way by a file to the same.
func cutInTheMiddle(t *testing.T, b []byte) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "cut.crpk")
	for _, part := range [][]byte{nil, b[:1], b[:headerSize-1], b[:headerSize], b[:len(b)/2], b[:len(b)-1], append(bytes.Clone(b), 0)} {
		if err := os.WriteFile(path, part, 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := Inspect(t.Context(), path); !IsFormat(err) || job.CodeOf(err) != job.CodeInvalid {
			t.Errorf("%d of %d bytes: %v", len(part), len(b), err)
		}
	}
}
