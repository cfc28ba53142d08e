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

// TestKeptRows: the rows of a page that is read more than once are kept, as the caller changes them,
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
	first := job.Range(1).Lo() + 7<<Bits
	k.Expect(idset.Of(first))
	if rows, err := k.Rows(id, scan); rows != nil || err != nil || reads != 0 {
		t.Fatalf("%d rows are kept of what is read once, %v", len(rows), err)
	}
	k.Expect(idset.Of(first, first+1))
	for range 3 {
		if rows, err := k.Rows(id, scan); err != nil || len(rows) != 4 || len(k.Has(id)) != 4 || reads != 1 {
			t.Fatalf("%d rows after %d scans, %v", len(rows), reads, err)
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
	var row, out Page
	row[0] = 0b0110
	for _, x := range With(k.Has(id), []byte("b")) {
		x.Value = row.Bytes()
	}
	for _, x := range append(With(k.Has(id), []byte("a")), With(k.Has(id), []byte("c"))...) {
		x.Value = nil
	}
	emptied := func() (calls int) {
		if err := k.Emptied(func(at ID, p Page) { calls, out = calls+1, p }); err != nil {
			t.Fatal(err)
		}
		return calls
	}
	words := make([]uint64, Words)
	words[0] = 0b1100
	k.Took(id, words)
	if k.Took(ID{5, 5}, words); emptied() != 1 || out != (Page{0b1000}) || emptied() != 0 {
		t.Errorf("%b are in no row any more, want the one that row b has not, once", out[0])
	}
	k.Took(id, words)
	k.Forget(id)
	if k.Has(id) != nil || emptied() != 0 {
		t.Error("a row was added, and the rows are kept")
	}
	fault := errors.New("no disk")
	for range 2 {
		k.Expect(idset.Of(job.Range(2).Lo() + 2<<Bits))
	}
	if _, err := k.Rows(ID{2, 2}, func(func(key, value []byte) error) error { return fault }); !errors.Is(err, fault) || k.Has(ID{2, 2}) != nil {
		t.Errorf("they could not be read: %v", err)
	}
}
