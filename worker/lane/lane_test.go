package lane

import (
	"flag"
	"fmt"
	"testing"
	"time"

	"pgregory.net/rapid"

	"crier/internal/idset"
	"crier/job"
	"crier/state/ledger"
)

func init() { // before the command line, which may say otherwise
	flag.Set("rapid.checks", "200")
	flag.Set("rapid.nofailfile", "true")
}

func ptr[T any](v T) *T { return &v }

// spans are n pieces of ids in several ranges.
func spans(n, width int) []job.Span {
	var out []job.Span
	for i := range n {
		lo := uint64(i%3)<<job.RangeBits + uint64(i)*uint64(width)*2
		out = append(out, job.Span{Lo: lo, Hi: lo + uint64(width)})
	}
	return out
}

func TestLanesUnderRandomLoad(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		m := newSim(t, rapid.Uint64().Draw(t, "seed"), rapid.IntRange(1, 5).Draw(t, "lanes"))
		m.share = rapid.SampledFrom([]uint64{1, 3, 64}).Draw(t, "one target in")
		m.faults = rapid.Bool().Draw(t, "faults")
		slow := rapid.SampledFrom([]int{1, 20, 400}).Draw(t, "cost")
		m.cost = func() time.Duration { return time.Duration(m.rng.IntN(slow)) * time.Millisecond }
		jobs := rapid.IntRange(1, 4).Draw(t, "jobs")
		rates := []uint32{0, 0, 1, 5, 30, 200, 5000}
		var ids []job.ID
		var first []uint32
		for i := range jobs {
			ids = append(ids, job.ID{byte(i + 1)})
			first = append(first, rapid.SampledFrom(rates).Draw(t, "first rate"))
		}
		class := rapid.IntRange(0, 2).Draw(t, "classes")
		for i := range rapid.IntRange(1, 6).Draw(t, "slices") {
			n := rapid.IntRange(0, jobs-1).Draw(t, "job")
			s := Slice{Job: ids[n], Number: uint32(i), Class: job.Class(n & class & 1), Priority: uint8(10 * (n + 1)), Submitted: start.Add(-time.Duration(n) * time.Hour),
				Rate: first[n], Expires: start.Add(time.Hour), Todo: spans(rapid.IntRange(0, 3).Draw(t, "spans"), 300)}
			if n == 3 {
				s.Expires = start.Add(4 * time.Second)
			}
			m.later(time.Duration(rapid.IntRange(0, 3000).Draw(t, "assigned at"))*time.Millisecond, func() {
				m.assign(s)
				if m.s.Holds(s.Job, s.Number) {
					m.step(Assign{Slice: s}) // an offer that came twice
				}
			})
		}
		for range rapid.IntRange(0, 12).Draw(t, "controls") {
			id := ids[rapid.IntRange(0, jobs-1).Draw(t, "of job")]
			kind := rapid.IntRange(0, 9).Draw(t, "what")
			rate := rapid.SampledFrom(rates).Draw(t, "rate")
			m.later(time.Duration(rapid.IntRange(0, 8000).Draw(t, "at"))*time.Millisecond, func() {
				c := m.controls[id]
				switch {
				case kind == 0:
					c.Cancelled = rate%2 == 0
					c.Recalled = rate%2 == 1
				case kind < 4:
					c.Paused = !c.Paused
				default:
					c.Rate = &rate
				}
				m.control(id, c)
			})
		}
		deaf := time.Duration(rapid.IntRange(0, 10000).Draw(t, "controls stop at")) * time.Millisecond
		for at := time.Duration(0); at < 20*time.Second; at += 50 * time.Millisecond {
			m.later(at, m.tick)
			if at%(500*time.Millisecond) == 0 && (at < deaf || at > deaf+6*time.Second) {
				m.later(at, m.catchUp)
			}
		}
		m.until(start.Add(20 * time.Second))
		// Nothing is held back any more: everything is sent in bounded time.
		m.faults = false
		for _, id := range ids {
			m.control(id, job.Controls{Rate: ptr(uint32(2000)), Cancelled: m.controls[id].Cancelled, Recalled: m.controls[id].Recalled})
		}
		for range 400 {
			m.catchUp()
			m.tick()
			m.until(m.now.Add(50 * time.Millisecond))
		}
		for _, p := range m.plans {
			if !p.sent || len(p.taken) != p.size() || m.s.Holds(p.Job, p.Number) {
				t.Fatalf("slice %d of %s: sent %v, %d of %d ids taken", p.Number, p.Job, p.sent, len(p.taken), p.size())
			}
		}
		if m.tick(); len(m.s.jobs) != 0 {
			m.until(m.now.Add(2 * time.Second))
			if m.tick(); len(m.s.jobs) != 0 {
				t.Fatalf("%d jobs are remembered", len(m.s.jobs))
			}
		}
	})
}

