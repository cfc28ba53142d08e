package sim

import (
	"time"

	"crier/internal/idset"
	"crier/job"
	"crier/presence/handoff"
	"crier/state/ledger"
	"crier/worker/lane"
)

// Blocks are worked out beside the loop; their home says who is dropped and who is where.

// prepare works out a block and tells the lanes.
func (s *start) prepare(t lane.Task) {
	failed := func() { s.post(func() { s.doLanes(s.lanes.Step(s.now(), lane.Failed{Lane: t.Lane})) }) }
	if s.table.jobs[t.Job] == nil {
		failed()
		return
	}
	ids := s.w.packageRange(t.Job, job.Range(t.Span.Lo>>job.RangeBits))
	ids.KeepSpan(t.Span)
	if ids.IsEmpty() {
		s.post(func() { s.doLanes(s.lanes.Step(s.now(), lane.Prepared{Lane: t.Lane, Took: t.Span})) })
		return
	}
	res := &ledger.Reserve{Job: t.Job, Slice: t.Slice, Span: t.Span, Rest: t.Void}
	finish := func() {
		ids.KeepSpan(res.Span)
		res.IDs = uint32(ids.Card())
		s.post(func() { s.doLanes(s.lanes.Step(s.now(), lane.Prepared{Lane: t.Lane, Took: res.Span, Reserve: res})) })
	}
	if t.Void != job.Parked {
		finish()
		return
	}
	s.verdict(res, s.w.now+blockWait, func(ok bool) {
		if !ok {
			failed()
			return
		}
		s.leaveOutFull(res)
		res.Cut(t.Budget)
		finish()
	})
}

// verdict fills in what the home of the block's range says.
func (s *start) verdict(res *ledger.Reserve, until time.Duration, then func(bool)) {
	w := s.w
	r := res.Range()
	again := func() {
		if w.now >= until {
			then(false)
			return
		}
		s.wantHome(r)
		s.after(homePoll, func() { s.verdict(res, until, then) })
	}
	if s.has(r) {
		s.decide(res, func(ok bool) {
			if !ok {
				again()
				return
			}
			then(true)
		})
		return
	}
	home := s.homeOf(r)
	if home == nil || home == s.x || !home.p.up {
		again()
		return
	}
	id, span := res.Job, res.Span
	w.ask(s.p, home.p, toBlock, blockWait, func(answer func([]byte)) { home.onBlock(id, span, answer) }, func(b []byte, ok bool) {
		switch {
		case !ok || len(b) == 0:
			then(false)
		case len(b) == 1:
			again()
		default:
			got := parsed(ledger.ParseEntry(b)).(*ledger.Reserve)
			res.Dropped, res.Targets = got.Dropped, got.Targets
			then(true)
		}
	})
}

// onBlock answers another worker about a block.
func (x *worker) onBlock(id jobID, span job.Span, answer func([]byte)) {
	s := x.run
	if s == nil || !s.ready {
		return
	}
	res := &ledger.Reserve{Job: id, Span: span}
	if !s.has(res.Range()) {
		answer([]byte{0})
		return
	}
	if s.table.jobs[id] == nil {
		answer(nil)
		return
	}
	s.decide(res, func(ok bool) {
		if !ok {
			answer([]byte{0})
			return
		}
		answer(ledger.EncodeEntry(res))
	})
}

// decide fills in who of a block is dropped and who is a target.
func (s *start) decide(res *ledger.Reserve, then func(bool)) {
	r := res.Range()
	if left := learnFor - (s.w.now - s.begun[r]); !s.fresh[r] && left > 0 {
		s.after(left, func() {
			if !s.has(r) {
				then(false)
				return
			}
			s.decideNow(res, then)
		})
		return
	}
	s.decideNow(res, then)
}

func (s *start) decideNow(res *ledger.Reserve, then func(bool)) {
	keep := s.w.packageRange(res.Job, res.Range())
	keep.KeepSpan(res.Span)
	if !s.w.charges() {
		s.split(res, keep)
		then(true)
		return
	}
	s.settle(res, keep, func(ok bool) {
		if ok {
			s.split(res, keep)
		}
		then(ok)
	})
}

// split says who of keep is dropped and who is a target.
func (s *start) split(res *ledger.Reserve, keep *idset.Set) {
	dropped := idset.New(res.Range())
	for id := range keep.All() {
		if s.w.byID[res.Job].drops[id] { // of those who are charged, the charge has dropped them
			dropped.Add(id)
		}
	}
	if !dropped.IsEmpty() {
		keep.AndNot(dropped)
		res.Dropped = append(res.Dropped, ledger.Drop{Reason: job.ReasonSuppressed, Set: dropped})
	}
	targets, offline := s.presence.Split(keep)
	for _, t := range targets {
		res.Targets.Incs = append(res.Targets.Incs, t.Inc)
		res.Targets.Sets = append(res.Targets.Sets, t.Set)
	}
	offline.Release()
	keep.Release()
}

// leaveOutFull takes out the targets at incarnations that have no room.
func (s *start) leaveOutFull(res *ledger.Reserve) {
	var t ledger.Targets
	for i, inc := range res.Targets.Incs {
		if !s.full[inc] {
			t.Incs, t.Sets = append(t.Incs, inc), append(t.Sets, res.Targets.Sets[i])
		}
	}
	res.Targets = t
}

// wantHome asks whoever should be home to a range to be so.
func (s *start) wantHome(r job.Range) {
	want := handoff.Want{Ranges: []job.Range{r}}
	s.w.publishWant(s.p, &want)
}
