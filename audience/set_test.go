package audience

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/RoaringBitmap/roaring/v2"
	"github.com/cespare/xxhash/v2"

	"crier/internal/idset"
	"crier/job"
)

// openBytes opens and verifies an envelope.
func openBytes(b []byte) (*Set, error) {
	s, err := OpenReaderAt(bytes.NewReader(b), int64(len(b)))
	if err != nil {
		return nil, err
	}
	return s, s.Verify(context.Background())
}

func TestEnvelopeSaysWhatTheSetIs(t *testing.T) {
	for seed := range uint64(25) {
		o := shapes(rand.New(rand.NewPCG(seed, 4)))
		if seed == 0 {
			o = roaring.New()
		}
		b := write(t, "näme", o)
		s, err := openBytes(b)
		if err != nil {
			t.Fatalf("seed %d: %v", seed, err)
		}
		ids := o.ToArray()
		want := Info{Name: "näme", Cardinality: uint64(len(ids)), Bytes: uint64(len(b)), SHA256: naiveDigest(ids)}
		if len(ids) > 0 {
			want.Min, want.Max = ids[0], ids[len(ids)-1]
		}
		if s.Info() != want {
			t.Fatalf("seed %d: %+v, want %+v", seed, s.Info(), want)
		}
		if got, err := collectIDs(s); err != nil || !slices.Equal(got, ids) {
			t.Fatalf("seed %d: %d ids, want %d (%v)", seed, len(got), len(ids), err)
		}
	}
}

func TestInfoAsJSON(t *testing.T) {
	b, err := json.Marshal(Info{Name: "a", Cardinality: 2, Min: 3, Max: 4, Repeated: 5, Bytes: 6, SHA256: job.Digest{0xAB}})
	want := `{"name":"a","cardinality":2,"min":3,"max":4,"repeated":5,"bytes":6,"sha256":"ab` + strings.Repeat("0", 62) + `"}`
	if err != nil || string(b) != want {
		t.Errorf("%s, want %s (%v)", b, want, err)
	}
}

// mend corrects the checksums and the length of a mutant, so that what lies
// behind them is tested too.
func mend(rng *rand.Rand, b []byte) {
	if len(b) < headerSize {
		return
	}
	if rng.IntN(2) == 0 {
		binary.LittleEndian.PutUint64(b[40:], uint64(len(b)-headerSize))
		binary.LittleEndian.PutUint64(b[80:], xxhash.Sum64(b[headerSize:]))
	}
	binary.LittleEndian.PutUint64(b[sumAt:], xxhash.Sum64(b[:sumAt]))
}

// TestMutantsAreNeverAnotherSet: half of the mutants get right checksums, so that
// structure, counts and digest have to find the change.
func TestMutantsAreNeverAnotherSet(t *testing.T) {
	const envelopes, mutants = 50, 400
	refused, same := 0, 0
	for seed := range uint64(envelopes) {
		rng := rand.New(rand.NewPCG(seed, 5))
		o := roaring.New()
		for range 1 + rng.IntN(5) {
			base := rng.Uint32N(1 << 19)
			o.AddRange(uint64(base), uint64(base+rng.Uint32N(9000)))
			for range rng.IntN(60) {
				o.Add(rng.Uint32N(1 << 19))
			}
		}
		b := write(t, "p", o)
		ids := o.ToArray()
		for k := range mutants {
			m := mutate(rng, b)
			if k%2 == 0 {
				mend(rng, m)
			}
			s, err := openBytes(m)
			if err != nil {
				if !IsFormat(err) {
					t.Fatalf("seed %d: an error that is not about the format: %v", seed, err)
				}
				refused++
				continue
			}
			got, err := collectIDs(s)
			if err != nil || !slices.Equal(got, ids) {
				t.Fatalf("seed %d: accepted, but %d ids instead of %d (%v)", seed, len(got), len(ids), err)
			}
			if s.Info().SHA256 != naiveDigest(ids) || s.Info().Cardinality != uint64(len(ids)) {
				t.Fatalf("seed %d: accepted with %+v", seed, s.Info())
			}
			same++
		}
	}
	t.Logf("%d mutants: %d refused, %d accepted as the same set, 0 as another", envelopes*mutants, refused, same)
	if refused < envelopes*mutants*3/4 {
		t.Errorf("only %d of %d mutants were refused", refused, envelopes*mutants)
	}
}

