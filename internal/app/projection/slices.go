package projection

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"strconv"
	"strings"
	"sync"
	"time"

	"crier/internal/pause"
	"crier/job"
	"crier/state/coord"
	"crier/state/jobs"
	"crier/state/sql"
)

// SliceStatus is a slice's entry in the coordination store, under slices/<job>/<number>.
type SliceStatus struct {
	Version uint64         `json:"version"`
	State   job.SliceState `json:"state"`
	Worker  string         `json:"worker,omitempty"`
	Epoch   uint64         `json:"epoch,omitempty"`
	Since   time.Time      `json:"since"`
}

// Slices writes the statuses of the slices of those jobs that this process's scheduler
// moves on.
type Slices struct {
	Store coord.Store
	Jobs  *jobs.Table
	// Of lists a job's slices as its scheduler knows them; none if this process does not
	// move the job on. Their versions are not set.
	Of     func(id job.ID) []sql.Slice
	Logger *slog.Logger
}

const (
	slicesEvery = 500 * time.Millisecond
	sweepEvery  = 20 * time.Second
)

// told is what was written last of each slice of a job.
type told struct {
	slices map[uint32]SliceStatus
	sent   bool // all of them, after which nothing more is to be told; then slices is nil
}

// sliceKey is where its status is.
func sliceKey(id job.ID, number uint32) string { return fmt.Sprintf("slices/%s/%d", id, number) }

// Run writes until ctx ends.
func (m *Slices) Run(ctx context.Context) error {
	written, failing := map[job.ID]told{}, false
	t := time.NewTicker(slicesEvery)
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-t.C:
		}
		now, err := m.round(ctx, written)
		if err != nil {
			maps.Copy(written, now) // the rest is as it was
			if !failing && ctx.Err() == nil {
				m.Logger.Warn("writing the statuses of slices to the coordination store; it goes on when that answers", "error", err)
			}
		} else {
			written = now
		}
		failing = err != nil
	}
}

// round writes each status that is another than the one that was written last, and gives
// those that are written. It ends at the first error of the store, which it has for all.
func (m *Slices) round(ctx context.Context, written map[job.ID]told) (map[job.ID]told, error) {
	now := make(map[job.ID]told, len(written))
	for _, j := range m.Jobs.Live() {
		was := written[j.Spec.ID]
		if was.sent {
			now[j.Spec.ID] = was
			continue
		}
		is, err := m.ofJob(ctx, m.Of(j.Spec.ID), was)
		if len(is.slices) > 0 || is.sent {
			now[j.Spec.ID] = is
		}
		if err != nil {
			return now, err
		}
	}
	for id, was := range written {
		for number, last := range was.slices {
			if _, ok := now[id].slices[number]; ok || now[id].sent {
				continue
			}
			if err := m.end(ctx, id, number, last); err != nil {
				return now, err
			}
		}
	}
	return now, nil
}

// ofJob writes what is news of a job's slices.
func (m *Slices) ofJob(ctx context.Context, slices []sql.Slice, was told) (told, error) {
	if was.slices == nil {
		was.slices = map[uint32]SliceStatus{}
	}
	is, sent := told{slices: map[uint32]SliceStatus{}}, 0
	for _, x := range slices {
		s, err := was.slices[x.Number], error(nil)
		if !s.tells(x) {
			s, err = m.write(ctx, sliceKey(x.Job, x.Number), s, x)
		}
		switch {
		case err == nil:
			is.slices[x.Number] = s
		case !errors.Is(err, coord.ErrConflict): // after which it is read again
			maps.Copy(was.slices, is.slices) // the rest is as it was
			return was, err
		}
		if err == nil && s.State == job.SliceSent {
			sent++
		}
	}
	if sent > 0 && sent == len(slices) {
		return told{sent: true}, nil
	}
	return is, nil
}

// end writes the last status of a slice that is not listed any more: a job may be over
// before it is looked at again.
func (m *Slices) end(ctx context.Context, id job.ID, number uint32, last SliceStatus) error {
	if m.Jobs.IsLive(id) || last.State == job.SliceSent {
		return nil // another moves it on, or it is written
	}
	j, err := m.Jobs.Get(ctx, id)
	if err != nil || !j.State.AllSent() { // only what was sent is
		return err
	}
	key := sliceKey(id, number)
	old, _, err := get[SliceStatus](ctx, m.Store, key)
	if err != nil || old.Version > last.Version {
		return err // another has moved it on since
	}
	_, err = m.write(ctx, key, last, sql.Slice{Job: id, Number: number, State: job.SliceSent, Worker: last.Worker, Epoch: last.Epoch})
	if errors.Is(err, coord.ErrConflict) {
		return nil
	}
	return err
}

// tells reports whether a status is all that there is to tell of a slice. It is sent once and
// for all; and a scheduler that takes a job over calls its slices planned until it has asked.
func (s SliceStatus) tells(x sql.Slice) bool {
	switch {
	case s.Version == 0 || s.State == job.SliceSent:
		return s.Version > 0
	case s.Worker != x.Worker || s.Epoch != x.Epoch:
		return false
	}
	return s.State == x.State || x.State == job.SlicePlanned
}

