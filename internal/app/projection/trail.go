package projection

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"time"

	"crier/internal/pause"
	"crier/job"
	"crier/state/ledger"
	"crier/state/sql/access"
)

// Trail completes the audit log from the ledger: it writes the controls of jobs that no
// API process wrote, because the store was away, or because it died. The submits are the
// Recorder's, which writes them with the job. It also tells the stream of events of controls.
type Trail struct {
	Controls ledger.Log
	Store    TrailStore
	Jobs     Specs
	Logger   *slog.Logger
	// Publish tells the stream of events of a control; again is no error, and adds nothing.
	// nil tells nobody.
	Publish func(ctx context.Context, e job.Event) error
}

// TrailStore has the audit log, and how far the controls were read for it.
type TrailStore interface {
	// Mark is how far.
	Mark(ctx context.Context, mark string) (uint64, error)
	// RecordThrough writes acts, those that are not there, and the mark with them.
	RecordThrough(ctx context.Context, mark string, through uint64, acts ...access.Act) error
}

// Specs knows what jobs were submitted as.
type Specs interface {
	// Spec gives one, also of a job that is over, or job.CodeNotFound.
	Spec(ctx context.Context, id job.ID) (job.Spec, error)
}

const (
	trailMark  = "audit.controls"
	trailRetry = time.Second
)

// Run follows the controls until ctx ends; a store that fails is tried again, and
// nothing waits for it.
func (t *Trail) Run(ctx context.Context) error {
	for {
		err := t.follow(ctx)
		if ctx.Err() != nil {
			return nil
		}
		t.Logger.Warn("completing the audit log; it goes on when the store answers", "error", err)
		if !pause.For(ctx, trailRetry) {
			return nil
		}
	}
}

func (t *Trail) follow(ctx context.Context) error {
	mark, err := t.Store.Mark(ctx, trailMark)
	if err != nil {
		return err
	}
	return t.Controls.Follow(ctx, mark+1, ledger.AllControls, func(st ledger.Stored) error {
		acts, err := t.acts(ctx, st)
		if err == nil {
			err = t.tell(ctx, st)
		}
		if err != nil {
			return err
		}
		return t.Store.RecordThrough(ctx, trailMark, st.Seq, acts...)
	}, nil)
}

// tell publishes a control, before the mark is behind it.
func (t *Trail) tell(ctx context.Context, st ledger.Stored) error {
	id, c, err := controlIn(st)
	e, told := c.Event(id, st.Seq)
	if err != nil || !told || t.Publish == nil {
		return err
	}
	if e.At.IsZero() {
		e.At = st.Time.Round(0)
	}
	return t.Publish(ctx, e)
}

// controlIn decodes a record of the controls.
func controlIn(st ledger.Stored) (id job.ID, c job.Control, err error) {
	if id, err = ledger.ControlJob(st.Subject); err != nil {
		return id, c, err
	}
	if err := json.Unmarshal(st.Data, &c); err != nil {
		return id, c, fmt.Errorf("decoding the control in record %d: %w", st.Seq, err)
	}
	return id, c, nil
}

// acts is the act of a control: none if it is from before there were keys.
func (t *Trail) acts(ctx context.Context, st ledger.Stored) ([]access.Act, error) {
	id, c, err := controlIn(st)
	if err != nil || c.By == "" {
		return nil, err
	}
	spec, err := t.Jobs.Spec(ctx, id)
	if job.CodeOf(err) == job.CodeNotFound { // whose it was, nobody can tell
		spec, err = job.Spec{ID: id}, nil
	}
	return []access.Act{access.Controlled(spec, c, st.Seq)}, err
}