func TestEveryTruncationIsRefused(t *testing.T) {
	b := write(t, "p", roaring.BitmapOf(1, 2, 3, 70000, 1<<31))
	for n := range len(b) {
		if _, err := OpenReaderAt(bytes.NewReader(b), int64(n)); !IsFormat(err) {
			t.Errorf("%d of %d bytes: %v", n, len(b), err)
		}
	}
}

func TestFieldsOfTheHeader(t *testing.T) {
	b := write(t, "p", roaring.BitmapOf(10, 70000))
	for what, change := range map[string]func(m []byte){
		"magic":       func(m []byte) { m[0]++ },
		"version":     func(m []byte) { m[8]++ },
		"containers":  func(m []byte) { m[12]++ },
		"cardinality": func(m []byte) { m[16]++ },
		"min":         func(m []byte) { m[32]++ },
		"max":         func(m []byte) { m[36]++ },
		"payload":     func(m []byte) { m[47]++ },
		"digest":      func(m []byte) { m[48]++ },
		"sum":         func(m []byte) { m[80]++ },
		"name length": func(m []byte) { m[89]++ },
		"name":        func(m []byte) { m[nameAt] = '/' },
		"no name":     func(m []byte) { m[88] = 0 },
		"zeros":       func(m []byte) { m[zerosAt+3] = 1 },
	} {
		m := slices.Clone(b)
		change(m)
		binary.LittleEndian.PutUint64(m[sumAt:], xxhash.Sum64(m[:sumAt]))
		if _, err := openBytes(m); !IsFormat(err) {
			t.Errorf("a wrong %s: %v", what, err)
		}
	}
}

