package audience

import (
	"bytes"
	"context"
	"math/rand/v2"
	"os"
	"runtime"
	"slices"
	"testing"

	"github.com/RoaringBitmap/roaring/v2"

	"crier/internal/idset"
	"crier/internal/testdata"
	"crier/job"
)

func openPortable(b []byte) (*Portable, error) {
	return OpenPortable(bytes.NewReader(b), int64(len(b)))
}

// TestPortableReadsWhatRoaringWrites compares both readers with roaring, with and
// without run containers and offsets.
func TestPortableReadsWhatRoaringWrites(t *testing.T) {
	for seed := range uint64(50) {
		rng := rand.New(rand.NewPCG(seed, 1))
		o := shapes(rng)
		if seed%3 > 0 {
			o.RunOptimize()
		}
		b := portableBytes(t, o)
		p, err := openPortable(b)
		if err != nil {
			t.Fatalf("seed %d: %v", seed, err)
		}
		want := o.ToArray()
		if got, err := collectIDs(p); err != nil || !slices.Equal(got, want) {
			t.Fatalf("seed %d: %d ids, want %d (%v)", seed, len(got), len(want), err)
		}
		if got, err := streamIDs(b); err != nil || !slices.Equal(got, want) {
			t.Fatalf("seed %d: streamed %d ids, want %d (%v)", seed, len(got), len(want), err)
		}
		if err := p.Validate(context.Background()); err != nil || p.Cardinality() != o.GetCardinality() {
			t.Fatalf("seed %d: Validate %v, %d ids", seed, err, p.Cardinality())
		}
		for range 100 {
			id := rng.Uint32()
			if len(want) > 0 && rng.IntN(2) == 0 {
				id = want[rng.IntN(len(want))] + uint32(rng.IntN(2))
			}
			if has, err := p.Has(id); err != nil || has != o.Contains(id) {
				t.Fatalf("seed %d: Has(%d) = %v, %v", seed, id, has, err)
			}
			r := job.Recipient(id).Range()
			n := o.CardinalityInRange(uint64(r.Lo()), uint64(r.Lo())+1<<job.RangeBits)
			if p.RangeCardinality(r) != int(n) {
				t.Fatalf("seed %d: range %s has %d ids, want %d", seed, r, p.RangeCardinality(r), n)
			}
		}
	}
}

func TestPortableOfRealFiles(t *testing.T) {
	files := map[string]uint64{"bitmapwithruns.bin": 200100, "bitmapwithoutruns.bin": 200100, "mixed.portable": 188546, "arrays_only.portable": 132}
	for name, want := range files {
		path, ok := testdata.Path(t, "roaring/valid32/"+name)
		if !ok {
			continue // the other tests read generated bitmaps
		}
		b, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		p, err := openPortable(b)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		o := roaring.New()
		if _, err := o.ReadFrom(bytes.NewReader(b)); err != nil {
			t.Fatal(err)
		}
		got, err := collectIDs(p)
		if err != nil || uint64(len(got)) != want || !slices.Equal(got, o.ToArray()) {
			t.Errorf("%s: %d ids, want %d (%v)", name, len(got), want, err)
		}
	}
}

// checkHostile holds the readers against roaring on any bytes: what they accept,
// roaring accepts as the same set, and they agree with each other.
func checkHostile(t *testing.T, b []byte) (accepted bool) {
	t.Helper()
	streamed, errStream := streamIDs(b)
	p, err := openPortable(b)
	if err == nil {
		err = p.Validate(context.Background())
	}
	if (err == nil) != (errStream == nil) {
		t.Fatalf("%d bytes % x…: Portable says %v, Stream says %v", len(b), b[:min(len(b), 40)], err, errStream)
	}
	if err != nil {
		if !IsFormat(err) || !IsFormat(errStream) {
			t.Fatalf("errors of bad bytes: %v, %v", err, errStream)
		}
		return false
	}
	got, err := collectIDs(p)
	if err != nil || !slices.Equal(got, streamed) || uint64(len(got)) != p.Cardinality() {
		t.Fatalf("Portable gives %d ids, Stream %d (%v)", len(got), len(streamed), err)
	}
	o := roaring.New()
	if n, err := o.ReadFrom(bytes.NewReader(b)); err != nil || n != int64(len(b)) {
		t.Fatalf("accepted, but roaring read %d of %d bytes: %v", n, len(b), err)
	}
	if !slices.Equal(got, o.ToArray()) {
		t.Fatalf("accepted %d ids, roaring has %d", len(got), o.GetCardinality())
	}
	return true
}

