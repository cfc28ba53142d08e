package audience

import (
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"testing"

	"github.com/RoaringBitmap/roaring/v2"

	"crier/internal/idset"
	"crier/job"
)

// names lists a directory; a missing one is nil.
func names(t *testing.T, dir string) (list []string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		t.Fatal(err)
	}
	for _, e := range entries {
		list = append(list, e.Name())
	}
	return list
}

// TestBuildFromAnyOrder: the same set from sorted, shuffled and repeated ids has
// one digest, and the repeats are counted; a map is the oracle.
func TestBuildFromAnyOrder(t *testing.T) {
	rng := rand.New(rand.NewPCG(3, 3))
	var ids []uint32
	seen := map[uint32]bool{}
	for range 20000 {
		id := rng.Uint32N(200000)
		if rng.IntN(3) == 0 {
			id = rng.Uint32()
		}
		ids = append(ids, id)
		seen[id] = true
	}
	sorted := slices.Clone(ids)
	slices.Sort(sorted)
	unique := slices.Compact(slices.Clone(sorted))
	if len(unique) != len(seen) {
		t.Fatal("the oracle is wrong")
	}
	dir := filepath.Join(t.TempDir(), "new", "out")
	infos, err := BuildAll(context.Background(), dir, []Source{
		&slicesSource{name: "shuffled", ids: ids}, &slicesSource{name: "sorted", ids: sorted},
		&slicesSource{name: "unique", ids: unique}, &slicesSource{name: "empty"},
	}, nil)
	if err != nil {
		t.Fatal(err)
	}
	for i, want := range []Info{
		{Name: "shuffled", Repeated: uint64(len(ids) - len(unique))},
		{Name: "sorted", Repeated: uint64(len(ids) - len(unique))},
		{Name: "unique"}, {Name: "empty", SHA256: naiveDigest(nil)},
	} {
		if want.Name != "empty" {
			want.Cardinality, want.Min, want.Max = uint64(len(unique)), unique[0], unique[len(unique)-1]
			want.SHA256 = naiveDigest(unique)
		}
		st, err := os.Stat(filepath.Join(dir, want.Name+".crpk"))
		if err != nil {
			t.Fatal(err)
		}
		want.Bytes = uint64(st.Size())
		if infos[i] != want {
			t.Errorf("%+v, want %+v", infos[i], want)
		}
		if got, err := Inspect(context.Background(), filepath.Join(dir, want.Name+".crpk")); err != nil || got != want {
			t.Errorf("inspected %+v, want %+v (%v)", got, want, err)
		}
	}
	if got := names(t, dir); len(got) != 4 {
		t.Errorf("the directory has %q", got)
	}
}

// TestCollectManyBatches merges several full batches, sorted and not.
func TestCollectManyBatches(t *testing.T) {
	const most = 3 * minBatch
	rng := rand.New(rand.NewPCG(4, 4))
	words := make([]uint64, 1<<23>>6) // a bit for each id below 2^23: the oracle
	src := &generator{n: 10*most + most/2, next: func(i int) uint32 {
		id := rng.Uint32N(1 << 23)
		if i < 3*most {
			id = uint32(i) * 3
		}
		words[id>>6] |= 1 << (id & 63)
		return id
	}}
	c := collector{most: most}
	if err := c.collect(context.Background(), src); err != nil {
		t.Fatal(err)
	}
	if want := roaring.FromDense(words, false); !c.acc.Equals(want) || c.read != uint64(src.n) {
		t.Errorf("%d ids of %d, want %d of %d", c.acc.GetCardinality(), c.read, want.GetCardinality(), src.n)
	}
}

func TestSort(t *testing.T) {
	rng := rand.New(rand.NewPCG(5, 5))
	var c collector
	for range 50 {
		c.ids = c.ids[:0]
		for range rng.IntN(5000) {
			c.ids = append(c.ids, rng.Uint32()>>rng.Uint32N(32))
		}
		want := slices.Clone(c.ids)
		slices.Sort(want)
		if c.sort(); !slices.Equal(c.ids, want) {
			t.Fatalf("%d ids are not in order", len(want))
		}
	}
}

var errInput = job.Invalid("file", "line 3", nil)

