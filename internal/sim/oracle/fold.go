// Package oracle reads the ledger's records naively, recipient by recipient, and says
// where each stands and what cannot be true. It shares with the code that it judges the
// forms of the records and nothing else.
package oracle

import (
	"fmt"
	"slices"

	"crier/job"
	"crier/state/ledger"
)

// Cell is one recipient of one job.
type Cell struct {
	Job job.ID
	Who uint32
}

// Place is where a recipient stands.
type Place struct {
	Outcome job.Outcome
	Reason  job.Reason
	Of      job.Ref         // the reserve that it is handed off or in doubt by
	Inc     job.Incarnation // and at which incarnation
	Doubt   int             // 1 unanswered, 2 mute, 3 over
	Since   uint64          // sequence of the record that put it there
}

// Fold is the state of all recipients after some records.
type Fold struct {
	// Wrong is told what a record says that cannot be true.
	Wrong func(invariant, format string, a ...any)
	// Moved, if set, is told where a recipient stands now.
	Moved   func(Cell, Place)
	places  map[Cell]*Place
	order   map[job.ID][]uint32                    // recipients of each job, ascending
	targets map[job.Ref]map[job.Incarnation][]Cell // of each reserve
	sealed  map[job.Journal]bool
	owners  map[ledger.Thing]ledger.Claim
	next    map[job.Journal]uint64
	open    map[Cell]map[at]bool // where each may still be written: reserves that are not closed
	voided  int

	Most     int                            // messages that wait for one recipient; 0: any number
	Replaces func(newer, older job.ID) bool // nil: none does

	Cap      int // messages of a day, of all jobs; 0: any number
	verdicts map[Cell]*verdict
	charged  map[job.ID]bool
	days     map[job.Range]uint32
}

type at struct {
	ref job.Ref
	inc job.Incarnation
}

// New makes a fold that has read nothing.
func New(wrong func(invariant, format string, a ...any)) *Fold {
	return &Fold{Wrong: wrong, places: map[Cell]*Place{}, order: map[job.ID][]uint32{}, targets: map[job.Ref]map[job.Incarnation][]Cell{},
		sealed: map[job.Journal]bool{}, owners: map[ledger.Thing]ledger.Claim{}, next: map[job.Journal]uint64{}, open: map[Cell]map[at]bool{},
		verdicts: map[Cell]*verdict{}, charged: map[job.ID]bool{}, days: map[job.Range]uint32{}}
}

// Package tells who a job's recipients are, ascending.
func (f *Fold) Package(id job.ID, who []uint32) {
	f.order[id] = who
	for _, x := range who {
		f.places[Cell{id, x}] = &Place{}
	}
}

// Place is where a recipient stands.
func (f *Fold) Place(id job.ID, who uint32) Place { return *f.places[Cell{id, who}] }

// Owner is the last claim on a thing.
func (f *Fold) Owner(t ledger.Thing) ledger.Claim { return f.owners[t] }

// Sealed reports whether a journal's seal was read.
func (f *Fold) Sealed(j job.Journal) bool { return f.sealed[j] }

// Voided counts the records behind seals.
func (f *Fold) Voided() int { return f.voided }

// Count sums a job up by outcome.
func (f *Fold) Count(id job.ID) (n [job.Failed + 1]uint64) {
	for _, who := range f.order[id] {
		n[f.places[Cell{id, who}].Outcome]++
	}
	return n
}

// Claim reads a record of a claim.
func (f *Fold) Claim(c ledger.Claim) {
	was := f.owners[c.Thing()]
	if c.Epoch != was.Epoch+1 {
		f.Wrong("I7", "%s: epoch %d after %d", c.Thing(), c.Epoch, was.Epoch)
	}
	if !c.Journal.IsZero() && !was.Journal.IsZero() && !f.sealed[was.Journal] {
		f.Wrong("I7", "%s is claimed by %s while %s, which has it, is not sealed", c.Thing(), c.Journal, was.Journal)
	}
	f.owners[c.Thing()] = c
}