// write stores a slice's status, of which this process wrote the last, if it is news.
func (m *Slices) write(ctx context.Context, key string, last SliceStatus, x sql.Slice) (SliceStatus, error) {
	old, version, err := get[SliceStatus](ctx, m.Store, key)
	if err != nil || old.tells(x) {
		return old, err
	}
	if x.State == job.SliceSent && x.Worker == "" { // who sent it has given it up
		x.Worker, x.Epoch = old.Worker, old.Epoch
	}
	// What another has removed meanwhile goes on from the version that was written here.
	now := SliceStatus{Version: max(old.Version, last.Version) + 1, State: x.State, Worker: x.Worker, Epoch: x.Epoch, Since: time.Now().UTC()}
	b, err := json.Marshal(now)
	if err != nil {
		return old, fmt.Errorf("encoding %s: %w", key, err)
	}
	_, err = m.Store.Put(ctx, key, b, version)
	return now, err
}

// statuses are those that are in the coordination store and projected, and their versions there.
type statuses struct {
	sync.Mutex
	of map[job.ID]map[uint32]coord.Version
}

// forget forgets all.
func (s *statuses) forget() {
	s.Lock()
	defer s.Unlock()
	s.of = map[job.ID]map[uint32]coord.Version{}
}

// put notes what is there of a slice; version 0 is nothing.
func (s *statuses) put(id job.ID, number uint32, v coord.Version) {
	s.Lock()
	defer s.Unlock()
	is := s.of[id]
	switch {
	case v == 0:
		if delete(is, number); len(is) == 0 {
			delete(s.of, id)
		}
		return
	case is == nil:
		is = map[uint32]coord.Version{}
		s.of[id] = is
	}
	is[number] = v
}

// notLive gives copies of those of jobs that are not live.
func (s *statuses) notLive(isLive func(job.ID) bool) map[job.ID]map[uint32]coord.Version {
	s.Lock()
	defer s.Unlock()
	some := map[job.ID]map[uint32]coord.Version{}
	for id, is := range s.of {
		if !isLive(id) {
			some[id] = maps.Clone(is)
		}
	}
	return some
}

// recordSlices projects the statuses of slices until ctx ends.
func (r *Recorder) recordSlices(ctx context.Context) {
	again(ctx, r.Logger, "projecting slices to SQL", func(ctx context.Context) error {
		r.statuses.forget()
		return r.Coord.Watch(ctx, "slices", func(c coord.Change) error { return r.slice(ctx, c.Entry, c.Gone) }, nil)
	})
}

func (r *Recorder) slice(ctx context.Context, e coord.Entry, gone bool) error {
	id, number, err := parseSliceKey(e.Key)
	if err != nil {
		return err
	}
	if gone {
		r.statuses.put(id, number, 0)
		return nil
	}
	var s SliceStatus
	if err := json.Unmarshal(e.Value, &s); err != nil {
		return fmt.Errorf("decoding %s: %w", e.Key, err)
	}
	err = r.Store.ProjectSlices(ctx, []sql.Slice{{Job: id, Number: number, Version: s.Version, State: s.State, Worker: s.Worker, Epoch: s.Epoch, Since: s.Since}})
	if err != nil {
		return err
	}
	r.statuses.put(id, number, e.Version)
	if r.Told != nil {
		r.Told()
	}
	return nil
}

func parseSliceKey(key string) (job.ID, uint32, error) {
	parts := strings.Split(key, "/")
	if len(parts) != 3 {
		return job.ID{}, 0, fmt.Errorf("key %q is no slice's", key)
	}
	id, err := job.ParseID(parts[1])
	n, err2 := strconv.ParseUint(parts[2], 10, 32)
	return id, uint32(n), cmp.Or(err, err2)
}

// sweepStatuses sweeps until ctx ends.
func (r *Recorder) sweepStatuses(ctx context.Context) {
	again(ctx, r.Logger, "removing the statuses of slices of jobs that are over", func(ctx context.Context) error {
		for pause.For(ctx, sweepEvery) {
			if err := r.sweepSlices(ctx); err != nil {
				return err
			}
		}
		return ctx.Err()
	})
}

// sweepSlices removes the statuses of jobs that are over, which are projected. It goes by what the
// watch told: to list all of a thousand jobs took a quarter of a second of all processors. What
// was written since is told, and goes in another round.
func (r *Recorder) sweepSlices(ctx context.Context) error {
	for id, is := range r.statuses.notLive(r.Jobs.IsLive) {
		if over, err := r.over(ctx, id); err != nil {
			return err
		} else if !over {
			continue
		}
		for number, version := range is {
			if err := r.Coord.Delete(ctx, sliceKey(id, number), version); err != nil && !errors.Is(err, coord.ErrConflict) {
				return err
			}
		}
	}
	return nil
}

// over reports whether a job is over by what is projected of it. That it is not live is not
// enough: the table may not know it yet, or be cut off from the ledger.
func (r *Recorder) over(ctx context.Context, id job.ID) (bool, error) {
	j, err := r.Store.Get(ctx, id)
	if job.CodeOf(err) == job.CodeNotFound {
		return false, nil
	}
	return j.State.Terminal(), err
}
