package gateway

import (
	"fmt"
	"time"

	"crier/job"
	"crier/presence/handoff"
)

// MaxHave is the most ids that a client's hello may list.
const MaxHave = 256

// Rhythms and sizes that are no matter of configuration.
const (
	piece        = 1024                   // recipients that leave before anything else is looked at
	batchWithin  = 5 * time.Millisecond   // joins wait this long for others of their range
	scanEvery    = 100 * time.Millisecond // reports
	watchEvery   = time.Second            // unacknowledged messages
	beatEvery    = time.Second
	repeatEvery  = time.Second      // reports and announcements without an answer
	settledBatch = 16               // settled ids that are not kept waiting
	tellAgain    = 30 * time.Second // what a client has and nobody settled is told its home again, then after twice as long
	redirectAge  = 10 * time.Second // a younger connection is not redirected, so that nobody goes in circles
	helloAge     = 10 * time.Second // the hello of a younger connection may still come, and say what it can
	maxJournals  = 1 << 16
	levels       = 100 // of urgency
)

// Config is what a State needs to know. Zero fields take their defaults.
type Config struct {
	Incarnation  job.Incarnation
	History      History
	Window       int           // unsettled ids a connection may have; default 64
	AckWithin    time.Duration // until an unacknowledged message closes its connection; default 30 s
	ReserveBytes int           // memory of open reserves; default 64 MiB; beyond it hand-offs are "in progress"
	Reserves     int           // reserves remembered, open or above the watermark; default 65,536; beyond it likewise
	URL          string        // where clients connect; "" if it is not known, and nobody is sent here
	BodyBytes    int           // memory of message bodies; default 64 MiB; the least recently used go first
	// SettleWithin is how long settled ids wait for a message to be told with; default 500 ms.
	// Below scanEvery they are told at each scan, and wait for no message.
	SettleWithin time.Duration
}

func (c *Config) fill() error {
	if c.Window == 0 {
		c.Window = 64
	}
	if c.AckWithin == 0 {
		c.AckWithin = 30 * time.Second
	}
	if c.ReserveBytes == 0 {
		c.ReserveBytes = 64 << 20
	}
	if c.Reserves == 0 {
		c.Reserves = 1 << 16
	}
	if c.BodyBytes == 0 {
		c.BodyBytes = 64 << 20
	}
	if c.SettleWithin == 0 {
		c.SettleWithin = 500 * time.Millisecond
	}
	switch {
	case !job.ValidName(c.Incarnation.Gateway):
		return job.Invalid("incarnation", fmt.Sprintf("gateway name %q: want 1 to 64 letters, digits, - or _", c.Incarnation.Gateway), nil)
	case c.Window < 1 || c.Window > MaxHave:
		return job.Invalid("window", fmt.Sprintf("window %d: want 1 to %d", c.Window, MaxHave), nil)
	case c.AckWithin < 0:
		return job.Invalid("ack_within", "the time to acknowledge is negative", nil)
	case c.SettleWithin < 0:
		return job.Invalid("settle_within", "the time until settled ids are told is negative", nil)
	case c.ReserveBytes < 0, c.Reserves < 0, c.BodyBytes < job.MaxBody:
		return job.Invalid("memory", fmt.Sprintf("memory bounds must be positive, that of bodies at least %d bytes", job.MaxBody), nil)
	}
	return nil
}

// State is a gateway incarnation. It belongs to one goroutine.
type State struct {
	cfg Config
	inc job.Incarnation
	out []Effect
	now time.Duration

	conns  map[Conn]*conn
	order  []*conn // the same, in an order that depends on events only
	born   uint64  // counts connections
	people map[job.Recipient]*person

	reserves map[job.Ref]*reserve
	live     []*reserve // the same, in an order that depends on events only
	queues   [levels][]*reserve
	pending  int // reserves in queues
	journals map[job.Journal]*journal
	bodies   cache
	ended    map[uint32]*ended

	announcers map[job.Range]*announcer
	announcing []*announcer // the same, in order of creation
	flights    uint64
	flushAt    time.Duration
	settling   []*conn // have settled ids to be told
	spare      []*conn // the other of two lists that take turns
	scanned    time.Duration
	told       time.Duration // when settled ids were told
	watched    time.Duration
	beatAt     time.Duration
	stats      Stats
}

