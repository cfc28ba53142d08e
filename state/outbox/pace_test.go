package outbox

import (
	"testing"
	"time"
)

func TestPace(t *testing.T) {
	const ms = time.Millisecond
	var p pace
	for i, c := range []struct {
		r    result
		want time.Duration
	}{
		{result{0, 4, false}, 50 * ms}, {result{0, 4, false}, 100 * ms}, {result{0, 4, false}, 200 * ms}, {result{0, 4, false}, 400 * ms},
		{result{0, 4, false}, 800 * ms}, {result{0, 4, false}, time.Second}, {result{0, 4, false}, time.Second},
		{result{1, 4, false}, 50 * ms}, {result{4, 4, false}, 0}, {result{0, 4, false}, 50 * ms}, {result{3, 4, true}, time.Second},
		{result{0, 4, false}, time.Second}, {result{4, 4, false}, 0}, {result{4, 4, true}, time.Second},
	} {
		if got := p.next(c.r); got != c.want || p.failing != c.r.failed {
			t.Errorf("look %d: %s, want %s", i, got, c.want)
		}
	}
}