func TestNothingIsLeftAfterARefusal(t *testing.T) {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	good := func(name string) Source { return &slicesSource{name: name, ids: []uint32{1}} }
	for what, build := range map[string]func(dir string) error{
		"second source": func(dir string) error {
			_, err := BuildAll(context.Background(), dir, []Source{good("a"), &slicesSource{name: "b", ids: []uint32{5}, err: errInput}}, nil)
			return err
		},
		"one name twice": func(dir string) error {
			_, err := BuildAll(context.Background(), dir, []Source{good("a"), good("a")}, nil)
			return err
		},
		"bad name": func(dir string) error {
			_, err := BuildAll(context.Background(), dir, []Source{good("a"), good("../b")}, nil)
			return err
		},
		"cancelled": func(dir string) error {
			_, err := Build(ctx, dir, good("a"))
			return err
		},
	} {
		root := t.TempDir()
		if err := build(filepath.Join(root, "x", "y")); err == nil {
			t.Errorf("%s was accepted", what)
		}
		if got := names(t, root); got != nil {
			t.Errorf("%s left %q", what, got)
		}
		old := filepath.Join(root, "old")
		if err := os.WriteFile(old, nil, 0o600); err != nil {
			t.Fatal(err)
		}
		if err := build(root); err == nil {
			t.Errorf("%s was accepted", what)
		}
		if got := names(t, root); !slices.Equal(got, []string{"old"}) {
			t.Errorf("%s left %q", what, got)
		}
	}
}