// Journal reads a record of a journal.
func (f *Fold) Journal(st ledger.Stored) {
	rec, err := ledger.ParseRecord(st.Data)
	if err != nil {
		f.Wrong("I6", "record %d cannot be read: %v", st.Seq, err)
		return
	}
	if f.sealed[rec.Journal] {
		f.voided++
		f.Wrong("I6", "record %d follows the seal of %s", st.Seq, rec.Journal)
		return
	}
	if rec.N != f.next[rec.Journal] {
		f.Wrong("I6", "record %d is number %d of %s, not %d", st.Seq, rec.N, rec.Journal, f.next[rec.Journal])
	}
	f.next[rec.Journal] = rec.N + 1
	for i, e := range rec.Entries {
		f.entry(st.Seq, job.Ref{Journal: rec.Journal, N: rec.N, Entry: uint16(i)}, e)
	}
}

func (f *Fold) entry(seq uint64, ref job.Ref, e ledger.Entry) {
	switch e := e.(type) {
	case *ledger.Charge:
		f.charge(seq, ref, e)
	case *ledger.Reserve:
		f.reserve(seq, ref, e)
	case *ledger.Drain:
		f.home(ref, e.Range, "drain")
		f.handOff(seq, ref, e.Job, e.Targets, job.Parked)
	case *ledger.Done:
		f.done(seq, e)
	case *ledger.Doubt:
		f.doubt(seq, e)
	case *ledger.Decide:
		f.home(ref, e.Range, "decision")
		f.decide(seq, e)
	case *ledger.Outcome:
		f.home(ref, e.Range, "outcome")
		for who := range e.Set.All() {
			f.crowded(seq, Cell{e.Job, who}, e.Reason)
			f.move(seq, "outcome", Cell{e.Job, who}, job.Parked, Place{Outcome: e.Outcome, Reason: e.Reason})
			f.refund(Cell{e.Job, who})
		}
	case ledger.Seal:
		f.sealed[ref.Journal] = true
	}
}

// home checks that who decides about a range has it.
func (f *Fold) home(ref job.Ref, r job.Range, what string) {
	if owner := f.owners[ledger.RangeThing(r)]; owner.Journal != ref.Journal {
		f.Wrong("I7", "%s %s about range %s, which is %s's by epoch %d", what, ref, r, owner.Journal, owner.Epoch)
	}
}

// move takes a recipient from one outcome to another place.
func (f *Fold) move(seq uint64, what string, c Cell, from job.Outcome, to Place) {
	p := f.places[c]
	switch {
	case p == nil:
		f.Wrong("I1", "record %d: %s of %d, who is not in the package of %s", seq, what, c.Who, c.Job)
		return
	case p.Outcome != from:
		f.Wrong("I1", "record %d: %s of %d in %s, who is %s since record %d", seq, what, c.Who, c.Job, p.Outcome, p.Since)
	}
	to.Since = seq
	f.put(c, to)
}

// put notes where a recipient stands from now on.
func (f *Fold) put(c Cell, to Place) {
	*f.places[c] = to
	if f.Moved != nil {
		f.Moved(c, to)
	}
}

func (f *Fold) reserve(seq uint64, ref job.Ref, e *ledger.Reserve) {
	if owner := f.owners[ledger.SliceThing(e.Job, e.Slice)]; owner.Journal != ref.Journal {
		f.Wrong("I7", "reserve %s of a slice which is %s's by epoch %d", ref, owner.Journal, owner.Epoch)
	}
	rest := map[uint32]bool{}
	for _, who := range f.order[e.Job] {
		if e.Span.Has(job.Recipient(who)) {
			rest[who] = true
		}
	}
	f.refusals(seq, e, rest)
	for _, d := range e.Dropped {
		for who := range d.Set.All() {
			delete(rest, who)
			f.refund(Cell{e.Job, who})
			f.move(seq, "drop", Cell{e.Job, who}, job.Pending, Place{Outcome: job.Dropped, Reason: d.Reason})
		}
	}
	for _, s := range e.Targets.Sets {
		for who := range s.All() {
			if !rest[who] {
				f.Wrong("I1", "record %d: %d is a target twice, or outside of the block", seq, who)
			}
			delete(rest, who)
		}
	}
	f.handOff(seq, ref, e.Job, e.Targets, job.Pending)
	for _, who := range f.order[e.Job] {
		if rest[who] {
			f.move(seq, "reserve", Cell{e.Job, who}, job.Pending, Place{Outcome: e.Rest})
			if e.Rest != job.Parked {
				f.refund(Cell{e.Job, who})
			}
		}
	}
}

