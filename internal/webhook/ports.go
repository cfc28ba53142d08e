package webhook

import (
	"context"
	"time"

	"crier/job"
)

// Task is a delivery that is to be tried.
type Task struct {
	Event    job.Event // of a job
	Tenant   string    // the job's
	URL      string
	Host     string
	Attempts uint32    // so far
	First    time.Time // of them; zero: none was recorded
}

// Lease says which deliveries are taken, and for whom.
type Lease struct {
	Owner   string         // nobody else ever uses this name
	For     time.Duration  // so long others leave them alone
	Limit   int            // at most so many
	PerHost int            // of each host at most so many, with those that are busy
	Busy    map[string]int // how many of a host are under way
}

// Store keeps the deliveries and the tenants' secrets. Its methods are safe for concurrent
// use.
type Store interface {
	// Take gives deliveries that are due and that nobody has leased, and leases them.
	// What an owner has leased is not given to itself either. Hosts whose deliveries have
	// waited longest go first.
	Take(ctx context.Context, l Lease) ([]Task, error)
	// Record writes what became of an attempt. One that came to nothing is written if the
	// owner has the lease still, and nobody recorded another attempt; that the receiver has
	// it is true whoever says so. When the receiver is gone, all of the job is over with
	// it. Idempotent.
	Record(ctx context.Context, owner string, t Task, v Verdict) error
	// Secrets gives a tenant's secrets that are in force, the newest first.
	Secrets(ctx context.Context, tenant string) ([]Secret, error)
}
