package source

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/RoaringBitmap/roaring/v2"
	"github.com/RoaringBitmap/roaring/v2/roaring64"

	"crier/audience"
	"crier/audience/audiencetest"
	"crier/internal/testdata"
	"crier/job"
)

func readRoaring(b []byte) ([]uint32, error) {
	return audiencetest.Read(context.Background(), NewRoaring(input(bytes.NewReader(b))), 1000)
}

// someBitmap has arrays, bitmaps and runs.
func someBitmap(seed uint64) *roaring.Bitmap {
	rng := rand.New(rand.NewPCG(seed, 1))
	o := roaring.New()
	for range 1 + rng.IntN(6) {
		base := rng.Uint32()
		o.AddRange(uint64(base), uint64(base)+rng.Uint64N(40000))
		for range rng.IntN(6000) {
			o.Add(base&^0xffff + rng.Uint32N(1<<16))
		}
	}
	if seed%2 == 0 {
		o.RunOptimize()
	}
	return o
}

func TestRoaringAgreesWithTheLibrary(t *testing.T) {
	for seed := range uint64(16) {
		o := someBitmap(seed)
		if seed == 0 {
			o = roaring.New()
		}
		b, err := o.ToBytes()
		if err != nil {
			t.Fatal(err)
		}
		r := io.Reader(bytes.NewReader(b))
		if seed%2 == 0 {
			r = iotest.HalfReader(r)
		}
		if got, err := audiencetest.Read(context.Background(), NewRoaring(input(r)), 1+int(seed)*999); err != nil || !slices.Equal(got, o.ToArray()) {
			t.Fatalf("seed %d: %d ids, want %d (%v)", seed, len(got), o.GetCardinality(), err)
		}
	}
}

// java64 writes the older 64-bit layout of Java.
func java64(maps ...*roaring.Bitmap) []byte {
	b := binary.BigEndian.AppendUint32([]byte{0}, uint32(len(maps)))
	for i, m := range maps {
		part, _ := m.ToBytes()
		b = append(binary.BigEndian.AppendUint32(b, uint32(i)), part...)
	}
	return b
}