func (f *Fold) handOff(seq uint64, ref job.Ref, id job.ID, t ledger.Targets, from job.Outcome) {
	all := map[job.Incarnation][]Cell{}
	for i, inc := range t.Incs {
		for who := range t.Sets[i].All() {
			c := Cell{id, who}
			all[inc] = append(all[inc], c)
			if f.open[c] == nil {
				f.open[c] = map[at]bool{}
			}
			f.open[c][at{ref, inc}] = true
			f.move(seq, "hand-off", c, from, Place{Outcome: job.HandedOff, Of: ref, Inc: inc})
		}
	}
	f.targets[ref] = all
}

// by reports whether a recipient is handed off, or in doubt without an answer, by this
// reserve at this incarnation.
func (p *Place) by(ref job.Ref, inc job.Incarnation) bool {
	return p.Of == ref && p.Inc == inc && (p.Outcome == job.HandedOff || p.Outcome == job.InDoubt && p.Doubt == 1)
}

func (f *Fold) done(seq uint64, e *ledger.Done) {
	for _, c := range f.targets[e.Of][e.Inc] {
		waits := !e.Waiting.IsEmpty() && e.Waiting.Has(c.Who)
		if !waits {
			delete(f.open[c], at{e.Of, e.Inc})
		}
		p := f.places[c]
		if p == nil || !p.by(e.Of, e.Inc) {
			continue
		}
		to := Place{Outcome: job.Delivered}
		switch {
		case waits:
			to = Place{Outcome: job.HandedOff, Of: e.Of, Inc: e.Inc}
		case !e.NotHere.IsEmpty() && e.NotHere.Has(c.Who), !e.Unacked.IsEmpty() && e.Unacked.Has(c.Who):
			to = Place{Outcome: job.Parked}
			if !e.Unacked.IsEmpty() && e.Unacked.Has(c.Who) {
				f.saw(c)
			}
		case !e.Mute.IsEmpty() && e.Mute.Has(c.Who):
			to = Place{Outcome: job.InDoubt, Of: e.Of, Inc: e.Inc, Doubt: 2}
		case !e.Refused.IsEmpty() && e.Refused.Has(c.Who):
			to = Place{Outcome: job.Failed, Reason: job.ReasonRefused}
			f.refund(c)
		}
		if to.Since = seq; to.Outcome == p.Outcome {
			to.Since = p.Since
		}
		f.put(c, to)
	}
}

func (f *Fold) doubt(seq uint64, e *ledger.Doubt) {
	for _, c := range f.targets[e.Of][e.Inc] {
		if e.Final {
			delete(f.open[c], at{e.Of, e.Inc})
		}
		p := f.places[c]
		if p == nil || !p.by(e.Of, e.Inc) {
			continue
		}
		kind := 1
		if e.Final {
			kind = 3
		}
		f.put(c, Place{Outcome: job.InDoubt, Of: e.Of, Inc: e.Inc, Doubt: kind, Since: seq})
	}
}

func (f *Fold) decide(seq uint64, e *ledger.Decide) {
	for _, who := range f.order[e.Job] {
		p := f.places[Cell{e.Job, who}]
		if p.Outcome != job.InDoubt {
			continue
		}
		switch {
		case !e.Delivered.IsEmpty() && e.Delivered.Has(who):
			f.put(Cell{e.Job, who}, Place{Outcome: job.Delivered, Since: seq})
		case !e.Parked.IsEmpty() && e.Parked.Has(who):
			f.put(Cell{e.Job, who}, Place{Outcome: job.Parked, Since: seq})
			f.saw(Cell{e.Job, who})
		case !e.Failed.IsEmpty() && e.Failed.Has(who):
			f.put(Cell{e.Job, who}, Place{Outcome: job.Failed, Reason: job.ReasonUnknown, Since: seq})
		}
	}
}

// MayBeWritten lists the reserves that name a recipient and are not closed.
func (f *Fold) MayBeWritten(id job.ID, who uint32) []string {
	var out []string
	for k := range f.open[Cell{id, who}] {
		out = append(out, fmt.Sprintf("%s at %s", k.ref, k.inc))
	}
	slices.Sort(out)
	return out
}
