package page

import (
	"bytes"
	"errors"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"crier/internal/idset"
	"crier/job"
)

// TestAPageIsItsIDs: cut out of a set, a list or not, written, read and put into a set again, a page
// has the ids that lie in it.
func TestAPageIsItsIDs(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := idset.New(3)
		for range rapid.IntRange(0, 60).Draw(t, "ids") {
			s.Add(s.Range.Lo() + rapid.Uint32Range(0, 3<<Bits).Draw(t, "id"))
		}
		back := idset.New(3)
		if rapid.Bool().Draw(t, "containers") {
			s.Ensure(0)
		}
		last := -1
		for n, words := range All(s) {
			if n <= last || !slices.Equal(words, Of(s, n)) {
				t.Fatalf("page %d comes after %d", n, last)
			}
			last = n
			p, read := Page(words), Page{1: 5}
			if err := Parse(p.Bytes(), &read); err != nil || read != p || p.IsEmpty() {
				t.Fatalf("page %d is read as another: %v", n, err)
			}
			if err := Parse(p.Bytes()[1:], &read); err == nil {
				t.Fatal("a row that lacks a byte is read")
			}
			one := idset.New(3)
			if p.AddTo(one, n); one.Card() != p.Card() {
				t.Fatalf("page %d has %d ids, %d come out", n, p.Card(), one.Card())
			}
			for id := range one.All() {
				if Number(id) != n {
					t.Fatalf("%d is in page %d", id, n)
				}
			}
			back.Or(one)
		}
		if !back.Equal(s) {
			t.Fatalf("%d, want %d", slices.Collect(back.All()), slices.Collect(s.All()))
		}
	})
}

// TestKeptRows: from the third reading on the rows of a page are kept, as the caller changes them,
// until one is added.
func TestKeptRows(t *testing.T) {
	var k Kept
	id, reads := ID{job.Range(1), 7}, 0
	scan := func(fn func(key, value []byte) error) error {
		reads++
		for _, x := range []string{"a1", "a2", "b1", "c"} {
			if err := fn([]byte(x), []byte("v")); err != nil {
				return err
			}
		}
		return nil
	}
	for i := range 5 {
		rows, err := k.Rows(id, scan)
		if err != nil || (rows != nil) != (i >= touches-1) || (k.Has(id) != nil) != (rows != nil) || reads > 1 {
			t.Fatalf("reading %d: %d rows after %d scans, %v", i+1, len(rows), reads, err)
		}
	}
	for _, x := range With(k.Has(id), []byte("a")) {
		if bytes.Equal(x.Key, []byte("a1")) {
			x.Value = nil
		}
	}
	if got := string(With(k.Has(id), []byte("a"))[0].Key); got != "a2" || len(With(k.Has(id), []byte("a"))) != 1 || len(With(k.Has(id), []byte("d"))) != 0 {
		t.Errorf("one is gone, and %s is first", got)
	}
	k.Forget(id)
	if k.Has(id) != nil {
		t.Error("a row was added, and the rows are kept")
	}
	fault := errors.New("no disk")
	for range touches {
		k.Rows(ID{2, 2}, func(func(key, value []byte) error) error { return fault })
	}
	if _, err := k.Rows(ID{2, 2}, func(func(key, value []byte) error) error { return fault }); !errors.Is(err, fault) || k.Has(ID{2, 2}) != nil {
		t.Errorf("they could not be read: %v", err)
	}
}
