package node

import (
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"crier/scheduler/apta"
	"crier/scheduler/apta/hint"
	"crier/scheduler/apta/link"
)

// Kind is a kind of work that is placed by shards.
type Kind uint8

// The kinds. The shard of a range is its number; that of anything else is hint.Shard
// of its name.
const (
	Range   Kind = iota // an id range; its home is a worker
	Slice               // a slice of a job, for a worker
	Journal             // the journal of a dead worker, to be sealed by a worker
	Job                 // a job, for a scheduler
)

// role is who takes part in a kind of work.
func (k Kind) role() link.Role {
	if k == Job {
		return link.Scheduler
	}
	return link.Worker
}

// Snapshot is a member's view and state at one moment. It does not change and may be
// used by any goroutine.
type Snapshot struct {
	*link.View
	apta.Status
	// Refusals are the latest of hellos, of others' here and of this member's there.
	Refusals []apta.Refused

	fence  time.Time
	tables *[link.Roles]func() *hint.Table
}

func newSnapshot(v *link.View, st apta.Status, refusals []apta.Refused, boot time.Time) *Snapshot {
	s := &Snapshot{View: v, Status: st, Refusals: refusals, fence: boot.Add(time.Duration(st.Fence)), tables: new([link.Roles]func() *hint.Table)}
	for r := range link.Roles {
		s.tables[r] = sync.OnceValue(func() *hint.Table { return hint.New(v.Takers(r)) })
	}
	return s
}

// Table is who should take the shards of a role's work. It is computed when it is asked
// for first, within a few milliseconds.
func (s *Snapshot) Table(r link.Role) *hint.Table { return s.tables[r]() }

// Choice says which choice this member is for a shard of a kind of work: 0, 1, 2 or
// hint.None.
func (s *Snapshot) Choice(k Kind, shard uint16) int { return s.Table(k.role()).Choice(s.ID, shard) }

// MayTake reports whether the member may take new work now. It looks at the clock: a
// member that did not run for a while learns here that its fence has passed.
func (s *Snapshot) MayTake() bool {
	return s.State == link.Working && !s.Frozen && time.Now().Before(s.fence)
}

func sameStatus(a, b apta.Status) bool {
	return a.Incarnation == b.Incarnation && a.State == b.State && a.Since == b.Since && a.Fence == b.Fence && a.Frozen == b.Frozen &&
		slices.Equal(a.Neighbours, b.Neighbours) && slices.Equal(a.Links, b.Links)
}

// askError is the error of an answer.
func askError(a apta.Answered) error {
	switch a.Err {
	case "":
		return nil
	case apta.NoRoute:
		return ErrNoRoute
	case apta.NoAnswer:
		return ErrNoAnswer
	}
	return fmt.Errorf("membership: the member did not do it: %w", errors.New(a.Err))
}
