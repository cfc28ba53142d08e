package proof

import (
	"fmt"
	"maps"
	"slices"

	"crier/internal/idset"
	"crier/job"
	"crier/state/ledger"
)

// fold is one job's recipients of one range, moved from set to set by the entries
// of the ledger in their order. What an entry claims and the sets do not bear out
// is a violation; the fold goes on with what can be true.
type fold struct {
	rng        job.Range
	ids        *idset.Set // the package's
	pending    *idset.Set
	parked     *idset.Set
	ended      map[ending]*idset.Set     // terminal outcomes
	charged    *idset.Set                // of whom a charge decided; nil: the job is not charged here
	refused    map[job.Reason]*idset.Set // by a charge
	open       map[at]*idset.Set         // handed off
	doubt      map[at]*idset.Set
	targets    map[at]*idset.Set // of the reserves that are open or in doubt
	closed     map[at]bool
	seen       *idset.Set // who was handed off and may have been shown the message; nil: not asked for
	violations []string
}

type ending struct {
	outcome job.Outcome
	reason  job.Reason
}

// at is a reserve at an incarnation. What is in doubt for good stands under a key of
// its own, which no later done touches.
type at struct {
	ref   job.Ref
	inc   job.Incarnation
	final bool
}

func newFold(r job.Range, ids *idset.Set) *fold {
	return &fold{rng: r, ids: ids, pending: ids.Clone(), parked: idset.New(r), ended: map[ending]*idset.Set{}, open: map[at]*idset.Set{},
		doubt: map[at]*idset.Set{}, targets: map[at]*idset.Set{}, closed: map[at]bool{}}
}

func (f *fold) wrong(format string, a ...any) {
	if len(f.violations) < 20 {
		f.violations = append(f.violations, fmt.Sprintf("range %s: ", f.rng)+fmt.Sprintf(format, a...))
	}
}

// move takes s from one set to another; s must lie in the first.
func (f *fold) move(what string, s, from, to *idset.Set) {
	if s.IsEmpty() {
		return
	}
	stray := s.Clone()
	stray.AndNot(from)
	if n := stray.Card(); n > 0 {
		f.wrong("%s: %d recipients are not where it takes them from", what, n)
	}
	moved := s.Clone()
	moved.AndNot(stray)
	from.AndNot(moved)
	to.Or(moved)
	stray.Release()
	moved.Release()
}

// saw notes who may have been shown the message.
func (f *fold) saw(s *idset.Set) {
	if f.seen != nil {
		f.seen.Or(s)
	}
}

func (f *fold) end(o job.Outcome, r job.Reason) *idset.Set {
	k := ending{o, r}
	if f.ended[k] == nil {
		f.ended[k] = idset.New(f.rng)
	}
	return f.ended[k]
}

// place is the set of an outcome that a reserve gives its rest.
func (f *fold) place(o job.Outcome) *idset.Set {
	if o == job.Parked {
		return f.parked
	}
	return f.end(o, job.NoReason)
}

// apply takes in one entry; ref is its own identity.
func (f *fold) apply(ref job.Ref, e ledger.Entry) {
	switch e := e.(type) {
	case *ledger.Charge:
		f.charge(e)
	case *ledger.Reserve:
		f.reserve(ref, e)
	case *ledger.Drain:
		f.hand(ref, e.Targets, f.parked, "drain "+ref.String())
	case *ledger.Done:
		f.done(e)
	case *ledger.Doubt:
		f.inDoubt(e)
	case *ledger.Decide:
		f.decide(e)
	case *ledger.Outcome:
		what := fmt.Sprintf("outcome %s", e.Outcome)
		f.move(what, e.Set, f.parked, f.end(e.Outcome, e.Reason))
	}
}

// inDoubt moves what is open of a reserve into doubt; a final one closes it.
func (f *fold) inDoubt(e *ledger.Doubt) {
	k := at{ref: e.Of, inc: e.Inc}
	if s := f.open[k]; s != nil {
		delete(f.open, k)
		f.doubt[k] = s
	}
	if s := f.doubt[k]; s != nil && e.Final {
		delete(f.doubt, k)
		f.forGood(k).Or(s)
		s.Release()
	}
	if e.Final {
		f.closed[k] = true
	}
}

// forGood is the set of those who are in doubt and whom no done will decide.
func (f *fold) forGood(k at) *idset.Set {
	k.final = true
	if f.doubt[k] == nil {
		f.doubt[k] = idset.New(f.rng)
	}
	return f.doubt[k]
}

