package gateway

import (
	"slices"

	"crier/job"
	"crier/presence/handoff"
)

// ended is what is left of an earlier incarnation of this gateway.
type ended struct {
	unreadable bool
	records    []Record // not yet recorded by their owners, by reference
}

func newEnded(h History) map[uint32]*ended {
	all := map[uint32]*ended{}
	for _, e := range h.Ended {
		records := slices.Clone(e.Records)
		slices.SortFunc(records, func(a, b Record) int { return compareRefs(a.Ref, b.Ref) })
		all[e.Start] = &ended{e.Unreadable, records}
	}
	return all
}

// lookUp finds an incarnation that is not this one. Without an answer of its own
// there are records, of which those not named were never accepted there.
func (s *State) lookUp(inc job.Incarnation) (*ended, handoff.Kind) {
	if inc.Gateway != s.inc.Gateway || inc.Start > s.inc.Start || inc.Start < s.cfg.History.First {
		return nil, handoff.Stranger
	}
	e := s.ended[inc.Start]
	if e == nil {
		return &ended{}, handoff.Over
	}
	if e.unreadable {
		return nil, handoff.Unreadable
	}
	return e, handoff.Over
}

// handedToEnded answers a hand-off to another incarnation.
func (s *State) handedToEnded(h *handoff.Handoff, t Token) {
	e, kind := s.lookUp(h.To)
	var reports []handoff.Report
	if e != nil {
		for i := range e.records {
			if e.records[i].Ref == h.Ref {
				reports = append(reports, lastReport(h.To, &e.records[i]))
			}
		}
	}
	s.reply(t, kind, reports...)
}

// fenceEnded answers a fence at another incarnation.
func (s *State) fenceEnded(f handoff.Fence, t Token) {
	e, kind := s.lookUp(f.To)
	var reports []handoff.Report
	whole, bytes := true, 0
	for i := 0; e != nil && i < len(e.records) && whole; i++ {
		if r := &e.records[i]; r.Ref.Journal == f.Journal {
			bytes += reportBytes(len(r.IDs) + len(r.Away))
			if whole = bytes <= maxAnswer; whole {
				reports = append(reports, lastReport(f.To, r))
			}
		}
	}
	s.replyFence(f, t, kind, reports, whole)
}

// lastReport is the last word of an incarnation about a reserve: who was accepted
// and did not acknowledge may have been written to.
func lastReport(inc job.Incarnation, r *Record) handoff.Report {
	p := handoff.Report{Ref: r.Ref, Inc: inc, Job: r.Job, Version: lastWord, Rest: handoff.RestAcked}
	for rank, id := range r.IDs {
		switch {
		case r.Acked.Has(rank):
		case r.Mute.Has(rank):
			addTo(&p.Mute, id)
		default:
			addTo(&p.Unacked, id)
		}
	}
	for _, id := range r.Away {
		addTo(&p.NotHere, id)
	}
	return p
}

// recordedEnded frees a record of an earlier incarnation. An earlier version is
// from that incarnation's life and says nothing of the last word.
func (s *State) recordedEnded(ev Recorded) {
	e := s.ended[ev.Inc.Start]
	if ev.Inc.Gateway != s.inc.Gateway || e == nil || ev.Version != lastWord {
		return
	}
	i := slices.IndexFunc(e.records, func(r Record) bool { return r.Ref == ev.Ref })
	if i < 0 {
		return
	}
	r := e.records[i]
	e.records = slices.Delete(e.records, i, i+1)
	s.emit(Free{ev.Inc.Start, r.Ref})
	for rank, id := range r.IDs {
		if p := s.people[job.Recipient(id)]; p != nil && r.Acked.Has(rank) {
			s.settle(p, r.Job)
		}
	}
}
