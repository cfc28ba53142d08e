// Package kvtest holds every kv.Store to what its comments promise.
package kvtest

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"

	"crier/state/parked/kv"
)

// Open makes an empty store. It registers its tear-down with t.
type Open func(t *testing.T) kv.Store

// Run runs the suite.
func Run(t *testing.T, open Open) {
	for _, c := range []struct {
		name string
		run  func(t *testing.T, db kv.Store)
	}{
		{"a key has the value put last", testPut},
		{"a batch is applied in order", testBatchOrder},
		{"caller and store own their bytes", testOwnership},
		{"a scan gives a range, ascending", testScan},
		{"a scan ends with its function's error", testScanEnds},
		{"a scan sees the store as it was", testSnapshot},
		{"a batch is seen whole or not at all", testAtomic},
		{"many write and read at once", testConcurrent},
		{"large values are kept", testLarge},
		{"a closed store says so", testClosed},
		{"the store does what a map does", testModel},
	} {
		t.Run(c.name, func(t *testing.T) { c.run(t, open(t)) })
	}
}

func write(t *testing.T, db kv.Store, fill func(*kv.Batch)) {
	t.Helper()
	var b kv.Batch
	fill(&b)
	if err := db.Write(&b); err != nil {
		t.Fatalf("Write: %v", err)
	}
}

func put(t *testing.T, db kv.Store, pairs ...string) {
	t.Helper()
	write(t, db, func(b *kv.Batch) {
		for i := 0; i < len(pairs); i += 2 {
			b.Put([]byte(pairs[i]), []byte(pairs[i+1]))
		}
	})
}

func has(t *testing.T, db kv.Store, key, want string) {
	t.Helper()
	got, err := db.Get([]byte(key))
	if err != nil || got == nil || string(got) != want {
		t.Fatalf("Get(%q) = %q (nil: %v), %v; want %q", key, got, got == nil, err, want)
	}
}

func hasNot(t *testing.T, db kv.Store, key string) {
	t.Helper()
	if got, err := db.Get([]byte(key)); err != nil || got != nil {
		t.Fatalf("Get(%q) = %q, %v; want nothing", key, got, err)
	}
}

// rows gives what a scan gives.
func rows(t *testing.T, db kv.Store, start, end []byte) (pairs [][2]string) {
	t.Helper()
	err := db.Scan(start, end, func(k, v []byte) error {
		pairs = append(pairs, [2]string{string(k), string(v)})
		return nil
	})
	if err != nil {
		t.Fatalf("Scan(%q, %q): %v", start, end, err)
	}
	return pairs
}

func testPut(t *testing.T, db kv.Store) {
	hasNot(t, db, "a")
	put(t, db, "a", "1", "b", "", "a\x00", "zero")
	has(t, db, "a", "1")
	has(t, db, "b", "")
	has(t, db, "a\x00", "zero")
	put(t, db, "a", "2")
	has(t, db, "a", "2")
	write(t, db, func(b *kv.Batch) {
		b.Delete([]byte("a"))
		b.Delete([]byte("never there"))
	})
	hasNot(t, db, "a")
	has(t, db, "a\x00", "zero")
	write(t, db, func(*kv.Batch) {})
}

func testBatchOrder(t *testing.T, db kv.Store) {
	put(t, db, "x", "old", "y", "old")
	var b kv.Batch
	b.Put([]byte("x"), []byte("1"))
	b.Delete([]byte("x"))
	b.Put([]byte("x"), []byte("2"))
	b.Put([]byte("y"), []byte("1"))
	b.Delete([]byte("y"))
	b.Delete([]byte("z"))
	b.Put([]byte("z"), nil) // an empty value, not a delete
	for range 2 {           // a batch may be written again
		if err := db.Write(&b); err != nil {
			t.Fatal(err)
		}
		has(t, db, "x", "2")
		hasNot(t, db, "y")
		has(t, db, "z", "")
	}
}