// charge keeps a verdict on whoever has none yet and is not reserved.
func (f *fold) charge(e *ledger.Charge) {
	what := fmt.Sprintf("charge of %s", e.Span)
	if f.charged == nil {
		f.charged, f.refused = idset.New(f.rng), map[job.Reason]*idset.Set{}
	}
	block := f.block(what, e.Span, e.IDs)
	block.And(f.pending)
	block.AndNot(f.charged)
	f.charged.Or(block)
	for _, d := range e.Dropped {
		if f.refused[d.Reason] == nil {
			f.refused[d.Reason] = idset.New(f.rng)
		}
		refused := d.Set.Clone()
		refused.And(block)
		block.AndNot(refused)
		f.refused[d.Reason].Or(refused)
		refused.Release()
	}
	block.Release()
}

// block is the package in a span, of which an entry says how many there are.
func (f *fold) block(what string, span job.Span, says uint32) *idset.Set {
	block := f.ids.Clone()
	block.KeepSpan(span)
	if n := block.Card(); n != int(says) {
		f.wrong("%s: it says %d recipients, the package has %d there", what, says, n)
	}
	return block
}

// verdicts drops of a block whom its charges refused.
func (f *fold) verdicts(what string, block *idset.Set) {
	for reason, s := range f.refused {
		refused := s.Clone()
		refused.And(block)
		f.move(what+": refused", refused, block, f.end(job.Dropped, reason))
		f.pending.AndNot(refused)
		refused.Release()
	}
}

func (f *fold) reserve(ref job.Ref, e *ledger.Reserve) {
	what := fmt.Sprintf("reserve %s of %s", ref, e.Span)
	block := f.block(what, e.Span, e.IDs)
	taken := block.Clone()
	taken.AndNot(f.pending)
	if n := taken.Card(); n > 0 {
		f.wrong("%s: %d recipients were reserved before", what, n)
		block.AndNot(taken)
	}
	f.verdicts(what, block)
	for _, d := range e.Dropped {
		f.move(what+": dropped", d.Set, block, f.end(job.Dropped, d.Reason))
		f.pending.AndNot(d.Set)
	}
	union := e.Targets.Union(f.rng)
	f.hand(ref, e.Targets, block, what)
	f.pending.AndNot(union)
	rest := block.Clone()
	f.pending.AndNot(rest)
	f.place(e.Rest).Or(rest)
	for _, s := range []*idset.Set{block, taken, union, rest} {
		s.Release()
	}
}

// hand opens the targets of a reserve or drain.
func (f *fold) hand(ref job.Ref, t ledger.Targets, from *idset.Set, what string) {
	for i, inc := range t.Incs {
		k := at{ref: ref, inc: inc}
		open := idset.New(f.rng)
		f.move(what+": targets at "+inc.String(), t.Sets[i], from, open)
		f.targets[k] = open.Clone()
		f.open[k] = open
	}
}

func (f *fold) done(e *ledger.Done) {
	k := at{ref: e.Of, inc: e.Inc}
	what := fmt.Sprintf("done of %s at %s", e.Of, e.Inc)
	targets := f.targets[k]
	if f.closed[k] {
		return // a repeat
	}
	if targets == nil {
		f.wrong("%s: there is no such reserve", what)
		return
	}
	for name, s := range map[string]*idset.Set{"waiting": e.Waiting, "not here": e.NotHere, "unacknowledged": e.Unacked, "mute": e.Mute, "refused": e.Refused} {
		if s.IsEmpty() {
			continue
		}
		stray := s.Clone()
		stray.AndNot(targets)
		if n := stray.Card(); n > 0 {
			f.wrong("%s: %d recipients %s lie outside its reserve", what, n, name)
		}
		stray.Release()
	}
	from, doubted := f.open[k], false
	if from == nil {
		if from, doubted = f.doubt[k], true; from == nil {
			return // all of its doubt is decided
		}
	}
	f.spread(e, from, what)
	if doubted && !from.IsEmpty() {
		delete(f.doubt, k) // it answers after all: what is left waits there
		f.open[k] = from
	}
	if from.IsEmpty() {
		delete(f.open, k)
		delete(f.doubt, k)
		targets.Release()
		delete(f.targets, k)
		f.closed[k] = true
	}
}

