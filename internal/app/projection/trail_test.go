package projection

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"crier/job"
	"crier/state/events"
	"crier/state/ledger"
	"crier/state/sql/access"
)

// trailStore is a log of acts that may be away.
type trailStore struct {
	mu struct {
		sync.Mutex
		mark uint64
		acts []access.Act
		away bool
	}
}

func (s *trailStore) Mark(context.Context, string) (uint64, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.mu.away {
		return 0, errors.New("no answer")
	}
	return s.mu.mark, nil
}

func (s *trailStore) RecordThrough(_ context.Context, _ string, through uint64, acts ...access.Act) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.mu.away {
		return errors.New("no answer")
	}
	for _, a := range acts {
		if !slices.ContainsFunc(s.mu.acts, func(b access.Act) bool { return a.ID == b.ID }) {
			s.mu.acts = append(s.mu.acts, a)
		}
	}
	s.mu.mark = max(s.mu.mark, through)
	return nil
}

func (s *trailStore) setAway(away bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.mu.away = away
}

// specs knows one job.
type specs struct{ spec job.Spec }

func (s specs) Spec(_ context.Context, id job.ID) (job.Spec, error) {
	if id != s.spec.ID {
		return job.Spec{}, job.NotFound("no such job")
	}
	return s.spec, nil
}

// Each control becomes one act, whoever wrote it before and whether the store was away;
// those from before there were keys become none.
func TestTrail(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log, store := ledger.NewMemory(ledger.MemoryConfig{}), &trailStore{}
		spec := job.Spec{ID: job.ID{15: 1}, Tenant: "acme"}
		put := func(id job.ID, c job.Control) uint64 {
			b, err := json.Marshal(c)
			if err != nil {
				t.Fatal(err)
			}
			subject, last := ledger.ControlSubject(id), uint64(0)
			if st, err := log.Last(t.Context(), subject); err == nil {
				last = st.Seq
			}
			seq, err := log.Append(t.Context(), subject, last, b)
			if err != nil {
				t.Fatal(err)
			}
			return seq
		}
		yes, rate, drop := true, uint32(7), job.DecideDrop
		at := time.Now().UTC()
		put(spec.ID, job.Control{Cancel: true, At: at})
		known := job.Control{Pause: &yes, By: "key_1", At: at}
		store.mu.acts = []access.Act{access.Controlled(spec, known, put(spec.ID, known))}
		store.setAway(true)
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error)
		stream := events.NewMemory(time.Now)
		told := func() (all []string) {
			ctx, cancel := context.WithCancel(t.Context())
			_ = stream.Follow(ctx, events.Query{}, func(e events.Stored) error {
				all = append(all, fmt.Sprintf("%s %d %s", e.State, e.Version, e.Reason))
				return nil
			}, cancel)
			return all
		}
		trail := &Trail{Publish: stream.Publish, Controls: log, Store: store, Jobs: specs{spec}, Logger: slog.New(slog.DiscardHandler)}
		go func() { ended <- trail.Run(ctx) }()
		time.Sleep(time.Minute)
		put(spec.ID, job.Control{Rate: &rate, By: "key_2", At: at, Why: "too fast"})
		store.setAway(false)
		time.Sleep(2 * time.Second)
		put(spec.ID, job.Control{Doubt: &drop, By: "key_3", At: at})
		last := put(job.ID{15: 9}, job.Control{Cancel: true, By: "key_4", At: at})
		time.Sleep(2 * time.Second)
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
		var got []string
		for _, a := range store.mu.acts {
			got = append(got, a.Operation+" "+a.Key+" "+a.Tenant+" "+a.Reason+" "+a.Detail)
		}
		want := []string{"pause-job key_1 acme  ", "set-rate key_2 acme too fast 7 a second", "resolve-job key_3 acme  drop", "cancel-job key_4 default  "}
		if !slices.Equal(got, want) || store.mu.mark != last {
			t.Errorf("the acts are %q through %d, want %q through %d", got, store.mu.mark, want, last)
		}
		if got, want := told(), []string{"pause 2 ", "rate 3 too fast"}; !slices.Equal(got, want) {
			t.Errorf("the events are %q, want %q", got, want)
		}
	})
}
