package scheduler

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"crier/job"
	"crier/state/jobs"
	"crier/state/parked"
)

const recipients = 1000

// totals that matter: where a job of 1,000 recipients can stand in the index.
var totals = map[string]parked.Tally{
	"nothing":    {},
	"lagging":    {Reserved: 999, Delivered: 999}, // the last one's reserve is not applied yet
	"parked":     {Reserved: 1000, Delivered: 999, Parked: 1},
	"handed off": {Reserved: 1000, Delivered: 999, HandedOff: 1},
	"in doubt":   {Reserved: 1000, Delivered: 999, InDoubt: 1},
	"lags open":  {Reserved: 999, Delivered: 998, Parked: 1},
	"closed":     {Reserved: 1000, Delivered: 1000},
	"late":       {Reserved: 1000, Delivered: 1, Expired: 999},
	"dropped":    {Reserved: 1000, Dropped: [16]uint64{1: 1000}},
	"missed":     {Reserved: 1000, Expired: 900, Dropped: [16]uint64{1: 100}},
	"may come":   {Reserved: 1000, Expired: 999, InDoubt: 1},
}

// plans that matter: what the scheduler knows of a job's package and slices.
var plans = map[string]view{
	"unchecked":   {},
	"unsent":      {prepared: true, unsent: 3},
	"sent":        {prepared: true},
	"damaged":     {failure: "the stored package is damaged"},
	"hopeless":    {failure: "the stored package is damaged", settled: true}, // and the totals are at rest
	"poison":      {prepared: true, unsent: 3, broken: "it broke what worked on it 5 times: slice 0: panic"},
	"uncheckable": {broken: "it broke what worked on it 5 times: verifying its package: panic"},
}

func makeView(state job.State, control, total, plan string, room bool) view {
	v := plans[plan]
	v.job = jobs.Job{State: state, Spec: job.Spec{Recipients: recipients}, Controls: job.Controls{
		Paused: strings.Contains(control, "paused"), Cancelled: strings.Contains(control, "cancelled"), Recalled: strings.Contains(control, "recalled")}}
	v.withdrawn = strings.Contains(control, "withdrawn")
	v.total, v.room = totals[total], room
	v.job.Version = 7
	if strings.Contains(control, "again") {
		v.job.Controls.Again, v.broken = 7, "" // what broke before does not count
	}
	return v
}

