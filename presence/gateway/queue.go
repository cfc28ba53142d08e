package gateway

import (
	"slices"

	"crier/job"
)

// pump sends the next piece of the most urgent reserve, so that an urgent job
// passes inside a block.
func (s *State) pump() {
	left := piece
	for level := levels - 1; level >= 0 && left > 0; level-- {
		for left > 0 && len(s.queues[level]) > 0 {
			r := s.queues[level][0]
			left -= s.send(r, left)
			if r.cursor == len(r.ids) {
				s.queues[level] = slices.Delete(s.queues[level], 0, 1)
				s.pending--
				s.bodies.unpin(r.body)
				r.body = nil
			}
		}
	}
}

// send lets up to n recipients of a reserve leave and tells how many did.
func (s *State) send(r *reserve, n int) int {
	n = min(n, len(r.ids)-r.cursor)
	conns := make([]Conn, 0, n)
	for range n {
		rank := r.cursor
		r.cursor++
		p := s.people[job.Recipient(r.ids[rank])]
		at := slices.Index(p.queued, r)
		p.queued = slices.Delete(p.queued, at, at+1)
		conns = s.sendTo(p, r, conns)
		if r.stands[rank] == standsWaiting && !p.holds(r.job) {
			s.giveUp(p, slices.IndexFunc(p.open, func(o open) bool { return o.res == r }))
		}
		s.forget(p)
	}
	if len(conns) > 0 {
		s.stats.Delivered += uint64(len(conns))
		s.emit(Deliver{Job: r.job, Message: r.body.message, Conns: conns})
	}
	return n
}

// sendTo enters the message with the recipient's connections that lack it.
func (s *State) sendTo(p *person, r *reserve, conns []Conn) []Conn {
	for _, c := range p.conns {
		if c.closing || c.born > r.born || r.withdraws && !c.takes || len(c.entries) >= s.cfg.Window || c.find(r.job) != nil {
			continue
		}
		c.entries = append(c.entries, entry{job: r.job, at: s.now, mute: !c.speaks})
		conns = append(conns, c.id)
		if c.settled > 0 && s.settlesPatiently() { // it leaves in the same piece as the message
			s.tellSettled(c)
		}
	}
	return conns
}
