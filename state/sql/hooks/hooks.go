// Package hooks keeps what webhooks are to be told, which triggers write in the
// transactions of the projections, and the secrets with which requests are signed.
//
// It guarantees that a delivery is given until it is recorded as over, and that what is
// over stays so, whoever records what of it later. A lease only keeps two senders from
// doing the same work.
package hooks

import (
	"context"
	dbsql "database/sql"
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"crier/internal/webhook"
	"crier/job"
	"crier/state/sql/engine"
)

const (
	// FormerFor is how long a secret is in force after a newer one was made.
	FormerFor = 24 * time.Hour
	// MaxSecrets is the most that a tenant has in force.
	MaxSecrets = 10
)

// Store keeps deliveries and secrets.
type Store struct {
	e   *engine.Engine
	now func() time.Time
}

var _ webhook.Store = (*Store)(nil)

// New makes the store of a database; now is its clock.
func New(e *engine.Engine, now func() time.Time) *Store { return &Store{e, now} }

// Columns are what the triggers look at in a job's row: the states, each between commas,
// and the host.
func Columns(s job.Spec) (on, host string) {
	if s.Webhook == nil {
		return "", ""
	}
	on = ","
	for _, state := range s.Webhook.Wants() {
		on += state + ","
	}
	return on, s.Webhook.Host()
}

// A delivery that may be taken at a time.
const due = ` FROM webhook_deliveries WHERE ended_at = 0 AND due_at <= ? AND leased_until <= ?`

// Take implements webhook.Store. The hosts are looked for first, so that one with many
// deliveries leaves room for the others.
func (s *Store) Take(ctx context.Context, l webhook.Lease) ([]webhook.Task, error) {
	const doing = "looking for webhooks that are due"
	at := engine.Nanos(s.now())
	hosts, err := engine.Collect(ctx, s.e.Reader(), func(r engine.Scanner) (host string, err error) { return host, r.Scan(&host) },
		`SELECT host`+due+` GROUP BY host ORDER BY MIN(due_at), host LIMIT ?`, at, at, l.Limit+len(l.Busy))
	if err != nil || len(hosts) == 0 {
		return nil, s.e.Wrap(doing, err)
	}
	var taken []webhook.Task
	err = s.e.Tx(ctx, func(ctx context.Context, tx *dbsql.Tx) error {
		taken = nil
		for _, host := range hosts {
			n := min(l.PerHost-l.Busy[host], l.Limit-len(taken))
			if n <= 0 {
				continue
			}
			some, err := engine.Collect(ctx, tx, scanTask, `SELECT job, version, state, reason, at, host, attempts, first_at`+due+` AND host = ? ORDER BY due_at, job, version LIMIT ?`+s.e.SkipLocked(),
				at, at, host, n)
			if err != nil {
				return err
			}
			taken = append(taken, some...)
		}
		for _, t := range taken {
			_, err := tx.ExecContext(ctx, `UPDATE webhook_deliveries SET leased_until = ?, leased_by = ? WHERE job = ? AND version = ?`,
				engine.Nanos(s.now().Add(l.For)), l.Owner, t.Event.Job.String(), t.Event.Version)
			if err != nil {
				return err
			}
		}
		return address(ctx, tx, taken)
	})
	if err != nil {
		return nil, s.e.Wrap(doing, err)
	}
	return taken, nil
}

func scanTask(r engine.Scanner) (t webhook.Task, err error) {
	var id string
	var at, first int64
	if err := r.Scan(&id, &t.Event.Version, &t.Event.State, &t.Event.Reason, &at, &t.Host, &t.Attempts, &first); err != nil {
		return t, err
	}
	t.Event.At, t.First = engine.FromNanos(at), engine.FromNanos(first)
	t.Event.Job, err = job.ParseID(id)
	return t, err
}

// address puts in what stands in the jobs' specs.
func address(ctx context.Context, tx *dbsql.Tx, tasks []webhook.Task) error {
	for i := range tasks {
		t := &tasks[i]
		var text string
		var spec job.Spec
		err := tx.QueryRowContext(ctx, `SELECT spec FROM jobs WHERE id = ?`, t.Event.Job.String()).Scan(&text)
		if err == nil {
			err = json.Unmarshal([]byte(text), &spec)
		}
		if err != nil {
			return fmt.Errorf("reading the webhook of %s: %w", t.Event.Job, err)
		}
		if t.Tenant = spec.TenantOf(); spec.Webhook != nil {
			t.URL = spec.Webhook.URL
		}
	}
	return nil
}