// TestDecide is the table for the cases that one would ask about; "" stays.
func TestDecide(t *testing.T) {
	const any = "nothing lagging parked handed_off in_doubt lags_open closed missed"
	const open = "nothing lagging parked handed_off in_doubt lags_open may_come"
	const reserved = "parked handed_off in_doubt closed" // everybody
	for _, c := range []struct{ state, control, total, plan, to string }{
		{"submitted", "none paused", any, "unchecked", "packed"},
		{"packed", "none paused", any, "unchecked", "queued"},
		{"queued", "none paused", any, "unchecked", "preparing"},
		{"preparing", "none paused", any, "unchecked", ""},
		{"preparing", "none paused", any, "unsent sent", "prepared"},
		{"preparing", "none paused", any, "damaged hopeless", "failed"},
		{"prepared", "none", any, "unsent sent", "sending"},
		{"prepared", "paused", any, "unsent sent", "paused"},
		{"sending", "none", any, "unsent unchecked", ""},
		{"sending", "paused", any, "unsent unchecked", "paused"},
		{"sending", "none paused", any, "sent", "sent"},
		{"sending", "none", "nothing lagging lags_open", "damaged", ""},
		{"sending", "none paused", "nothing lagging", "hopeless", "failed"},
		{"sending", "none", "lags_open", "hopeless", ""},
		// What breaks whoever works on it is set aside, until an operator resumes or ends it.
		{"preparing", "none paused", any, "uncheckable poison", "quarantined"},
		{"sending", "none paused", any, "poison uncheckable", "quarantined"},
		{"paused", "paused", any, "poison", ""},
		{"sent", "none paused", open, "poison", ""},
		{"cancelling", "cancelled", any, "poison", ""},
		{"quarantined", "none paused", any, "unchecked unsent sent damaged hopeless poison", ""},
		{"quarantined", "again paused,again", any, "unchecked unsent sent damaged hopeless", "queued"},
		{"quarantined", "cancelled again,cancelled", any, "unchecked unsent sent poison", "cancelling"},
		{"quarantined", "recalled again,recalled", any, "unchecked unsent sent poison", "recalling"},
		{"sending", "none paused", reserved, "damaged hopeless", "sent"}, // its package is not needed any more
		{"paused", "paused", any, "unsent unchecked", ""},
		{"paused", "none", any, "unsent unchecked damaged sent", "sending"},
		{"paused", "paused", any, "sent", "sending"},
		{"paused", "paused", "nothing lagging lags_open", "damaged", ""},
		{"paused", "none paused", "nothing lagging", "hopeless", "failed"},
		{"paused", "paused", reserved, "damaged hopeless", "sending"},
		{"sent", "none paused", open, "unchecked unsent sent damaged", ""},
		{"sent", "none paused", "closed late dropped", "unchecked unsent sent damaged", "completed"},
		{"sent", "none paused", "missed", "unchecked unsent sent damaged", "expired"},
		{"submitted packed queued preparing prepared sending paused sent", "cancelled paused,cancelled", any, "unchecked unsent sent damaged hopeless", "cancelling"},
		{"cancelling", "cancelled paused,cancelled", open, "sent", ""},
		{"cancelling", "cancelled paused,cancelled", any, "unchecked unsent", ""},
		{"cancelling", "cancelled paused,cancelled", "closed missed", "sent", "cancelled"},
		{"cancelling", "cancelled", "nothing lagging", "hopeless", "failed"},
		{"cancelling", "cancelled", "nothing lagging lags_open", "damaged", ""},
		{"cancelling", "cancelled", "parked handed_off in_doubt lags_open", "damaged hopeless", ""},
		{"cancelling", "cancelled", "closed", "damaged hopeless", "cancelled"},
		{"completed cancelled failed recalled expired", "none paused cancelled", any, "unchecked unsent sent damaged", ""},
		// A recall goes before everything else, also of what is over; but once only.
		{"submitted packed queued preparing prepared sending paused sent cancelling completed cancelled failed expired",
			"recalled paused,recalled cancelled,recalled recalled,withdrawn", any, "unchecked unsent sent damaged hopeless", "recalling"},
		{"recalling", "recalled cancelled,recalled", any, "unchecked unsent sent damaged hopeless", ""},
		{"recalling", "recalled,withdrawn", open, "unchecked unsent sent damaged", ""},
		{"recalling", "recalled,withdrawn", "parked handed_off in_doubt lags_open", "hopeless", ""},
		{"recalling", "recalled,withdrawn cancelled,recalled,withdrawn", "closed", "unchecked unsent sent damaged hopeless", "recalled"},
		{"recalling", "recalled,withdrawn", "nothing lagging", "hopeless", "recalled"}, // but for whom nobody can reach any more
		{"recalled", "recalled recalled,withdrawn", any, "unchecked unsent sent damaged", ""},
	} {
		for _, state := range strings.Fields(c.state) {
			var s job.State
			if err := s.UnmarshalText([]byte(state)); err != nil {
				t.Fatal(err)
			}
			for _, control := range strings.Fields(c.control) {
				for _, total := range strings.Fields(c.total) {
					for _, plan := range strings.Fields(c.plan) {
						got, ok := decide(makeView(s, control, strings.ReplaceAll(total, "_", " "), plan, true))
						if ok != (c.to != "") || ok && got.to.String() != c.to {
							t.Errorf("%s, %s, %s, %s: becomes %s (%v), want %q", state, control, total, plan, got.to, ok, c.to)
						}
					}
				}
			}
		}
	}
	if _, ok := decide(makeView(job.Queued, "none", "nothing", "unchecked", false)); ok {
		t.Error("a queued job goes on without room")
	}
}

// everyView calls fn with every state × control × totals × plan × room.
func everyView(fn func(name string, v view)) {
	for state := job.Submitted; state <= job.FailedOver; state++ {
		for _, control := range []string{"none", "paused", "cancelled", "paused,cancelled", "recalled", "cancelled,recalled", "recalled,withdrawn", "again", "paused,again"} {
			for total := range totals {
				for plan := range plans {
					for _, room := range []bool{false, true} {
						fn(fmt.Sprintf("%s, %s, %s, %s, room %v", state, control, total, plan, room), makeView(state, control, total, plan, room))
					}
				}
			}
		}
	}
}