func testOwnership(t *testing.T, db kv.Store) {
	key, value := []byte("key"), []byte("value")
	var b kv.Batch
	b.Put(key, value)
	b.Delete(key[:1])
	copy(key, "xxx")
	copy(value, "xxxxx")
	if err := db.Write(&b); err != nil {
		t.Fatal(err)
	}
	for _, op := range b.Ops {
		clear(op.Key)
		clear(op.Value)
	}
	has(t, db, "key", "value")
	for range 2 {
		got, err := db.Get([]byte("key"))
		if err != nil || string(got) != "value" {
			t.Fatalf("Get = %q, %v", got, err)
		}
		copy(got, "yyyyy")
	}
	if got := rows(t, db, nil, nil); len(got) != 1 || got[0] != [2]string{"key", "value"} {
		t.Fatalf("the rows are %q", got)
	}
}

func testScan(t *testing.T, db kv.Store) {
	keys := []string{"\x00", "\x00\x00", "a", "a\x00", "aa", "ab", "b", "\x7f", "\x80", "\xff", "\xff\xff"}
	for _, k := range []int{5, 2, 9, 0, 7, 1, 10, 3, 8, 4, 6} {
		put(t, db, keys[k], "of "+keys[k])
	}
	for _, c := range []struct {
		start, end []byte
		want       []string
	}{
		{nil, nil, keys},
		{[]byte("a"), nil, keys[2:]},
		{nil, []byte("a"), keys[:2]},
		{[]byte("a"), []byte("b"), keys[2:6]},
		{[]byte("a\x00"), []byte("ab"), keys[3:5]},
		{[]byte("a"), []byte("a"), nil},
		{[]byte("b"), []byte("a"), nil},
		{[]byte("aaa"), []byte("ab\x00"), keys[5:6]},
		{[]byte("\xff\xff\x00"), nil, nil},
		{[]byte{}, []byte("\x00\x00"), keys[:1]},
	} {
		var want [][2]string
		for _, k := range c.want {
			want = append(want, [2]string{k, "of " + k})
		}
		if got := rows(t, db, c.start, c.end); !slices.Equal(got, want) {
			t.Errorf("Scan(%q, %q) = %q, want %q", c.start, c.end, got, want)
		}
	}
}

func testScanEnds(t *testing.T, db kv.Store) {
	put(t, db, "a", "1", "b", "2", "c", "3")
	stop := errors.New("enough")
	n := 0
	err := db.Scan(nil, nil, func(k, _ []byte) error {
		if n++; string(k) == "b" {
			return stop
		}
		return nil
	})
	if !errors.Is(err, stop) || n != 2 {
		t.Fatalf("Scan gave %d rows and %v, want 2 and the function's error", n, err)
	}
}

func testSnapshot(t *testing.T, db kv.Store) {
	var want []string
	for i := range 100 {
		k := fmt.Sprintf("k%03d", i)
		put(t, db, k, "old")
		want = append(want, k)
	}
	var got []string
	err := db.Scan([]byte("k"), []byte("l"), func(k, v []byte) error {
		if string(v) != "old" {
			return fmt.Errorf("%s is %q", k, v)
		}
		got = append(got, string(k))
		i := len(got)
		put(t, db, fmt.Sprintf("k%03d", (i+1)%100), "new", fmt.Sprintf("k%03dx", i), "new")
		write(t, db, func(b *kv.Batch) { b.Delete(fmt.Appendf(nil, "k%03d", (i+2)%100)) })
		if i == 50 {
			has(t, db, "k051", "new")
			if n := len(rows(t, db, []byte("k"), []byte("l"))); n == 100 {
				t.Error("a scan inside a scan sees the old rows")
			}
		}
		return nil
	})
	if err != nil || !slices.Equal(got, want) {
		t.Fatalf("the scan gave %d rows of 100: %v", len(got), err)
	}
}

func testAtomic(t *testing.T, db kv.Store) {
	const rounds = 1000
	done := make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		defer close(done)
		for i := range rounds {
			var b kv.Batch
			for _, k := range []string{"a", "m", "z"} {
				b.Put([]byte(k), binary.BigEndian.AppendUint32(nil, uint32(i)))
			}
			if err := db.Write(&b); err != nil {
				t.Errorf("Write: %v", err)
				return
			}
		}
	})
	defer wg.Wait()
	for {
		seen := map[string]bool{}
		n := 0
		if err := db.Scan(nil, nil, func(_, v []byte) error { seen[string(v)] = true; n++; return nil }); err != nil {
			t.Fatal(err)
		}
		if len(seen) > 1 || n != 0 && n != 3 {
			t.Fatalf("a scan sees %d rows with %d values of one batch", n, len(seen))
		}
		select {
		case <-done:
			return
		default:
		}
	}
}

