package presence

import (
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"golang.org/x/sys/unix"
	"pgregory.net/rapid"

	"crier/internal/idset"
	"crier/job"
)

func open(t testing.TB, cfg Config) *Planes {
	t.Helper()
	p, err := Open(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { p.Close() })
	return p
}

// model is the oracle: where each recipient is, one by one.
type model struct {
	at    map[uint32]job.Incarnation
	floor map[string]uint32 // starts below are over
}

func (m *model) over(inc job.Incarnation) {
	maps.DeleteFunc(m.at, func(_ uint32, at job.Incarnation) bool {
		return at.Gateway == inc.Gateway && at.Start <= inc.Start
	})
	m.floor[inc.Gateway] = max(m.floor[inc.Gateway], inc.Start+1)
}

func (m *model) join(inc job.Incarnation, ids []uint32) {
	if inc.Start < m.floor[inc.Gateway] {
		return
	}
	m.over(job.Incarnation{Gateway: inc.Gateway, Start: inc.Start - 1})
	for _, id := range ids {
		m.at[id] = inc
	}
}

func (m *model) leave(inc job.Incarnation, ids []uint32) {
	for _, id := range ids {
		if m.at[id] == inc {
			delete(m.at, id)
		}
	}
}

// someSet draws ids of one range: a few, a run, many of one container.
func someSet(t *rapid.T) *idset.Set {
	r := job.Range(rapid.SampledFrom([]int{0, 1, 4095}).Draw(t, "range"))
	s := idset.New(r)
	rng := rand.New(rand.NewPCG(rapid.Uint64Range(0, 1<<20).Draw(t, "seed"), 0))
	base := r.Lo() + rapid.Uint32Range(0, 3).Draw(t, "container")<<16
	switch rapid.IntRange(0, 2).Draw(t, "shape") {
	case 0:
		for range 6 {
			s.Add(base + rng.Uint32N(100))
		}
	case 1:
		lo := uint64(base) + rng.Uint64N(300)
		s.AddSpan(job.Span{Lo: lo, Hi: min(lo+rng.Uint64N(200), uint64(r.Lo())+1<<20)})
	default:
		for range 400 {
			s.Add(base + rng.Uint32N(1<<16))
		}
	}
	return s
}

func TestPlanesAgreeWithAMap(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) { checkAgainstMap(t, rapid.SampledFrom([]int{4, 2, 5}).Draw(t, "planes")) })
}

func checkAgainstMap(t *rapid.T, planes int) {
	p, err := Open(Config{Planes: planes})
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	m := &model{at: map[uint32]job.Incarnation{}, floor: map[string]uint32{}}
	for range rapid.IntRange(1, 25).Draw(t, "steps") {
		inc := job.Incarnation{Gateway: rapid.SampledFrom([]string{"gw1", "gw2", "gw3"}).Draw(t, "gateway"), Start: rapid.Uint32Range(1, 3).Draw(t, "start")}
		set := someSet(t)
		ids := slices.Collect(set.All())
		switch rapid.IntRange(0, 5).Draw(t, "op") {
		case 0, 1, 2:
			if err := p.Join(inc, set); err != nil {
				t.Fatalf("join of %s: %v", inc, err)
			}
			m.join(inc, ids)
		case 3, 4:
			p.Leave(inc, set)
			m.leave(inc, ids)
		default:
			p.Over(inc)
			m.over(inc)
		}
		checkView(t, p.View, m, someSet(t))
		if got := p.Count(); got != uint64(len(m.at)) {
			t.Fatalf("Count is %d, %d are online", got, len(m.at))
		}
	}
}

