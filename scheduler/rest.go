package scheduler

import (
	"crier/job"
	"crier/state/jobs"
)

const (
	// restMost and restPart bound how many jobs at rest a look is about: so many, or this part of
	// them, whichever is more. They are looked at in turn, each within restPart rounds.
	restMost = 64
	restPart = 20
)

// due gives those of the live jobs that a look is about, in their order. A job that is sent waits
// for its recipients, for days perhaps, and thousands of such jobs may: a look is about some of
// them, and about all that can be moved on.
func (s *Scheduler) due(live []jobs.Job) []jobs.Job {
	if s.cfg.Silent() {
		return live
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	rests, resting := make([]bool, len(live)), 0
	for i, j := range live {
		if rests[i] = s.restsLocked(j); rests[i] {
			resting++
		}
	}
	most := max(restMost, (resting+restPart-1)/restPart)
	if resting <= most {
		return live
	}
	due, n := make([]jobs.Job, 0, len(live)-resting+most), 0
	for i, j := range live {
		if rests[i] {
			turn := (n - s.turn + resting) % resting
			n++
			if turn >= most {
				continue
			}
		}
		due = append(due, j)
	}
	s.turn = (s.turn + most) % resting
	return due
}

// restsLocked reports whether a job is this scheduler's and was found to wait for its recipients,
// and nothing was ordered since.
func (s *Scheduler) restsLocked(j jobs.Job) bool {
	if j.State != job.Sent {
		return false
	}
	p := s.mu.plans[j.Spec.ID]
	if p == nil || p.rests != j.Version || p.claim.Journal != s.cfg.Self {
		return false
	}
	_, ordered := j.Ordered()
	return !ordered
}