// Record implements webhook.Store.
func (s *Store) Record(ctx context.Context, owner string, t webhook.Task, v webhook.Verdict) error {
	ended, id := engine.Nanos(s.now()), t.Event.Job.String()
	where, args := ` WHERE job = ? AND version = ? AND ended_at = 0`, []any{id, t.Event.Version}
	switch v.Outcome {
	case job.DeliveryOpen:
		ended = 0
		fallthrough
	case job.DeliveryGivenUp:
		where, args = where+` AND leased_by = ? AND attempts = ?`, append(args, owner, t.Attempts)
	}
	err := s.e.Tx(ctx, func(ctx context.Context, tx *dbsql.Tx) error {
		if v.Outcome == job.DeliveryGone { // nothing more of the job is told
			if _, err := tx.ExecContext(ctx, `UPDATE jobs SET webhook_on = '' WHERE id = ?`, id); err != nil {
				return err
			}
		}
		_, err := tx.ExecContext(ctx, `UPDATE webhook_deliveries SET attempts = ?, first_at = ?, status = ?, error = ?, outcome = ?, ended_at = ?, due_at = ?, leased_until = 0`+where,
			append([]any{t.Attempts + 1, engine.Nanos(v.First), v.Status, v.Error, v.Outcome, ended, engine.Nanos(v.Due)}, args...)...)
		if err == nil && v.Outcome == job.DeliveryGone {
			_, err = tx.ExecContext(ctx, `UPDATE webhook_deliveries SET outcome = ?, ended_at = ? WHERE job = ? AND ended_at = 0`, v.Outcome, ended, id)
		}
		return err
	})
	return s.e.Wrap("recording what became of a webhook", err)
}

// Of gives the deliveries of a job, in the order of its versions.
func (s *Store) Of(ctx context.Context, id job.ID) ([]job.Delivery, error) {
	all, err := engine.Collect(ctx, s.e.Reader(), func(r engine.Scanner) (d job.Delivery, err error) {
		var next, ended int64
		err = r.Scan(&d.Version, &d.State, &d.Outcome, &d.Attempts, &d.Status, &d.Error, &next, &ended)
		d.Ended = engine.FromNanos(ended)
		if ended == 0 {
			d.Due = engine.FromNanos(next)
		}
		return d, err
	}, `SELECT version, state, outcome, attempts, status, error, due_at, ended_at FROM webhook_deliveries WHERE job = ? ORDER BY version`, id.String())
	return all, s.e.Wrap("reading what the webhook of "+id.String()+" was told", err)
}

// Secrets implements webhook.Store.
func (s *Store) Secrets(ctx context.Context, tenant string) ([]webhook.Secret, error) {
	all, err := engine.Collect(ctx, s.e.Reader(), func(r engine.Scanner) (secret webhook.Secret, err error) { return secret, r.Scan((*[]byte)(&secret)) },
		`SELECT secret FROM webhook_secrets WHERE tenant = ? AND (expires_at = 0 OR expires_at > ?) ORDER BY made_at DESC, secret LIMIT ?`, tenant, engine.Nanos(s.now()), MaxSecrets)
	return all, s.e.Wrap("reading the webhook secrets of tenant "+tenant, err)
}

// MakeSecret stores a tenant's new secret; the former ones are in force for FormerFor
// longer at most, and former tells whether there are any.
func (s *Store) MakeSecret(ctx context.Context, tenant string, secret webhook.Secret) (former bool, err error) {
	at := s.now()
	err = s.e.TxReadBack(ctx, func(ctx context.Context, tx *dbsql.Tx, unknown bool) error {
		var have int
		count := func() error {
			return tx.QueryRowContext(ctx, `SELECT COUNT(*) FROM webhook_secrets WHERE tenant = ?`, tenant).Scan(&have)
		}
		err := tx.QueryRowContext(ctx, `SELECT COUNT(*) FROM webhook_secrets WHERE tenant = ? AND secret = ?`, tenant, []byte(secret)).Scan(&have)
		if err == nil && unknown && have > 0 { // it is stored
			err = count()
			former = have > 1
			return err
		}
		if err != nil {
			return err
		}
		for _, q := range []struct {
			text string
			args []any
		}{
			{`DELETE FROM webhook_secrets WHERE tenant = ? AND expires_at > 0 AND expires_at <= ?`, []any{tenant, engine.Nanos(at)}},
			{`UPDATE webhook_secrets SET expires_at = ? WHERE tenant = ? AND expires_at = 0`, []any{engine.Nanos(at.Add(FormerFor)), tenant}},
			{`INSERT INTO webhook_secrets (tenant, secret, made_at, expires_at) VALUES (?, ?, ?, 0)`, []any{tenant, []byte(secret), engine.Nanos(at)}},
		} {
			if _, err := tx.ExecContext(ctx, q.text, q.args...); err != nil {
				return err
			}
		}
		if err := count(); err != nil {
			return err
		}
		former = have > 1
		if have > MaxSecrets {
			return job.Conflict(fmt.Sprintf("tenant %s has %d webhook secrets in force; the oldest end %s after the next was made", tenant, MaxSecrets, strings.TrimSuffix(FormerFor.String(), "0m0s")))
		}
		return nil
	})
	return former, s.e.Wrap("making a webhook secret of tenant "+tenant, err)
}
