package outbound

import (
	"math"
	"slices"
	"time"

	"crier/internal/idset"
	"crier/job"
	"crier/presence/handoff"
	"crier/state/ledger"
)

// report takes in what a gateway says of a reserve. A report about something
// closed is answered at once, for its gateway missed that, and clients would remember
// the message for ever (rule 14); one of a journal that is another's is left to that
// other.
func (s *State) report(now time.Time, p *handoff.Report) []Effect {
	c, f := s.find(Key{p.Ref, p.Inc})
	switch {
	case f != nil:
	case s.isOver(p.Inc):
		return nil // it may be closed by a doubt that is final, and the client must remember
	case s.owned[p.Ref.Journal]:
		return []Effect{s.tell(c, p.Ref, p.Inc, p.Version)}
	default:
		return nil
	}
	out := s.heard(now, f)
	switch {
	case p.Version < f.version:
		return out
	case f.recording != nothing:
		if p.Version > f.version || f.recording == aDoubt {
			if f.latest == nil || p.Version > f.latest.Version {
				f.latest = p
			}
		}
		return out
	case p.Version == f.version && f.version > 0 && !f.doubted:
		return append(out, s.tell(c, p.Ref, p.Inc, f.version))
	}
	return append(out, s.record(f, p)...)
}

func (s *State) tell(c *channel, ref job.Ref, inc job.Incarnation, version uint32) Effect {
	m := &handoff.Recorded{Ref: ref, Inc: inc, Version: version}
	switch {
	case ref.Journal != s.mine && (c == nil || len(c.flights) == 0):
		m.Settled = last(ref.Journal)
	case c != nil:
		m.Settled = c.settled
	}
	return Tell{m}
}

// last is behind everything of a sealed journal. What its former owners closed behind
// the last reserve that was handed over is settled, too, which nobody else tells.
func last(j job.Journal) job.Ref {
	return job.Ref{Journal: j, N: math.MaxUint64, Entry: math.MaxUint16}
}

// record appends a done for a report, unless everything still waits. What was in
// doubt is then handed off again, for which a done is needed.
func (s *State) record(f *flight, p *handoff.Report) []Effect {
	done, moves := doneOf(f, p)
	if !moves && !f.doubted {
		return nil
	}
	f.recording, f.doubted = aDone, false
	f.version, f.left, f.away = p.Version, done.Waiting, done.NotHere
	return []Effect{Append{f.Key, done}}
}

// lastWord closes a flight by what an incarnation says for good, because it is
// over or has fenced the journal: its report; if it has none, it never accepted
// the reserve, and the recipients are parked again; if its file cannot be read,
// final doubt.
func (s *State) lastWord(now time.Time, f *flight, a *handoff.Answer) []Effect {
	out := s.heard(now, f)
	if f.recording != nothing {
		f.next = now.Add(firstRetry) // ask again when that is durable
		return out
	}
	if a.Kind == handoff.Unreadable {
		f.recording = aFinalDoubt
		return append(out, Append{f.Key, &ledger.Doubt{Job: f.job, Range: f.rng, Of: f.Ref, Inc: f.Inc, Final: true}})
	}
	for i := range a.Reports {
		if a.Reports[i].Ref == f.Ref {
			return append(out, s.report(now, &a.Reports[i])...)
		}
	}
	return append(out, s.record(f, &handoff.Report{Ref: f.Ref, Inc: f.Inc, Job: f.job, Version: f.version, NotHere: f.open})...)
}

// doneOf writes a report as a done entry about what is still open; moves is false
// if everything still waits.
func doneOf(f *flight, p *handoff.Report) (done *ledger.Done, moves bool) {
	acked, waiting := p.Split(f.open)
	acked.Release()
	waiting.And(f.open)
	done = &ledger.Done{Job: f.job, Range: f.rng, Of: f.Ref, Inc: f.Inc, Waiting: waiting,
		NotHere: within(p.NotHere, f.open), Unacked: within(p.Unacked, f.open), Mute: within(p.Mute, f.open), Refused: within(p.Refused, f.open)}
	return done, waiting.Card() < f.open.Card()
}

