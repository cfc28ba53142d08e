package tries

import (
	"testing"

	"crier/job"
)

func TestTriesInARow(t *testing.T) {
	var b Book
	a, other := job.ID{1}, job.ID{2}
	want := func(what string, id job.ID, slice uint32, again uint64, n int, why string) {
		t.Helper()
		if got, words := b.Of(id, slice, again); got != n || words != why {
			t.Errorf("%s: %d, %q; want %d, %q", what, got, words, n, why)
		}
	}
	want("nothing", a, 0, 0, 0, "")
	for i := 1; i <= 3; i++ {
		if n := b.Broke(Place{a, 0, 64}, 0, "first"); n != i {
			t.Errorf("try %d is counted as %d", i, n)
		}
	}
	b.Broke(Place{a, 0, 128}, 0, "second")
	b.Broke(Place{a, 1, 64}, 0, "of another slice")
	b.Broke(Place{other, 0, 64}, 0, "of another job")
	want("the most of a slice", a, 0, 0, 3, "first")
	want("another slice", a, 1, 0, 1, "of another slice")
	b.Fine(Place{a, 0, 64})
	want("the other place", a, 0, 0, 1, "second")
	b.Broke(Place{a, 0, 64}, 0, "again")
	want("counted anew: of equals, the first place", a, 0, 0, 1, "again")

	// A quarantine that was ended: what was before does not count.
	want("under the new number", a, 0, 7, 0, "")
	if n := b.Broke(Place{a, 0, 64}, 7, "still"); n != 1 {
		t.Errorf("the first try after a resume is counted as %d", n)
	}
	want("under the new number", a, 0, 7, 1, "still")
	want("under the old one", a, 0, 0, 1, "second")

	b.Forget(func(id job.ID) bool { return id == other })
	want("of a job that is over", a, 0, 7, 0, "")
	want("of one that is not", other, 0, 0, 1, "of another job")
}
