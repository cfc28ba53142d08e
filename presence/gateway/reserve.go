package gateway

import (
	"slices"
	"time"
	"unicode/utf8"

	"crier/internal/idset"
	"crier/job"
	"crier/presence/handoff"
)

// Where an accepted recipient stands. The first is the only one that changes.
const (
	standsWaiting uint8 = iota
	standsAcked
	standsNotHere // no byte went to any socket
	standsUnacked
	standsMute
)

// reserve is a hand-off that was accepted here and that its owner has not closed.
type reserve struct {
	ref       job.Ref
	job       job.ID
	urgent    uint8
	refused   bool     // for good: its message cannot be shown
	withdraws bool     // its message takes another back
	ids       []uint32 // accepted, ascending: the index is the rank
	stands    []uint8  // by rank
	since     []uint8  // by rank: the report that first says so, at most 255
	away      []uint32 // targets that were not here
	unable    []uint32 // targets who are, with clients that cannot take back what is withdrawn
	born      uint64   // younger connections do not get it: the file does not speak of them
	cursor    int      // ranks below have left for the sockets
	body      *body    // until all have left
	writing   bool     // the accepted-file does not have it yet
	token     Token    // of the request, while writing
	waiting   int
	dirty     bool   // something changed since the last version
	version   uint32 // of the last report
	recorded  uint32 // the last version that is durable
	reported  time.Duration
	settled   Bits // by rank: may be forgotten by its clients
	index     int  // in State.live
}

func (r *reserve) bytes() int {
	return 256 + 6*len(r.ids) + 4*len(r.away) + 4*len(r.unable) + len(r.ids)/8
}

// queuedAt reports whether a rank has not left for the sockets yet.
func (r *reserve) queuedAt(rank uint32) bool { return int(rank) >= r.cursor }

// journal is what this incarnation knows of a worker's journal.
type journal struct {
	settled job.Ref // every reserve up to here is closed
	fenced  bool
	by      []job.Journal       // who fenced it, the last few: reports go to all of them
	closed  map[closed]struct{} // closed here, above settled: a late copy is answered so
}

type closed struct {
	n     uint64
	entry uint16
}

// moreOwners is how many of those that fenced a journal get its reports. Two taking
// over from each other may fence it in turn, and a late copy of a fence must not
// turn the reports away from who is right; the others ignore them.
const moreOwners = 4

func (s *State) journal(j job.Journal) *journal {
	x := s.journals[j]
	if x == nil && len(s.journals) < maxJournals {
		x = &journal{closed: map[closed]struct{}{}}
		s.journals[j] = x
	}
	return x
}

// advance moves the watermark and forgets what it passes.
func (s *State) advance(j *journal, of job.Journal, to job.Ref) {
	if to.Journal != of || !j.settled.Before(to) {
		return
	}
	j.settled = to
	for c := range j.closed {
		if !to.Before(job.Ref{N: c.n, Entry: c.entry}) {
			delete(j.closed, c)
			s.stats.Closed--
		}
	}
}

func (j *journal) isClosed(r job.Ref) bool {
	_, ok := j.closed[closed{r.N, r.Entry}]
	return ok || !j.settled.Before(r)
}

// handedOff answers a hand-off, or accepts it (rule 9). A copy, whenever it comes,
// changes nothing: it is seen, settled or fenced, in this order.
func (s *State) handedOff(h *handoff.Handoff, t Token) {
	if h.To != s.inc {
		s.handedToEnded(h, t)
		return
	}
	j := s.journal(h.Ref.Journal)
	if j == nil {
		s.putOff(t)
		return
	}
	s.advance(j, h.Ref.Journal, h.Settled)
	if j.fenced {
		s.stats.Fenced++
	}
	r := s.reserves[h.Ref]
	switch {
	case r != nil && r.writing:
		s.reply(t, handoff.InProgress)
	case r != nil:
		s.reply(t, handoff.Accepted, s.report(r))
	case j.isClosed(h.Ref):
		s.reply(t, handoff.Settled)
	case j.fenced:
		s.reply(t, handoff.Fenced)
	case h.Targets.IsEmpty():
		s.reply(t, handoff.Accepted, handoff.Report{Ref: h.Ref, Inc: s.inc, Job: h.Job, Version: 1, Rest: handoff.RestAcked})
	default:
		s.take(h, t)
	}
}

func (s *State) putOff(t Token) {
	s.stats.Busy++
	s.reply(t, handoff.InProgress)
}

// take accepts what can be accepted of a hand-off seen for the first time.
func (s *State) take(h *handoff.Handoff, t Token) {
	if len(s.reserves)+s.stats.Closed >= s.cfg.Reserves || s.stats.ReserveBytes >= s.cfg.ReserveBytes {
		s.putOff(t)
		return
	}
	b := s.bodies.get(h.Job)
	switch {
	case h.Message != nil && !showable(h.Message):
		s.refuse(h, t)
		return
	case b == nil && h.Message == nil:
		s.reply(t, handoff.NeedBody)
		return
	case b == nil:
		if b = s.bodies.put(h.Job, h.Message); b == nil {
			s.putOff(t)
			return
		}
	}
	r := &reserve{ref: h.Ref, job: h.Job, urgent: min(h.Urgent, levels-1), withdraws: !b.message.Withdraws.IsZero(), body: b, born: s.born,
		token: t, writing: true}
	mute, acked := s.sort(r, h.Targets)
	s.add(r)
	s.stats.Accepted += uint64(len(r.ids))
	s.stats.NotHere += uint64(len(r.away))
	s.stats.Refused += uint64(len(r.unable))
	if len(r.ids) == 0 {
		r.writing, r.body = false, nil
		s.reply(t, handoff.Accepted, s.report(r))
		return
	}
	b.pins++
	s.emit(Append{Record{Ref: r.ref, Job: r.job, IDs: r.ids, Away: r.unaccepted(), Mute: mute, Acked: acked}})
}