// TestA64BitBitmapIsRefusedByItsName covers real files and generated ones, also
// those whose count is a 32-bit cookie.
func TestA64BitBitmapIsRefusedByItsName(t *testing.T) {
	files := map[string][]byte{
		"empty portable": make([]byte, 8),
		"empty of Java":  make([]byte, 5),
		"of Java":        java64(roaring.BitmapOf(1, 2), someBitmap(2)),
		"cookie count":   append([]byte{0x3a, 0x30, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0}, []byte{0x3a, 0x30, 0, 0, 0, 0, 0, 0}...),
	}
	for _, seed := range []uint64{1, 2} {
		o := roaring64.New()
		for _, id := range someBitmap(seed).ToArray() {
			o.Add(uint64(id) << seed)
		}
		if seed == 2 {
			o.RunOptimize()
		}
		var err error
		if files["generated "+string('0'+rune(seed))], err = o.ToBytes(); err != nil {
			t.Fatal(err)
		}
	}
	for _, name := range []string{"portable_bitmap64.bin", "bitmap64.bin", "64map32bitvals.bin", "64mapempty.bin"} {
		if path, ok := testdata.Path(t, "roaring/valid64/"+name); ok {
			b, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			files[name] = b
		}
	}
	for name, b := range files {
		_, err := readRoaring(b)
		if job.CodeOf(err) != job.CodeInvalid || !strings.Contains(err.Error(), "64-bit roaring") || !strings.Contains(err.Error(), "in.txt") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// hostile are inputs that make readers that trust them crash.
func hostile(t *testing.T) map[string][]byte {
	files := map[string][]byte{
		"nothing":     {},
		"one byte":    {0x3a},
		"cookie only": {0x3b, 0x30, 0x30, 0x30},
		"other":       []byte("0000"),
		"containers":  {0x3a, 0x30, 0, 0, 0xff, 0xff, 0xff, 0xff},
		"64-bit size": {0, 0, 0, 0, 0, 0, 0, 1, 10},
		"id text":     []byte("1\n2\n3\n"),
		"runs":        {0x3b, 0x30, 0, 0, 1, 0, 0, 5, 0, 0xff, 0xff},
		"rest":        {0x3a, 0x30, 0, 0, 0, 0, 0, 0, 0},
	}
	dir, ok := testdata.Path(t, "roaring/malformed")
	if !ok {
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

func TestMalformedBitmapsAreRefused(t *testing.T) {
	for name, b := range hostile(t) {
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		_, err := readRoaring(b)
		runtime.ReadMemStats(&after)
		var where *SyntaxError
		if job.CodeOf(err) != job.CodeInvalid || !errors.As(err, &where) || where.File != "in.txt" {
			t.Errorf("%s: %v", name, err)
		}
		if n := after.TotalAlloc - before.TotalAlloc; n > 4<<20 {
			t.Errorf("%s: %d bytes were allocated for %d of input", name, n, len(b))
		}
	}
}

func TestRoaringPassesErrorsOfReadingOn(t *testing.T) {
	b, err := someBitmap(1).ToBytes()
	if err != nil {
		t.Fatal(err)
	}
	broken := errors.New("the disk is broken")
	for _, n := range []int{0, 3, 10, len(b) / 2, len(b)} {
		r := io.MultiReader(bytes.NewReader(b[:n]), iotest.ErrReader(broken))
		if _, err := audiencetest.Read(context.Background(), NewRoaring(input(r)), 100); !errors.Is(err, broken) || job.CodeOf(err) != "" {
			t.Errorf("after %d of %d bytes: %v", n, len(b), err)
		}
	}
}

func FuzzRoaring(f *testing.F) {
	for seed := range uint64(3) {
		o := roaring.BitmapOf(1, 2, 3, uint32(seed)<<20)
		o.AddRange(100, 100+5000*seed)
		b, _ := o.ToBytes()
		f.Add(b)
		o.RunOptimize()
		b, _ = o.ToBytes()
		f.Add(b)
	}
	f.Add(java64(roaring.BitmapOf(1)))
	f.Add(make([]byte, 8))
	f.Fuzz(func(t *testing.T, b []byte) {
		checkRoaring(t, b)
	})
}

// checkRoaring holds a source to the library on any bytes: what it gives, that has.
func checkRoaring(t *testing.T, b []byte) (accepted bool) {
	t.Helper()
	ids, err := readRoaring(b)
	if err != nil {
		if job.CodeOf(err) != job.CodeInvalid {
			t.Fatal(err)
		}
		return false
	}
	o := roaring.New()
	if n, err := o.ReadFrom(bytes.NewReader(b)); err != nil || n != int64(len(b)) || !slices.Equal(ids, o.ToArray()) {
		t.Fatalf("%d ids, the library has %d in %d of %d bytes (%v)", len(ids), o.GetCardinality(), n, len(b), err)
	}
	if err := o.Validate(); err != nil {
		t.Fatalf("%d ids were read of what the library calls invalid: %v", len(ids), err)
	}
	return true
}

func TestFollowersGiveTheirSet(t *testing.T) {
	for seed := range uint64(4) {
		o := someBitmap(seed)
		b, err := o.ToBytes()
		if err != nil {
			t.Fatal(err)
		}
		set, err := audience.OpenPortable(bytes.NewReader(b), int64(len(b)))
		if err != nil {
			t.Fatal(err)
		}
		f := NewFollowers("followers", set)
		got, err := audiencetest.Read(context.Background(), f, 1+int(seed)*777)
		if err != nil || !slices.Equal(got, o.ToArray()) || f.Name() != "followers" {
			t.Fatalf("seed %d: %d ids, want %d (%v)", seed, len(got), o.GetCardinality(), err)
		}
		early := NewFollowers("x", set)
		if n, err := early.NextBatch(t.Context(), make([]uint32, 5)); n == 0 || err != nil {
			t.Fatal(n, err)
		}
		if err := errors.Join(early.Close(), early.Close()); err != nil {
			t.Fatal(err)
		}
	}
}
