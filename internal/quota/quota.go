// Package quota holds tenants to their limits: by what this process knows, so that no
// store is needed. Of jobs under way each process counts what the ledger tells it and what
// it accepted itself: processes that accept at the same moment may exceed the limit by one
// each.
package quota

import (
	"fmt"
	"sync"
	"time"

	"crier/job"
)

// Limits are what a tenant may have; 0 is any number.
type Limits interface {
	Limits(tenant string) job.Limits
}

// Jobs is the table of jobs.
type Jobs interface {
	// UnderWay counts the jobs of each tenant that are neither sent nor over.
	UnderWay() map[string]uint64
	IsLive(id job.ID) bool
}

// Rate is the rate that a tenant's job gets, if it may: who asks for none gets
// the highest.
func (q *Quota) Rate(tenant string, rate uint32) (uint32, error) {
	most := q.limits.Limits(tenant).Rate
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

// Size refuses a job with too many recipients.
func (q *Quota) Size(spec job.Spec) error {
	most := q.limits.Limits(spec.TenantOf()).Recipients
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

// Quota holds all tenants of a process to their limits. It is safe for concurrent use.
type Quota struct {
	limits Limits
	jobs   Jobs
	mu     struct { // the jobs that this process accepts, until the table of jobs has them
		sync.Mutex
		accepted map[job.ID]time.Time
		tenants  map[job.ID]string
	}
}

// New makes one.
func New(limits Limits, jobs Jobs) *Quota {
	q := &Quota{limits: limits, jobs: jobs}
	q.mu.accepted, q.mu.tenants = map[job.ID]time.Time{}, map[job.ID]string{}
	return q
}

// Enter takes a place among a tenant's jobs that are under way, or is limited. leave
// gives it back, of a job that was not accepted.
func (q *Quota) Enter(spec job.Spec) (leave func(), err error) {
	tenant := spec.TenantOf()
	most := uint64(q.limits.Limits(tenant).Jobs)
	if most == 0 {
		return func() {}, nil
	}
	at := time.Now()
	q.mu.Lock()
	defer q.mu.Unlock()
	have := q.jobs.UnderWay()[tenant]
	for id, since := range q.mu.accepted {
		switch {
		case q.jobs.IsLive(id) || at.Sub(since) > seenWithin:
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
