package members_test

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"crier/audience"
	"crier/audience/members"
	"crier/internal/idset"
	"crier/job"
	"crier/state/blob"
	"crier/state/sql"
)

// world is a store with what lies under it.
type world struct {
	*members.Store
	cfg      members.Config
	accounts interface {
		Count(ctx context.Context) (uint64, error)
		List(ctx context.Context, from uint32, limit int) ([]sql.Account, error)
	}
	blobs interface {
		List(ctx context.Context) iter.Seq2[blob.Info, error]
	}
}

// inMemory makes a store in memory; change may alter its configuration.
func inMemory(t testing.TB, change func(*members.Config)) *world {
	t.Helper()
	db := sql.NewMemory(time.Now)
	blobs := blob.NewMemory(0)
	return newWorld(t, &world{accounts: db.Accounts, blobs: blobs, cfg: members.Config{Sets: db.Sets, Blobs: blobs}}, change)
}

// onDisk makes a store on SQLite and a directory.
func onDisk(t testing.TB, change func(*members.Config)) *world {
	t.Helper()
	dir := t.TempDir()
	db, err := sql.Open(context.Background(), sql.Config{Path: filepath.Join(dir, "crier.db")})
	must(t, err)
	t.Cleanup(func() { must(t, db.Close()) })
	blobs, err := blob.OpenDir(filepath.Join(dir, "blobs"))
	must(t, err)
	return newWorld(t, &world{accounts: db.Accounts, blobs: blobs, cfg: members.Config{Sets: db.Sets, Blobs: blobs}}, change)
}