// unaccepted are the targets that got nothing, ascending.
func (r *reserve) unaccepted() []uint32 {
	if len(r.unable) == 0 {
		return r.away
	}
	return slices.Sorted(slices.Values(slices.Concat(r.away, r.unable)))
}

// showable reports whether a message can be written as a frame.
func showable(m *handoff.Message) bool {
	return len(m.Body) <= job.MaxBody && utf8.Valid(m.Body) && utf8.ValidString(m.AccountName) && utf8.ValidString(m.CollapseKey)
}

// refuse takes a hand-off whose message no client could be sent, ever.
func (s *State) refuse(h *handoff.Handoff, t Token) {
	r := &reserve{ref: h.Ref, job: h.Job, refused: true, away: slices.Collect(h.Targets.All())}
	s.add(r)
	s.stats.Refused += uint64(len(r.away))
	s.reply(t, handoff.Accepted, s.report(r))
}

func (s *State) add(r *reserve) {
	r.index = len(s.live)
	s.live = append(s.live, r)
	s.reserves[r.ref] = r
	s.stats.ReserveBytes += r.bytes()
	r.reported = s.now
	r.dirty = true
}

// sort parts the targets into accepted and away, and enters the accepted ones with
// their recipients. It gives the bits for the accepted-file.
func (s *State) sort(r *reserve, targets *idset.Set) (mute, acked Bits) {
	n := targets.Card()
	r.ids = make([]uint32, 0, n)
	mute, acked = MakeBits(n), MakeBits(n)
	for id := range targets.All() {
		p := s.people[job.Recipient(id)]
		here, has, quiet, unable := s.judge(p, r)
		if !here && !has {
			if unable {
				r.unable = append(r.unable, id)
			} else {
				r.away = append(r.away, id)
			}
			continue
		}
		rank := uint32(len(r.ids))
		r.ids = append(r.ids, id)
		p.queued = append(p.queued, r)
		if quiet {
			mute.Set(int(rank))
		}
		if has {
			acked.Set(int(rank))
			s.stats.Acknowledged++
		} else {
			p.open = append(p.open, open{res: r, rank: rank})
			r.waiting++
		}
	}
	r.ids = slices.Clip(r.ids)
	r.stands, r.since = make([]uint8, len(r.ids)), make([]uint8, len(r.ids))
	for rank := range r.ids {
		if acked.Has(rank) {
			r.stands[rank], r.since[rank] = standsAcked, 1
		}
	}
	return mute, acked
}

// judge looks at a recipient for a reserve's message. here: some connection has room or
// got it already; has: some client has it; quiet: some client does not say what it has;
// unable: no client can take it, and none of them is so new that it may yet say so.
func (s *State) judge(p *person, r *reserve) (here, has, quiet, unable bool) {
	if p == nil {
		return
	}
	unable = len(p.conns) > 0
	for _, c := range p.conns {
		e := c.find(r.job)
		has = has || e != nil && e.has
		if r.withdraws && !c.takes {
			unable = unable && (c.speaks || s.now-c.since >= helloAge)
			continue
		}
		unable = false
		here = here || e != nil && !c.closing || e == nil && s.room(c)
		quiet = quiet || !c.speaks
	}
	return here, has, quiet, unable
}

// written goes on when the accepted-file has a reserve: only now is it answered and
// may leave (rule 10). If the file could not take it, nothing of it happened.
func (s *State) written(ev Written) {
	r := s.reserves[ev.Ref]
	if r == nil || !r.writing {
		return
	}
	r.writing = false
	if !ev.OK {
		s.withdraw(r)
		s.putOff(r.token)
		return
	}
	s.queues[r.urgent] = append(s.queues[r.urgent], r)
	s.pending++
	s.reply(r.token, handoff.Accepted, s.report(r))
}

// withdraw undoes take.
func (s *State) withdraw(r *reserve) {
	for _, id := range r.ids {
		p := s.people[job.Recipient(id)]
		p.queued = slices.DeleteFunc(p.queued, func(o *reserve) bool { return o == r })
		p.open = slices.DeleteFunc(p.open, func(o open) bool { return o.res == r })
		s.forget(p)
	}
	s.bodies.unpin(r.body)
	s.drop(r)
}

// drop takes a reserve out of the state.
func (s *State) drop(r *reserve) {
	last := len(s.live) - 1
	s.live[r.index] = s.live[last]
	s.live[r.index].index = r.index
	s.live[last] = nil
	s.live = s.live[:last]
	delete(s.reserves, r.ref)
	s.stats.ReserveBytes -= r.bytes()
}
