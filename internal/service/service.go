// Package service is what the server can be asked: it implements api.Service on
// the ledger, the stores and the workers.
//
// It guarantees that a job it accepted is in the ledger with everything that
// sending it needs already durable: the package, the followers it relates to, the
// segments it names, and the body; and that what belongs to another tenant than the
// caller's is answered as what is not there.
package service

import (
	"cmp"
	"context"
	"io"
	"time"

	"crier/api"
	"crier/audience"
	"crier/audience/members"
	"crier/internal/auth"
	"crier/internal/quota"
	"crier/internal/rights"
	"crier/internal/service/patience"
	"crier/internal/service/sets"
	"crier/job"
	"crier/state/blob"
	"crier/state/erased"
	"crier/state/jobs"
	"crier/state/ledger"
	"crier/state/overstay"
	"crier/state/parked"
	"crier/state/proof"
	"crier/state/report"
	"crier/state/sql"
)

// Config is what the service works with.
type Config struct {
	Log, Controls ledger.Log
	Store         *sql.DB
	Authority     Authority
	Blobs         *blob.Dir
	Members       *members.Store
	Jobs          *jobs.Table
	Erased        *erased.Table
	Index         *parked.Index
	Reports       *report.Store
	Keys          *auth.Keys
	// Events is what is published of jobs. Nil: there is none.
	Events patience.Stream
	// Set opens a blob that holds a set: a package or a snapshot of followers. It
	// stays open with whoever gives it.
	Set func(ctx context.Context, blob job.Digest) (*audience.Set, error)
	// Filters gives the filters whose lists a job recorded.
	Filters func(ctx context.Context, spec job.Spec) ([]proof.Filter, error)
	// Why says in words by which of a job's lists a filter dropped a recipient; "" if none
	// of them shows it.
	Why func(ctx context.Context, spec job.Spec, reason job.Reason, who job.Recipient) (string, error)
	// WaitingOn says what a live job waits on; "" if this process does not know.
	WaitingOn func(job.ID) string
	// Stays is how long each job may be in its state.
	Stays *overstay.Watch
	// Status fills in what only the process knows: roles, sockets, stores, problems.
	Status func(ctx context.Context) api.Status
	// Backup writes a copy of everything. Nil: what is kept elsewhere is copied there.
	Backup func(ctx context.Context, w io.Writer) error
	// Cluster is what this process knows of those it works with.
	Cluster Cluster
	// Whereabouts says where a recipient is connected, within a bound. Nil: nobody knows.
	Whereabouts func(ctx context.Context, who job.Recipient) api.Whereabouts
	// Caps says how many messages recipients get in the day of a time. Nil: nobody knows.
	Caps func(time.Time) Caps
	// CheckWebhook refuses a URL to which nothing would ever be sent. Nil: none is.
	CheckWebhook func(url string) error
	// Patience is how long who reads to the end of a stream waits for its next record;
	// then the request is answered with job.CodeUnavailable. Default 10 s.
	Patience time.Duration
	// Scratch is a directory on the disk of the stores, for uploads under way.
	Scratch string
}

// Service implements api.Service.
type Service struct {
	*rights.Rights
	*sets.Sets
	cfg    Config
	notify *notify
	quota  *quota.Quota
	prover *proof.Prover
	proofs chan struct{} // one slot per proof under way
}

var _ api.Service = (*Service)(nil)

// maxProofs is how many proofs run at a time; the rest wait. Each may take as much
// memory as the ledger grows between two foldings.
const maxProofs = 2

// New makes the service.
func New(cfg Config) *Service {
	cfg.Patience = cmp.Or(cfg.Patience, patience.Default)
	r := &rights.Rights{Authority: cfg.Authority, UnderWay: cfg.Jobs.UnderWay}
	if cfg.Store != nil {
		r.Store, r.Hooks = cfg.Store.Access, cfg.Store.Hooks
	}
	return &Service{
		Rights: r, Sets: &sets.Sets{Store: cfg.Store, Blobs: cfg.Blobs, Members: cfg.Members, OfTenant: r.OfTenant, Scratch: cfg.Scratch},
		cfg: cfg, notify: newNotify(), quota: quota.New(cfg.Authority, cfg.Jobs),
		prover: &proof.Prover{Log: patience.Log{Log: cfg.Log, Within: cfg.Patience}, Reports: cfg.Reports},
		proofs: make(chan struct{}, maxProofs),
	}
}

// JobChanged wakes those who wait for a job; whoever follows the ledger calls it.
func (s *Service) JobChanged(id job.ID) { s.notify.wake(id) }

// Authority knows the limits of tenants.
type Authority interface {
	// Limits are what a tenant may do.
	Limits(tenant string) job.Limits
	// Refresh takes in what was changed of keys and tenants.
	Refresh(ctx context.Context) error
}

// job gives a job that the caller sees.
func (s *Service) job(ctx context.Context, id job.ID) (jobs.Job, error) {
	c, err := api.CallerOf(ctx)
	if err != nil {
		return jobs.Job{}, err
	}
	j, err := s.cfg.Jobs.Get(ctx, id)
	switch {
	case isCode(err, job.CodeNotFound), err == nil && !c.Sees(j.Spec.TenantOf()):
		return jobs.Job{}, job.NotFound("there is no job " + id.String())
	case err != nil:
		return jobs.Job{}, err
	}
	api.ActOf(ctx).On(j.Spec.TenantOf(), "job/"+id.String())
	return j, nil
}

// now is the time as it is recorded: UTC, without a monotonic reading.
func now() time.Time { return time.Now().UTC().Round(0) }

// isCode reports whether the error has a code.
func isCode(err error, c job.Code) bool { return err != nil && job.CodeOf(err) == c }
