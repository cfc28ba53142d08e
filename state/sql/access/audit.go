package access

import (
	"context"
	dbsql "database/sql"
	"strconv"
	"strings"
	"time"

	"crier/job"
	"crier/state/sql/engine"
)

// Act is one request that changed something, or was to: a row of the audit log.
type Act struct {
	Seq       uint64 // its place; given by the store
	ID        string // of the act: however often it is written, it has one row
	At        time.Time
	Tenant    string // whose object it was
	Key       string // id of the key
	KeyName   string
	Operation string
	Object    string
	Result    string // "done", or the code of the error
	Reason    string // that was given
	Request   string // id of the request
	Detail    string // what the object was changed to, such as a rate; ASCII, at most 64 bytes
}

// Done is the result of an act that had its effect.
const Done = "done"

const actColumns = `id, at, tenant, key_id, key_name, operation, object, result, reason, request, detail`

// clip keeps text within the bytes that its column has.
func clip(s string, n int) string {
	if len(s) > n {
		s = strings.ToValidUTF8(s[:n], "")
	}
	return s
}

// Insert writes an act in a transaction; one that is there stays as it is. A name of the
// key that is not given is looked up.
func Insert(ctx context.Context, e *engine.Engine, tx *dbsql.Tx, a Act) error {
	switch {
	case a.Key == job.BootstrapKey: // it has no row
		a.KeyName = job.BootstrapKey
	case a.KeyName == "":
		err := tx.QueryRowContext(ctx, `SELECT name FROM access_keys WHERE id = ?`, a.Key).Scan(&a.KeyName)
		if err := missing(err, nil); err != nil {
			return err
		}
	}
	_, err := tx.ExecContext(ctx, e.InsertIgnore()+` INTO audit (`+actColumns+`) VALUES `+engine.Tuples(1, 11), a.ID, engine.Nanos(a.At), a.Tenant,
		a.Key, clip(a.KeyName, 200), a.Operation, clip(a.Object, 300), a.Result, clip(a.Reason, 600), a.Request, clip(a.Detail, 64))
	return err
}

// Record writes an act by itself. Idempotent.
func (s *Store) Record(ctx context.Context, a Act) error {
	err := s.e.Tx(ctx, func(ctx context.Context, tx *dbsql.Tx) error { return Insert(ctx, s.e, tx, a) })
	return s.e.Wrap("writing to the audit log", err)
}

// RecordThrough writes acts and raises a mark in one transaction: how far something that
// acts are read from was read. Idempotent; the mark never goes back.
func (s *Store) RecordThrough(ctx context.Context, mark string, through uint64, acts ...Act) error {
	err := s.e.Tx(ctx, func(ctx context.Context, tx *dbsql.Tx) error {
		for _, a := range acts {
			if err := Insert(ctx, s.e, tx, a); err != nil {
				return err
			}
		}
		return s.e.RaiseMark(ctx, tx, mark, through)
	})
	return s.e.Wrap("writing to the audit log", err)
}

// Mark is what RecordThrough has raised a mark to; 0 if it never did.
func (s *Store) Mark(ctx context.Context, mark string) (v uint64, err error) {
	v, err = engine.Mark(ctx, s.e.Reader(), mark, "")
	return v, s.e.Wrap("reading the mark "+mark, err)
}

// Filter chooses acts. Its zero value means all of them, the newest first.
type Filter struct {
	Tenant, Key, Operation, Object, Result string    // "" is any
	Since                                  time.Time // zero is any
	Before                                 uint64    // only those with a lower Seq; 0 is all
	Limit                                  int       // at most 1,000
}

// List gives acts, the newest first.
func (s *Store) List(ctx context.Context, f Filter) ([]Act, error) {
	where, args := []string{"1 = 1"}, []any{}
	for _, c := range []struct{ column, value string }{{"tenant", f.Tenant}, {"key_id", f.Key}, {"operation", f.Operation}, {"object", f.Object}, {"result", f.Result}} {
		if c.value != "" {
			where, args = append(where, c.column+" = ?"), append(args, c.value)
		}
	}
	if !f.Since.IsZero() {
		where, args = append(where, "at >= ?"), append(args, engine.Nanos(f.Since))
	}
	if f.Before != 0 {
		where, args = append(where, "seq < ?"), append(args, f.Before)
	}
	all, err := engine.Collect(ctx, s.e.Reader(), func(r engine.Scanner) (a Act, err error) {
		var at int64
		err = r.Scan(&a.Seq, &a.ID, &at, &a.Tenant, &a.Key, &a.KeyName, &a.Operation, &a.Object, &a.Result, &a.Reason, &a.Request, &a.Detail)
		a.At = engine.FromNanos(at)
		return a, err
	}, `SELECT seq, `+actColumns+` FROM audit WHERE `+strings.Join(where, " AND ")+` ORDER BY seq DESC LIMIT ?`, append(args, min(f.Limit, maxPage))...)
	return all, s.e.Wrap("reading the audit log", err)
}

// Submitted is the submit of a job, as the ledger tells it. Whoever writes it, the API or
// who projects the ledger, writes the same act.
func Submitted(s job.Spec) Act {
	return Act{ID: s.ID.String(), At: s.SubmittedAt, Tenant: s.TenantOf(), Key: s.SubmittedBy, Operation: "submit-job", Object: "job/" + s.ID.String(),
		Result: Done, Reason: s.Why}
}

// Controlled is an instruction to a job, as the ledger tells it: the record of a sequence.
func Controlled(s job.Spec, c job.Control, seq uint64) Act {
	a := Act{ID: "control/" + strconv.FormatUint(seq, 10), At: c.At, Tenant: s.TenantOf(), Key: c.By, Object: "job/" + s.ID.String(), Result: Done, Reason: c.Why}
	switch {
	case c.Recall:
		a.Operation = "recall-job"
	case c.Cancel:
		a.Operation = "cancel-job"
	case c.Pause != nil && *c.Pause:
		a.Operation = "pause-job"
	case c.Pause != nil:
		a.Operation = "resume-job"
	case c.Rate != nil:
		a.Operation, a.Detail = "set-rate", "unlimited"
		if *c.Rate > 0 {
			a.Detail = strconv.FormatUint(uint64(*c.Rate), 10) + " a second"
		}
	case c.Doubt != nil:
		a.Operation = "resolve-job"
		a.Detail = map[job.Decision]string{job.DecideResend: "resend", job.DecideDrop: "drop"}[*c.Doubt]
	}
	return a
}