// TestPublishIsAllOrNone: the last package cannot get its name, because a
// directory has taken it since the check. An older package has its name again.
func TestPublishIsAllOrNone(t *testing.T) {
	dir := t.TempDir()
	older, err := Build(context.Background(), dir, &slicesSource{name: "old", ids: []uint32{1}})
	if err != nil {
		t.Fatal(err)
	}
	var drafts []*Draft
	for _, name := range []string{"a", "old", "b"} {
		w, err := NewWriter(dir, name)
		if err != nil {
			t.Fatal(err)
		}
		d, err := w.Finish(0)
		if err != nil {
			t.Fatal(err)
		}
		w.Abort()
		drafts = append(drafts, d)
	}
	if err := os.MkdirAll(filepath.Join(dir, "b.crpk", "x"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := publish(dir, drafts); err == nil {
		t.Error("it was published")
	}
	for _, d := range drafts {
		if err := d.Discard(); err != nil {
			t.Error(err)
		}
	}
	if got := names(t, dir); !slices.Equal(got, []string{"b.crpk", "old.crpk"}) {
		t.Errorf("left: %q", got)
	}
	if got, err := Inspect(context.Background(), filepath.Join(dir, "old.crpk")); err != nil || got != older {
		t.Errorf("the older package: %+v, %v", got, err)
	}
	_, err = Build(context.Background(), dir, &slicesSource{name: "b"})
	if job.CodeOf(err) != job.CodeConflict {
		t.Errorf("a directory in the way: %v", err)
	}
}

func TestAnOlderPackageIsReplacedOrKept(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "a.crpk")
	first, err := Build(context.Background(), dir, &slicesSource{name: "a", ids: []uint32{1}})
	if err != nil {
		t.Fatal(err)
	}
	if _, err = Build(context.Background(), dir, &slicesSource{name: "a", ids: []uint32{2}, err: errInput}); !errors.Is(err, errInput) {
		t.Errorf("the source's error became %v", err)
	}
	if got, err := Inspect(context.Background(), path); err != nil || got != first {
		t.Errorf("after a refusal: %+v, %v", got, err)
	}
	second, err := Build(context.Background(), dir, &slicesSource{name: "a", ids: []uint32{3}})
	if err != nil {
		t.Fatal(err)
	}
	if got, err := Inspect(context.Background(), path); err != nil || got != second || got.SHA256 == first.SHA256 {
		t.Errorf("after building again: %+v, %v", got, err)
	}
	if got := names(t, dir); !slices.Equal(got, []string{"a.crpk"}) {
		t.Errorf("after building again there are %q", got)
	}
}

func TestDraftIsPublished(t *testing.T) {
	dir := t.TempDir()
	w, err := NewWriter(dir, "a")
	if err != nil {
		t.Fatal(err)
	}
	defer w.Abort()
	if err := w.Add(idset.Of(7)); err != nil {
		t.Fatal(err)
	}
	d, err := w.Finish(2)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := Inspect(context.Background(), d.Path()); err != nil || got != d.Info || got.Repeated != 2 {
		t.Errorf("the draft is %+v, %v", got, err)
	}
	if err := errors.Join(d.Publish(), d.Discard()); err != nil {
		t.Error(err)
	}
	if got := names(t, dir); !slices.Equal(got, []string{"a.crpk"}) {
		t.Errorf("the directory has %q", got)
	}
}

// generator gives n ids that a function makes.
type generator struct {
	n, i int
	next func(i int) uint32
}

func (g *generator) Name() string { return "generated" }
func (g *generator) Close() error { return nil }
func (g *generator) NextBatch(_ context.Context, ids []uint32) (n int, err error) {
	for ; n < len(ids) && g.i < g.n; n++ {
		ids[n] = g.next(g.i)
		g.i++
	}
	if n == 0 {
		err = io.EOF
	}
	return n, err
}

// TestWriterMemoryDoesNotGrowWithTheSet writes 8 million ids and reads them.
func TestWriterMemoryDoesNotGrowWithTheSet(t *testing.T) {
	w, err := NewWriter(t.TempDir(), "big")
	if err != nil {
		t.Fatal(err)
	}
	defer w.Abort()
	s := idset.New(0)
	rng := rand.New(rand.NewPCG(6, 6))
	for i := range idset.Containers {
		for k := range s.Ensure(i) {
			s.Ensure(i)[k] = rng.Uint64()
		}
	}
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	for r := range job.Range(16) {
		s.Range = r * 100
		if err := w.Add(s); err != nil {
			t.Fatal(err)
		}
	}
	d, err := w.Finish(0)
	if err != nil {
		t.Fatal(err)
	}
	set, err := Open(d.Path())
	if err != nil {
		t.Fatal(err)
	}
	defer set.Close()
	if err := set.Verify(context.Background()); err != nil {
		t.Fatal(err)
	}
	runtime.ReadMemStats(&after)
	if set.Cardinality() != 16*uint64(s.Card()) {
		t.Errorf("%d ids, want %d", set.Cardinality(), 16*s.Card())
	}
	if n := after.TotalAlloc - before.TotalAlloc; n > 8<<20 {
		t.Errorf("%d bytes were allocated for %d ids", n, set.Cardinality())
	}
}

// BenchmarkCollect shows what building costs behind the source.
func BenchmarkCollect(b *testing.B) {
	rng := rand.New(rand.NewPCG(1, 1))
	id := uint32(0)
	for name, next := range map[string]func(int) uint32{
		"ascending": func(int) uint32 { id += 1 + rng.Uint32N(40); return id },
		"random":    func(int) uint32 { return rng.Uint32() },
		"clustered": func(int) uint32 { return rng.Uint32N(1 << 27) },
	} {
		b.Run(name, func(b *testing.B) {
			n := 0
			for b.Loop() {
				id = 0
				c := collector{most: maxBatch}
				if err := c.collect(context.Background(), &generator{n: 20_000_000, next: next}); err != nil {
					b.Fatal(err)
				}
				n += int(c.read)
			}
			b.ReportMetric(float64(n)/b.Elapsed().Seconds()/1e6, "Mids/s")
		})
	}
}

// BenchmarkWriter makes an envelope of 100 million ids from whole ranges.
func BenchmarkWriter(b *testing.B) {
	s := idset.New(0)
	rng := rand.New(rand.NewPCG(6, 6))
	for i := range idset.Containers {
		for k := range s.Ensure(i) {
			s.Ensure(i)[k] = rng.Uint64()
		}
	}
	for b.Loop() {
		w, err := NewWriter(b.TempDir(), "big")
		if err != nil {
			b.Fatal(err)
		}
		for r := range job.Range(191) {
			s.Range = r
			if err := w.Add(s); err != nil {
				b.Fatal(err)
			}
		}
		d, err := w.Finish(0)
		if err != nil {
			b.Fatal(err)
		}
		w.Abort()
		if err := d.Discard(); err != nil {
			b.Fatal(err)
		}
	}
}
