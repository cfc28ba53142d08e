// Package blobtest is the suite that every store of blobs passes.
package blobtest

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"io"
	"iter"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"testing/iotest"

	"crier/job"
	"crier/state/blob"
)

// Store is what a store of blobs offers.
type Store interface {
	Put(ctx context.Context, r io.Reader) (job.Digest, int64, error)
	Open(ctx context.Context, digest job.Digest) (*blob.Handle, error)
	Stat(ctx context.Context, digest job.Digest) (blob.Info, error)
	Verify(ctx context.Context, digest job.Digest) error
	Delete(ctx context.Context, digest job.Digest) error
	List(ctx context.Context) iter.Seq2[blob.Info, error]
}

// Subject is a store under test.
type Subject struct {
	// Open makes an empty store.
	Open func(t *testing.T) Store
	// Damage flips a bit of a stored blob behind the store's back.
	Damage func(t *testing.T, s Store, digest job.Digest)
	// Small makes an empty store with room for 64 KiB but not for 4 MiB.
	Small func(t *testing.T) Store
}

// Run holds the subject to the suite.
func Run(t *testing.T, subject Subject) {
	for name, test := range map[string]func(*testing.T, Store){
		"what is put is read":        putAndRead,
		"equal bytes are one blob":   putTwice,
		"a source that breaks":       brokenSource,
		"a context that ends":        endedContext,
		"what is not there":          missing,
		"deleted":                    deleted,
		"a handle outlives its blob": openWhileDeleted,
		"many at once":               concurrent,
		"a list cut short":           listCut,
	} {
		t.Run(name, func(t *testing.T) { test(t, subject.Open(t)) })
	}
	t.Run("a flipped bit is found and healed", func(t *testing.T) {
		damaged(t, subject.Open(t), subject.Damage)
	})
	t.Run("full", func(t *testing.T) { full(t, subject.Small(t)) })
}

// Random makes n bytes from a seed.
func Random(seed uint64, n int) []byte {
	b := make([]byte, n)
	rng := rand.New(rand.NewPCG(seed, 7))
	for i := range b {
		b[i] = byte(rng.Uint32())
	}
	return b
}

// sum is the address that the bytes must have.
func sum(b []byte) job.Digest { return job.Digest(sha256.Sum256(b)) }

func put(t *testing.T, s Store, b []byte) job.Digest {
	t.Helper()
	d, n, err := s.Put(t.Context(), iotest.HalfReader(bytes.NewReader(b)))
	if err != nil {
		t.Fatalf("put: %v", err)
	}
	if d != sum(b) || n != int64(len(b)) {
		t.Fatalf("put gave %s of %d bytes, want %s of %d", d, n, sum(b), len(b))
	}
	return d
}

func list(t *testing.T, s Store) []job.Digest {
	t.Helper()
	var all []job.Digest
	for info, err := range s.List(t.Context()) {
		if err != nil {
			t.Fatalf("list: %v", err)
		}
		all = append(all, info.Digest)
	}
	return all
}

func readAll(t *testing.T, s Store, d job.Digest) []byte {
	t.Helper()
	h, err := s.Open(t.Context(), d)
	if err != nil {
		t.Fatalf("open: %v", err)
	}
	defer h.Close()
	b, err := io.ReadAll(io.NewSectionReader(h, 0, h.Size()))
	if err != nil {
		t.Fatalf("read: %v", err)
	}
	return b
}

func putAndRead(t *testing.T, s Store) {
	var want []job.Digest
	for i, n := range []int{0, 1, 3, 4096, 1<<20 + 13} {
		b := Random(uint64(i), n)
		d := put(t, s, b)
		want = append(want, d)
		if !bytes.Equal(readAll(t, s, d), b) {
			t.Errorf("%d bytes came back changed", n)
		}
		if info, err := s.Stat(t.Context(), d); err != nil || info.Size != int64(n) || info.Digest != d || info.ModTime.IsZero() {
			t.Errorf("stat: %+v, %v", info, err)
		}
		if err := s.Verify(t.Context(), d); err != nil {
			t.Errorf("verify: %v", err)
		}
	}
	slices.SortFunc(want, func(a, b job.Digest) int { return bytes.Compare(a[:], b[:]) })
	if got := list(t, s); !slices.Equal(got, want) {
		t.Errorf("list is %v, want %v", got, want)
	}
	h, err := s.Open(t.Context(), want[0])
	if err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := h.Close(); err != nil {
			t.Errorf("closing a handle, once and again: %v", err)
		}
	}
}

func putTwice(t *testing.T, s Store) {
	b := Random(1, 5000)
	if put(t, s, b) != put(t, s, bytes.Clone(b)) || len(list(t, s)) != 1 {
		t.Errorf("equal bytes are %d blobs", len(list(t, s)))
	}
}