func newWorld(t testing.TB, w *world, change func(*members.Config)) *world {
	t.Helper()
	w.cfg.Scratch = filepath.Join(t.TempDir(), "scratch")
	if change != nil {
		change(&w.cfg)
	}
	var err error
	w.Store, err = members.New(w.cfg)
	must(t, err)
	t.Cleanup(func() {
		if left, err := os.ReadDir(w.cfg.Scratch); err != nil || len(left) > 0 {
			t.Errorf("left in the scratch directory: %v, %v", left, err)
		}
	})
	return w
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// ids is a naive set.
type ids map[uint32]bool

func (s ids) sorted() []uint32 { return slices.Sorted(maps.Keys(s)) }

// all reads the ids below 8<<20 and the highest ones: the tests here use no
// others, and wantIDs checks that Ranges tells of no others.
func all(t testing.TB, r *members.Reader) []uint32 {
	t.Helper()
	var got []uint32
	for _, q := range []job.Range{0, 1, 2, 3, 4, 5, 6, 7, job.Ranges - 1} {
		set, err := r.Range(q)
		must(t, err)
		n := len(got)
		got = slices.AppendSeq(got, set.All())
		if r.RangeCardinality(q) != len(got)-n || set.Range != q {
			t.Fatalf("range %s has %d ids and says %d", q, len(got)-n, r.RangeCardinality(q))
		}
		set.Release()
	}
	return got
}

// wantIDs compares a reader with a naive set.
func wantIDs(t testing.TB, what string, r *members.Reader, want ids) {
	t.Helper()
	if got := all(t, r); !slices.Equal(got, want.sorted()) {
		t.Fatalf("%s: %d ids, want %d", what, len(got), len(want))
	}
	if r.Cardinality() != uint64(len(want)) {
		t.Fatalf("%s: Cardinality is %d, want %d", what, r.Cardinality(), len(want))
	}
	var ranges []job.Range
	for q := range r.Ranges() {
		ranges = append(ranges, q)
	}
	var wantRanges []job.Range
	for _, id := range want.sorted() {
		wantRanges = append(wantRanges, job.Range(id/(1<<20)))
	}
	if !slices.Equal(ranges, slices.Compact(wantRanges)) {
		t.Fatalf("%s: Ranges gives %v", what, ranges)
	}
}

func current(t testing.TB, w *world, key members.Key) *members.Reader {
	t.Helper()
	r, err := w.Current(t.Context(), key)
	must(t, err)
	t.Cleanup(func() { must(t, r.Close()) })
	return r
}

// numbers is a source of ids.
type numbers struct {
	ids []uint32
	end error
}

func (n *numbers) Name() string { return "numbers" }
func (n *numbers) Close() error { return nil }
func (n *numbers) NextBatch(_ context.Context, b []uint32) (int, error) {
	k := copy(b, n.ids)
	n.ids = n.ids[k:]
	if k == 0 {
		return 0, cmp.Or(n.end, io.EOF)
	}
	return k, nil
}

// draw makes ids in the shapes that occur: few, scattered, runs, at the ends.
func draw(rng *rand.Rand) []uint32 {
	var out []uint32
	for range 1 + rng.IntN(3) {
		base := []uint32{0, 1 << 20, 5<<20 - 40, 1<<32 - 3000}[rng.IntN(4)]
		switch rng.IntN(3) {
		case 0:
			for range rng.IntN(4) {
				out = append(out, base+rng.Uint32N(60))
			}
		case 1:
			for range rng.IntN(40) {
				out = append(out, base+rng.Uint32N(3000))
			}
		default:
			first := base + rng.Uint32N(1000)
			for i := range rng.Uint32N(200) {
				out = append(out, first+i)
			}
		}
	}
	rng.Shuffle(len(out), func(i, j int) { out[i], out[j] = out[j], out[i] })
	return out
}

// history drives one set and a naive twin side by side.
type history struct {
	t    *testing.T
	w    *world
	key  members.Key
	now  ids
	was  []ids // by revision
	pins map[uint64]job.Digest
	held []*members.Reader
}

func (h *history) step(rng *rand.Rand) {
	t, ctx := h.t, h.t.Context()
	given := draw(rng)
	distinct := ids{}
	for _, id := range given {
		distinct[id] = true
	}
	next, changed := maps.Clone(h.now), 0
	remove := rng.IntN(3) == 0
	for id := range distinct {
		if next[id] == remove {
			changed++
		}
		if remove {
			delete(next, id)
		} else {
			next[id] = true
		}
	}
	if changed > 0 {
		h.was = append(h.was, next)
	}
	h.now = next
	want := members.Result{Revision: uint64(len(h.was) - 1), Cardinality: uint64(len(next)), Changed: uint64(changed),
		Already: uint64(len(distinct) - changed), Repeated: uint64(len(given) - len(distinct))}
	var got members.Result
	var err error
	switch {
	case remove:
		got, err = h.w.Remove(ctx, h.key, given)
	case rng.IntN(2) == 0:
		got, err = h.w.Add(ctx, h.key, given)
	default:
		var r members.IDsResult
		r, err = h.w.ImportIDs(ctx, h.key, &numbers{ids: given})
		got = members.Result{Revision: r.Revision, Cardinality: r.Cardinality, Changed: r.Added, Already: r.Already, Repeated: r.Repeated}
		if r.Read != uint64(len(given)) {
			t.Fatalf("read %d of %d ids", r.Read, len(given))
		}
	}
	must(t, err)
	if got != want {
		t.Fatalf("remove %v: %+v, want %+v", remove, got, want)
	}
	if rng.IntN(4) == 0 {
		h.pin()
	}
	if rng.IntN(3) == 0 {
		h.held = append(h.held, current(t, h.w, h.key))
	}
}

func (h *history) pin() {
	pin, err := h.w.Pin(h.t.Context(), h.key)
	must(h.t, err)
	if pin.Revision != uint64(len(h.was)-1) || pin.Cardinality != uint64(len(h.now)) {
		h.t.Fatalf("pinned %+v at revision %d of %d ids", pin, len(h.was)-1, len(h.now))
	}
	if before, ok := h.pins[pin.Revision]; ok && before != pin.Blob {
		h.t.Fatalf("revision %d was pinned as %s and as %s", pin.Revision, before, pin.Blob)
	}
	h.pins[pin.Revision] = pin.Blob
}

// check reads every revision that must be readable.
func (h *history) check() {
	t, ctx := h.t, h.t.Context()
	wantIDs(t, "current", current(t, h.w, h.key), h.now)
	for _, r := range h.held {
		wantIDs(t, fmt.Sprintf("held at %d", r.Revision()), r, h.was[r.Revision()])
	}
	head, err := h.w.Head(ctx, h.key)
	must(t, err)
	for revision := range h.was {
		r, err := h.w.At(ctx, h.key, uint64(revision))
		_, pinned := h.pins[uint64(revision)]
		if uint64(revision) < head.Snapshot.Revision && !pinned && revision > 0 {
			if job.CodeOf(err) != job.CodeNotFound {
				t.Fatalf("revision %d is not kept: %v", revision, err)
			}
			continue
		}
		must(t, err)
		if r.Revision() != uint64(revision) || r.Key() != h.key {
			t.Fatalf("revision %d of %s is shown, want %d", r.Revision(), r.Key(), revision)
		}
		wantIDs(t, fmt.Sprintf("at %d", revision), r, h.was[revision])
		must(t, r.Close())
	}
	for revision, digest := range h.pins {
		r, err := h.w.Pinned(ctx, digest)
		must(t, err)
		wantIDs(t, fmt.Sprintf("pinned at %d", revision), r, h.was[revision])
		must(t, r.Close())
	}
	if _, err := h.w.At(ctx, h.key, uint64(len(h.was))); job.CodeOf(err) != job.CodeNotFound {
		t.Fatalf("a revision to come: %v", err)
	}
}

func TestHistoriesAgreeWithANaiveSet(t *testing.T) {
	bounds := map[string]func(*members.Config){
		"defaults":        nil,
		"few increments":  func(c *members.Config) { c.MaxIncrements = 3 },
		"few bytes":       func(c *members.Config) { c.MaxIncrementBytes = 150 },
		"small changes":   func(c *members.Config) { c.MaxChangeBytes = 60 },
		"snapshots only":  func(c *members.Config) { c.MaxChangeBytes = 1 },
		"all bounds tiny": func(c *members.Config) { c.MaxIncrements, c.MaxIncrementBytes, c.MaxChangeBytes = 2, 100, 50 },
	}
	for name, bound := range bounds {
		for place, open := range map[string]func(testing.TB, func(*members.Config)) *world{"memory": inMemory, "disk": onDisk} {
			t.Run(name+"/"+place, func(t *testing.T) {
				rng := rand.New(rand.NewPCG(11, uint64(len(name))))
				w := open(t, bound)
				var hs []*history
				for _, key := range []members.Key{members.Followers(0), members.Suppression(0), members.GlobalSuppression(), members.Followers(1<<32 - 1)} {
					hs = append(hs, &history{t: t, w: w, key: key, now: ids{}, was: []ids{{}}, pins: map[uint64]job.Digest{}})
				}
				for range 60 {
					hs[rng.IntN(len(hs))].step(rng)
				}
				for _, h := range hs {
					h.check()
				}
			})
		}
	}
}

func TestBoundsOfIncrementsHold(t *testing.T) {
	for name, bound := range map[string]members.Config{
		"number": {MaxIncrements: 5, MaxIncrementBytes: 1 << 20, MaxChangeBytes: 1 << 20},
		"bytes":  {MaxIncrements: 1000, MaxIncrementBytes: 100, MaxChangeBytes: 1 << 20},
		"change": {MaxIncrements: 1000, MaxIncrementBytes: 1 << 20, MaxChangeBytes: 17},
	} {
		w := inMemory(t, func(c *members.Config) {
			c.MaxIncrements, c.MaxIncrementBytes, c.MaxChangeBytes = bound.MaxIncrements, bound.MaxIncrementBytes, bound.MaxChangeBytes
		})
		rng := rand.New(rand.NewPCG(3, 3))
		snapshots := map[uint64]bool{}
		for i := range 200 {
			_, err := w.Add(t.Context(), members.Followers(7), []uint32{uint32(i), rng.Uint32()})
			must(t, err)
			head, incs, err := w.cfg.Sets.Load(t.Context(), members.Followers(7))
			must(t, err)
			if head.Increments > bound.MaxIncrements || head.IncrementBytes > bound.MaxIncrementBytes {
				t.Fatalf("%s: after %d changes: %+v", name, i+1, head)
			}
			for _, inc := range incs {
				if len(inc.Adds)+len(inc.Removes) > bound.MaxChangeBytes {
					t.Fatalf("%s: an increment of %d bytes", name, len(inc.Adds))
				}
			}
			snapshots[head.Snapshot.Revision] = true
		}
		if len(snapshots) < 10 {
			t.Errorf("%s: %d snapshots in 200 changes", name, len(snapshots))
		}
	}
}

func TestPinIsCheapWhenNothingChanged(t *testing.T) {
	w := inMemory(t, nil)
	puts := &countingBlobs{Blobs: w.cfg.Blobs}
	w.cfg.Blobs = puts
	var err error
	w.Store, err = members.New(w.cfg)
	must(t, err)
	_, err = w.Add(t.Context(), members.Followers(7), []uint32{1, 2, 3})
	must(t, err)
	first, err := w.Pin(t.Context(), members.Followers(7))
	must(t, err)
	for range 3 {
		if again, err := w.Pin(t.Context(), members.Followers(7)); err != nil || again != first {
			t.Errorf("pinned again: %+v, %v; want %+v", again, err, first)
		}
	}
	if puts.n != 1 {
		t.Errorf("%d blobs were written for one revision", puts.n)
	}
}

type countingBlobs struct {
	members.Blobs
	n int
}

func (c *countingBlobs) Put(ctx context.Context, r io.Reader) (job.Digest, int64, error) {
	c.n++
	return c.Blobs.Put(ctx, r)
}

func TestASetThatNeverChangedIsEmpty(t *testing.T) {
	w := onDisk(t, nil)
	for _, key := range []members.Key{members.Followers(3), members.GlobalSuppression()} {
		wantIDs(t, "current", current(t, w, key), ids{})
		res, err := w.Remove(t.Context(), key, []uint32{1, 2, 2})
		if want := (members.Result{Already: 2, Repeated: 1}); err != nil || res != want {
			t.Errorf("remove: %+v, %v", res, err)
		}
		pin, err := w.Pin(t.Context(), key)
		must(t, err)
		if pin.Revision != 0 || pin.Cardinality != 0 {
			t.Errorf("pin: %+v", pin)
		}
		r, err := w.Pinned(t.Context(), pin.Blob)
		must(t, err)
		wantIDs(t, "pinned", r, ids{})
		must(t, r.Close())
	}
}

// Sets of one number are apart: followers, suppression list and segment.
func TestKindsAreApart(t *testing.T) {
	w := onDisk(t, nil)
	keys := []members.Key{members.Followers(0), members.Suppression(0), members.GlobalSuppression(), members.Segment(0), members.Segment(1<<32 - 1)}
	for i, key := range keys {
		res, err := w.Add(t.Context(), key, []uint32{uint32(i)})
		must(t, err)
		if res.Revision != 1 || res.Cardinality != 1 {
			t.Errorf("the %s: %+v", key, res)
		}
	}
	for i, key := range keys {
		pin, err := w.Pin(t.Context(), key)
		must(t, err)
		_, err = w.Add(t.Context(), key, []uint32{7})
		must(t, err)
		r, err := w.Pinned(t.Context(), pin.Blob)
		must(t, err)
		wantIDs(t, "pinned "+key.String(), r, ids{uint32(i): true})
		must(t, r.Close())
		if r, err = w.Current(t.Context(), key); err != nil {
			t.Fatal(err)
		}
		wantIDs(t, key.String(), r, ids{uint32(i): true, 7: true})
		must(t, r.Close())
	}
}

func TestRefusals(t *testing.T) {
	w := inMemory(t, nil)
	for _, key := range []members.Key{{}, {Kind: members.KindSegment + 1}, {Kind: members.KindGlobalSuppression, Owner: 4}} {
		_, addErr := w.Add(t.Context(), key, []uint32{1})
		_, curErr := w.Current(t.Context(), key)
		_, atErr := w.At(t.Context(), key, 0)
		_, pinErr := w.Pin(t.Context(), key)
		_, headErr := w.Head(t.Context(), key)
		_, impErr := w.ImportIDs(t.Context(), key, &numbers{})
		for _, err := range []error{addErr, curErr, atErr, pinErr, headErr, impErr} {
			if job.CodeOf(err) != job.CodeInvalid {
				t.Errorf("%v: %v", key, err)
			}
		}
	}
	if _, err := w.Add(t.Context(), members.Followers(1), make([]uint32, members.MaxIDs+1)); job.CodeOf(err) != job.CodeTooLarge {
		t.Errorf("too many ids: %v", err)
	}
	boom := errors.New("the source broke")
	if _, err := w.ImportIDs(t.Context(), members.Followers(1), &numbers{ids: []uint32{1, 2}, end: boom}); !errors.Is(err, boom) {
		t.Errorf("a source that breaks: %v", err)
	}
	wantIDs(t, "after refusals", current(t, w, members.Followers(1)), ids{})
	if _, err := members.New(members.Config{}); job.CodeOf(err) != job.CodeInvalid {
		t.Errorf("no configuration: %v", err)
	}
}

func TestNewEmptiesTheScratchDirectory(t *testing.T) {
	w := inMemory(t, nil)
	must(t, os.WriteFile(filepath.Join(w.cfg.Scratch, ".crpk-followers-7-1.tmp"), []byte("half"), 0o600))
	must(t, os.MkdirAll(filepath.Join(w.cfg.Scratch, "ids-1", "deep"), 0o700))
	_, err := members.New(w.cfg)
	must(t, err)
}

func TestFullStoreKeepsTheSetAsItWas(t *testing.T) {
	db := sql.NewMemory(time.Now)
	w := newWorld(t, &world{cfg: members.Config{Sets: db.Sets, Blobs: blob.NewMemory(20000), MaxChangeBytes: 1000}}, nil)
	key := members.Followers(7)
	_, err := w.Add(t.Context(), key, []uint32{5})
	must(t, err)
	rng := rand.New(rand.NewPCG(1, 1))
	var many []uint32
	for range 20000 {
		many = append(many, rng.Uint32N(1<<21))
	}
	if _, err := w.Add(t.Context(), key, many); job.CodeOf(err) != job.CodeFull {
		t.Fatalf("a change that does not fit: %v", err)
	}
	wantIDs(t, "after the refusal", current(t, w, key), ids{5: true})
	if res, err := w.Add(t.Context(), key, []uint32{6}); err != nil || res.Revision != 2 {
		t.Errorf("a change that fits: %+v, %v", res, err)
	}
}

// meddler is another process that changes the same set between reading and
// appending, a number of times.
type meddler struct {
	members.Sets
	mu    sync.Mutex
	times int
	next  uint32
}

func (m *meddler) Append(ctx context.Context, changes iter.Seq2[members.Change, error]) (int, error) {
	m.mu.Lock()
	meddle := m.times > 0
	m.times--
	m.next++
	id := 1000 + m.next
	m.mu.Unlock()
	var all []members.Change
	for c, err := range changes {
		if err != nil {
			return 0, err
		}
		all = append(all, c)
	}
	if meddle {
		head, err := m.Sets.Head(ctx, members.Followers(7))
		if err != nil {
			return 0, err
		}
		other := members.Change{Key: head.Key, Base: head.Revision, Adds: idset.Of(id).AppendTo(nil), Cardinality: head.Cardinality + 1}
		if _, err := m.Sets.Append(ctx, func(yield func(members.Change, error) bool) { yield(other, nil) }); err != nil {
			return 0, err
		}
	}
	return m.Sets.Append(ctx, func(yield func(members.Change, error) bool) {
		for _, c := range all {
			if !yield(c, nil) {
				return
			}
		}
	})
}

func TestAnotherProcessChangesTheSet(t *testing.T) {
	w := inMemory(t, func(c *members.Config) { c.Sets = &meddler{Sets: c.Sets, times: 3} })
	res, err := w.Add(t.Context(), members.Followers(7), []uint32{1, 1001})
	if want := (members.Result{Revision: 4, Cardinality: 4, Changed: 1, Already: 1}); err != nil || res != want {
		t.Errorf("%+v, %v; want %+v", res, err, want)
	}
	wantIDs(t, "both", current(t, w, members.Followers(7)), ids{1: true, 1001: true, 1002: true, 1003: true})
	w = inMemory(t, func(c *members.Config) { c.Sets = &meddler{Sets: c.Sets, times: 1000} })
	if _, err := w.Add(t.Context(), members.Followers(7), []uint32{1}); job.CodeOf(err) != job.CodeUnavailable {
		t.Errorf("against one who never stops: %v", err)
	}
}

func TestConcurrentChangesAllCount(t *testing.T) {
	w := onDisk(t, func(c *members.Config) { c.MaxIncrements = 4 })
	key := members.Followers(7)
	var wg sync.WaitGroup
	for g := range uint32(8) {
		wg.Go(func() {
			for i := range uint32(20) {
				if _, err := w.Add(t.Context(), key, []uint32{g<<20 + i, 99}); err != nil {
					t.Error(err)
				}
				r, err := w.Current(t.Context(), key)
				if err != nil {
					t.Error(err)
					continue
				}
				set, err := r.Range(job.Range(g))
				if err != nil || !set.Has(g<<20+i) {
					t.Errorf("what was added is not there: %v", err)
				}
				if err := r.Close(); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	want := ids{99: true}
	for g := range uint32(8) {
		for i := range uint32(20) {
			want[g<<20+i] = true
		}
	}
	wantIDs(t, "all", current(t, w, key), want)
}

// damagedSets answers Load with increments that a store must not believe.
type damagedSets struct {
	members.Sets
	head members.Head
	incs []members.Increment
}

func (d damagedSets) Load(context.Context, members.Key) (members.Head, []members.Increment, error) {
	return d.head, d.incs, nil
}

func TestDamagedIncrementsAreAnError(t *testing.T) {
	fine := idset.Of(5, 6).AppendTo(nil)
	inc := func(r uint64, adds []byte) members.Increment {
		return members.Increment{Revision: r, Adds: adds, Cardinality: 2}
	}
	for name, incs := range map[string][]members.Increment{
		"one is missing":        {inc(2, fine)},
		"one is missing inside": {inc(1, fine), inc(3, fine)},
		"none":                  nil,
		"too many":              {inc(1, fine), inc(2, fine), inc(3, fine)},
		"cut short":             {inc(1, fine[:len(fine)-1]), inc(2, fine)},
		"ranges out of order":   {inc(1, append(idset.Of(1<<20).AppendTo(nil), fine...)), inc(2, fine)},
	} {
		w := inMemory(t, func(c *members.Config) {
			c.Sets = damagedSets{c.Sets, members.Head{Key: members.Followers(7), Revision: 2, Cardinality: 2}, incs}
		})
		if r, err := w.Current(t.Context(), members.Followers(7)); err == nil {
			t.Errorf("%s: %d ids without an error", name, r.Cardinality())
		}
	}
}

func TestASnapshotOfAnotherSizeIsAnError(t *testing.T) {
	w := inMemory(t, nil)
	_, err := w.Add(t.Context(), members.Followers(7), []uint32{1, 2, 3})
	must(t, err)
	pin, err := w.Pin(t.Context(), members.Followers(7))
	must(t, err)
	w.cfg.Sets = damagedSets{w.cfg.Sets, members.Head{Key: members.Followers(8), Revision: 1, Cardinality: 4,
		Snapshot: members.Snapshot{Revision: 1, Blob: pin.Blob, Cardinality: 4}}, nil}
	s, err := members.New(w.cfg)
	must(t, err)
	if _, err := s.Current(t.Context(), members.Followers(8)); err == nil {
		t.Error("a snapshot of 3 ids was taken for one of 4")
	}
}

var _ audience.Ranged = (*members.Reader)(nil)
