package scheduler

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"crier/job"
	"crier/state/jobs"
	"crier/state/ledger"
)

// Ring is what a scheduler believes about the other members at one moment; it never
// changes. A wrong ring costs a try that fails: claims decide.
type Ring interface {
	// Choice is this scheduler's place among those who should move a job on: 0 is the
	// first. It is negative if it is none of the first few.
	Choice(id job.ID) int
	// Lapsed reports whether a scheduler's or a worker's incarnation is dead for all that
	// can be known.
	Lapsed(j job.Journal) bool
	// Frozen reports whether nothing new may be taken.
	Frozen() bool
	// Workers names the workers that should send a thing, the first choice first.
	Workers(thing string) []string
}

// Alone is the ring of a scheduler that has no others, and of its one worker.
type Alone struct{ Worker string }

// Choice implements Ring.
func (Alone) Choice(job.ID) int { return 0 }

// Lapsed implements Ring.
func (Alone) Lapsed(job.Journal) bool { return false }

// Frozen implements Ring.
func (Alone) Frozen() bool { return false }

// Workers implements Ring.
func (a Alone) Workers(string) []string { return []string{a.Worker} }

// yieldTo is how long a scheduler that is the second choice leaves a job to the first,
// the third to both, and so on.
const yieldTo = 200 * time.Millisecond

// dead reports whether who holds a job moves nothing on any more: an earlier start of
// this scheduler, or a member that is gone. A wrong answer is safe, for each transition
// is an append that expects the one before.
func (s *Scheduler) dead(holder job.Journal) bool {
	if holder.Worker == s.cfg.Self.Worker {
		return holder.Incarnation < s.cfg.Self.Incarnation
	}
	return s.cfg.Ring().Lapsed(holder)
}

// mayMove reports whether this scheduler is to move a job on: it holds it, or nobody
// does and it is this scheduler's turn to take it.
func (s *Scheduler) mayMove(id job.ID, now time.Time) bool {
	last := s.cfg.Claims.Of(ledger.JobThing(id))
	p := s.planOf(id)
	s.mu.Lock()
	defer s.mu.Unlock()
	if last.Epoch > p.claim.Epoch {
		if last.Journal.IsZero() && p.claim.Journal == s.cfg.Self { // taken from this one, which did not get on with it
			p = &plan{}
			s.mu.plans[id] = p
		}
		p.claim = ledger.Claim{} // another took it, or the table tells of this one's own
		if last.Journal == s.cfg.Self {
			p.claim = last
		}
	}
	if p.claim.Journal == s.cfg.Self {
		p.free = time.Time{}
		return true
	}
	if !last.Journal.IsZero() && !s.dead(last.Journal) {
		p.free = time.Time{}
		s.mu.waiting[id] = fmt.Sprintf("scheduler %s, who moves it on", last.Journal.Worker)
		return false
	}
	if p.free.IsZero() {
		p.free = now
	}
	ring := s.cfg.Ring()
	choice := ring.Choice(id)
	if may := !ring.Frozen() && choice >= 0 && now.Sub(p.free) >= time.Duration(choice)*yieldTo; may {
		return true
	}
	s.mu.waiting[id] = "a scheduler to take it"
	return false
}

// mine gives the jobs that this scheduler may move on, in their order. One that is silent
// gives up those it has.
func (s *Scheduler) mine(ctx context.Context, live []jobs.Job) (mine []jobs.Job) {
	silent := s.cfg.Silent()
	for _, j := range live {
		s.learnHolder(ctx, j)
		switch {
		case ctx.Err() != nil:
			return nil
		case silent:
			s.give(ctx, j.Spec.ID)
		case s.mayMove(j.Spec.ID, time.Now()):
			mine = append(mine, j)
		}
	}
	return mine
}

// learnHolder looks up who moved a job on that was over when it was recalled: the table of
// claims may have dropped that, and nobody else can take the job while its holder is there.
func (s *Scheduler) learnHolder(ctx context.Context, j jobs.Job) {
	thing := ledger.JobThing(j.Spec.ID)
	if !j.Controls.Recalled || j.Version == 1 || s.cfg.Claims.Of(thing).Epoch > 0 {
		return
	}
	p := s.planOf(j.Spec.ID)
	if time.Now().Before(p.retryAt) {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, claimWait)
	defer cancel()
	if err := s.cfg.Claims.Learn(ctx, thing); err != nil {
		s.noteAdvance(ctx, j, p, err)
	}
}

// together is how many jobs are taken over in one look.
const together = 256

// takeOver claims those jobs that another moved on before, all at once: who dies leaves as
// many as it held, and each claim waits for the ledger. Those that are sent go last: they
// only wait for acknowledgements. It gives the jobs without those that it could not claim
// yet; new ones are claimed one by one.
func (s *Scheduler) takeOver(ctx context.Context, mine []jobs.Job) []jobs.Job {
	var todo, sent []jobs.Job
	for _, j := range mine {
		switch {
		case !s.isLeft(j) || time.Now().Before(s.planOf(j.Spec.ID).retryAt):
		case j.State == job.Sent:
			sent = append(sent, j)
		default:
			todo = append(todo, j)
		}
	}
	if todo = append(todo, sent...); len(todo) > together {
		todo = todo[:together]
		s.soon()
	}
	var all sync.WaitGroup
	for _, j := range todo {
		all.Go(func() {
			if err := s.claim(ctx, j.Spec.ID); err != nil {
				s.noteAdvance(ctx, j, s.planOf(j.Spec.ID), err)
			}
		})
	}
	all.Wait()
	return slices.DeleteFunc(mine, s.isLeft)
}

// isLeft reports whether another moved a job on before, and this scheduler has not claimed
// it, as far as it knows.
func (s *Scheduler) isLeft(j jobs.Job) bool {
	if j.State < job.Queued {
		return false
	}
	p := s.planOf(j.Spec.ID)
	s.mu.Lock()
	defer s.mu.Unlock()
	return p.claim.Journal.IsZero()
}

// give releases a job that this scheduler holds, so that another moves it on.
func (s *Scheduler) give(ctx context.Context, id job.ID) {
	last := s.cfg.Claims.Of(ledger.JobThing(id))
	if last.Journal != s.cfg.Self {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, claimWait)
	defer cancel()
	if err := ledger.Give(ctx, s.cfg.Log, last, 0); err != nil {
		s.log.Warn("giving up a job; it is tried again", "job", id.String(), "error", err)
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.mu.plans, id) // whoever comes back begins with nothing
}