func TestDecisionsHoldWhatTheyMust(t *testing.T) {
	everyView(func(name string, v view) {
		s, ok := decide(v)
		state, c := v.job.State, v.job.Controls
		if !ok {
			return
		}
		open := v.total.Parked + v.total.HandedOff + v.total.InDoubt
		covers := v.total.Reserved == recipients && open == 0
		done := v.prepared && v.unsent == 0 || v.failure != "" && v.total.Reserved == recipients
		started := s.to >= job.Preparing && s.to <= job.Preempted
		for _, rule := range []struct {
			what  string
			holds bool
		}{
			{"the state machine allows it", state.CanBecome(s.to)},
			{"it has a reason", s.reason != ""},
			{"nothing is closed before all of the package is counted and nobody is open", covers || s.to != job.Completed && s.to != job.JobCancelled && s.to != job.JobExpired},
			{"what is sent has no slice left", s.to != job.Sent || done},
			{"a recalled job is only closed, and not before its withdrawal is made", !c.Recalled || s.to == job.Recalling ||
				s.to == job.JobRecalled && v.withdrawn && open == 0 && (covers || v.failure != "" && v.settled)},
			{"a job that nobody recalled is not recalled", c.Recalled || s.to != job.Recalling},
			{"only what reached nobody, and came too late for somebody, is expired",
				s.to != job.JobExpired || v.total.Delivered == 0 && v.total.Expired > 0},
			{"a cancelled job is only closed", !c.Cancelled || !started && s.to != job.Sent && s.to != job.Completed && s.to != job.JobExpired || state == job.Recalling},
			{"a paused job with slices left does not send", s.to != job.Sending || !c.Paused || done},
			{"a job without room does not start", v.room || state != job.Queued || !started},
			{"a job that nobody cancelled is not cancelled", c.Cancelled || s.to != job.Cancelling},
			{"no job fails without a failure", s.to != job.JobFailed || v.failure != ""},
			{"only what breaks the work on it is quarantined", s.to != job.Quarantined || v.broken != ""},
			{"nobody but an operator ends a quarantine", state != job.Quarantined || c.Again > 0 || c.Cancelled || c.Recalled},
			{"no job fails that may still settle somebody", s.to != job.JobFailed || state == job.Preparing || open == 0 && v.settled && v.total.Reserved < recipients},
		} {
			if !rule.holds {
				t.Errorf("%s: becomes %s, but %s", name, s.to, rule.what)
			}
		}
	})
}

// The same view decides to an end: a job never goes round in a circle.
func TestDecisionsComeToRest(t *testing.T) {
	everyView(func(name string, v view) {
		seen := []job.State{v.job.State}
		for {
			s, ok := decide(v)
			if !ok {
				return
			}
			if slices.Contains(seen, s.to) && s.to != job.Sending { // a pause may come and go
				t.Fatalf("%s: goes round: %v, %s", name, seen, s.to)
			}
			if len(seen) > 22 {
				t.Fatalf("%s: never rests: %v", name, seen)
			}
			v.job.State = s.to
			seen = append(seen, s.to)
		}
	})
}

// Whoever waits is told on what, and not on nothing.
func TestWaitingOnIsNeverEmpty(t *testing.T) {
	everyView(func(name string, v view) {
		words := waitingOn(v, 7)
		switch {
		case v.job.State.Terminal() && !v.job.IsLive():
			if words != "" {
				t.Errorf("%s: it is over, but waits on %q", name, words)
			}
		case words == "":
			t.Errorf("%s: waits on nothing", name)
		}
		if v.job.State == job.Queued {
			return // nobody may be ahead of it
		}
		numbers := strings.FieldsFunc(words, func(r rune) bool { return r < '0' || r > '9' })
		if len(numbers) > 0 && !slices.ContainsFunc(numbers, func(n string) bool { return strings.Trim(n, "0") != "" }) {
			t.Errorf("%s: waits on %q", name, words)
		}
		if s, ok := decide(v); ok && !strings.Contains(words, s.to.String()) {
			t.Errorf("%s: may become %s, and waits on %q", name, s.to, words)
		}
	})
	if words := waitingOn(makeView(job.Queued, "none", "nothing", "unchecked", false), 7); !strings.Contains(words, "7") {
		t.Errorf("a queued job does not say how many are ahead: %q", words)
	}
	if words := waitingOn(makeView(job.Sent, "paused", "parked", "sent", true), 7); !strings.HasPrefix(words, "resume, with ") {
		t.Errorf("a sent job that is paused waits on %q", words)
	}
}