// handed runs one job for ten seconds and tells how many were handed over.
func handed(t *testing.T, rate uint32, slices int, timer bool, m *sim) int {
	t.Helper()
	for n := range slices {
		width := 12*int(rate)/slices + 10
		lo := uint64(n) << job.RangeBits
		m.assign(Slice{Job: job.ID{1}, Number: uint32(n), Rate: rate, Submitted: start, Expires: start.Add(time.Hour),
			Todo: []job.Span{{Lo: lo, Hi: lo + uint64(width)}}})
	}
	end := start.Add(10 * time.Second)
	nextTick := start
	for m.now.Before(end) {
		if !m.now.Before(nextTick) {
			m.catchUp()
			m.tick()
			nextTick = m.now.Add(50 * time.Millisecond)
		}
		to := nextTick
		if due := m.s.NextDue(m.now); timer && !due.IsZero() {
			if !due.After(m.now) {
				t.Fatalf("the next block is due at %s, it is %s: a timer would never stop", due, m.now)
			}
			if due.Before(to) {
				to = due
			}
		}
		m.until(to)
		m.step(CaughtUp{})
		m.caughtUp = m.now
	}
	sum := 0
	for _, x := range m.takes[job.ID{1}] {
		sum += x.n
	}
	return sum
}

func TestARateIsReached(t *testing.T) {
	for _, rate := range []uint32{1, 2, 3, 7, 19, 20, 21, 39, 100, 333, 1000} {
		for _, slices := range []int{1, 3} {
			for _, timer := range []bool{true, false} {
				m := newSim(t, uint64(rate), 4)
				got := handed(t, rate, slices, timer, m)
				if want := 95 * int(rate) * 10 / 100; got < want {
					t.Errorf("rate %d over %d slices (timer: %v): %d in 10 s, want %d at least", rate, slices, timer, got, want)
				}
				if got > 10*int(rate)+int(rate) {
					t.Errorf("rate %d: %d in 10 s", rate, got)
				}
			}
		}
	}
}

// A block's budget is what the last second leaves when the block is begun, so that
// a rate falls by about the time that a block takes.
func TestARateFallsLittleWithSlowBlocks(t *testing.T) {
	for cost, want := range map[time.Duration]int{20 * time.Millisecond: 9000, 90 * time.Millisecond: 7500} {
		m := newSim(t, 7, 4)
		m.cost = func() time.Duration { return cost }
		if got := handed(t, 1000, 1, true, m); got < want {
			t.Errorf("rate 1000 with blocks of twice %s: %d in 10 s, want %d", cost, got, want)
		}
	}
}

func TestARateSetOnAnUnlimitedJobDoesNotHoldItForLong(t *testing.T) {
	m := newSim(t, 1, 1)
	m.cost = func() time.Duration { return time.Millisecond }
	id := job.ID{1}
	m.catchUp()
	m.assign(Slice{Job: id, Submitted: start, Expires: start.Add(time.Hour), Todo: []job.Span{{Lo: 0, Hi: 8000}, {Lo: 8000, Hi: 9000}}})
	m.until(m.now.Add(2 * time.Millisecond)) // a block of 8,000 is handed over
	m.control(id, job.Controls{Rate: ptr(uint32(10))})
	before := len(m.takes[id])
	for m.now.Before(start.Add(3500 * time.Millisecond)) {
		m.until(m.now.Add(50 * time.Millisecond))
		m.catchUp()
		m.tick()
	}
	got := 0
	for _, x := range m.takes[id][before:] {
		got += x.n
	}
	if got < 20 {
		t.Fatalf("%d recipients in 3.5 s at a rate of 10 after a block of 8,000", got)
	}
	m.control(id, job.Controls{Rate: ptr(uint32(0))})
	m.until(m.now.Add(time.Second))
	if !m.plans[0].sent {
		t.Fatal("a rate that is taken away still holds the job")
	}
}

