// Package crew lets an owner end what goes on beside it: goroutines that it started, and
// callbacks of others.
//
// It guarantees that after Close nothing of it runs, and nothing begins.
package crew

import "sync"

// Crew is what goes on beside its owner. The zero value is ready; methods may be called
// concurrently, but not Close by the crew itself.
type Crew struct {
	mu   sync.Mutex
	over bool
	wg   sync.WaitGroup
}

func (c *Crew) begin() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.over {
		c.wg.Add(1)
	}
	return !c.over
}

// Do calls fn, unless the crew is closed.
func (c *Crew) Do(fn func()) {
	if c.begin() {
		defer c.wg.Done()
		fn()
	}
}

// Go calls fn beside the caller, unless the crew is closed.
func (c *Crew) Go(fn func()) {
	if c.begin() {
		go func() {
			defer c.wg.Done()
			fn()
		}()
	}
}

// Close lets nothing begin any more and waits until what has begun has ended: whoever
// calls it has told it to, by a context.
func (c *Crew) Close() {
	c.mu.Lock()
	c.over = true
	c.mu.Unlock()
	c.wg.Wait()
}
