package sql

import (
	"context"
	dbsql "database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"crier/job"
	"crier/state/sql/access"
	"crier/state/sql/engine"
	"crier/state/sql/hooks"
)

// Job is a job as projected from the ledger.
type Job struct {
	Spec       job.Spec
	Version    uint64 // of its latest transition
	State      job.State
	Reason     string // of that transition
	StateAt    time.Time
	Counts     job.Counts
	CountsAsOf uint64 // ledger sequence that the counts are true at; 0: none yet
}

// JobCounts is how far a job is at a point of the ledger.
type JobCounts struct {
	Job    job.ID
	AsOf   uint64 // ledger sequence
	Counts job.Counts
}

// Projection is what a recorder makes of a stretch of the ledger.
type Projection struct {
	Recorder    string // whose watermark it is
	Through     uint64 // ledger sequence up to which everything was read
	Transitions []job.Transition
	Counts      []JobCounts
}

// GapError says that a transition is not the next one of its job: those between
// are missing. Nothing of the projection was stored; read the job's subject from
// version Have + 1 on.
type GapError struct {
	Job       job.ID
	Have, Got uint64 // versions
}

// Error tells what is missing.
func (e *GapError) Error() string {
	return fmt.Sprintf("%s is at version %d here and version %d came: what lies between is missing", e.Job, e.Have, e.Got)
}

// Jobs keeps the projection of jobs.
type Jobs struct {
	c      *conn
	tenant string // whose jobs these are, for List and CountByState; "": all
}

// Of gives the part that a tenant sees in lists and counts.
func (s *Jobs) Of(tenant string) *Jobs { return &Jobs{s.c, tenant} }

const jobColumns = `version, state, reason, spec, state_at, counts, counts_as_of`

// Project stores what a recorder read, with its watermark, in one transaction. A
// transition that is known or older changes nothing; the next one is applied;
// any later one is a GapError. Counts are taken if they are newer than what is
// there. The watermark never goes back. It is idempotent.
func (s *Jobs) Project(ctx context.Context, p Projection) error {
	return s.c.tx(ctx, "projecting jobs", func(ctx context.Context, tx *dbsql.Tx) error {
		for _, t := range p.Transitions {
			if err := s.c.applyTransition(ctx, tx, t); err != nil {
				return err
			}
		}
		for _, c := range p.Counts {
			if err := applyCounts(ctx, tx, c); err != nil {
				return err
			}
		}
		if p.Through == 0 {
			return nil
		}
		return s.c.RaiseMark(ctx, tx, recorderMark(p.Recorder), p.Through)
	})
}

func recorderMark(recorder string) string { return "recorder." + recorder }

// Watermark is the ledger sequence through which a recorder has projected.
func (s *Jobs) Watermark(ctx context.Context, recorder string) (uint64, error) {
	v, err := engine.Mark(ctx, s.c.read, recorderMark(recorder), "")
	return v, s.c.wrap("reading the watermark of "+recorder, err)
}

// next decides what a transition means for a job that is at version have: ignore
// it, apply it, or miss what is between. It also checks what is to be applied.
func next(have uint64, t job.Transition) (apply bool, at time.Time, err error) {
	switch {
	case t.Version <= have:
		return false, at, nil
	case t.Version > have+1:
		return false, at, &GapError{t.Job, have, t.Version}
	}
	if at, err = time.Parse(time.RFC3339Nano, t.At); err != nil {
		return false, at, job.Invalid("at", fmt.Sprintf("version %d of %s has no time", t.Version, t.Job), err)
	}
	if t.Spec.ID != t.Job {
		return false, at, job.Invalid("spec", fmt.Sprintf("version %d of %s has the spec of %s", t.Version, t.Job, t.Spec.ID), nil)
	}
	return true, at, nil
}