func TestAnUrgentJobWaitsForOneBlockAtMost(t *testing.T) {
	m := newSim(t, 3, 3)
	m.cost = func() time.Duration { return 100 * time.Millisecond }
	m.catchUp()
	for n := range 4 {
		m.assign(Slice{Job: job.ID{9}, Number: uint32(n), Submitted: start, Expires: start.Add(time.Hour), Todo: spans(3, 100)})
	}
	m.until(m.now.Add(50 * time.Millisecond))
	urgent := Slice{Job: job.ID{1}, Class: job.Realtime, Priority: 1, Submitted: start.Add(time.Minute), Expires: start.Add(time.Hour), Todo: spans(3, 100)}
	m.assign(urgent)
	m.until(m.now.Add(301 * time.Millisecond)) // a block is worked out, stored and answered in 300 ms
	if p := m.plan(job.ID{1}, 0); len(p.taken)+len(p.out) != p.size() {
		t.Fatalf("%d of %d ids of an urgent job are under way after one block", len(p.taken)+len(p.out), p.size())
	}
}

func TestABlockThatTookNothingIsTriedAgainLater(t *testing.T) {
	s := New(1)
	s.Step(start, CaughtUp{})
	span := job.Span{Lo: 64, Hi: 128}
	s.Step(start, Assign{Slice: Slice{Job: job.ID{1}, Expires: start.Add(time.Hour), Todo: []job.Span{span}}})
	for _, took := range []job.Span{{Lo: 64, Hi: 64}, {Lo: 60, Hi: 70}, {Lo: 64, Hi: 129}} {
		if effects := s.Step(start, Prepared{0, took, nil}); len(effects) > 0 {
			t.Fatalf("%v after a block of %s of %s", effects, took, span)
		}
		effects := s.Step(start, Tick{})
		if len(effects) != 1 || fmt.Sprint(effects[0].(Prepare).Task.Span) != span.String() {
			t.Fatalf("%v, want the whole span again", effects)
		}
	}
}

func TestAMuteGatewayDoesNotSlowARate(t *testing.T) {
	s := New(8)
	now := start
	s.Step(now, CaughtUp{})
	s.Step(now, Assign{Slice: Slice{Job: job.ID{1}, Rate: 20, Expires: start.Add(time.Hour), Todo: []job.Span{{Lo: 0, Hi: 1000}}}})
	lane, n := 0, uint64(0)
	for range 4 {
		set := idset.Of(uint32(n))
		effects := s.Step(now, Prepared{lane, job.Span{Lo: n, Hi: n + 1}, &ledger.Reserve{Rest: job.Parked,
			Targets: ledger.Targets{Incs: []job.Incarnation{{Gateway: "g"}}, Sets: []*idset.Set{set}}}})
		if len(effects) != 1 {
			t.Fatalf("%v, want one append", effects)
		}
		n++
		s.Step(now, Reserved{lane, job.Ref{N: n}}) // and no gateway answers
		now = now.Add(60 * time.Millisecond)
		effects = s.Step(now, Tick{})
		if len(effects) != 1 {
			t.Fatalf("%v, want the next block", effects)
		}
		lane = effects[0].(Prepare).Task.Lane
	}
}

// block answers the task of a lane with a block of n targets from lo on.
func block(lane int, lo uint64, n int) Prepared {
	set := idset.New(0)
	set.AddSpan(job.Span{Lo: lo, Hi: lo + uint64(n)})
	return Prepared{lane, job.Span{Lo: lo, Hi: lo + uint64(n)}, &ledger.Reserve{Rest: job.Parked,
		Targets: ledger.Targets{Incs: []job.Incarnation{{Gateway: "g"}}, Sets: []*idset.Set{set}}}}
}

func TestBlocksThatAreBeingReservedCountForARateSetMeanwhile(t *testing.T) {
	s := New(2)
	s.Step(start, CaughtUp{})
	id := job.ID{1}
	s.Step(start, Assign{Slice: Slice{Job: id, Expires: start.Add(time.Hour), Todo: []job.Span{{Lo: 0, Hi: 100}, {Lo: 100, Hi: 200}}}})
	s.Step(start, Control{id, job.Controls{Rate: ptr(uint32(10))}})
	if effects := s.Step(start, block(0, 0, 8)); len(effects) != 1 {
		t.Fatalf("%v, want an append", effects)
	}
	if effects := s.Step(start, block(1, 100, 8)); len(effects) != 0 {
		t.Fatalf("%v: 16 recipients at a rate of 10", effects)
	}
	s.Step(start, Refused{0}) // nothing of the first was handed over
	task := s.Step(start, Tick{})[0].(Prepare).Task
	effects := s.Step(start, block(task.Lane, task.Span.Lo, 8))
	if _, ok := effects[0].(Append); !ok {
		t.Fatalf("%v, want an append of as many as the rate allows", effects)
	}
}