// checkView compares Split, Online and Lookup of a set with the oracle.
func checkView(t *rapid.T, v *View, m *model, set *idset.Set) {
	want := map[job.Incarnation][]uint32{}
	for id := range set.All() {
		want[m.at[id]] = append(want[m.at[id]], id)
		if inc, ok := v.Lookup(job.Recipient(id)); inc != m.at[id] || ok != (inc != job.Incarnation{}) {
			t.Fatalf("Lookup(%d) is %s, want %s", id, inc, m.at[id])
		}
	}
	targets, offline := v.Split(set)
	got := map[job.Incarnation][]uint32{}
	for _, x := range targets {
		if x.Set.Range != set.Range || got[x.Inc] != nil {
			t.Fatalf("a second target for %s, or one of range %d", x.Inc, x.Set.Range)
		}
		got[x.Inc] = slices.Collect(x.Set.All())
	}
	if off := slices.Collect(offline.All()); len(off) > 0 {
		got[job.Incarnation{}] = off
	}
	if !maps.EqualFunc(got, want, slices.Equal) {
		t.Fatalf("Split gives %v, want %v", got, want)
	}
	online := v.Online(set)
	for id := range set.All() {
		if _, on := m.at[id]; online.Has(id) != on {
			t.Fatalf("Online has %d: %v, want %v", id, !on, on)
		}
	}
	if online.AndNot(set); !online.IsEmpty() {
		t.Fatal("Online holds ids that were not asked for")
	}
}

func TestOrdinalsRunOutAndAreUsedAgain(t *testing.T) {
	p := open(t, Config{Planes: 2})
	gw := func(i int) job.Incarnation { return job.Incarnation{Gateway: string(rune('a' + i)), Start: 1} }
	for i := range 3 {
		if err := p.Join(gw(i), idset.Of(uint32(i))); err != nil {
			t.Fatal(err)
		}
	}
	if err := p.Join(gw(3), idset.Of(1)); !errors.Is(err, ErrFull) {
		t.Fatalf("a fourth gateway on two planes: %v", err)
	}
	p.Over(gw(1))
	if err := p.Join(gw(3), idset.Of(7)); err != nil {
		t.Fatal(err)
	}
	if inc, ok := p.Lookup(1); ok {
		t.Fatalf("1 is at %s, whose ordinal its former gateway had", inc)
	}
	if got := p.Incarnations(); !slices.Equal(got, []job.Incarnation{gw(0), gw(2), gw(3)}) {
		t.Fatalf("Incarnations: %v", got)
	}
}

// TestFileReadersSeeWritesAndARestart has a reader of its own mapping, as another
// process would have, over a writer's restart.
func TestFileReadersSeeWritesAndARestart(t *testing.T) {
	path := filepath.Join(t.TempDir(), "planes")
	if _, err := OpenView(path); err == nil {
		t.Fatal("a view of no file")
	}
	p := open(t, Config{Path: path})
	v, err := OpenView(path)
	if err != nil {
		t.Fatal(err)
	}
	defer v.Close()
	inc := job.Incarnation{Gateway: "gw1", Start: 4}
	if err := p.Join(inc, idset.Of(3, 70000)); err != nil {
		t.Fatal(err)
	}
	if got, _ := v.Lookup(70000); got != inc || v.Count() != 2 {
		t.Fatalf("the reader sees %s, %d online", got, v.Count())
	}
	if _, err := Open(Config{Path: path}); err == nil {
		t.Fatal("a second writer")
	}
	// The writer dies in the middle of a write: its container is offline to readers.
	p.r.index[0] += 1 << 32
	if got, ok := v.Lookup(3); ok {
		t.Fatalf("reader of a half-written container sees %s", got)
	}
	p.Close()
	if _, err := Open(Config{Path: path, Planes: 3}); err == nil {
		t.Fatal("opened a file of four planes with three")
	}
	again := open(t, Config{Path: path})
	for _, x := range []*View{v, again.View} {
		if _, ok := x.Lookup(70000); ok || x.Count() != 0 {
			t.Fatal("the planes did not start empty")
		}
	}
	if err := again.Join(inc, idset.Of(3)); err != nil {
		t.Fatal(err)
	}
	if got, _ := v.Lookup(3); got != inc {
		t.Fatalf("after the restart the reader sees %s", got)
	}
}

func TestOpenRefusesOtherFiles(t *testing.T) {
	path := filepath.Join(t.TempDir(), "planes")
	for _, content := range []string{"a file of some other kind, surely", "short", "1", "1LPreix"} {
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		if p, err := Open(Config{Path: path}); err == nil {
			p.Close()
			if !strings.HasPrefix("1LPreirc", content) {
				t.Errorf("opened a file that is not planes, %q", content)
			}
		} else if after, _ := os.ReadFile(path); string(after) != content {
			t.Errorf("a file of another kind was changed: %q", content)
		}
	}
	if _, err := Open(Config{Planes: 9}); job.CodeOf(err) != job.CodeInvalid {
		t.Fatalf("nine planes: %v", err)
	}
}

