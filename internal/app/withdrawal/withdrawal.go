// Package withdrawal makes the jobs that take back what recalled ones have delivered.
//
// It guarantees that a recalled job has one withdrawal, whoever makes it, how often, and
// whatever dies meanwhile: its id follows from the recalled one's, and the ledger takes one
// first record of an id. It goes to all who may have been shown the message, as the
// ledger's records say, and to nobody else.
package withdrawal

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"sync"
	"time"

	"crier/audience"
	"crier/internal/idset"
	"crier/job"
	"crier/state/blob"
	"crier/state/jobs"
)

// Seen says who may have been shown a job's message; proof.Prover has it.
type Seen interface {
	MayHaveSeen(ctx context.Context, id job.ID, fn func(*idset.Set) error) error
}

// Maker makes withdrawals. It is safe for concurrent use.
type Maker struct {
	Seen    Seen
	Jobs    *jobs.Table
	Blobs   *blob.Dir
	Scratch string           // directory for packages under way, made if need be
	Now     func() time.Time // default: time.Now

	packing sync.Mutex // one proof at a time: each may take as much memory as the ledger grows between two foldings
}

// Withdraw implements scheduler.Withdrawals. Memory is one range's recipients, and what
// one proof takes.
func (m *Maker) Withdraw(ctx context.Context, recalled job.Spec) error {
	id := job.WithdrawalID(recalled.ID)
	j, err := m.Jobs.Get(ctx, id)
	switch {
	case err == nil:
		return m.check(j, recalled)
	case job.CodeOf(err) != job.CodeNotFound:
		return err
	}
	spec, ok, err := m.pack(ctx, recalled)
	if err != nil {
		return fmt.Errorf("the package of who may have seen job %s: %w", recalled.ID, err)
	}
	if !ok {
		return nil
	}
	now := time.Now
	if m.Now != nil {
		now = m.Now
	}
	at := now().UTC().Round(0)
	spec.ID, spec.Withdraws, spec.Tenant, spec.Account, spec.AccountName = id, recalled.ID, recalled.Tenant, recalled.Account, recalled.AccountName
	spec.Class, spec.Priority, spec.OnUnknown = job.Realtime, 99, job.Resend // twice does no harm
	spec.SubmittedAt, spec.ExpiresAt = at, at.Add(recalled.ExpiresAt.Sub(recalled.SubmittedAt))
	rand.Read(spec.Nonce[:]) // never fails
	if err := spec.Validate(); err != nil {
		return fmt.Errorf("the withdrawal of job %s: %w", recalled.ID, err)
	}
	j, _, err = m.Jobs.Accept(ctx, spec)
	if err != nil {
		return fmt.Errorf("the withdrawal of job %s: %w", recalled.ID, err)
	}
	return m.check(j, recalled)
}

func (m *Maker) check(j jobs.Job, recalled job.Spec) error {
	if j.Spec.Withdraws != recalled.ID {
		return fmt.Errorf("job %s, which should withdraw %s, is another one", j.Spec.ID, recalled.ID)
	}
	return nil
}

// pack stores the package; ok is false if it is empty.
func (m *Maker) pack(ctx context.Context, recalled job.Spec) (spec job.Spec, ok bool, err error) {
	m.packing.Lock()
	defer m.packing.Unlock()
	if err := ctx.Err(); err != nil {
		return spec, false, err
	}
	if err := os.MkdirAll(m.Scratch, 0o700); err != nil {
		return spec, false, err
	}
	w, err := audience.NewWriter(m.Scratch, "withdrawal-"+recalled.ID.String())
	if err != nil {
		return spec, false, err
	}
	defer w.Abort()
	err = m.Seen.MayHaveSeen(ctx, recalled.ID, func(s *idset.Set) error {
		ok = ok || !s.IsEmpty()
		return w.Add(s)
	})
	if err != nil || !ok {
		return spec, false, err
	}
	draft, err := w.Finish(0)
	if err != nil {
		return spec, false, err
	}
	defer func() { err = errors.Join(err, draft.Discard()) }()
	f, err := os.Open(draft.Path())
	if err != nil {
		return spec, false, err
	}
	defer f.Close() // only read
	spec.Package, _, err = m.Blobs.Put(ctx, f)
	spec.Set, spec.Recipients = draft.Info.SHA256, draft.Info.Cardinality
	return spec, true, err
}
