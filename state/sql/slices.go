package sql

import (
	"cmp"
	"context"
	dbsql "database/sql"
	"slices"
	"time"

	"crier/job"
	"crier/state/sql/engine"
)

// Slice is a slice's status as projected from the coordination store.
type Slice struct {
	Job     job.ID
	Number  uint32
	Version uint64 // of the status; it only grows
	State   job.SliceState
	Worker  string // who has claimed it, or ""
	Epoch   uint64 // of the claim
	Since   time.Time
}

// event is what a trigger writes of the slice.
func (s Slice) event() job.Event {
	return job.Event{Job: s.Job, Slice: &s.Number, Version: s.Version, State: s.State.String(), At: s.Since.UTC()}
}

// bySlice is the order of slices. Those who write in one order do not wait for each
// other in a circle.
func bySlice(a, b Slice) int {
	return cmp.Or(cmp.Compare(a.Job.String(), b.Job.String()), cmp.Compare(a.Number, b.Number), cmp.Compare(a.Version, b.Version))
}

// ProjectSlices stores statuses in one transaction; of each slice the one with the
// highest version stays, and versions may be left out. It is idempotent.
func (s *Jobs) ProjectSlices(ctx context.Context, statuses []Slice) error {
	statuses = slices.SortedFunc(slices.Values(statuses), bySlice)
	return s.c.tx(ctx, "projecting slices", func(ctx context.Context, tx *dbsql.Tx) error {
		for _, x := range statuses {
			id, state, since := x.Job.String(), x.State.String(), nanos(x.Since)
			err := s.c.Advance(func() (dbsql.Result, error) {
				return tx.ExecContext(ctx, `UPDATE slices SET version = ?, state = ?, worker = ?, epoch = ?, since = ? WHERE job = ? AND number = ? AND version < ?`,
					x.Version, state, x.Worker, x.Epoch, since, id, x.Number, x.Version)
			}, func() (dbsql.Result, error) {
				return tx.ExecContext(ctx, s.c.InsertIgnore()+` INTO slices (job, number, version, state, worker, epoch, since) VALUES `+tuples(1, 7),
					id, x.Number, x.Version, state, x.Worker, x.Epoch, since)
			})
			if err != nil {
				return err
			}
		}
		return nil
	})
}

// Slices gives the slices of a job in ascending order of number, starting with from;
// limit is at most 1,000, and 0 means 100.
func (s *Jobs) Slices(ctx context.Context, id job.ID, from uint32, limit int) ([]Slice, error) {
	all, err := engine.Collect(ctx, s.c.read, func(r scanner) (Slice, error) {
		x := Slice{Job: id}
		var state string
		var since int64
		if err := r.Scan(&x.Number, &x.Version, &state, &x.Worker, &x.Epoch, &since); err != nil {
			return x, err
		}
		x.Since = fromNanos(since)
		return x, x.State.UnmarshalText([]byte(state))
	}, `SELECT number, version, state, worker, epoch, since FROM slices WHERE job = ? AND number >= ? ORDER BY number LIMIT ?`, id.String(), from, page(limit))
	return all, s.c.wrap("listing the slices of "+id.String(), err)
}

// ProjectSlices is as Jobs'.
func (s *MemoryJobs) ProjectSlices(_ context.Context, statuses []Slice) error {
	s.m.Lock()
	defer s.m.Unlock()
	for _, x := range slices.SortedFunc(slices.Values(statuses), bySlice) {
		key := sliceKey{x.Job, x.Number}
		if x.Version > s.m.slices[key].Version {
			x.Since = fromNanos(nanos(x.Since))
			s.m.slices[key] = x
			s.m.outbox.Add(x.event())
		}
	}
	return nil
}

// Slices is as Jobs'.
func (s *MemoryJobs) Slices(_ context.Context, id job.ID, from uint32, limit int) ([]Slice, error) {
	s.m.Lock()
	defer s.m.Unlock()
	var all []Slice
	for key, x := range s.m.slices {
		if key.job == id && key.number >= from {
			all = append(all, x)
		}
	}
	slices.SortFunc(all, bySlice)
	return all[:min(len(all), page(limit))], nil
}
