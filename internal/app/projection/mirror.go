package projection

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"time"

	"crier/job"
	"crier/state/coord"
	"crier/state/ledger"
)

// Mirror keeps the coordination store in step with the ledger: the status of each
// job that is not over, and the latest claim of each range, journal and duty. The ledger
// is the truth; what the store lacks is written again after a restart.
type Mirror struct {
	Log    ledger.Log
	Store  coord.Store
	Logger *slog.Logger
}

// Lease says in the coordination store that a member is there.
type Lease struct {
	Store  coord.Store
	Member string
	Roles  []string
	Logger *slog.Logger
}

const (
	memberLease = 5 * time.Second
	memberRenew = memberLease / 4
	mirrorRetry = time.Second
)

// status is a job's entry in the coordination store, under jobs/<id>.
type status struct {
	Version uint64    `json:"version"`
	State   job.State `json:"state"`
	Reason  string    `json:"reason,omitempty"`
	Since   string    `json:"since"`
}

// Run mirrors until ctx ends. Nothing waits for it: a store that does not answer is
// tried again. Nothing of it goes on when it has returned.
func (m *Mirror) Run(ctx context.Context) error {
	var beside sync.WaitGroup
	defer beside.Wait()
	beside.Go(func() {
		again(ctx, m.Logger, "mirroring claims", func(ctx context.Context) error {
			return m.Log.Follow(ctx, 1, ledger.AllClaims, func(st ledger.Stored) error { return m.claim(ctx, st) }, nil)
		})
	})
	again(ctx, m.Logger, "mirroring jobs", func(ctx context.Context) error {
		over := map[job.ID]bool{}
		return m.Log.Follow(ctx, 1, ledger.AllJobs, func(st ledger.Stored) error { return m.job(ctx, st, over) }, nil)
	})
	return nil
}

// Begin takes the lease, so that others see it before Run renews it.
func (m *Lease) Begin(ctx context.Context) error {
	_, err := m.first(ctx)
	return err
}

// Run keeps the lease until ctx ends.
func (m *Lease) Run(ctx context.Context) error {
	again(ctx, m.Logger, "renewing the member's lease", m.lease)
	return nil
}

func again(ctx context.Context, log *slog.Logger, doing string, fn func(context.Context) error) {
	for {
		err := fn(ctx)
		if ctx.Err() != nil {
			return
		}
		log.Warn("coordination store: "+doing+"; it is tried again", "error", err)
		select {
		case <-time.After(mirrorRetry):
		case <-ctx.Done():
			return
		}
	}
}

// lease says that this member is there, again and again.
func (m *Lease) lease(ctx context.Context) error {
	version, err := m.first(ctx)
	t := time.NewTicker(memberRenew)
	defer t.Stop()
	for err == nil {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-t.C:
		}
		version, err = m.renew(ctx, version)
	}
	return err
}

// first takes the lease, from a former process with the same data directory or from nobody.
func (m *Lease) first(ctx context.Context) (coord.Version, error) {
	e, err := m.Store.Get(ctx, m.key()) // version 0 if it is not there
	if err != nil && !errors.Is(err, coord.ErrNotFound) {
		return 0, fmt.Errorf("reading the lease of this process: %w", err)
	}
	return m.renew(ctx, e.Version)
}

func (m *Lease) renew(ctx context.Context, expect coord.Version) (coord.Version, error) {
	value, err := json.Marshal(map[string]any{"roles": m.Roles})
	if err != nil {
		return 0, fmt.Errorf("encoding the member: %w", err)
	}
	return m.Store.Lease(ctx, m.key(), value, expect, memberLease)
}

func (m *Lease) key() string { return "members/" + m.Member }

// job mirrors one transition; an entry that is as new already stays. A job that is not there
// may be over: such ones are noted until the end of each is read, and not brought back.
func (m *Mirror) job(ctx context.Context, st ledger.Stored, over map[job.ID]bool) error {
	var tr job.Transition
	if err := json.Unmarshal(st.Data, &tr); err != nil {
		return fmt.Errorf("decoding the transition in record %d: %w", st.Seq, err)
	}
	ends := tr.State.Terminal()
	if ends {
		delete(over, tr.Job)
	} else if over[tr.Job] {
		return nil
	}
	key := "jobs/" + tr.Job.String()
	old, version, err := get[status](ctx, m.Store, key)
	switch {
	case err != nil || version != 0 && old.Version >= tr.Version:
		return err
	case ends && version == 0:
		return nil
	case ends:
		return m.Store.Delete(ctx, key, version)
	case version == 0:
		if is, err := m.isOver(ctx, st.Subject); err != nil || is {
			over[tr.Job] = is
			return err
		}
	}
	return m.put(ctx, key, status{tr.Version, tr.State, tr.Reason, tr.At}, version)
}

// isOver reports whether the job of a subject is over by its last record.
func (m *Mirror) isOver(ctx context.Context, subject string) (bool, error) {
	st, err := m.Log.Last(ctx, subject)
	if err != nil {
		return false, fmt.Errorf("reading the last record of %s: %w", subject, err)
	}
	var tr job.Transition
	if err := json.Unmarshal(st.Data, &tr); err != nil {
		return false, fmt.Errorf("decoding the transition in record %d: %w", st.Seq, err)
	}
	return tr.State.Terminal(), nil
}

// claim mirrors one claim; an entry with as high an epoch stays.
func (m *Mirror) claim(ctx context.Context, st ledger.Stored) error {
	c, err := ledger.ParseClaim(st)
	if err != nil {
		return err
	}
	if c.Kind == ledger.ClaimJob || c.Kind == ledger.ClaimSlice {
		return nil // their statuses say who has them
	}
	key := "claims/" + string(c.Kind) + "/" + strings.ReplaceAll(c.ID, ".", "=")
	old, version, err := get[ledger.Claim](ctx, m.Store, key)
	if err != nil || version != 0 && old.Epoch >= c.Epoch {
		return err
	}
	return m.put(ctx, key, c, version)
}

func (m *Mirror) put(ctx context.Context, key string, v any, version coord.Version) error {
	b, err := json.Marshal(v)
	if err != nil {
		return fmt.Errorf("encoding %s: %w", key, err)
	}
	_, err = m.Store.Put(ctx, key, b, version)
	return err
}

// get reads a key; version 0 says that it is not there.
func get[T any](ctx context.Context, s coord.Store, key string) (v T, version coord.Version, err error) {
	e, err := s.Get(ctx, key)
	if errors.Is(err, coord.ErrNotFound) {
		return v, 0, nil
	}
	if err != nil {
		return v, 0, fmt.Errorf("reading %s: %w", key, err)
	}
	if err := json.Unmarshal(e.Value, &v); err != nil {
		return v, 0, fmt.Errorf("decoding %s: %w", key, err)
	}
	return v, e.Version, nil
}