// Stats says how much there is now and how much there ever was.
type Stats struct {
	Connections, Recipients              int
	Reserves, ReserveBytes, Closed       int // open; their memory; closed above the watermark
	Bodies, BodyBytes                    int
	Accepted, NotHere, Refused           uint64 // recipients of hand-offs
	Acknowledged, Unacknowledged, Muted  uint64
	Delivered, Settled, Reports, Busy    uint64 // messages to sockets; ids; reports published; hand-offs put off
	Fenced                               uint64 // hand-offs of journals that are fenced: nothing of them is taken
	ClosedUnacknowledged, ClosedReplaced uint64
	ClosedMoved                          uint64
}

// New makes the state of an incarnation that starts.
func New(cfg Config) (*State, error) {
	if err := cfg.fill(); err != nil {
		return nil, err
	}
	s := &State{
		cfg: cfg, inc: cfg.Incarnation,
		conns: map[Conn]*conn{}, people: map[job.Recipient]*person{},
		reserves: map[job.Ref]*reserve{}, journals: map[job.Journal]*journal{},
		announcers: map[job.Range]*announcer{},
		bodies:     newCache(cfg.BodyBytes),
	}
	s.ended = newEnded(cfg.History)
	return s, nil
}

// Step takes one event in. now never goes back and counts from the start of the
// gateway. The effects are valid until the next Step.
func (s *State) Step(now time.Duration, ev Event) []Effect {
	clear(s.out)
	s.out = s.out[:0]
	s.now = max(now, s.now)
	switch ev := ev.(type) {
	case Connected:
		s.connected(ev)
	case Disconnected:
		s.disconnected(ev)
	case Acked:
		s.acked(ev)
	case HandedOff:
		s.handedOff(ev.Request, ev.Token)
	case Fenced:
		s.fence(ev.Request, ev.Token)
	case Recorded:
		s.recorded(ev)
	case Settled:
		s.settled(ev)
	case Announced:
		s.announced(ev)
	case Anew:
		for _, r := range ev.Ranges {
			s.askedAnew(r)
		}
	case Redirected:
		s.redirected(ev)
	case Written:
		s.written(ev)
	case Pump:
		s.pump()
	case Tick:
		s.tick()
	}
	return s.out
}

// Pending reports whether a Pump is due.
func (s *State) Pending() bool { return s.pending > 0 }

// Next is when the next Tick is due.
func (s *State) Next() time.Duration {
	next := s.scanned + scanEvery
	if s.flushAt > 0 {
		next = min(next, s.flushAt)
	}
	return next
}

// Window is the number of unsettled ids a connection may have.
func (s *State) Window() int { return s.cfg.Window }

// Open counts the reserves that no Recorded has closed yet.
func (s *State) Open() int { return len(s.reserves) }

// Quiet reports whether everything has come to its end: nobody is connected, every
// home knows that, and every report is recorded.
func (s *State) Quiet() bool {
	if len(s.conns)+len(s.reserves) > 0 {
		return false
	}
	for _, a := range s.announcing {
		if a.flight != nil || len(a.dirty) > 0 {
			return false
		}
	}
	return true
}

// Stats tells the state's size and counters.
func (s *State) Stats() Stats {
	st := s.stats
	st.Connections, st.Recipients, st.Reserves = len(s.conns), len(s.people), len(s.reserves)
	st.Bodies, st.BodyBytes = len(s.bodies.byJob), s.bodies.bytes
	return st
}

func (s *State) emit(e Effect) { s.out = append(s.out, e) }

func (s *State) reply(t Token, k handoff.Kind, reports ...handoff.Report) {
	s.emit(Reply{t, handoff.Answer{Kind: k, Reports: reports}})
}

func (s *State) tick() {
	if s.flushAt > 0 && s.now >= s.flushAt {
		s.flushAnnouncements()
	}
	if s.now < s.scanned+scanEvery {
		return
	}
	s.scanned = s.now
	if s.now >= s.told+s.cfg.SettleWithin {
		s.told = s.now
		s.tellAllSettled()
	}
	for _, r := range s.live {
		s.reportIfDue(r)
	}
	s.repeatAnnouncements()
	if s.now >= s.beatAt {
		s.beatAt = s.now + beatEvery
		s.beat()
	}
	if s.now >= s.watched+watchEvery {
		s.watched = s.now
		s.watch()
	}
}
