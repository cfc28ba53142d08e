package job_test

import (
	"slices"
	"strings"
	"testing"
	"time"

	"crier/job"
)

// The table as scheduler/DESIGN.md tells it: state, owner, deadline and what it counts
// from, and what may follow by itself. "!" is added to all that is not over: cancelling,
// recalling, failed, quarantined.
const jobTable = `
submitted         | scheduler | 5m  entry    | scheduled awaiting-approval held packing packed !
scheduled         | scheduler |              | awaiting-approval held packing packed queued !
awaiting-approval | operator  |              | scheduled held packing packed !
held              | operator  |              | scheduled awaiting-approval packing packed queued !
packing           | api       | 10m entry    | packed !
packed            | scheduler | 5m  entry    | queued held !
queued            | scheduler | 1h  entry    | preparing held !
preparing         | scheduler | 10m entry    | prepared queued !
prepared          | scheduler | 5m  entry    | sending paused queued !
sending           | workers   | 10m progress | paused preempted sent failed-over !
paused            | operator  |              | sending preempted failed-over !
preempted         | scheduler | 10m entry    | queued sending failed-over !
sent              | workers   | 10m expiry   | completed expired failed-over !
completed         |           |              | recalling
cancelling        | workers   | 10m progress | cancelled failed-over !
cancelled         |           |              | recalling
recalling         | workers   | 10m progress | recalled failed-over !
recalled          |           |              |
failed            |           |              | recalling
expired           |           |              | recalling
quarantined       | operator  |              | queued !
failed-over       | scheduler | 10m entry    | queued sending sent cancelling recalling !`

var (
	entered  = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	progress = entered.Add(time.Hour)
	expires  = entered.Add(100 * time.Hour)
)

func TestTableOfJobs(t *testing.T) {
	all, seen := jobStates(), 0
	for line := range strings.Lines(strings.TrimSpace(jobTable)) {
		cells := strings.Split(line, "|")
		for i := range cells {
			cells[i] = strings.TrimSpace(cells[i])
		}
		s := all[seen]
		seen++
		r := s.Rule()
		if r.Name != cells[0] || r.Owner.String() != cells[1] {
			t.Errorf("state %d is %s of %s, want %q", seen, r.Name, r.Owner, line)
		}
		due, ok := s.Due(entered, progress, expires)
		deadline, from, limited := strings.Cut(cells[2], " ")
		if limited {
			d, err := time.ParseDuration(deadline)
			if err != nil {
				t.Fatal(err)
			}
			want := map[string]time.Time{"entry": entered, "progress": progress, "expiry": expires}[strings.TrimSpace(from)].Add(d)
			if !ok || !due.Equal(want) {
				t.Errorf("%s is due at %s (%v), want %s", s, due, ok, want)
			}
		} else if ok {
			t.Errorf("%s is due at %s, though it may last", s, due)
		}
		// Something that is over has no owner and waits on nothing; the rest has both, and a
		// deadline unless it waits on somebody or on a time.
		over := cells[1] == ""
		if s.Terminal() != over || (r.WaitsOn == "") != over || !over && !limited && r.Needs != job.NeedsOperator && r.Needs != job.NeedsTime {
			t.Errorf("%s: terminal %v, waits on %q, needs %d, deadline %q", s, s.Terminal(), r.WaitsOn, r.Needs, cells[2])
		}
		if r.Take && (over || r.Owner == job.Operator || !limited) {
			t.Errorf("%s may be taken from %q", s, r.Owner)
		}
		checkNext(t, s, strings.Fields(cells[3]))
	}
	if seen != len(all) {
		t.Errorf("the table has %d states, not %d", seen, len(all))
	}
}

func checkNext(t *testing.T, s job.State, want []string) {
	t.Helper()
	if i := slices.Index(want, "!"); i >= 0 {
		want = append(slices.Delete(want, i, i+1), "cancelling", "recalling", "failed", "quarantined")
		slices.Sort(want)
		want = slices.DeleteFunc(slices.Compact(want), func(n string) bool {
			return n == s.String() || n == "cancelling" && s == job.Recalling
		})
	}
	for _, to := range jobStates() {
		if got := s.CanBecome(to); got != slices.Contains(want, to.String()) {
			t.Errorf("%s can become %s: %v", s, to, got)
		}
	}
}

// What happened before a state was entered does not make it due earlier.
func TestDueCountsFromTheLatest(t *testing.T) {
	late := entered.Add(1000 * time.Hour)
	for _, s := range jobStates() {
		now, ok := s.Due(late, progress, expires)
		if ok && !now.Equal(late.Add(s.Rule().Deadline)) {
			t.Errorf("%s is due at %s", s, now)
		}
	}
}

func TestTableOfSlices(t *testing.T) {
	for _, s := range sliceStates() {
		r, over := s.Rule(), s == job.SliceFolded || s == job.SliceAbandoned
		if r.Name != s.String() || (r.Owner == job.Nobody) != over || (r.WaitsOn == "") != over || (len(r.Next) == 0) != over {
			t.Errorf("%s: %+v", s, r)
		}
	}
	if r := job.SliceState(99).Rule(); r.Name != "" || r.Owner != job.Nobody || job.State(99).Rule().Name != "" || job.State(99).Terminal() {
		t.Error("the table knows what does not exist")
	}
}
