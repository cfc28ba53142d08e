package apitest

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"crier/api"
	"crier/job"
)

// TailEvents implements api.Service: a record of a job's new version is an event, its
// sequence the cursor.
func (f *Fake) TailEvents(ctx context.Context, req api.TailEvents, fn func(api.Event) error) error {
	if err := f.enter("TailEvents"); err != nil {
		return err
	}
	since := f.Now().Add(-time.Duration(req.Within))
	versions := map[job.ID]uint64{}
	for next := 0; ; {
		f.mu.Lock()
		all, changed := f.mu.entries, f.mu.changed
		f.mu.Unlock()
		if req.After > uint64(len(all)) {
			return job.Invalid("since", fmt.Sprintf("there is no event %d yet", req.After), nil)
		}
		for ; next < len(all); next++ {
			e := job.Event{At: all[next].Time}
			if err := json.Unmarshal(all[next].Detail, &e); err != nil {
				return err
			}
			known := e.Version <= versions[e.Job]
			versions[e.Job] = e.Version
			if known || req.Kind != "" && req.Kind != e.Kind() || all[next].Seq <= req.After || !req.Job.IsZero() && req.Job != e.Job || req.Within != 0 && e.At.Before(since) {
				continue
			}
			if err := fn(api.NewEvent(all[next].Seq, e)); err != nil {
				return err
			}
		}
		if !req.Follow {
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}