func testConcurrent(t *testing.T, db kv.Store) {
	const writers, each = 4, 200
	var wg sync.WaitGroup
	for w := range writers {
		wg.Go(func() {
			for i := range each {
				var b kv.Batch
				key := fmt.Appendf(nil, "%d/%04d", w, i)
				b.Put(key, key)
				if i > 0 {
					b.Delete(fmt.Appendf(nil, "%d/%04d", w, i-1))
				}
				if err := db.Write(&b); err != nil {
					t.Errorf("Write: %v", err)
					return
				}
				if got, err := db.Get(key); err != nil || !bytes.Equal(got, key) {
					t.Errorf("Get(%s) = %q, %v", key, got, err)
					return
				}
				if n := len(rows(t, db, fmt.Appendf(nil, "%d/", w), fmt.Appendf(nil, "%d0", w))); n != 1 {
					t.Errorf("writer %d has %d rows", w, n)
					return
				}
			}
		})
	}
	wg.Wait()
	if got := rows(t, db, nil, nil); len(got) != writers {
		t.Fatalf("%d rows are left, want %d", len(got), writers)
	}
}

func testLarge(t *testing.T, db kv.Store) {
	rnd := rand.New(rand.NewPCG(3, 4))
	var values [][]byte
	for i := range 4 {
		v := make([]byte, 1<<20+i)
		for j := range v {
			v[j] = byte(rnd.Uint32())
		}
		values = append(values, v)
		write(t, db, func(b *kv.Batch) { b.Put([]byte{byte(i)}, v) })
	}
	for i, v := range values {
		if got, err := db.Get([]byte{byte(i)}); err != nil || !bytes.Equal(got, v) {
			t.Fatalf("a value of %d bytes comes back with %d (%v)", len(v), len(got), err)
		}
	}
	if n, err := db.Size(); err != nil || n < 4<<20 || n > 64<<20 {
		t.Fatalf("with 4 MiB of random values the size is %d (%v)", n, err)
	}
}

func testClosed(t *testing.T, db kv.Store) {
	put(t, db, "a", "1")
	for range 2 {
		if err := db.Close(); err != nil {
			t.Fatalf("Close: %v", err)
		}
	}
	_, gerr := db.Get([]byte("a"))
	var b kv.Batch
	b.Put([]byte("a"), nil)
	serr := db.Scan(nil, nil, func(_, _ []byte) error { return nil })
	for what, err := range map[string]error{"Get": gerr, "Write": db.Write(&b), "Scan": serr} {
		if !errors.Is(err, kv.ErrClosed) {
			t.Errorf("%s: %v, want ErrClosed", what, err)
		}
	}
}

// testModel does random things to the store and to a map, and compares.
func testModel(t *testing.T, db kv.Store) {
	rnd := rand.New(rand.NewPCG(1, 2))
	key := func() string {
		k := make([]byte, 1+rnd.IntN(3))
		for i := range k {
			k[i] = []byte{0, 1, 'a', 0xff}[rnd.IntN(4)]
		}
		return string(k)
	}
	model := map[string]string{}
	for step := range 3000 {
		switch rnd.IntN(4) {
		case 0, 1:
			write(t, db, func(b *kv.Batch) {
				for range rnd.IntN(6) {
					k := key()
					if rnd.IntN(3) == 0 {
						b.Delete([]byte(k))
						delete(model, k)
					} else {
						v := fmt.Sprint(step, k)
						b.Put([]byte(k), []byte(v))
						model[k] = v
					}
				}
			})
		case 2:
			k := key()
			if want, ok := model[k]; ok {
				has(t, db, k, want)
			} else {
				hasNot(t, db, k)
			}
		case 3:
			start, end := []byte(key()), []byte(key())
			if rnd.IntN(4) == 0 {
				start = nil
			}
			if rnd.IntN(4) == 0 {
				end = nil
			}
			var want [][2]string
			for _, k := range slices.Sorted(maps.Keys(model)) {
				if k >= string(start) && (end == nil || k < string(end)) {
					want = append(want, [2]string{k, model[k]})
				}
			}
			if got := rows(t, db, start, end); !slices.Equal(got, want) {
				t.Fatalf("step %d: Scan(%q, %q) = %q, want %q", step, start, end, got, want)
			}
		}
	}
}
