// Package holders reads from the ledger, as users see it, who held what when, and which
// journals are sealed.
//
// It guarantees that it judges by the ledger alone: what a process believes of itself is
// not asked.
package holders

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"crier/api"
	"crier/job"
)

// Claim is who may act on something, as the ledger says.
type Claim struct {
	Kind    string      `json:"kind"` // slice, job, range, role
	ID      string      `json:"id"`
	Epoch   uint64      `json:"epoch"`
	Journal job.Journal `json:"journal"`
	At      time.Time   `json:"-"`
}

// Process is the name of the process that made the claim: parts of it have a letter
// before it.
func (c Claim) Process() string {
	_, name, _ := strings.Cut(c.Journal.Worker, "-")
	return name
}

// Job is the job that a claim on a job or a slice is about.
func (c Claim) Job() string {
	if c.Kind == "slice" {
		id, _, _ := strings.Cut(c.ID, "-")
		return id
	}
	return c.ID
}

// AnyKind is claims of every kind.
const AnyKind = "*"

// Claims is the ledger's claims of a kind so far, in order.
type Claims struct {
	Kind string // AnyKind, or one
	All  []Claim
	next uint64 // sequence to read from
}

// Read reads on.
func (c *Claims) Read(ctx context.Context, svc api.Service) error {
	return svc.TailLedger(ctx, api.TailLedger{From: c.next, Filter: "led.claim." + c.Kind + ".>"}, func(e api.LedgerEntry) error {
		x := Claim{At: e.Time}
		if err := json.Unmarshal(e.Detail, &x); err != nil {
			return fmt.Errorf("reading claim %d: %w", e.Seq, err)
		}
		c.All, c.next = append(c.All, x), e.Seq+1
		return nil
	})
}

// Held is what a process held of a kind at a moment, of these jobs; it is the claims by
// what they are about.
func Held(all []Claim, process, kind string, at time.Time, jobs map[string]bool) map[string]Claim {
	last := map[string]Claim{}
	for _, c := range all {
		if c.Kind == kind && !c.At.After(at) && jobs[c.Job()] {
			last[c.ID] = c
		}
	}
	for id, c := range last {
		if c.Process() != process {
			delete(last, id)
		}
	}
	return last
}

// Taken is when another process first claimed each of what one held.
func Taken(all []Claim, was map[string]Claim) map[string]time.Time {
	at := map[string]time.Time{}
	for _, c := range all {
		old, ok := was[c.ID]
		if !ok || c.Kind != old.Kind || c.Epoch <= old.Epoch || c.Journal.IsZero() || c.Process() == old.Process() {
			continue
		}
		if _, ok := at[c.ID]; !ok {
			at[c.ID] = c.At
		}
	}
	return at
}

// Busiest is who of some processes holds most of a kind, "" if nobody holds any.
func Busiest(all []Claim, processes []string, kind string, at time.Time, jobs map[string]bool) string {
	best, most := "", 0
	for _, p := range processes {
		if n := len(Held(all, p, kind, at, jobs)); n > most {
			best, most = p, n
		}
	}
	return best
}

// Move is a claim of something that another process had before.
type Move struct {
	Claim
	Was string // the process
}

// Moved lists the claims of what another process had before, from a moment to another.
func Moved(all []Claim, from, to time.Time) (moves []Move) {
	holder := map[string]string{}
	for _, c := range all {
		if c.Journal.IsZero() {
			continue // whoever has it next has it from its last holder
		}
		thing := c.Kind + " " + c.ID
		was := holder[thing]
		holder[thing] = c.Process()
		if was != "" && was != c.Process() && c.At.After(from) && !c.At.After(to) {
			moves = append(moves, Move{c, was})
		}
	}
	return moves
}

// Journals is which journals are sealed, by subject, and what stands behind a seal.
type Journals struct {
	Next   uint64 // sequence to read from
	sealed map[string]bool
	Stale  int // records behind a seal: the ledger must have refused them
}

// Take takes a record of a journal in, in the order of the ledger.
func (j *Journals) Take(e api.LedgerEntry) {
	if j.sealed == nil {
		j.sealed = map[string]bool{}
	}
	switch {
	case e.Kind == "seal":
		j.sealed[e.Subject] = true
	case j.sealed[e.Subject]:
		j.Stale++
	}
	j.Next = e.Seq + 1
}

// Read reads on in all journals.
func (j *Journals) Read(ctx context.Context, svc api.Service) error {
	return svc.TailLedger(ctx, api.TailLedger{From: j.Next, Filter: "led.j.>"}, func(e api.LedgerEntry) error {
		j.Take(e)
		return nil
	})
}