func TestOpenByPath(t *testing.T) {
	dir := t.TempDir()
	o := shapes(rand.New(rand.NewPCG(9, 9)))
	path := filepath.Join(dir, "a.crpk")
	if err := os.WriteFile(path, write(t, "a", o), 0o600); err != nil {
		t.Fatal(err)
	}
	s, err := Open(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Verify(context.Background()); err != nil {
		t.Error(err)
	}
	if got, err := collectIDs(s); err != nil || !slices.Equal(got, o.ToArray()) {
		t.Errorf("%d ids, want %d (%v)", len(got), o.GetCardinality(), err)
	}
	if err := errors.Join(s.Close(), s.Close()); err != nil {
		t.Error(err)
	}
	if _, err := s.Range(job.Recipient(o.Minimum()).Range()); !errors.Is(err, ErrClosed) {
		t.Errorf("after Close: %v", err)
	}
	if info, err := Inspect(context.Background(), path); err != nil || info != s.Info() {
		t.Errorf("Inspect: %+v, %v", info, err)
	}
	if _, err := Open(filepath.Join(dir, "none")); job.CodeOf(err) != job.CodeNotFound {
		t.Errorf("no file: %v", err)
	}
	for _, bad := range []string{"", "x", strings.Repeat("x", 1000)} {
		if err := os.WriteFile(path, []byte(bad), 0o600); err != nil {
			t.Fatal(err)
		}
		for how, open := range map[string]func() error{
			"Open":    func() error { _, err := Open(path); return err },
			"Inspect": func() error { _, err := Inspect(context.Background(), path); return err },
		} {
			if err := open(); job.CodeOf(err) != job.CodeInvalid || !strings.Contains(err.Error(), path) {
				t.Errorf("%s of %d bad bytes: %v", how, len(bad), err)
			}
		}
	}
}

// TestShrunkMapIsAnError: touching a page behind the end of a mapped file kills a
// process that does not provide for it.
func TestShrunkMapIsAnError(t *testing.T) {
	o := roaring.New()
	rng := rand.New(rand.NewPCG(1, 2))
	for range 200000 {
		o.Add(rng.Uint32N(1 << 20))
	}
	path := filepath.Join(t.TempDir(), "a.crpk")
	if err := os.WriteFile(path, write(t, "a", o), 0o600); err != nil {
		t.Fatal(err)
	}
	s, err := Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if err := os.Truncate(path, 300); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Range(0); !IsFormat(err) {
		t.Errorf("a read behind the end: %v", err)
	}
}

func TestConcurrentReadersAndClose(t *testing.T) {
	o := shapes(rand.New(rand.NewPCG(17, 9)))
	path := filepath.Join(t.TempDir(), "a.crpk")
	if err := os.WriteFile(path, write(t, "a", o), 0o600); err != nil {
		t.Fatal(err)
	}
	want := o.ToArray()
	for round := range 20 {
		s, err := Open(path)
		if err != nil {
			t.Fatal(err)
		}
		var wg sync.WaitGroup
		for range 4 {
			wg.Go(func() {
				got, err := collectIDs(s)
				if err == nil && !slices.Equal(got, want) || err != nil && !errors.Is(err, ErrClosed) {
					t.Errorf("%d ids, want %d (%v)", len(got), len(want), err)
				}
			})
		}
		if round%2 == 0 {
			wg.Wait()
		}
		if err := s.Close(); err != nil {
			t.Error(err)
		}
		wg.Wait()
	}
}

func TestVerifyStopsWithItsContext(t *testing.T) {
	b := write(t, "a", roaring.BitmapOf(1, 1<<25))
	s, err := OpenReaderAt(bytes.NewReader(b), int64(len(b)))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if err := s.Verify(ctx); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}

func TestWriterRefusesRangesOutOfOrder(t *testing.T) {
	for _, second := range []uint32{5 << 20, 4 << 20} {
		w, err := NewWriter(t.TempDir(), "a")
		if err != nil {
			t.Fatal(err)
		}
		if err := w.Add(idset.Of(5 << 20)); err != nil {
			t.Fatal(err)
		}
		if err := w.Add(idset.Of(second)); err == nil {
			t.Errorf("range %d was accepted after range 5", second>>20)
		}
		w.Abort()
	}
}

func TestNames(t *testing.T) {
	for _, good := range []string{"a", "a b", "ünïcode-名", ".hidden", "a.b.c", strings.Repeat("x", 128)} {
		if err := ValidateName(good); err != nil {
			t.Errorf("%q: %v", good, err)
		}
	}
	for _, bad := range []string{"", ".", "..", "a/b", `a\b`, "a\nb", "a\x00", "a\x7f", "\xff", "a\u2028", strings.Repeat("x", 129)} {
		if err := ValidateName(bad); job.CodeOf(err) != job.CodeInvalid {
			t.Errorf("%q: %v", bad, err)
		}
	}
}

func FuzzEnvelope(f *testing.F) {
	f.Add(write(f, "a", roaring.BitmapOf()), false)
	f.Add(write(f, "a", roaring.BitmapOf(1, 2, 3, 70000)), true)
	o := roaring.New()
	o.AddRange(5, 70000)
	o.AddRange(1<<20, 1<<20+5000)
	f.Add(write(f, "runs", o), true)
	f.Fuzz(func(t *testing.T, b []byte, right bool) {
		if right {
			mend(rand.New(rand.NewPCG(1, 1)), b)
		}
		s, err := openBytes(b)
		if err != nil {
			if !IsFormat(err) {
				t.Fatal(err)
			}
			return
		}
		ids, err := collectIDs(s)
		if err != nil || s.Info().SHA256 != naiveDigest(ids) || s.Info().Cardinality != uint64(len(ids)) {
			t.Fatalf("verified, but %d ids are not the header's %+v (%v)", len(ids), s.Info(), err)
		}
	})
}

// TestCloseWhenUnused drops a set that is in use: it reads on, and its memory goes
// back when nobody has it any more.
func TestCloseWhenUnused(t *testing.T) {
	o := shapes(rand.New(rand.NewPCG(18, 9)))
	path := filepath.Join(t.TempDir(), "a.crpk")
	if err := os.WriteFile(path, write(t, "a", o), 0o600); err != nil {
		t.Fatal(err)
	}
	s, err := Open(path)
	if err != nil {
		t.Fatal(err)
	}
	data := s.data
	s.CloseWhenUnused()
	for range 3 {
		runtime.GC()
		if got, err := collectIDs(s); err != nil || !slices.Equal(got, o.ToArray()) {
			t.Fatalf("in use it gives %d ids, want %d (%v)", len(got), o.GetCardinality(), err)
		}
	}
	runtime.KeepAlive(s)
	s = nil
	closed := func() bool {
		data.mu.RLock()
		defer data.mu.RUnlock()
		return data.mu.closed
	}
	for range 1000 {
		if runtime.GC(); closed() {
			return
		}
		runtime.Gosched()
	}
	t.Fatal("it stays open although nobody has it")
}
