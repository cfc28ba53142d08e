package zk_test

import (
	"context"
	"errors"
	"strings"
	"sync"
	"testing"

	"crier/state/coord"
)

// watched is a watcher in the background.
type watched struct {
	end   func()
	mu    sync.Mutex
	state map[string]string
	log   []string
}

func watch(t *testing.T, s coord.Store) *watched {
	w := &watched{state: map[string]string{}}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		err := s.Watch(ctx, "", func(c coord.Change) error {
			w.mu.Lock()
			defer w.mu.Unlock()
			last := "" // a lease's renewals are one change here
			if n := len(w.log); n > 0 {
				last = w.log[n-1]
			}
			next := c.Key + "=" + string(c.Value)
			if c.Gone {
				delete(w.state, c.Key)
				next = "-" + c.Key
			} else {
				w.state[c.Key] = string(c.Value)
			}
			if next != last {
				w.log = append(w.log, next)
			}
			return nil
		}, nil)
		if !errors.Is(err, context.Canceled) {
			t.Errorf("Watch ended with %v", err)
		}
	}()
	w.end = func() {
		cancel()
		<-done
	}
	t.Cleanup(w.end)
	return w
}

func (w *watched) changes() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return strings.Join(w.log, " ")
}

func (w *watched) is(want string) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	pairs := strings.Fields(want)
	for _, pair := range pairs {
		key, value, _ := strings.Cut(pair, "=")
		if w.state[key] != value {
			return false
		}
	}
	return len(pairs) == len(w.state)
}

func (w *watched) has(key string) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.state[key] != ""
}
