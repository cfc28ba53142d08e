package gateway

import (
	"slices"
	"strings"

	"crier/internal/idset"
	"crier/job"
	"crier/presence/handoff"
)

// lastPartial is the last version a report of an open reserve may have; a final
// one may come after it. There is one a second at most for some 30 s.
const lastPartial = 250

// lastWord is the version of a report about an incarnation that has ended: larger
// than any that it gave itself.
const lastWord = 1<<32 - 1

// stands notes where an accepted recipient stands from now on.
func (s *State) stands(r *reserve, rank uint32, stands uint8) {
	r.stands[rank], r.since[rank] = stands, uint8(r.version)+1
	r.waiting--
	r.dirty = true
	if r.waiting == 0 && !r.writing {
		s.publish(r)
	}
}

// report gives the newest report of a reserve: a new version if something changed,
// else the last one over again, with the same content.
func (s *State) report(r *reserve) handoff.Report {
	if r.dirty && (r.waiting == 0 || r.version < lastPartial) {
		r.version++
		r.dirty = false
	}
	r.reported = s.now
	return buildReport(s.inc, r)
}

func (s *State) publish(r *reserve) {
	j := s.journals[r.ref.Journal]
	if !j.fenced {
		s.emit(Publish{r.ref.Journal, s.report(r)})
		s.stats.Reports++
		return
	}
	for _, by := range j.by {
		s.emit(Publish{by, s.report(r)})
		s.stats.Reports++
	}
}

// reportIfDue publishes what changed, or what no Recorded has come for, once a second.
func (s *State) reportIfDue(r *reserve) {
	if r.writing || s.now-r.reported < repeatEvery {
		return
	}
	news := r.waiting < len(r.ids) || len(r.away)+len(r.unable) > 0
	if news && (r.dirty || r.recorded < r.version) {
		s.publish(r)
	}
}

// buildReport writes a reserve as of its version. Whom the sets do not name is
// acknowledged or waits, whichever is more.
func buildReport(inc job.Incarnation, r *reserve) handoff.Report {
	p := handoff.Report{Ref: r.ref, Inc: inc, Job: r.job, Version: r.version}
	var count [standsMute + 1]int
	for rank := range r.ids {
		count[r.asOfVersion(rank)]++
	}
	unnamed := standsAcked
	if count[standsWaiting] > count[standsAcked] {
		unnamed, p.Rest = standsWaiting, handoff.RestWaiting
	} else {
		p.Rest = handoff.RestAcked
	}
	sets := [standsMute + 1]**idset.Set{&p.Waiting, &p.Acked, &p.NotHere, &p.Unacked, &p.Mute}
	for rank, id := range r.ids {
		if k := r.asOfVersion(rank); k != unnamed {
			addTo(sets[k], id)
		}
	}
	others := &p.NotHere
	if r.refused {
		others = &p.Refused
	}
	for _, id := range r.away {
		addTo(others, id)
	}
	for _, id := range r.unable {
		addTo(&p.Refused, id)
	}
	return p
}

func (r *reserve) asOfVersion(rank int) uint8 {
	if uint32(r.since[rank]) > r.version {
		return standsWaiting
	}
	return r.stands[rank]
}

func addTo(set **idset.Set, id uint32) {
	if *set == nil {
		*set = idset.New(job.Recipient(id).Range())
	}
	(*set).Add(id)
}

// recorded goes on when a report is durable: what it called acknowledged may be
// forgotten by the clients (rule 14), and a reserve in which nobody waits is closed.
func (s *State) recorded(ev Recorded) {
	if ev.Inc != s.inc {
		s.recordedEnded(ev)
		return
	}
	if j := s.journals[ev.Ref.Journal]; j != nil {
		s.advance(j, ev.Ref.Journal, ev.Settled)
	}
	r := s.reserves[ev.Ref]
	if r == nil || r.writing || ev.Version > r.version {
		return
	}
	if ev.Version > r.recorded {
		r.recorded = ev.Version
		s.settleAcked(r)
	}
	if r.waiting == 0 && !r.dirty && r.recorded == r.version {
		s.closeReserve(r)
	}
}

func (s *State) settleAcked(r *reserve) {
	for rank, id := range r.ids {
		if r.stands[rank] != standsAcked || uint32(r.since[rank]) > r.recorded || r.settled.Has(rank) {
			continue
		}
		if r.settled == nil {
			r.settled = MakeBits(len(r.ids))
		}
		r.settled.Set(rank)
		if p := s.people[job.Recipient(id)]; p != nil {
			s.settle(p, r.job)
		}
	}
}

// closeReserve forgets a reserve but for its number, until the watermark passes it.
func (s *State) closeReserve(r *reserve) {
	s.drop(r)
	if len(r.ids) > 0 {
		s.emit(Free{s.inc.Start, r.ref})
	}
	if j := s.journals[r.ref.Journal]; !j.isClosed(r.ref) {
		j.closed[closed{r.ref.N, r.ref.Entry}] = struct{}{}
		s.stats.Closed++
	}
}

// fence stops a sealed journal here (rule 13). The answer tells of everything of it
// that was accepted; what it does not name never was and never will be.
func (s *State) fence(f handoff.Fence, t Token) {
	if f.To != s.inc {
		s.fenceEnded(f, t)
		return
	}
	j := s.journal(f.Journal)
	if j == nil { // too many journals; an unknown one is never accepted any more
		s.reply(t, handoff.Fenced)
		return
	}
	j.fenced = true
	if !f.By.IsZero() && !slices.Contains(j.by, f.By) {
		j.by = append(j.by, f.By)
		j.by = j.by[max(0, len(j.by)-moreOwners):]
	}
	var all []*reserve
	for _, r := range s.live {
		if r.ref.Journal != f.Journal {
			continue
		}
		if r.writing { // decided, but not in the file yet
			s.reply(t, handoff.InProgress)
			return
		}
		all = append(all, r)
	}
	slices.SortFunc(all, func(a, b *reserve) int { return compareRefs(a.ref, b.ref) })
	reports, whole := make([]handoff.Report, 0, len(all)), true
	for bytes, i := 0, 0; i < len(all) && whole; i++ {
		bytes += reportBytes(len(all[i].ids) + len(all[i].away) + len(all[i].unable))
		if whole = bytes <= maxAnswer; whole {
			reports = append(reports, s.report(all[i]))
		}
	}
	s.replyFence(f, t, handoff.Fenced, reports, whole)
}

// maxAnswer bounds the answer to a fence, which one message must hold.
const maxAnswer = 4 << 20

// reportBytes is at least the size of a report about n recipients.
func reportBytes(n int) int { return min(700<<10, 600+2*n) }

// replyFence answers a fence. Since what an answer does not name counts as never
// accepted, one that would be too large is not given: its first reports go out by
// themselves, and the fence is to be asked again when they are recorded.
func (s *State) replyFence(f handoff.Fence, t Token, kind handoff.Kind, reports []handoff.Report, whole bool) {
	if whole {
		s.reply(t, kind, reports...)
		return
	}
	for _, p := range reports {
		s.stats.Reports++
		s.emit(Publish{f.By, p})
	}
	s.reply(t, handoff.InProgress)
}

func compareRefs(a, b job.Ref) int {
	switch {
	case a.Journal != b.Journal:
		return strings.Compare(a.Journal.String(), b.Journal.String())
	case a.Before(b):
		return -1
	case b.Before(a):
		return 1
	}
	return 0
}