// A file that lost its end, wherever that began, is whole and empty after a start, also to
// who has it mapped; before that nobody maps it.
func TestAFileThatIsCutShort(t *testing.T) {
	inc := job.Incarnation{Gateway: "gw1", Start: 4}
	whole := int64(regionBytes(4))
	for _, size := range []int64{0, 1, 7, 8, 12, 16, 100, 8 * headerWords, 8*(headerWords+containers) - 4096, 8*(headerWords+containers) + 5000, whole - 1, whole} {
		path := filepath.Join(t.TempDir(), "planes")
		p := open(t, Config{Path: path})
		if err := p.Join(inc, idset.Of(3, 1<<31, 1<<32-1)); err != nil {
			t.Fatal(err)
		}
		v, err := OpenView(path)
		if err != nil {
			t.Fatal(err)
		}
		defer v.Close()
		p.Close()
		if err := os.Truncate(path, size); err != nil {
			t.Fatal(err)
		}
		if other, err := OpenView(path); (err == nil) != (size == whole) {
			t.Errorf("%d bytes: a view of it: %v", size, err)
		} else if err == nil {
			other.Close()
		}
		var said strings.Builder
		again, err := Open(Config{Path: path, Logger: slog.New(slog.NewTextHandler(&said, nil))})
		if err != nil {
			t.Errorf("%d bytes: %v", size, err)
			continue
		}
		defer again.Close()
		if warns := strings.Contains(said.String(), "level=WARN"); warns != (size > 0 && size < whole) {
			t.Errorf("%d bytes: it says %q", size, said.String())
		}
		for _, id := range []job.Recipient{3, 1 << 31, 1<<32 - 1} {
			for _, x := range []*View{v, again.View} {
				if at, ok := x.Lookup(id); ok || x.Count() != 0 {
					t.Errorf("%d bytes: %d is at %s, %d are online", size, id, at, x.Count())
				}
			}
			if err := again.Join(inc, idset.Of(uint32(id))); err != nil {
				t.Fatal(err)
			}
			if at, _ := v.Lookup(id); at != inc {
				t.Errorf("%d bytes: %d joined again and is at %s", size, id, at)
			}
			again.Leave(inc, nil)
		}
	}
}

// TestReadersNeverSeeAMixedOrdinal moves a container between two gateways whose
// ordinals differ in every plane they use, and now and then gives an ordinal to
// another gateway. A reader must find everybody at one of them.
func TestReadersNeverSeeAMixedOrdinal(t *testing.T) {
	p := open(t, Config{})
	set := idset.New(0)
	set.AddSpan(job.Span{Lo: 0, Hi: 1 << 16})
	a, b := job.Incarnation{Gateway: "a", Start: 1}, job.Incarnation{Gateway: "b", Start: 1}
	if err := p.Join(a, set); err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	var wg sync.WaitGroup
	for range 2 {
		wg.Go(func() {
			for {
				select {
				case <-done:
					return
				default:
				}
				targets, offline := p.Split(set)
				n := 0
				for _, x := range targets {
					if x.Inc.Gateway != "a" && x.Inc.Gateway != "b" {
						t.Errorf("somebody is at %s", x.Inc)
					}
					n += x.Set.Card()
				}
				if n+offline.Card() != 1<<16 || n != 0 && n != 1<<16 {
					t.Errorf("%d online and %d offline: a mixed container", n, offline.Card())
					return
				}
			}
		})
	}
	for i := range 300 {
		inc := a
		if i%2 == 0 {
			b.Start++
			inc = b // a new incarnation: ordinals change hands
		}
		if err := p.Join(inc, set); err != nil {
			t.Fatal(err)
		}
	}
	close(done)
	wg.Wait()
}