func TestPortableMutants(t *testing.T) {
	accepted := 0
	for seed := range uint64(60) {
		rng := rand.New(rand.NewPCG(seed, 2))
		o := roaring.New()
		for range 1 + rng.IntN(6) {
			base := rng.Uint32N(1 << 20)
			o.AddRange(uint64(base), uint64(base+rng.Uint32N(3000)))
			for range rng.IntN(40) {
				o.Add(rng.Uint32N(1 << 20))
			}
		}
		if seed%2 == 0 {
			o.RunOptimize()
		}
		b := portableBytes(t, o)
		for range 100 {
			if checkHostile(t, mutate(rng, b)) {
				accepted++
			}
		}
	}
	t.Logf("%d of 6000 mutants are other valid bitmaps", accepted)
	if accepted == 6000 {
		t.Error("every mutant was accepted")
	}
}

// hostile are headers that promise much.
var hostile = [][]byte{
	{},
	{0x3a},
	{0x3a, 0x30, 0, 0, 0, 0, 1, 0}, // 65,536 containers
	{0x3a, 0x30, 0, 0, 0xff, 0xff, 0xff, 0xff}, // 2^32 − 1 containers
	{0x3b, 0x30, 0xff, 0xff},
	{0x3b, 0x30, 0, 0, 1, 0, 0, 0xff, 0xff, 0xff, 0xff},       // runs that are not there
	{0x3b, 0x30, 0, 0, 1, 0, 0, 9, 0, 1, 0, 0xff, 0xff, 9, 0}, // a run out of the container
	{0, 0, 0, 0, 0, 0, 0, 0},
}

func TestHostileHeadersTakeLittleMemory(t *testing.T) {
	for _, b := range hostile {
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		if checkHostile(t, b) {
			t.Errorf("% x was accepted", b)
		}
		runtime.ReadMemStats(&after)
		if n := after.TotalAlloc - before.TotalAlloc; n > 4<<20 {
			t.Errorf("% x: %d bytes were allocated", b, n)
		}
	}
}

func FuzzPortable(f *testing.F) {
	for _, b := range hostile {
		f.Add(b)
	}
	for seed := range uint64(4) {
		o := roaring.New()
		o.AddRange(seed, 20+seed*70)
		o.AddRange(65536*seed, 65536*seed+9)
		o.Add(5_000_000)
		o.AddRange(9_000_000, 9_000_000+4097*seed)
		f.Add(portableBytes(f, o))
		o.RunOptimize()
		f.Add(portableBytes(f, o))
	}
	f.Fuzz(func(t *testing.T, b []byte) { checkHostile(t, b) })
}

// TestContainersAsRoaringWritesThem: equal sets have equal bytes, those of
// roaring after its run optimisation; only where roaring takes runs that are
// longer than a bitmap are they shorter.
func TestContainersAsRoaringWritesThem(t *testing.T) {
	same := 0
	for seed := range uint64(50) {
		o := shapes(rand.New(rand.NewPCG(seed, 3)))
		b := write(t, "x", o)[headerSize:]
		o = roaring.BitmapOf(o.ToArray()...)
		o.RunOptimize()
		want := portableBytes(t, o)
		p, err := openPortable(want)
		if err != nil {
			t.Fatal(err)
		}
		long := false
		for i := range p.l.keys {
			long = long || p.l.isRun(i) && p.at[i+1]-p.at[i] > bitmapBytes
		}
		switch {
		case bytes.Equal(b, want):
			same++
		case !long || len(b) >= len(want):
			t.Fatalf("seed %d: %d bytes, roaring writes %d", seed, len(b), len(want))
		}
	}
	if same < 40 {
		t.Errorf("%d of 50 sets have roaring's bytes", same)
	}
}

func BenchmarkRange(b *testing.B) {
	rng := rand.New(rand.NewPCG(1, 1))
	for name, every := range map[string]uint32{"bitmaps": 3, "arrays": 50} {
		o := roaring.New()
		for id := uint32(0); id < 64<<20; id += 1 + rng.Uint32N(2*every) {
			o.Add(id)
		}
		path := b.TempDir() + "/x"
		if err := os.WriteFile(path, write(b, "x", o), 0o600); err != nil {
			b.Fatal(err)
		}
		s, err := Open(path)
		if err != nil {
			b.Fatal(err)
		}
		defer s.Close()
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			ids := 0
			for i := 0; b.Loop(); i++ {
				part, err := s.Range(job.Range(i % 64))
				if err != nil {
					b.Fatal(err)
				}
				ids += s.RangeCardinality(part.Range)
				part.Release()
			}
			b.ReportMetric(float64(ids)/b.Elapsed().Seconds()/1e6, "Mids/s")
		})
	}
}

func BenchmarkEncode(b *testing.B) {
	rng := rand.New(rand.NewPCG(1, 1))
	var c idset.Container
	for range 30000 {
		id := rng.Uint32N(1 << 16)
		c[id>>6] |= 1 << (id & 63)
	}
	var buf []byte
	for b.Loop() {
		buf, _, _ = appendContainer(buf[:0], &c)
	}
}