func TestNoBlockIsDueWhileAllLanesAreBusy(t *testing.T) {
	s := New(1)
	s.Step(start, CaughtUp{})
	s.Step(start, Assign{Slice: Slice{Job: job.ID{1}, Expires: start.Add(time.Hour), Todo: []job.Span{{Lo: 0, Hi: 100}}}})
	s.Step(start, Assign{Slice: Slice{Job: job.ID{2}, Rate: 5, Submitted: start.Add(1), Expires: start.Add(time.Hour), Todo: []job.Span{{Lo: 0, Hi: 100}}}})
	if due := s.NextDue(start); !due.IsZero() {
		t.Fatalf("due at %s", due)
	}
}

func TestAPausedJobDoesNotMakeUpForLostTime(t *testing.T) {
	m := newSim(t, 1, 2)
	id := job.ID{1}
	m.catchUp()
	m.assign(Slice{Job: id, Rate: 1000, Submitted: start, Expires: start.Add(time.Hour), Todo: []job.Span{{Lo: 0, Hi: 100_000}}})
	m.until(start.Add(200 * time.Millisecond))
	m.control(id, job.Controls{Paused: true})
	m.until(start.Add(10 * time.Second))
	m.catchUp()
	before := len(m.takes[id])
	m.control(id, job.Controls{})
	m.until(m.now.Add(20 * time.Millisecond))
	if got := m.takes[id][before].n; got > 300 {
		t.Fatalf("the first block after a pause has %d recipients at a rate of 1000", got)
	}
}

func TestTheNextSliceOfAJobGoesOnAtItsRate(t *testing.T) {
	m := newSim(t, 1, 2)
	for n := range 40 { // 2 recipients every 100 ms, at a rate of 5; the sim holds each second to it
		m.catchUp()
		m.tick()
		lo := uint64(n) * 64
		m.assign(Slice{Job: job.ID{1}, Number: uint32(n), Rate: 5, Submitted: start, Expires: start.Add(time.Hour), Todo: []job.Span{{Lo: lo, Hi: lo + 1 + uint64(n/20)}}})
		m.until(m.now.Add(100 * time.Millisecond))
	}
	if len(m.takes[job.ID{1}]) < 15 {
		t.Fatalf("%d blocks in 4 s", len(m.takes[job.ID{1}]))
	}
}

// A slice that is given up is dropped when nothing of it is under way: what was not
// appended is not appended any more, and who goes on with it does not bring the job over
// its rate.
func TestADroppedSliceIsLetGo(t *testing.T) {
	now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	s := New(2)
	dropped := func(effects []Effect) int {
		n := 0
		for _, e := range effects {
			if _, ok := e.(Dropped); ok {
				n++
			}
		}
		return n
	}
	s.Step(now, CaughtUp{})
	span := job.Span{Lo: 0, Hi: 1 << 20}
	prepare := s.Step(now, Assign{Slice: Slice{Job: job.ID{1}, Rate: 100, Expires: now.Add(time.Hour), Todo: []job.Span{span}}})
	task := prepare[0].(Prepare).Task
	res := &ledger.Reserve{Job: job.ID{1}, Span: job.Span{Lo: 0, Hi: 64}, Targets: ledger.Targets{Incs: []job.Incarnation{{Gateway: "g", Start: 1}}, Sets: []*idset.Set{idset.Of(1, 2, 3)}}}
	if got := s.Step(now, Prepared{Lane: task.Lane, Took: res.Span, Reserve: res}); len(got) == 0 {
		t.Fatal("the block is not reserved")
	}
	ref := job.Ref{Journal: job.Journal{Worker: "w", Incarnation: 1}, N: 1}
	s.Step(now, Reserved{Lane: task.Lane, Ref: ref})
	if got := s.Step(now, Drop{}); dropped(got) != 0 {
		t.Fatal("dropped while a block is under way")
	}
	if got := s.Step(now, Handled{Ref: ref}); len(got) != 0 || !s.Holds(job.ID{1}, 0) {
		t.Fatalf("%v within the second in which recipients were handed over", got)
	}
	got := s.Step(now.Add(2*time.Second), Tick{})
	if dropped(got) != 1 || len(got) != 1 || s.Holds(job.ID{1}, 0) {
		t.Fatalf("%v, want the slice dropped", got)
	}
}