func TestMemoryOnlyWhereTouched(t *testing.T) {
	path := filepath.Join(t.TempDir(), "planes")
	p := open(t, Config{Path: path})
	inc := job.Incarnation{Gateway: "gw1", Start: 1}
	for r := range 50 {
		if err := p.Join(inc, idset.Of(job.Range(r*80).Lo())); err != nil {
			t.Fatal(err)
		}
	}
	full := idset.New(9)
	full.AddSpan(job.Span{Lo: 0, Hi: 1 << 32})
	targets, _ := p.Split(full)
	if len(targets) != 0 {
		t.Fatal("targets where nobody is")
	}
	var st unix.Stat_t
	if err := unix.Stat(path, &st); err != nil {
		t.Fatal(err)
	}
	// 50 containers of 32 KiB, the header, and the index pages read by reset.
	if used, limit := st.Blocks*512, int64(50*32<<10+1<<20); used > limit {
		t.Fatalf("%d bytes of the file are used, want at most %d", used, limit)
	}
	if st.Size < 2<<30 {
		t.Fatalf("the file covers %d bytes only", st.Size)
	}
}

func busy(b testing.TB, gateways int) (*Planes, *idset.Set) {
	p := open(b, Config{})
	rng := rand.New(rand.NewPCG(1, 2))
	sets := make([]*idset.Set, gateways)
	for g := range sets {
		sets[g] = idset.New(5)
	}
	keep := idset.New(5)
	for i := range uint32(1 << 20) {
		if rng.IntN(10) < 3 {
			sets[rng.IntN(gateways)].Add(job.Range(5).Lo() + i)
		}
		if rng.IntN(10) < 7 {
			keep.Add(job.Range(5).Lo() + i)
		}
	}
	for g, s := range sets {
		if err := p.Join(job.Incarnation{Gateway: string(rune('a' + g)), Start: 1}, s); err != nil {
			b.Fatal(err)
		}
	}
	return p, keep
}

func BenchmarkSplit16DenseContainers8Gateways(b *testing.B) {
	p, keep := busy(b, 8)
	b.ReportAllocs()
	for b.Loop() {
		targets, offline := p.Split(keep)
		for _, x := range targets {
			x.Set.Release()
		}
		offline.Release()
	}
}

func BenchmarkOnline16DenseContainers(b *testing.B) {
	p, keep := busy(b, 8)
	b.ReportAllocs()
	for b.Loop() {
		p.Online(keep).Release()
	}
}

func BenchmarkJoinOfAContainer(b *testing.B) {
	p := open(b, Config{})
	set := idset.New(0)
	set.AddSpan(job.Span{Lo: 0, Hi: 1 << 16})
	incs := [2]job.Incarnation{{Gateway: "a", Start: 1}, {Gateway: "b", Start: 1}}
	i := 0
	for b.Loop() {
		i++
		if err := p.Join(incs[i&1], set); err != nil {
			b.Fatal(err)
		}
	}
}

// A login.
func BenchmarkJoinOfOne(b *testing.B) {
	p, _ := busy(b, 8)
	incs := [2]job.Incarnation{{Gateway: "a", Start: 1}, {Gateway: "b", Start: 1}}
	var sets [1024]*idset.Set
	for i := range sets {
		sets[i] = idset.Of(job.Range(5).Lo() + uint32(i*997))
	}
	b.ReportAllocs()
	i := 0
	for b.Loop() {
		i++
		if err := p.Join(incs[i&1], sets[i%len(sets)]); err != nil {
			b.Fatal(err)
		}
	}
}

// Gateways under names that never come back leave their ordinals to others; one that was
// only silent joins again.
func TestSilentGatewaysLeaveTheirOrdinals(t *testing.T) {
	p, err := Open(Config{})
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	for i := range 1000 {
		inc := job.Incarnation{Gateway: fmt.Sprint("g", i), Start: 1}
		for range 2 {
			if err := p.Join(inc, idset.Of(7, uint32(8+i%50))); err != nil {
				t.Fatalf("gateway %d: %v", i, err)
			}
			if p.Count() != 2 {
				t.Fatalf("gateway %d: %d are online", i, p.Count())
			}
			p.Leave(inc, nil)
			if p.Count() != 0 {
				t.Fatalf("after gateway %d left %d are online", i, p.Count())
			}
		}
	}
}
