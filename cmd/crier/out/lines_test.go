package out_test

import (
	"strings"
	"testing"
	"time"

	"crier/api"
	"crier/cmd/crier/out"
	"crier/job"
)

func TestEventLine(t *testing.T) {
	n := uint32(4095)
	e := api.NewEvent(12, job.Event{Version: 3, State: "sending", Reason: "a\x1b[31mb", At: time.Date(2026, 1, 2, 3, 4, 5, 678e6, time.FixedZone("", 3600)), Job: job.ID{}, Slice: &n})
	want := "      12  2026-01-02T02:04:05.678Z  sending      job_00000000000000000000000000 slice 4095  version 3  " + out.Clean(e.Reason)
	if got := out.EventLine(e, 0); got != want {
		t.Errorf("%q, want %q", got, want)
	}
	e = api.NewEvent(13, job.Event{Set: &job.SetChange{Kind: "segment", Name: "vip\x1b[31m", Number: 4, Recipients: 12345, Changed: 1}, Version: 3, State: "removed", At: e.At})
	want = "      13  2026-01-02T02:04:05.678Z  removed      segment " + out.Clean(e.Set.Name) + "  revision 3: -1, now 12,345"
	if got := out.EventLine(e, 0); got != want {
		t.Errorf("%q, want %q", got, want)
	}
	e = api.NewEvent(14, job.Event{Set: &job.SetChange{Kind: "global-suppression", Recipients: 100_000, Changed: 99_997}, Version: 2, State: job.SetAdded, At: e.At})
	want = "      14  2026-01-02T02:04:05.678Z  added        global-suppression  revision 2: +99,997, now 100,000"
	if got := out.EventLine(e, 0); got != want {
		t.Errorf("%q, want %q", got, want)
	}
	rate := uint32(300)
	e = api.NewEvent(15, job.Event{Version: 9, State: job.ControlRate, Control: true, Rate: &rate, Reason: "too slow", At: e.At})
	want = "      15  2026-01-02T02:04:05.678Z  rate         job_00000000000000000000000000  control  300 recipients a second  too slow"
	if got := out.EventLine(e, 0); got != want {
		t.Errorf("%q, want %q", got, want)
	}
	want = "    15  2026-01-02T02:04:05Z  rate         job_00000000000000000000000000  300/s\n" + strings.Repeat(" ", 43) + "too slow"
	if got := out.EventLine(e, 80); got != want {
		t.Errorf("%q, want %q", got, want)
	}
	e = api.NewEvent(123456, job.Event{Version: 12, State: "quarantined", At: e.At})
	want = "123456  2026-01-02T02:04:05Z  quarantined  job_00000000000000000000000000  v12"
	if got := out.EventLine(e, 80); got != want {
		t.Errorf("%q, want %q", got, want)
	}
	e.Reason = "it broke its worker five times"
	want += "\n" + strings.Repeat(" ", 43) + "it broke its worker five times"
	if got := out.EventLine(e, 80); got != want {
		t.Errorf("%q, want %q", got, want)
	}
}

// A line that is too wide goes on below, beside what it goes on with; the blanks between its
// columns stay.
func TestHang(t *testing.T) {
	for _, c := range []struct {
		text   string
		width  int
		column int
		want   string
	}{
		{"a  bb  one two", 0, 4, "a  bb  one two"},
		{"a  bb  one two", 14, 7, "a  bb  one two"},
		{"   1  queued   job_0001  version 1: one two three", 48, 15, "   1  queued   job_0001  version 1: one two\n               three"},
		{"   1  queued   job_0001  version 1", 32, 15, "   1  queued   job_0001  version\n  1"}, // hardly any room: it moves to the left
		{"  unbreakable", 5, 2, "  unbreakable"},
		{"unbreakable and more", 5, 2, "unbreakable\nand\nmore"},
	} {
		if got := out.Hang(c.text, c.width, c.column); got != c.want {
			t.Errorf("%q at %d columns is\n%s\nwant\n%s", c.text, c.width, got, c.want)
		}
	}
}
