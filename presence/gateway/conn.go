package gateway

import (
	"slices"
	"time"

	"crier/job"
)

// conn is one connection and the ids that its client has not been told to forget.
type conn struct {
	id       Conn
	born     uint64
	since    time.Duration
	person   *person
	client   uint64
	speaks   bool
	takes    bool // what is withdrawn back
	closing  bool // a Close is out; nothing more is sent
	told     bool // its hello is in an announcement
	toldAt   time.Duration
	retold   uint8 // how often its hello was told again, at most 5
	settling bool  // in State.settling
	settled  int   // entries that can be told
	index    int   // in State.order
	entries  []entry
}

// entry is one unsettled id: sent, or the client has it.
type entry struct {
	job     job.ID
	at      time.Duration // when it was sent
	has     bool          // acknowledged here, or listed by the client
	settled bool          // nobody needs the client to remember it
	mute    bool          // sent when the client had not said what it has
}

// person is a recipient with connections or open reserves.
type person struct {
	id     job.Recipient
	conns  []*conn
	open   []open     // accepted and waiting
	queued []*reserve // accepted, not yet sent; at most Window
}

// open is a place in a reserve that waits for this recipient's acknowledgement.
type open struct {
	res   *reserve
	rank  uint32
	wrote bool // to a socket that has ended
	mute  bool // such a client does not say what it has
}

func (c *conn) find(id job.ID) *entry {
	for i := range c.entries {
		if c.entries[i].job == id {
			return &c.entries[i]
		}
	}
	return nil
}

// room reports whether the window takes one more: have + sent − settled, and what
// is queued for the recipient.
func (s *State) room(c *conn) bool {
	return !c.closing && len(c.entries)+len(c.person.queued) < s.cfg.Window
}

// holds reports whether some connection got the message and may still acknowledge.
func (p *person) holds(id job.ID) bool {
	for _, c := range p.conns {
		if e := c.find(id); e != nil && !e.has {
			return true
		}
	}
	return false
}

func (s *State) connected(ev Connected) {
	c := s.conns[ev.Conn]
	switch {
	case c == nil:
		c = s.connect(ev)
	case c.speaks:
		return // only the first hello counts
	}
	c.speaks, c.takes, c.client, c.told = ev.Speaks, ev.Withdraws, ev.Client, false
	for _, id := range ev.Have[:min(len(ev.Have), MaxHave)] {
		s.hasIt(c, id)
	}
	// The same client is here anew: its former connection cannot be alive. What it
	// got there and does not have ends unacknowledged when that one has ended. Its
	// queue must not survive into the new one.
	for _, o := range c.person.conns {
		if o != c && c.client != 0 && o.client == c.client && !o.closing {
			s.close(o, Replaced)
		}
	}
	s.dirty(c.person.id)
}

func (s *State) connect(ev Connected) *conn {
	p := s.people[ev.Recipient]
	if p == nil {
		p = &person{id: ev.Recipient}
		s.people[ev.Recipient] = p
	}
	s.born++
	c := &conn{id: ev.Conn, born: s.born, since: s.now, person: p, index: len(s.order)}
	p.conns = append(p.conns, c)
	s.conns[c.id] = c
	s.order = append(s.order, c)
	return c
}

// hasIt notes that the client has a message: it counts as acknowledged.
func (s *State) hasIt(c *conn, id job.ID) {
	switch e := c.find(id); {
	case e == nil:
		c.entries = append(c.entries, entry{job: id, has: true})
	case !e.has:
		e.has = true
		if e.settled {
			s.canTell(c)
		}
	}
	s.ackOpen(c.person, id)
}

// ackOpen counts a message as acknowledged in every reserve that waits for it.
func (s *State) ackOpen(p *person, id job.ID) {
	for i := 0; i < len(p.open); {
		if o := p.open[i]; o.res.job == id {
			p.open = slices.Delete(p.open, i, i+1)
			s.stats.Acknowledged++
			s.emit(Mark{o.res.ref, o.rank})
			s.stands(o.res, o.rank, standsAcked)
		} else {
			i++
		}
	}
}

func (s *State) acked(ev Acked) {
	c := s.conns[ev.Conn]
	if c == nil {
		return
	}
	for _, id := range ev.IDs {
		if c.find(id) != nil {
			s.hasIt(c, id)
			continue
		}
		// It got the message on another connection. That is evidence for its home,
		// and the message is not sent here.
		if len(c.entries) < MaxHave {
			s.hasIt(c, id)
			c.told = false
			s.dirty(c.person.id)
		} else {
			s.ackOpen(c.person, id)
		}
	}
}

func (s *State) close(c *conn, why CloseReason) {
	c.closing = true
	if why == Replaced {
		s.stats.ClosedReplaced++
	} else {
		s.stats.ClosedUnacknowledged++
	}
	s.emit(Close{Conn: c.id, Why: why})
}

// redirected closes the connections of who belongs elsewhere, but for those of clients
// that do not speak the protocol: they would come back at once. What such a connection
// leaves unacknowledged ends as with any other.
func (s *State) redirected(ev Redirected) {
	for _, id := range ev.Who {
		p := s.people[id]
		if p == nil {
			continue
		}
		for _, c := range p.conns {
			if c.speaks && !c.closing && s.now-c.since >= redirectAge {
				c.closing = true
				s.stats.ClosedMoved++
				s.emit(Close{Conn: c.id, Why: Moved, To: ev.To})
			}
		}
	}
}