// applyTransition applies a transition to the version that it was decided on: if
// another recorder has moved the job meanwhile, the transaction is run again.
func (c *conn) applyTransition(ctx context.Context, tx *dbsql.Tx, t job.Transition) error {
	var have uint64
	err := tx.QueryRowContext(ctx, `SELECT version FROM jobs WHERE id = ?`, t.Job.String()).Scan(&have)
	if err != nil && !errors.Is(err, dbsql.ErrNoRows) {
		return err
	}
	apply, at, err := next(have, t)
	if err != nil || !apply {
		return err
	}
	ended := bit(t.State.Terminal())
	if t.Version > 1 {
		res, err := tx.ExecContext(ctx, `UPDATE jobs SET version = ?, state = ?, ended = ?, reason = ?, state_at = ? WHERE id = ? AND version = ?`,
			t.Version, t.State.String(), ended, t.Reason, nanos(at), t.Job.String(), have)
		if err != nil {
			return err
		}
		if n, err := res.RowsAffected(); err != nil || n != 1 {
			return errors.Join(err, engine.ErrRaced)
		}
		return nil
	}
	spec, err := json.Marshal(t.Spec)
	if err != nil {
		return err
	}
	on, host := hooks.Columns(t.Spec)
	_, err = tx.ExecContext(ctx, `INSERT INTO jobs (id, version, account, tenant, state, ended, reason, spec, submitted_at, state_at, webhook_on, webhook_host, counts, counts_as_of)
		VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, '{}', 0)`, t.Job.String(), t.Version, t.Spec.Account, t.Spec.TenantOf(), t.State.String(), ended,
		t.Reason, string(spec), nanos(t.Spec.SubmittedAt), nanos(at), on, host)
	if err != nil || t.Spec.SubmittedBy == "" {
		return c.raced(err)
	}
	return access.Insert(ctx, c.Engine, tx, access.Submitted(t.Spec))
}

func bit(v bool) int {
	if v {
		return 1
	}
	return 0
}

// raced makes of a key that was free, and now exists, a reason to begin again.
func (c *conn) raced(err error) error {
	if c.Duplicate(err) {
		return fmt.Errorf("%w: %w", engine.ErrRaced, err)
	}
	return err
}

func applyCounts(ctx context.Context, tx *dbsql.Tx, c JobCounts) error {
	counts, err := json.Marshal(c.Counts)
	if err != nil {
		return err
	}
	res, err := tx.ExecContext(ctx, `UPDATE jobs SET counts = ?, counts_as_of = ? WHERE id = ? AND counts_as_of < ?`,
		string(counts), c.AsOf, c.Job.String(), c.AsOf)
	if err != nil {
		return err
	}
	if n, err := res.RowsAffected(); err != nil || n == 1 {
		return err
	}
	var there int
	err = tx.QueryRowContext(ctx, `SELECT 1 FROM jobs WHERE id = ?`, c.Job.String()).Scan(&there)
	if errors.Is(err, dbsql.ErrNoRows) {
		return noJob(c.Job)
	}
	return err
}

func noJob(id job.ID) error { return job.NotFound(fmt.Sprintf("there is no job %s", id)) }

func scanJob(r scanner) (Job, error) {
	var j Job
	var state, spec, counts string
	var at int64
	if err := r.Scan(&j.Version, &state, &j.Reason, &spec, &at, &counts, &j.CountsAsOf); err != nil {
		return j, err
	}
	j.StateAt = fromNanos(at)
	return j, errors.Join(j.State.UnmarshalText([]byte(state)), json.Unmarshal([]byte(spec), &j.Spec),
		json.Unmarshal([]byte(counts), &j.Counts))
}

// Get gives one job, or job.CodeNotFound.
func (s *Jobs) Get(ctx context.Context, id job.ID) (Job, error) {
	j, err := scanJob(s.c.read.QueryRowContext(ctx, `SELECT `+jobColumns+` FROM jobs WHERE id = ?`, id.String()))
	if errors.Is(err, dbsql.ErrNoRows) {
		return Job{}, noJob(id)
	}
	return j, s.c.wrap("reading "+id.String(), err)
}

// JobFilter chooses jobs. Its zero value means all of them.
type JobFilter struct {
	Account *uint32
	States  []job.State // any of them; none means all
	Cursor  string      // what List returned for the page before, or ""
	Limit   int         // at most 1,000, 0 means 100
}

