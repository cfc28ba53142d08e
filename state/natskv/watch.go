package natskv

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"crier/internal/bus/natsstream"
	"crier/state/coord"
)

// Watch implements coord.Store. It holds the version of each key it has told of.
func (s *Store) Watch(ctx context.Context, prefix string, fn func(coord.Change) error, sawAll func()) error {
	if err := coord.CheckPrefix(prefix); err != nil {
		return err
	}
	w := &watcher{store: s, fn: fn, sawAll: sawAll, known: make(map[string]coord.Version)}
	for {
		err := w.pass(ctx, s.pattern(prefix))
		switch {
		case w.fnErr != nil:
			return w.fnErr
		case ctx.Err() != nil:
			return ctx.Err()
		case errors.Is(err, errStartOver):
			// The next pass compares.
		case errors.Is(err, natsstream.ErrShrunk):
			w.distrust()
		default:
			return fmt.Errorf("coordination: watching %q: %w", prefix, err)
		}
	}
}

// errStartOver ends a pass that may have missed that keys went away.
var errStartOver = errors.New("out of touch for too long")

// watcher is one call of Watch; all its state belongs to the calling goroutine.
type watcher struct {
	store  *Store
	fn     func(coord.Change) error
	sawAll func()
	fnErr  error // what fn returned
	known  map[string]coord.Version
}

// pass reads the bucket from its start: first all that is there, which is
// compared with what is known, and then what changes.
func (w *watcher) pass(ctx context.Context, pattern string) error {
	ctx, end := context.WithCancelCause(ctx)
	defer end(nil)
	seen := make(map[string]bool) // keys met before the first look; nil after it
	var looked time.Time
	err := w.store.s.Follow(ctx, 1, pattern, func(r natsstream.Record) error {
		key := w.store.key(r.Subject)
		if seen != nil {
			seen[key] = !gone(r)
		}
		return w.take(key, r)
	}, func() {
		now := time.Now()
		if seen != nil {
			if !w.forget(seen) {
				end(w.fnErr)
				return
			}
			seen = nil
		} else if now.Sub(looked) > w.store.markers/2 {
			end(errStartOver)
			return
		}
		looked = now
		if w.sawAll != nil {
			w.sawAll()
		}
	})
	if cause := context.Cause(ctx); cause != nil && errors.Is(err, context.Canceled) {
		return cause
	}
	return err
}

// distrust forgets the versions but not the keys: the bucket has lost its last
// writes and may give their versions to other values.
func (w *watcher) distrust() {
	for key := range w.known {
		w.known[key] = 0
	}
}

// take tells of a record, if it is news.
func (w *watcher) take(key string, r natsstream.Record) error {
	switch {
	case gone(r):
		return w.lost(key)
	case w.known[key] == coord.Version(r.Seq):
		return nil
	}
	w.known[key] = coord.Version(r.Seq)
	return w.tell(coord.Change{Entry: w.store.entry(r)})
}

// forget tells of the keys that are known and were not met; false: fn ended it.
func (w *watcher) forget(seen map[string]bool) bool {
	for _, key := range slices.Sorted(maps.Keys(w.known)) {
		if !seen[key] && w.lost(key) != nil {
			return false
		}
	}
	return true
}

func (w *watcher) lost(key string) error {
	if _, ok := w.known[key]; !ok {
		return nil
	}
	delete(w.known, key)
	return w.tell(coord.Change{Entry: coord.Entry{Key: key}, Gone: true})
}

func (w *watcher) tell(c coord.Change) error {
	w.fnErr = w.fn(c)
	return w.fnErr
}
