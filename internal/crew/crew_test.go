package crew_test

import (
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"

	"crier/internal/crew"
)

func TestCloseWaitsForWhatHasBegun(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var c crew.Crew
		var ended, closed atomic.Bool
		end := make(chan struct{})
		c.Go(func() { <-end; ended.Store(true) })
		go c.Do(func() { <-end })
		synctest.Wait()
		go func() {
			c.Close()
			if !ended.Load() {
				t.Error("Close returned while something ran")
			}
			closed.Store(true)
		}()
		synctest.Wait()
		if closed.Load() {
			t.Error("Close did not wait")
		}
		close(end)
		synctest.Wait()
		if !closed.Load() {
			t.Error("Close waits for nothing")
		}
	})
}

func TestNothingBeginsAfterClose(t *testing.T) {
	var c crew.Crew
	var over atomic.Bool
	var callers sync.WaitGroup
	for range 8 {
		callers.Go(func() {
			for range 1000 {
				late := func() {
					if over.Load() {
						t.Error("something began after Close")
					}
				}
				c.Do(late)
				c.Go(late)
			}
		})
	}
	c.Close()
	over.Store(true)
	callers.Wait()
	c.Close()
}