// The queue: real-time before normal, 99 first among them, then the oldest.
func TestQueueOrder(t *testing.T) {
	gen := rapid.Custom(func(t *rapid.T) jobs.Job {
		return jobs.Job{Spec: job.Spec{ID: job.ID{rapid.Byte().Draw(t, "id")}, Class: job.Class(rapid.Uint8Range(0, 1).Draw(t, "class")),
			Priority: rapid.Uint8Range(1, 99).Draw(t, "priority"), SubmittedAt: time.Unix(rapid.Int64Range(0, 3).Draw(t, "age"), 0)}}
	})
	rapid.Check(t, func(t *rapid.T) {
		queue := rapid.SliceOfN(gen, 0, 20).Draw(t, "jobs")
		slices.SortFunc(queue, queued)
		for i := 1; i < len(queue); i++ {
			a, b := queue[i-1].Spec, queue[i].Spec
			var wrong bool
			switch {
			case a.Class != b.Class:
				wrong = b.Class == job.Realtime
			case a.Class == job.Realtime && a.Priority != b.Priority:
				wrong = b.Priority > a.Priority
			case !a.SubmittedAt.Equal(b.SubmittedAt):
				wrong = b.SubmittedAt.Before(a.SubmittedAt)
			default:
				wrong = b.ID[0] < a.ID[0]
			}
			if wrong {
				t.Fatalf("%s %d of %s comes before %s %d of %s", a.Class, a.Priority, a.SubmittedAt, b.Class, b.Priority, b.SubmittedAt)
			}
		}
	})
}

func TestCut(t *testing.T) {
	sizes := rapid.OneOf(rapid.IntRange(1, 1<<20), rapid.IntRange(1, 100), rapid.Just(1<<20))
	rapid.Check(t, func(t *rapid.T) {
		numbers := rapid.SliceOfNDistinct(rapid.Uint16Range(0, job.Ranges-1), 0, rapid.SampledFrom([]int{3, 100, job.Ranges}).Draw(t, "most"), rapid.ID).Draw(t, "ranges")
		slices.Sort(numbers)
		ranges, size, total, largest := make([]job.Range, len(numbers)), make([]int, len(numbers)), 0, 0
		for i, n := range numbers {
			ranges[i], size[i] = job.Range(n), sizes.Draw(t, "size")
			total, largest = total+size[i], max(largest, size[i])
		}
		out := cut(ranges, size)
		if again := cut(slices.Clone(ranges), slices.Clone(size)); !slices.Equal(out, again) {
			t.Fatalf("cut once as %v, then as %v", out, again)
		}
		checkSlices(t, out, ranges, size, total, largest)
	})
}

func checkSlices(t *rapid.T, out []Slice, ranges []job.Range, size []int, total, largest int) {
	const most, about, block = 64, 4 << 20, 64 << 10 // DESIGN.md
	total, largest = total+len(size)*block, largest+block
	if len(out) > most || (len(out) == 0) != (len(size) == 0) {
		t.Fatalf("%d slices for %d recipients", len(out), total)
	}
	share := max(total/max(1, min(most, total/about+1)), 1)
	at, end := 0, uint64(0)
	for i, s := range out {
		if s.Number != uint32(i) || s.State != job.SlicePlanned {
			t.Fatalf("slice %d is %+v", i, s)
		}
		if s.Span.Lo < end || s.Span.Lo%(1<<20) != 0 || s.Span.Hi%(1<<20) != 0 || s.Span.Validate() != nil {
			t.Fatalf("slice %d is %s after %d", i, s.Span, end)
		}
		has := 0
		for ; at < len(ranges) && uint64(ranges[at].Lo()) < s.Span.Hi; at++ {
			if !s.Span.Has(job.Recipient(ranges[at].Lo())) {
				t.Fatalf("slice %d, %s, passes over range %s", i, s.Span, ranges[at])
			}
			has += size[at] + block
		}
		if has == 0 || has > share+largest+1 || i < len(out)-1 && has < share {
			t.Fatalf("slice %d of %d weighs %d; a share is %d", i, len(out), has, share)
		}
		end = s.Span.Hi
	}
	if at != len(ranges) {
		t.Fatalf("range %s is in no slice", ranges[at])
	}
}

// The whole id space: 64 slices of 64 ranges.
func TestCutOfEverybody(t *testing.T) {
	ranges, size := make([]job.Range, job.Ranges), make([]int, job.Ranges)
	for i := range ranges {
		ranges[i], size[i] = job.Range(i), 1<<20
	}
	out := cut(ranges, size)
	if len(out) != 64 {
		t.Fatalf("%d slices", len(out))
	}
	for i, s := range out {
		if want := (job.Span{Lo: uint64(i) << 26, Hi: uint64(i+1) << 26}); s.Span != want {
			t.Errorf("slice %d is %s, want %s", i, s.Span, want)
		}
	}
}
