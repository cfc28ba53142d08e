package worker

import (
	"time"

	"crier/job"
	"crier/state/ledger"
	"crier/worker/home"
	"crier/worker/journal"
	"crier/worker/lane"
	"crier/worker/outbound"
)

// lateAfter is how long the ledger may take for a reserve of a job that may still be sent.
const lateAfter = 30 * time.Second

// isLate reports whether the ledger took a reserve so long after it was decided that it is not
// to be sent: its job may be cancelled, paused or over since, its recipients suppressed or gone.
// They are parked again, and what is so now decides about them (rules 20, 21).
func (l *loop) isLate(now, decided time.Time, id job.ID) bool {
	switch age := now.Sub(decided); {
	case age <= lane.ControlsMaxAge:
		return false
	case age > lateAfter:
		return true
	}
	return l.isHeld(now, id)
}

// isHeld reports whether a job may not be sent now.
func (l *loop) isHeld(now time.Time, id job.ID) bool {
	j, live := l.w.cfg.Jobs.Current(id)
	return !live || j.InForce().Paused || j.Over(now) != job.Parked || l.w.isUnsure(now)
}

// isStale reports whether what a look found for later may not be so any more: a job's controls,
// who must not get it, who has room.
func (l *loop) isStale(e home.Append) bool {
	now, n := time.Now(), 0
	for _, x := range e.Entries {
		d := x.(*ledger.Drain)
		if l.isHeld(now, d.Job) {
			return true
		}
		n += d.Targets.Union(e.Range).Card()
	}
	return e.Basis != l.w.cfg.Content.SuppressionVersion() || l.w.cfg.Erased.Any(e.Range) || !home.IsAt(e.Entries, l.w.online(e.Who)) ||
		l.w.drains != nil && !l.w.drains.AllowN(now, n)
}

// appendPass submits the entries of a pass and tells the home when the last of
// them is settled.
func (l *loop) appendPass(e home.Append) {
	if !e.Looked && l.isStale(e) {
		l.doHome(l.home.Step(home.Stale{Range: e.Range}))
		return
	}
	left, stored, top, decided := len(e.Entries), 0, uint64(0), time.Now()
	all := make(journal.Together, len(e.Entries))
	for i, entry := range e.Entries {
		all[i] = l.ticketFor(entry, func(d journal.Durable, ok bool) {
			left--
			if ok {
				stored++
				top = max(top, d.Seq)
				switch entry := entry.(type) {
				case *ledger.Outcome:
					l.w.stats.ended(entry)
				case *ledger.Drain:
					l.w.stats.Drains.Add(1)
					now := time.Now()
					l.doOutbound(l.outbound.Step(now, outbound.Reserved{Ref: d.Ref, Job: entry.Job, Range: entry.Range,
						Urgent: e.Urgent[i], Targets: entry.Targets, Late: l.isLate(now, decided, entry.Job)}))
				}
			}
			switch {
			case left > 0:
			case stored > 0:
				l.doHome(l.home.Step(home.Durable{Range: e.Range, Seq: top, Partly: stored < len(e.Entries)}))
			default:
				l.doHome(l.home.Step(home.Refused{Range: e.Range}))
			}
		})
	}
	l.doJournal(l.journal.Step(all))
}

// ended counts whom a home dropped because too much waited for them.
func (s *Stats) ended(e *ledger.Outcome) {
	switch e.Reason {
	case job.ReasonCollapsed:
		s.Collapsed.Add(uint64(e.Set.Card()))
	case job.ReasonParkCap:
		s.Capped.Add(uint64(e.Set.Card()))
	}
}
