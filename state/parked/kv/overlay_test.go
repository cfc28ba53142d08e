package kv

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"testing"

	"pgregory.net/rapid"
)

// TestAnOverlayIsTheStoreToCome: what an overlay shows is what a store has to which each
// batch was written at once, and a flush makes the store under it so.
func TestAnOverlayIsTheStoreToCome(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		under, want := NewMemory(), NewMemory()
		o := NewOverlay(under)
		key := rapid.SliceOfN(rapid.ByteRange(0, 3), 0, 3)
		rows := func(scan func(a, b []byte, fn func(k, v []byte) error) error, a, b []byte) (all []string) {
			if err := scan(a, b, func(k, v []byte) error { all = append(all, fmt.Sprintf("%x=%x", k, v)); return nil }); err != nil {
				t.Fatal(err)
			}
			return all
		}
		for range rapid.IntRange(1, 30).Draw(t, "steps") {
			var b Batch
			for range rapid.IntRange(0, 5).Draw(t, "changes") {
				if k := key.Draw(t, "key"); rapid.Bool().Draw(t, "delete") {
					b.Delete(k)
				} else if has, _ := want.Get(k); has == nil && rapid.Bool().Draw(t, "create") && !slices.ContainsFunc(b.Ops, func(op Op) bool { return bytes.Equal(op.Key, k) }) {
					b.Create(k, key.Draw(t, "value"))
				} else {
					b.Put(k, key.Draw(t, "value"))
				}
			}
			if err := errors.Join(o.Hold(&b), want.Write(&b)); err != nil {
				t.Fatal(err)
			}
			a, z := key.Draw(t, "start"), key.Draw(t, "end")
			if rapid.Bool().Draw(t, "to the last") {
				z = nil
			}
			if got, want := rows(o.Scan, a, z), rows(want.Scan, a, z); fmt.Sprint(got) != fmt.Sprint(want) {
				t.Fatalf("from %x to %x there are %q, want %q", a, z, got, want)
			}
			got, _ := o.Get(a)
			if is, _ := want.Get(a); !bytes.Equal(got, is) || (got == nil) != (is == nil) {
				t.Fatalf("%x has %x, want %x", a, got, is)
			}
			if rapid.IntRange(0, 4).Draw(t, "flush") > 0 {
				continue
			}
			if err := o.Flush(); err != nil || o.Bytes() != 0 {
				t.Fatalf("flushed, %d bytes held: %v", o.Bytes(), err)
			}
			if got, want := rows(under.Scan, nil, nil), rows(want.Scan, nil, nil); fmt.Sprint(got) != fmt.Sprint(want) {
				t.Fatalf("the store has %q, want %q", got, want)
			}
		}
	})
}

// TestAnOverlayKeepsWhatTheStoreDoesNotTake, until it is dropped.
func TestAnOverlayKeepsWhatTheStoreDoesNotTake(t *testing.T) {
	under := NewMemory()
	o := NewOverlay(under)
	var b Batch
	b.Put([]byte("a"), []byte("1"))
	if err := o.Hold(&b); err != nil || o.Bytes() == 0 {
		t.Fatalf("%d bytes held: %v", o.Bytes(), err)
	}
	under.Close()
	if err := o.Flush(); !errors.Is(err, ErrClosed) {
		t.Fatalf("flushed into a closed store: %v", err)
	}
	if v, err := o.Get([]byte("a")); string(v) != "1" || err != nil {
		t.Errorf("it holds %q, %v", v, err)
	}
	o.Drop()
	if _, err := o.Get([]byte("a")); !errors.Is(err, ErrClosed) || o.Bytes() != 0 {
		t.Errorf("it is dropped and still there: %v", err)
	}
}