func brokenSource(t *testing.T, s Store) {
	boom := errors.New("the source broke")
	_, _, err := s.Put(t.Context(), io.MultiReader(bytes.NewReader(Random(1, 300000)), iotest.ErrReader(boom)))
	if !errors.Is(err, boom) {
		t.Errorf("put: %v, want %v", err, boom)
	}
	if got := list(t, s); len(got) != 0 {
		t.Errorf("a blob was kept of a broken source: %v", got)
	}
}

func endedContext(t *testing.T, s Store) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, _, err := s.Put(ctx, bytes.NewReader(Random(1, 3000))); !errors.Is(err, context.Canceled) {
		t.Errorf("put: %v", err)
	}
	if got := list(t, s); len(got) != 0 {
		t.Errorf("a blob was kept: %v", got)
	}
}

func missing(t *testing.T, s Store) {
	d := sum([]byte("nothing has this address"))
	_, openErr := s.Open(t.Context(), d)
	_, statErr := s.Stat(t.Context(), d)
	for what, err := range map[string]error{"open": openErr, "stat": statErr, "verify": s.Verify(t.Context(), d)} {
		if job.CodeOf(err) != job.CodeNotFound {
			t.Errorf("%s: %v", what, err)
		}
	}
	if err := s.Delete(t.Context(), d); err != nil {
		t.Errorf("delete: %v", err)
	}
}

func deleted(t *testing.T, s Store) {
	a, b := put(t, s, []byte("one")), put(t, s, []byte("two"))
	for range 2 {
		if err := s.Delete(t.Context(), a); err != nil {
			t.Fatalf("delete: %v", err)
		}
	}
	if _, err := s.Open(t.Context(), a); job.CodeOf(err) != job.CodeNotFound {
		t.Errorf("open after delete: %v", err)
	}
	if got := list(t, s); !slices.Equal(got, []job.Digest{b}) {
		t.Errorf("list is %v, want %v", got, b)
	}
	put(t, s, []byte("one"))
}

func openWhileDeleted(t *testing.T, s Store) {
	b := Random(3, 100000)
	d := put(t, s, b)
	h, err := s.Open(t.Context(), d)
	if err != nil {
		t.Fatal(err)
	}
	defer h.Close()
	if err := s.Delete(t.Context(), d); err != nil {
		t.Fatal(err)
	}
	got := make([]byte, len(b))
	if _, err := h.ReadAt(got, 0); err != nil || !bytes.Equal(got, b) {
		t.Errorf("the open handle no longer reads: %v", err)
	}
}

func concurrent(t *testing.T, s Store) {
	var wg sync.WaitGroup
	for i := range 16 {
		wg.Go(func() {
			b := Random(uint64(i%4), 20000+i%4)
			d, _, err := s.Put(t.Context(), bytes.NewReader(b))
			if err != nil || d != sum(b) {
				t.Errorf("put: %v", err)
				return
			}
			if err := s.Verify(t.Context(), d); err != nil {
				t.Errorf("verify: %v", err)
			}
		})
	}
	wg.Wait()
	if got := list(t, s); len(got) != 4 {
		t.Errorf("%d blobs, want 4", len(got))
	}
}

func listCut(t *testing.T, s Store) {
	for i := range 5 {
		put(t, s, Random(uint64(i), 100+i))
	}
	n := 0
	for range s.List(t.Context()) {
		if n++; n == 2 {
			break
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	for _, err := range s.List(ctx) {
		if !errors.Is(err, context.Canceled) {
			t.Errorf("list with an ended context: %v", err)
		}
	}
}

func damaged(t *testing.T, s Store, damage func(*testing.T, Store, job.Digest)) {
	b := Random(9, 70000)
	d, other := put(t, s, b), put(t, s, []byte("sound"))
	damage(t, s, d)
	if err := s.Verify(t.Context(), d); !errors.Is(err, blob.ErrDamaged) {
		t.Errorf("verify of a damaged blob: %v", err)
	}
	if err := s.Verify(t.Context(), other); err != nil {
		t.Errorf("verify of a sound blob: %v", err)
	}
	put(t, s, b)
	if err := s.Verify(t.Context(), d); err != nil {
		t.Errorf("after putting it again: %v", err)
	}
}

func full(t *testing.T, s Store) {
	small := put(t, s, Random(1, 30000))
	_, _, err := s.Put(t.Context(), bytes.NewReader(Random(2, 4<<20)))
	if job.CodeOf(err) != job.CodeFull {
		t.Fatalf("put in a full store: %v", err)
	}
	if got := list(t, s); !slices.Equal(got, []job.Digest{small}) {
		t.Errorf("after the refusal the store has %v", got)
	}
	if err := s.Verify(t.Context(), small); err != nil {
		t.Errorf("what was there before: %v", err)
	}
	put(t, s, Random(3, 30000)) // the refused one takes no room
}
