package service

import (
	"sync"

	"crier/job"
)

// notify wakes those who wait for a job to change.
type notify struct {
	mu struct {
		sync.Mutex
		waiters map[job.ID]map[chan struct{}]bool // each channel holds one
	}
}

func newNotify() *notify {
	n := &notify{}
	n.mu.waiters = map[job.ID]map[chan struct{}]bool{}
	return n
}

// listen gives a channel that gets a value after each change; stop ends it.
func (n *notify) listen(id job.ID) (changed <-chan struct{}, stop func()) {
	c := make(chan struct{}, 1)
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.mu.waiters[id] == nil {
		n.mu.waiters[id] = map[chan struct{}]bool{}
	}
	n.mu.waiters[id][c] = true
	return c, func() {
		n.mu.Lock()
		defer n.mu.Unlock()
		delete(n.mu.waiters[id], c)
		if len(n.mu.waiters[id]) == 0 {
			delete(n.mu.waiters, id)
		}
	}
}

func (n *notify) wake(id job.ID) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for c := range n.mu.waiters[id] {
		select {
		case c <- struct{}{}:
		default:
		}
	}
}
