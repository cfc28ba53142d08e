package service

import (
	"fmt"
	"sync"
	"time"

	"crier/job"
)

// The limits are those that this process knows, so that they need no store. Of jobs
// under way each process counts what the ledger tells it and what it accepted itself:
// processes that accept at the same moment may exceed the limit by one each.

// allowedRate is the rate that a tenant's job gets, if it may: who asks for none gets
// the highest.
func (s *Service) allowedRate(tenant string, rate uint32) (uint32, error) {
	most := s.cfg.Authority.Limits(tenant).Rate
	switch {
	case most == 0:
		return rate, nil
	case rate == 0:
		return most, nil
	case rate > most:
		return 0, job.Invalid("rate", fmt.Sprintf("a job of the tenant %s has at most %d recipients a second", tenant, most), nil)
	}
	return rate, nil
}

// allowedSize refuses a job with too many recipients.
func (s *Service) allowedSize(spec job.Spec) error {
	most := s.cfg.Authority.Limits(spec.TenantOf()).Recipients
	if most == 0 || spec.Recipients <= most {
		return nil
	}
	return &job.Error{Code: job.CodeTooLarge,
		Message: fmt.Sprintf("a job of the tenant %s has at most %d recipients, and this one has %d", spec.TenantOf(), most, spec.Recipients)}
}

// seenWithin bounds the time until the table of jobs has what was accepted.
const seenWithin = 10 * time.Second

// limitedAfter is when a tenant with too many jobs may try again.
const limitedAfter = 5 * time.Second

// queue is the jobs that this process accepts, until the table of jobs has them.
type queue struct {
	mu struct {
		sync.Mutex
		accepted map[job.ID]time.Time
		tenants  map[job.ID]string
	}
}

func newQueue() *queue {
	q := &queue{}
	q.mu.accepted, q.mu.tenants = map[job.ID]time.Time{}, map[job.ID]string{}
	return q
}

// enter takes a place among a tenant's jobs that are under way, or is limited. leave
// gives it back, of a job that was not accepted.
func (s *Service) enter(spec job.Spec) (leave func(), err error) {
	tenant := spec.TenantOf()
	most := uint64(s.cfg.Authority.Limits(tenant).Jobs)
	if most == 0 {
		return func() {}, nil
	}
	q, at := s.queue, time.Now()
	q.mu.Lock()
	defer q.mu.Unlock()
	have := s.cfg.Jobs.UnderWay()[tenant]
	for id, since := range q.mu.accepted {
		switch {
		case s.cfg.Jobs.IsLive(id) || at.Sub(since) > seenWithin:
			delete(q.mu.accepted, id)
			delete(q.mu.tenants, id)
		case q.mu.tenants[id] == tenant:
			have++
		}
	}
	if have >= most {
		return nil, &job.Error{Code: job.CodeLimited, After: limitedAfter,
			Message: fmt.Sprintf("the tenant %s has %d jobs under way, and may have %d; try again when one is sent, or over", tenant, have, most)}
	}
	q.mu.accepted[spec.ID], q.mu.tenants[spec.ID] = at, tenant
	return func() {
		q.mu.Lock()
		defer q.mu.Unlock()
		delete(q.mu.accepted, spec.ID)
		delete(q.mu.tenants, spec.ID)
	}, nil
}
