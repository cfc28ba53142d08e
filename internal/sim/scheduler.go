package sim

import (
	"crier/job"
	"crier/state/jobs"
	"crier/state/ledger"
)

// scheduler is a simple one: it claims jobs, moves them on, and offers their slices.
type scheduler struct {
	s     *start
	sent  map[sliceKey]bool
	asked map[sliceKey]bool // an offer or a step is under way
	busy  map[jobID]bool
}

func newScheduler(s *start) *scheduler {
	return &scheduler{s: s, sent: map[sliceKey]bool{}, asked: map[sliceKey]bool{}, busy: map[jobID]bool{}}
}

func (c *scheduler) round() {
	s := c.s
	for _, j := range s.table.live() {
		thing := ledger.JobThing(j.Spec.ID)
		owner := s.claims[thing].Journal
		switch {
		case owner == s.mine:
			c.moveOn(j)
		case s.ring.Frozen() || s.x.silent || !owner.IsZero() && !s.sealed(owner):
		default:
			s.take(thing, takeWait, func(ledger.Claim, error) {})
		}
	}
}

func (c *scheduler) moveOn(j *jobs.Job) {
	allSent := true
	for n, span := range c.s.w.byID[j.Spec.ID].slices {
		k := sliceKey{j.Spec.ID, uint32(n)}
		if c.sent[k] {
			continue
		}
		allSent = false
		if j.State >= job.Sending {
			c.offer(k, span)
		}
	}
	to, ok := c.next(j, allSent)
	if !ok || c.busy[j.Spec.ID] || !j.State.CanBecome(to) {
		return
	}
	id := j.Spec.ID
	c.busy[id] = true
	s := c.s
	b := transitionBytes(j.Spec, j.Version+1, to, s.w.wall(s.p))
	s.w.appendTo(s.p, s.w.ledger, ledger.JobSubject(id), s.table.last[id], b, func(uint64, error) { c.busy[id] = false })
}

// next is what a job becomes.
func (c *scheduler) next(j *jobs.Job, allSent bool) (job.State, bool) {
	if j.Controls.Recalled && j.State != job.Recalling && j.State.CanBecome(job.Recalling) && !c.s.w.rules.CancelLost {
		return job.Recalling, true
	}
	if j.Controls.Cancelled && j.State != job.Cancelling && j.State.CanBecome(job.Cancelling) && !c.s.w.rules.CancelLost {
		return job.Cancelling, true
	}
	total := parsed(c.s.index.Total(j.Spec.ID))
	closed := total.Reserved == j.Spec.Recipients && total.Parked+total.HandedOff+total.InDoubt == 0
	switch j.State {
	case job.Submitted:
		return job.Packed, true
	case job.Packed:
		return job.Queued, true
	case job.Queued:
		return job.Preparing, true
	case job.Preparing:
		return job.Prepared, true
	case job.Prepared:
		return job.Sending, true
	case job.Sending:
		return job.Sent, allSent
	case job.Sent:
		return job.Completed, closed
	case job.Cancelling:
		return job.JobCancelled, allSent && closed
	case job.Recalling: // the withdrawal, which would be a job like others, is not made
		return job.JobRecalled, allSent && closed
	}
	return 0, false
}

// offer asks the worker that has the slice, or should have it.
func (c *scheduler) offer(k sliceKey, span job.Span) {
	s := c.s
	w := s.w
	if c.asked[k] {
		return
	}
	thing := ledger.SliceThing(k.id, k.number)
	owner := s.claims[thing].Journal
	var to *worker
	if !owner.IsZero() && !s.sealed(owner) && !w.bad(0.05) {
		to = w.worker(owner.Worker)
	} else if order := s.ring.order(thing.String()); len(order) > 0 {
		to = w.worker(order[0])
	}
	if to == nil {
		return
	}
	if w.bad(0.05) { // its view is another
		to = w.workers[w.n(len(w.workers))]
	}
	c.asked[k] = true
	var state job.SliceState
	w.ask(s.p, to.p, toOffer, takeWait, func(answer func([]byte)) {
		to.onOffer(offer{k.id, k.number, span}, func(st job.SliceState) {
			state = st
			answer(nil)
		})
	}, func(_ []byte, ok bool) {
		c.asked[k] = false
		if ok && state == job.SliceSent {
			c.sent[k] = true
		}
	})
}