// within is the part of a reported set that is still open.
func within(s, open *idset.Set) *idset.Set {
	if s.IsEmpty() {
		return nil
	}
	part := s.Clone()
	part.And(open)
	return part
}

// recorded goes on after an entry of this flight became durable.
func (s *State) recorded(now time.Time, c *channel, f *flight) []Effect {
	was := f.recording
	f.recording = nothing
	var out []Effect
	switch was {
	case nothing:
		return nil
	case aDoubt:
		f.doubted = true
	case aFinalDoubt:
		out = append(out, Freed{Range: f.rng, Who: f.open})
		s.close(c, f) // the home decides it
		return out
	case aDone:
		freed := f.open.Clone()
		if !f.left.IsEmpty() {
			freed.AndNot(f.left)
		}
		out = append(out, Freed{f.rng, freed, f.away})
		f.open = f.left
		if f.open.IsEmpty() {
			s.close(c, f)
		}
		out = append(out, s.tell(c, f.Ref, f.Inc, f.version))
	}
	if p := f.latest; p != nil && !f.closed {
		f.latest = nil
		out = append(out, s.record(f, p)...)
	}
	return out
}

// close forgets a flight and moves the channel's watermark: to its last reserve if
// nothing is open, else to just before the first that is.
func (s *State) close(c *channel, f *flight) {
	f.closed, f.open, f.left, f.away, f.latest = true, nil, nil, nil, nil
	if i, there := c.place(f.Ref); there && c.flights[i] == f {
		c.drop(i)
	}
	if c.high.Before(f.Ref) || c.high.IsZero() {
		c.high = f.Ref
	}
	switch {
	case len(c.flights) == 0:
		c.settled = c.high
	case c.flights[0].Ref.Entry > 0:
		first := c.flights[0].Ref
		c.settled = job.Ref{Journal: c.journal, N: first.N, Entry: first.Entry - 1}
	case c.flights[0].Ref.N > 0:
		c.settled = job.Ref{Journal: c.journal, N: c.flights[0].Ref.N - 1, Entry: 1<<16 - 1}
	}
}

// drop takes the i-th flight out of thousands, of which the first ones end first: those before it
// move if they are fewer than those behind it.
func (c *channel) drop(i int) {
	if i >= len(c.flights)/2 {
		c.flights = slices.Delete(c.flights, i, i+1)
		return
	}
	copy(c.flights[1:], c.flights[:i])
	c.flights[0] = nil
	c.flights = c.flights[1:]
}

// tick asks again, frees lanes that waited long enough, and records doubt.
func (s *State) tick(now time.Time) []Effect {
	var out []Effect
	for _, c := range s.channels {
		ended := s.ended(now, c.inc)
		for _, f := range c.flights {
			if ended {
				out = append(out, s.finalDoubt(f)...)
				continue
			}
			if now.Sub(f.heard) >= LaneWait {
				out = append(out, s.release(f)...)
			}
			if now.Sub(f.heard) >= DoubtAfter && !f.doubted && f.recording == nothing {
				f.recording = aDoubt
				out = append(out, Append{f.Key, &ledger.Doubt{Job: f.job, Range: f.rng, Of: f.Ref, Inc: f.Inc}})
			}
			if f.next.IsZero() || now.Before(f.next) || f.inherited && c.fencing {
				continue
			}
			out = append(out, s.ask(c, f))
		}
	}
	return out
}

// Settled is the watermark of a journal at an incarnation, for tests and status.
func (s *State) Settled(j job.Journal, inc job.Incarnation) job.Ref {
	if c := s.channel(j, inc); c != nil {
		return c.settled
	}
	return job.Ref{}
}
