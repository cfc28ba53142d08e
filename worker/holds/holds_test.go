package holds

import (
	"testing"
	"testing/synctest"
	"time"
)

func closed(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}

func TestRanges(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := New()
		if _, _, ok := h.Age(7); ok || h.Has(7) {
			t.Fatal("a new worker is home to something")
		}
		changed := h.Changed()
		h.Begin(7, true)
		if !h.Has(7) || h.Has(8) || !closed(changed) || closed(h.Changed()) {
			t.Fatal("a range that began does not show")
		}
		time.Sleep(time.Second)
		if d, first, ok := h.Age(7); d != time.Second || !first || !ok {
			t.Fatal(d, first, ok)
		}
		changed = h.Changed()
		h.End(7)
		if _, _, ok := h.Age(7); ok || h.Has(7) || !closed(changed) {
			t.Fatal("a range that ended does not show")
		}
		h.Begin(7, false)
		if d, first, _ := h.Age(7); d != 0 || first {
			t.Fatal(d, first)
		}
	})
}

func TestTheSameWishIsNewsOnceInAWhile(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := New()
		news := 0
		for range 1000 { // a second
			if h.Wants(3) {
				news++
			}
			time.Sleep(time.Millisecond)
		}
		if news != 10 || !h.Wants(4) {
			t.Fatalf("it is news %d times in a second, want 10; and another is", news)
		}
		h.Begin(5, true)
		if h.Wants(5) {
			t.Fatal("whoever is home is asked for")
		}
	})
}