// cursor marks a place between two jobs of a list.
type cursor struct {
	submitted int64 // nanoseconds
	id        job.ID
}

func (c cursor) String() string { return strconv.FormatInt(c.submitted, 10) + "." + c.id.String() }

// placeOf is where a job stands among the others, the oldest first.
func placeOf(j Job) cursor { return cursor{nanos(j.Spec.SubmittedAt), j.Spec.ID} }

func parseCursor(s string) (c cursor, err error) {
	at, id, _ := strings.Cut(s, ".")
	if c.submitted, err = strconv.ParseInt(at, 10, 64); err == nil {
		c.id, err = job.ParseID(id)
	}
	if err != nil {
		return c, job.Invalid("cursor", fmt.Sprintf("cursor %q is none that a list gave", s), err)
	}
	return c, nil
}

// cursorOf is the cursor for what follows a job.
func cursorOf(j Job) string { return placeOf(j).String() }

// List gives jobs, the newest submitted first, and the cursor for the next page,
// "" if this was the last.
func (s *Jobs) List(ctx context.Context, f JobFilter) ([]Job, string, error) {
	where, args := []string{"1 = 1"}, []any{}
	if s.tenant != "" {
		where, args = append(where, "tenant = ?"), append(args, s.tenant)
	}
	if f.Account != nil {
		where, args = append(where, "account = ?"), append(args, *f.Account)
	}
	if len(f.States) > 0 {
		where = append(where, "state IN "+tuples(1, len(f.States)))
		for _, st := range f.States {
			args = append(args, st.String())
		}
	}
	if f.Cursor != "" {
		c, err := parseCursor(f.Cursor)
		if err != nil {
			return nil, "", err
		}
		where = append(where, "(submitted_at < ? OR submitted_at = ? AND id < ?)")
		args = append(args, c.submitted, c.submitted, c.id.String())
	}
	limit := page(f.Limit)
	jobs, err := collect(ctx, s.c.read, scanJob, `SELECT `+jobColumns+` FROM jobs WHERE `+strings.Join(where, " AND ")+
		` ORDER BY submitted_at DESC, id DESC LIMIT ?`, append(args, limit+1)...)
	if err != nil {
		return nil, "", s.c.wrap("listing jobs", err)
	}
	jobs, next := cutPage(jobs, limit, cursorOf)
	return jobs, next, nil
}

// CountByState tells how many jobs are in each state; states without a job are
// left out.
func (s *Jobs) CountByState(ctx context.Context) (map[job.State]uint64, error) {
	type count struct {
		state job.State
		n     uint64
	}
	where, args := "", []any{}
	if s.tenant != "" {
		where, args = " WHERE tenant = ?", []any{s.tenant}
	}
	all, err := collect(ctx, s.c.read, func(r scanner) (c count, err error) {
		var name string
		if err := r.Scan(&name, &c.n); err != nil {
			return c, err
		}
		return c, c.state.UnmarshalText([]byte(name))
	}, `SELECT state, COUNT(*) FROM jobs`+where+` GROUP BY state`, args...)
	if err != nil {
		return nil, s.c.wrap("counting jobs", err)
	}
	counts := map[job.State]uint64{}
	for _, c := range all {
		counts[c.state] = c.n
	}
	return counts, nil
}

// OldestOpen gives the job that was submitted first of those in no terminal
// state; ok is false if there is none.
func (s *Jobs) OldestOpen(ctx context.Context) (j Job, ok bool, err error) {
	j, err = scanJob(s.c.read.QueryRowContext(ctx,
		`SELECT `+jobColumns+` FROM jobs WHERE ended = 0 ORDER BY submitted_at, id LIMIT 1`))
	if errors.Is(err, dbsql.ErrNoRows) {
		return Job{}, false, nil
	}
	if err != nil {
		return Job{}, false, s.c.wrap("looking for the oldest open job", err)
	}
	return j, true, nil
}
