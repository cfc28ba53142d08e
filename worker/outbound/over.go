package outbound

import (
	"time"

	"crier/job"
	"crier/presence/handoff"
	"crier/presence/lease"
	"crier/state/ledger"
)

// over is the newest start of a gateway that is over, and since when that is known.
type over struct {
	start uint32
	since time.Time
}

// endOf notes that an incarnation is over. Until that counts it is still asked, for its
// next incarnation may answer for it, or it may itself: that is the truth, and leaves
// fewer in doubt.
func (s *State) endOf(now time.Time, inc job.Incarnation) {
	if o, ok := s.over[inc.Gateway]; !ok || o.start < inc.Start {
		s.over[inc.Gateway] = over{inc.Start, now}
	}
}

func (s *State) isOver(inc job.Incarnation) bool {
	o, ok := s.over[inc.Gateway]
	return ok && inc.Start <= o.start
}

// ended reports whether it counts that an incarnation is over: it takes nothing more,
// however late a copy of a hand-off reaches it, and whoever sends one.
func (s *State) ended(now time.Time, inc job.Incarnation) bool {
	return s.isOver(inc) && now.Sub(s.over[inc.Gateway].since) >= lease.Grace
}

// neverAsked closes a flight to an incarnation that was over before it was asked.
func (s *State) neverAsked(f *flight) []Effect {
	f.released = true
	return s.record(f, &handoff.Report{Ref: f.Ref, Inc: f.Inc, Job: f.job, NotHere: f.open})
}

// finalDoubt gives what an incarnation left open to the homes, for good: they decide by
// what clients say they have, which those remember until they are told to forget it.
// Nobody is told so because of a report that comes after this.
func (s *State) finalDoubt(f *flight) []Effect {
	out := s.release(f)
	if f.recording != nothing {
		return out
	}
	f.recording = aFinalDoubt
	return append(out, Append{f.Key, &ledger.Doubt{Job: f.job, Range: f.rng, Of: f.Ref, Inc: f.Inc, Final: true}})
}
