// Package claims is the table of claims as the ledger tells them: who is home to
// which range, who sends which slice, who moves which job on.
//
// It follows the ledger, so that every process has the same table without asking
// anybody, and finds whom to ask. It may lag: whoever acts on a claim of its own
// relies on the append that made it.
package claims

import (
	"context"
	"fmt"
	"maps"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"crier/job"
	"crier/state/ledger"
)

// Table is the table: some 200 bytes for each range, each journal that was taken over,
// and each job and slice that Prune has not dropped.
type Table struct {
	log ledger.Log
	// OnClaim, if set before Run, is told each claim in the order of the ledger; it must
	// not block for long.
	OnClaim func(ledger.Claim)
	ready   chan struct{}
	heard   atomic.Pointer[time.Time] // when all that stood in the ledger was seen last
	mu      struct {
		sync.RWMutex
		last map[ledger.Thing]ledger.Claim
		over map[job.ID]bool // jobs that were not live when Prune looked last
	}
}

// New makes an empty table; Run fills it.
func New(log ledger.Log) *Table {
	t := &Table{log: log, ready: make(chan struct{})}
	t.mu.last = map[ledger.Thing]ledger.Claim{}
	return t
}

// Ready is closed when the table has all that stood in the ledger when Run began.
func (t *Table) Ready() <-chan struct{} { return t.ready }

// Heard is when the ledger answered last; every second or so while it does. It has the
// monotonic clock's reading, so that a step of the other clock says nothing about it.
func (t *Table) Heard() time.Time {
	if at := t.heard.Load(); at != nil {
		return *at
	}
	return time.Time{}
}

// Run follows the ledger until ctx ends.
func (t *Table) Run(ctx context.Context) error {
	var once sync.Once
	err := t.log.Follow(ctx, 1, ledger.AllClaims, t.take, func() {
		now := time.Now()
		t.heard.Store(&now)
		once.Do(func() { close(t.ready) })
	})
	if ctx.Err() != nil {
		return nil
	}
	return fmt.Errorf("following the claims: %w", err)
}

func (t *Table) take(st ledger.Stored) error {
	c, err := ledger.ParseClaim(st)
	if err != nil {
		return err
	}
	t.mu.Lock()
	t.mu.last[c.Thing()] = c
	t.mu.Unlock()
	if t.OnClaim != nil {
		t.OnClaim(c)
	}
	return nil
}

// Of gives the last claim on a thing; its epoch is 0 if there was none, its journal is
// zero if it is released.
func (t *Table) Of(thing ledger.Thing) ledger.Claim {
	t.mu.RLock()
	defer t.mu.RUnlock()
	if c, ok := t.mu.last[thing]; ok {
		return c
	}
	return ledger.Claim{Kind: thing.Kind, ID: thing.ID}
}

// Home is the worker that is home to a range, "" if nobody is.
func (t *Table) Home(r job.Range) string { return t.Of(ledger.RangeThing(r)).Journal.Worker }

// All calls fn for the last claim of each thing of a kind, in no order.
func (t *Table) All(kind ledger.ClaimKind, fn func(ledger.Claim)) {
	t.mu.RLock()
	defer t.mu.RUnlock()
	for thing, c := range t.mu.last {
		if thing.Kind == kind {
			fn(c)
		}
	}
}

// Learn reads the last claim on a thing, which Prune may have dropped.
func (t *Table) Learn(ctx context.Context, thing ledger.Thing) error {
	c, err := ledger.LastClaim(ctx, t.log, thing)
	if err != nil {
		return err
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if c.Epoch > t.mu.last[thing].Epoch {
		t.mu.last[thing] = c
	}
	return nil
}

// Prune drops the claims of jobs, and of their slices, that are not live now and were not
// when it was called last: whoever tells may not know yet of a job that is claimed already,
// and a claim that is dropped does not come back but by Learn.
func (t *Table) Prune(live func(job.ID) bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	over := map[job.ID]bool{}
	maps.DeleteFunc(t.mu.last, func(thing ledger.Thing, _ ledger.Claim) bool {
		if thing.Kind != ledger.ClaimJob && thing.Kind != ledger.ClaimSlice {
			return false
		}
		name, _, _ := strings.Cut(thing.ID, "-")
		id, err := job.ParseID(name)
		if err != nil || live(id) {
			return err != nil
		}
		over[id] = true
		return t.mu.over[id]
	})
	t.mu.over = over
}