// disconnected works out who was written to and can no longer acknowledge. The
// same comes of a socket that broke and of one closed by either side.
func (s *State) disconnected(ev Disconnected) {
	c := s.conns[ev.Conn]
	if c == nil {
		return
	}
	p := c.person
	s.remove(c)
	for _, e := range c.entries {
		if !e.has {
			s.socketGone(p, e, !slices.Contains(ev.Unwritten, e.job))
		}
	}
	if len(p.conns) == 0 {
		s.dirty(p.id)
		s.forget(p)
	}
}

func (s *State) remove(c *conn) {
	last := len(s.order) - 1
	s.order[c.index] = s.order[last]
	s.order[c.index].index = c.index
	s.order[last] = nil
	s.order = s.order[:last]
	delete(s.conns, c.id)
	c.person.conns = slices.DeleteFunc(c.person.conns, func(o *conn) bool { return o == c })
}

// socketGone notes for one message that a socket that should have got it has ended.
func (s *State) socketGone(p *person, e entry, wrote bool) {
	for i := 0; i < len(p.open); {
		o := &p.open[i]
		if o.res.job == e.job && wrote {
			o.wrote, o.mute = true, o.mute || e.mute
		}
		if o.res.job == e.job && !o.res.queuedAt(o.rank) && !p.holds(e.job) {
			s.giveUp(p, i)
		} else {
			i++
		}
	}
}

// giveUp ends the wait for an acknowledgement: rule 15, unless no socket got a byte.
func (s *State) giveUp(p *person, i int) {
	o := p.open[i]
	p.open = slices.Delete(p.open, i, i+1)
	stands := standsNotHere
	switch {
	case o.wrote && o.mute:
		stands = standsMute
		s.stats.Muted++
	case o.wrote:
		stands = standsUnacked
		s.stats.Unacknowledged++
	default:
		s.stats.NotHere++
	}
	s.stands(o.res, o.rank, stands)
}

// forget drops a recipient without connections and open reserves.
func (s *State) forget(p *person) {
	if len(p.conns)+len(p.open)+len(p.queued) == 0 {
		delete(s.people, p.id)
	}
}

// watch closes connections with a message that is too long unacknowledged, and tells the
// home again what a client has that nobody has settled: the home's word may have got lost,
// or the outcome was open when it looked, and an unsettled id takes room in the window.
func (s *State) watch() {
	for _, c := range s.order {
		if c.closing {
			continue
		}
		again, after := false, tellAgain<<c.retold
		for _, e := range c.entries {
			if !e.has && s.now-e.at >= s.cfg.AckWithin {
				s.close(c, Unacknowledged)
				break
			}
			again = again || e.has && !e.settled && s.now-max(e.at, c.toldAt) >= after
		}
		if again && c.told && !c.closing && c.client != 0 { // else its home would take it for one more
			c.told, c.retold = false, min(c.retold+1, 5)
			s.announceSoon(c.person.id, false)
		}
	}
}

// settled takes a home's word that clients may forget ids.
func (s *State) settled(ev Settled) {
	if p := s.people[ev.Recipient]; p != nil && ev.Inc == s.inc {
		for _, id := range ev.Jobs {
			s.settle(p, id)
		}
	}
}

// settle lets every client of the recipient forget an id: at once if it has it,
// else once it has acknowledged.
func (s *State) settle(p *person, id job.ID) {
	for _, c := range p.conns {
		if e := c.find(id); e != nil && !e.settled {
			e.settled = true
			if e.has {
				s.canTell(c)
			}
		}
	}
}

// canTell notes that an id of the connection can be forgotten: told with the next
// message, or after a while, or now if many are waiting or take room that is needed.
func (s *State) canTell(c *conn) {
	c.settled++
	s.tellLater(c)
	if c.settled >= settledBatch || s.settlesPatiently() && len(c.entries) > s.cfg.Window/2 {
		s.tellSettled(c)
	}
}

// settlesPatiently reports whether settled ids wait for a message to be told with.
func (s *State) settlesPatiently() bool { return s.cfg.SettleWithin >= scanEvery }

func (s *State) tellLater(c *conn) {
	if !c.settling {
		c.settling = true
		s.settling = append(s.settling, c)
	}
}

func (s *State) tellAllSettled() {
	list := s.settling
	s.settling = s.spare[:0]
	for _, c := range list {
		c.settling = false
		if s.conns[c.id] == c {
			s.tellSettled(c)
		}
	}
	clear(list)
	s.spare = list[:0]
}

// tellSettled tells the client what it may forget. An id whose message is still
// queued for the recipient waits, or that queue would send it again.
func (s *State) tellSettled(c *conn) {
	var ids []job.ID
	c.settled = 0
	c.entries = slices.DeleteFunc(c.entries, func(e entry) bool {
		if !e.settled || !e.has {
			return false
		}
		if slices.ContainsFunc(c.person.queued, func(r *reserve) bool { return r.job == e.job }) {
			c.settled++
			return false
		}
		ids = append(ids, e.job)
		return true
	})
	if len(c.entries) == 0 {
		c.entries = nil
	}
	if c.settled > 0 {
		s.tellLater(c)
	}
	if len(ids) > 0 {
		s.stats.Settled += uint64(len(ids))
		s.emit(SendSettled{c.id, ids})
	}
}
