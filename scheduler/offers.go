package scheduler

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"sync"
	"time"

	"crier/internal/work"
	"crier/job"
	"crier/state/jobs"
	"crier/state/ledger"
)

// offering is what became of the last offer of a slice.
type offering struct {
	at      time.Time
	holder  string        // who had the slice then, as far as was known
	asking  bool          // it is not answered yet
	refusal string        // why it was not taken; "" if it was
	wait    time.Duration // between it and the next, if it was not
}

// answered notes the answer to an offer: the longer it is the same holder, or nobody, the
// slower offers are repeated.
func (o *offering) answered(refusal string) {
	o.asking, o.refusal = false, refusal
	if refusal == "" {
		o.wait = 0
	} else {
		o.wait = min(max(2*o.wait, round), reoffer)
	}
}

// rests reports whether the slice is not to be offered, whoever has it.
func (o *offering) rests(now time.Time) bool {
	return o.asking || o.refusal == "" && now.Sub(o.at) < reoffer
}

// isDue reports whether a slice that does not rest may be offered again. When its holder
// is another, as it is when who had it is gone, whoever may have it is asked at once.
func (o *offering) isDue(now time.Time, holder string) bool {
	if holder != o.holder {
		o.holder, o.wait = holder, 0
	}
	return now.Sub(o.at) >= o.wait
}

// drive offers what is not sent of a job that may be sent or closed. It does not
// wait for the answers: a worker that gives none must not hold up other jobs.
func (s *Scheduler) drive(ctx context.Context, j jobs.Job) {
	switch j.State {
	case job.Sending, job.Paused, job.Cancelling, job.Recalling:
	default:
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	p := s.mu.plans[j.Spec.ID]
	now, of := time.Now(), s.sendersOf(j)
	for i, x := range p.slices {
		o := &p.offers[i]
		if x.State == job.SliceSent || o.rests(now) {
			continue
		}
		holder := of.holder(x.Number)
		if !o.isDue(now, holder) {
			continue
		}
		to, err := of.next(x.Number, holder, p.tries)
		if err != nil {
			o.refusal = err.Error()
			continue
		}
		o.at, o.asking = now, true
		s.busy.Go(func() {
			refusal := ""
			if err := s.offer(ctx, to, work.Offer{Job: j.Spec.ID, Number: x.Number, Span: x.Span}); err != nil {
				refusal = err.Error()
			}
			s.mu.Lock()
			defer s.mu.Unlock()
			if refusal != "" && refusal != o.refusal && ctx.Err() == nil {
				s.log.Warn("offering a slice; it is offered again", "job", j.Spec.ID.String(), "error", refusal)
			}
			o.answered(refusal)
			if refusal != "" {
				p.tries++
			}
		})
	}
}

func (s *Scheduler) offer(ctx context.Context, to string, o work.Offer) error {
	ctx, cancel := context.WithTimeout(ctx, offerWait)
	defer cancel()
	b, err := json.Marshal(o)
	if err != nil {
		return fmt.Errorf("encoding an offer: %w", err)
	}
	answer, err := s.cfg.Bus.Request(ctx, work.OfferTo(to), b)
	if err != nil {
		return fmt.Errorf("worker %s does not answer for slice %d: %w", to, o.Number, err)
	}
	var reply work.Reply
	if err := json.Unmarshal(answer, &reply); err != nil {
		return fmt.Errorf("reading the answer to an offer: %w", err)
	}
	s.noteTries(o, reply)
	if reply.State == job.SlicePlanned {
		return fmt.Errorf("slice %d was not taken%s", o.Number, because(reply.Why))
	}
	s.note(o.Job, o.Number, reply.State)
	return nil
}

// senders tells to whom a job's slices are offered now: who holds one, as long as that is
// there, else one of those whom the ring gives it to, another after each refusal. All
// slices of a job with a rate go to one worker, for a rate is kept by whoever sends.
type senders struct {
	s   *Scheduler
	job jobs.Job
	any func() string // with a rate: who holds one of its slices
}

func (s *Scheduler) sendersOf(j jobs.Job) senders {
	return senders{s, j, sync.OnceValue(func() string { return s.anyHolder(j.Spec.ID) })}
}

// holder is who a slice is bound to be offered to; "" if nobody is.
func (o senders) holder(number uint32) string {
	holder := o.s.holder(ledger.SliceThing(o.job.Spec.ID, number))
	if holder == "" && o.job.Rate() > 0 {
		holder = o.any()
	}
	return holder
}

// next names whom to offer a slice with such a holder, after so many offers of the job
// that were not taken.
func (o senders) next(number uint32, holder string, tries int) (string, error) {
	if holder != "" {
		return holder, nil
	}
	name := ledger.SliceThing(o.job.Spec.ID, number).ID
	if o.job.Rate() > 0 {
		name = o.job.Spec.ID.String()
	}
	workers := o.s.cfg.Ring().Workers(name)
	if len(workers) == 0 {
		return "", errors.New("no worker is there")
	}
	return workers[tries%len(workers)], nil
}

// holder is the worker that holds a thing, "" if none does that is there.
func (s *Scheduler) holder(t ledger.Thing) string {
	c := s.cfg.Claims.Of(t)
	if c.Journal.IsZero() || s.cfg.Ring().Lapsed(c.Journal) {
		return ""
	}
	return c.Journal.Worker
}

// anyHolder is a worker that holds a slice of a job that is not sent; "" if none does.
func (s *Scheduler) anyHolder(id job.ID) string {
	for _, x := range s.mu.plans[id].slices {
		if x.State == job.SliceSent {
			continue
		}
		if holder := s.holder(ledger.SliceThing(id, x.Number)); holder != "" {
			return holder
		}
	}
	return ""
}
