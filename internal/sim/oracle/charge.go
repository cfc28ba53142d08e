package oracle

import (
	"crier/job"
	"crier/state/ledger"
)

// verdict is what the first charge of a recipient of a job decided.
type verdict struct {
	refused  job.Reason // or, without one, it is charged
	terms    ledger.Terms
	seen     bool // perhaps
	refunded bool
}

// Used is how many messages of a day a recipient is charged.
func (f *Fold) Used(who, day uint32) (n int) {
	for c, v := range f.verdicts {
		if c.Who == who && v.refused == job.NoReason && !v.refunded && v.terms.All && v.terms.Day == day {
			n++
		}
	}
	return n
}

// LastDay is the last day that was charged in a range.
func (f *Fold) LastDay(r job.Range) uint32 { return f.days[r] }

// charge keeps the verdict on whoever has none and is not reserved. Nobody is charged over
// the cap, or twice for one key.
func (f *Fold) charge(seq uint64, ref job.Ref, e *ledger.Charge) {
	f.home(ref, e.Range(), "charge")
	f.days[e.Range()] = max(f.days[e.Range()], e.Terms.Day)
	f.charged[e.Job] = true
	refused := map[uint32]job.Reason{}
	for _, d := range e.Dropped {
		for who := range d.Set.All() {
			refused[who] = d.Reason
		}
	}
	for _, who := range f.order[e.Job] {
		c := Cell{e.Job, who}
		if !e.Span.Has(job.Recipient(who)) || f.verdicts[c] != nil || f.places[c].Outcome != job.Pending {
			continue
		}
		v := &verdict{refused: refused[who], terms: e.Terms}
		if v.refused == job.NoReason && !v.terms.Once.IsZero() {
			for o, other := range f.verdicts {
				if o.Who == who && other.refused == job.NoReason && !other.refunded && other.terms.Once == v.terms.Once {
					f.Wrong("charge", "record %d: %d is charged for %s, and was for %s, with the same key", seq, who, e.Job, o.Job)
				}
			}
		}
		f.verdicts[c] = v
		if n := f.Used(who, e.Terms.Day); v.refused == job.NoReason && f.Cap > 0 && n > f.Cap {
			f.Wrong("charge", "record %d: %d is charged %d messages of day %d", seq, who, n, e.Terms.Day)
		}
	}
}

// refusals takes out of a block's rest whom a charge refused. Only a charge may refuse for
// what is charged, and if a job is charged, nobody is sent to who is not.
func (f *Fold) refusals(seq uint64, e *ledger.Reserve, rest map[uint32]bool) {
	for who := range rest {
		v := f.verdicts[Cell{e.Job, who}]
		switch {
		case v != nil && v.refused != job.NoReason:
			delete(rest, who)
			f.move(seq, "refusal", Cell{e.Job, who}, job.Pending, Place{Outcome: job.Dropped, Reason: v.refused})
		case v == nil && f.charged[e.Job] && e.Rest == job.Parked:
			f.Wrong("charge", "record %d: %d is sent %s and was not charged", seq, who, e.Job)
		}
	}
	for _, d := range e.Dropped {
		if d.Reason == job.ReasonFrequency || d.Reason == job.ReasonSendOnce {
			f.Wrong("charge", "record %d: a block of %s drops %d for %s, which a charge decides", seq, e.Job, d.Set.Card(), d.Reason)
		}
	}
}

// refund takes back what a recipient was charged who cannot have seen the message.
func (f *Fold) refund(c Cell) {
	if v := f.verdicts[c]; v != nil && !v.seen {
		v.refunded = true
	}
}

func (f *Fold) saw(c Cell) {
	if v := f.verdicts[c]; v != nil {
		v.seen = true
	}
}