// spread moves what is no longer waiting where the done says.
func (f *fold) spread(e *ledger.Done, from *idset.Set, what string) {
	moved := from.Clone()
	if !e.Waiting.IsEmpty() {
		moved.AndNot(e.Waiting)
	}
	part := func(s, to *idset.Set, written bool) {
		if s.IsEmpty() {
			return
		}
		p := moved.Clone()
		p.And(s)
		moved.AndNot(p)
		f.move(what, p, from, to)
		if written {
			f.saw(p)
		}
		p.Release()
	}
	part(e.NotHere, f.parked, false)
	part(e.Unacked, f.parked, true)
	if !e.Mute.IsEmpty() {
		part(e.Mute, f.forGood(at{ref: e.Of, inc: e.Inc}), true)
	}
	part(e.Refused, f.end(job.Failed, job.ReasonRefused), false)
	f.move(what, moved, from, f.end(job.Delivered, job.NoReason))
	f.saw(moved)
	moved.Release()
}

// decide ends doubt wherever it stands; who is not in doubt is passed over.
func (f *fold) decide(e *ledger.Decide) {
	for _, v := range []struct{ s, to *idset.Set }{{e.Delivered, f.end(job.Delivered, job.NoReason)}, {e.Parked, f.parked},
		{e.Failed, f.end(job.Failed, job.ReasonUnknown)}} {
		if v.s.IsEmpty() {
			continue
		}
		for _, doubt := range f.doubt {
			p := doubt.Clone()
			p.And(v.s)
			f.move("decision", p, doubt, v.to)
			f.saw(p)
			p.Release()
		}
	}
	maps.DeleteFunc(f.doubt, func(_ at, s *idset.Set) bool { return s.IsEmpty() })
}

// outcomes lists every set of the fold with its outcome, terminal or not.
func (f *fold) outcomes() []struct {
	ending
	set *idset.Set
} {
	var out []struct {
		ending
		set *idset.Set
	}
	add := func(o job.Outcome, r job.Reason, s *idset.Set) {
		out = append(out, struct {
			ending
			set *idset.Set
		}{ending{o, r}, s})
	}
	add(job.Pending, job.NoReason, f.pending)
	add(job.Parked, job.NoReason, f.parked)
	for _, s := range f.open {
		add(job.HandedOff, job.NoReason, s)
	}
	for _, s := range f.doubt {
		add(job.InDoubt, job.NoReason, s)
	}
	for k, s := range f.ended {
		add(k.outcome, k.reason, s)
	}
	return out
}

// check proves that the outcome sets are disjoint, inside the package, and all of
// it; it adds their sizes to counts.
func (f *fold) check(c *job.Counts) {
	seen := idset.New(f.rng)
	for _, o := range f.outcomes() {
		if o.set.Intersects(seen) {
			f.wrong("somebody has two outcomes, one of them %s", o.outcome)
		}
		seen.Or(o.set)
		tally(c, o.ending, uint64(o.set.Card()))
	}
	if !seen.Equal(f.ids) {
		f.wrong("the outcomes are %d recipients, the package has %d", seen.Card(), f.ids.Card())
	}
	c.Package += uint64(f.ids.Card())
	seen.Release()
}

func tally(c *job.Counts, e ending, n uint64) {
	switch e.outcome {
	case job.Pending:
		c.Pending += n
	case job.HandedOff:
		c.HandedOff += n
	case job.Parked:
		c.Parked += n
	case job.InDoubt:
		c.InDoubt += n
	case job.Delivered:
		c.Delivered += n
	case job.Expired:
		c.Expired += n
	case job.Recalled:
		c.Recalled += n
	case job.Cancelled:
		c.Cancelled += n
	case job.Failed:
		c.Failed += n
		if n > 0 {
			c.Fail(e.reason, n)
		}
	case job.Dropped:
		if n > 0 {
			c.Dropped[e.reason] += n
		}
	}
}

// where finds a recipient's outcome.
func (f *fold) where(who job.Recipient) ending {
	for _, o := range f.outcomes() {
		if o.set.Has(uint32(who)) {
			return o.ending
		}
	}
	return ending{}
}

// release gives the fold's sets back.
func (f *fold) release() {
	for _, o := range f.outcomes() {
		o.set.Release()
	}
	for _, s := range slices.Collect(maps.Values(f.targets)) {
		s.Release()
	}
	for _, s := range f.refused {
		s.Release()
	}
	f.charged.Release()
	f.ids.Release()
}
