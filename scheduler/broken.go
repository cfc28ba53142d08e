package scheduler

import (
	"fmt"

	"crier/internal/work"
	"crier/job"
)

// broken is how often in a row something of a job broke whoever worked on it. It is found
// out again after a restart: nothing of it is recorded but the quarantine.
type broken struct {
	again uint64 // the job's Controls.Again then; what was before a resume does not count
	n     int
	why   string
}

// more counts one more try that broke.
func (b *broken) more(again uint64, why string) {
	if b.again != again {
		b.n = 0
	}
	b.again, b.n, b.why = again, b.n+1, why
}

// reason is why the job is to be set aside; "" if it is not, or not any more.
func (b *broken) reason(again uint64) string {
	if b.again != again || b.n < job.MaxTries {
		return ""
	}
	return fmt.Sprintf("it broke what worked on it %d times: %s", b.n, b.why)
}

// noteTries keeps what a worker says of its tries of a slice, when they are too many.
func (s *Scheduler) noteTries(o work.Offer, reply work.Reply) {
	if reply.Tries < job.MaxTries {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if p := s.mu.plans[o.Job]; p != nil {
		p.slice = broken{reply.Again, reply.Tries, fmt.Sprintf("slice %d: %s", o.Number, reply.Why)}
		s.soon()
	}
}
