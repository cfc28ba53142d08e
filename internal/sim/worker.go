package sim

import (
	"time"

	"crier/internal/idset"
	"crier/job"
	"crier/state/ledger"
	"crier/state/parked"
	"crier/worker/arrivals"
	"crier/worker/home"
	"crier/worker/journal"
	"crier/worker/lane"
	"crier/worker/outbound"
	"crier/worker/tenure"
)

// worker is one worker: its machine's disk, and the start that runs, if any.
type worker struct {
	w      *World
	p      *proc
	name   string
	disk   *disk
	boot_  int // starts of its machine
	starts uint32
	silent bool // an operator's order
	sched  bool // a scheduler runs in the same process
	run    *start
}

// start is one start of a worker: the shell of production, in the same order, around
// the same cores.
type start struct {
	x        *worker
	w        *World
	p        *proc
	mine     job.Journal
	former   []job.Journal
	closed   []job.Journal  // those of them of which nothing is open, or is this one's to close
	had      []ledger.Claim // by which it closes what its former journals left open
	index    *parked.Index
	table    *table
	claims   map[ledger.Thing]ledger.Claim
	members  *membership
	member   *member // nil: the simple ring
	presence *whereabouts
	arrivals *arrivals.Intake
	known    map[job.Journal]bool

	journal  *journal.State
	lanes    *lane.State
	outbound *outbound.State
	home     *home.State
	tenure   *tenure.State
	ring     *ring

	ready      bool
	tickets    map[journal.Ticket]func(journal.Durable, bool)
	ticket     journal.Ticket
	sent       map[sliceKey]bool
	slices     map[ledger.Thing]bool // claimed by this start
	full       map[job.Incarnation]bool
	begun      map[job.Range]time.Duration // when it became home
	fresh      map[job.Range]bool
	ticks      int
	early      map[job.Ref]bool
	ended      map[job.Range]map[jobID]bool
	redirects  map[job.Ref]*redirect
	handled    map[job.Ref]bool // before its reserve was durable
	piped      *pipeline
	sch        *scheduler
	since      time.Duration // when it began
	watched    time.Duration // when gateways were last looked at
	unreserved uint64
	pending    journal.Append

	charging map[job.Range][]func(next func()) // who charges, and who waits for it
	charged  map[uint64]func(bool)             // who waits for a charge, by its number
	asked    uint64                            // the number of the last one
	verdicts map[blockSpan]*ledger.Charge      // if charges are known by their block
}

type sliceKey struct {
	id     jobID
	number uint32
}

const (
	tickEvery   = 100 * time.Millisecond
	retryTicks  = int(time.Second / tickEvery)
	lookTicks   = 2
	sweepEvery  = 3 * time.Second
	takeWait    = 5 * time.Second
	ledgerRetry = 200 * time.Millisecond
	handOffWait = 5 * time.Second
	blockWait   = 3 * time.Second
	homePoll    = 200 * time.Millisecond
	learnFor    = 1500 * time.Millisecond
)

func (s *start) now() time.Time { return s.w.mono() }

// after runs in this start, if it still is the one.
func (s *start) after(d time.Duration, fn func()) { s.w.timer(s.p, d, fn) }

// post is what production posts to its loop.
func (s *start) post(fn func()) { s.w.timer(s.p, 0, fn) }

// has reports whether this worker is home to a range.
func (s *start) has(r job.Range) bool { _, ok := s.begun[r]; return ok }

// sealed reports whether a journal has no effect any more, as far as is known here.
func (s *start) sealed(j job.Journal) bool {
	return s.index.Sealed(j) || s.w.elsewhere[j] || s.w.rules.ActBeforeSealRead && s.w.fold.Sealed(j)
}

func (s *start) taker() ledger.Taker {
	return ledger.Taker{Journal: s.mine, Sealed: s.sealed, Read: s.index.Watermark}
}

// take claims a thing and says how that went.
func (s *start) take(thing ledger.Thing, patience time.Duration, then func(ledger.Claim, error)) {
	s.tryTake(thing, s.w.now+patience, 5*time.Millisecond, then)
}

func (s *start) tryTake(thing ledger.Thing, until, wait time.Duration, then func(ledger.Claim, error)) {
	w := s.w
	subj := ledger.ClaimSubject(thing)
	w.lastOf(s.p, w.ledger, subj, func(st ledger.Stored, err error) {
		last, err := claimOf(thing, st, err)
		if err != nil {
			then(last, err)
			return
		}
		mine, err := s.taker().Next(last, w.wall(s.p))
		if err != nil || mine.Epoch == last.Epoch {
			then(mine, err)
			return
		}
		w.appendTo(s.p, w.ledger, subj, last.Seq, mine.Bytes(), func(seq uint64, err error) {
			if mine.Seq = seq; err == nil || w.now > until {
				then(mine, err)
				return
			}
			s.after(wait, func() { s.tryTake(thing, until, min(2*wait, time.Second), then) })
		})
	})
}

func claimOf(thing ledger.Thing, st ledger.Stored, err error) (ledger.Claim, error) {
	if isNoRecord(err) {
		return ledger.Claim{Kind: thing.Kind, ID: thing.ID}, nil
	}
	if err != nil {
		return ledger.Claim{}, err
	}
	return ledger.ParseClaim(st)
}

// give releases a range.
func (s *start) give(e tenure.Give) {
	w := s.w
	subj := ledger.ClaimSubject(e.Claim.Thing())
	failed := func() { s.post(func() { s.doTenure(s.tenure.Step(s.now(), tenure.NotGiven{Range: e.Range})) }) }
	given := func() { s.post(func() { s.doTenure(s.tenure.Step(s.now(), tenure.Given{Range: e.Range})) }) }
	w.lastOf(s.p, w.ledger, subj, func(st ledger.Stored, err error) {
		last, err := claimOf(e.Claim.Thing(), st, err)
		if err != nil {
			failed()
			return
		}
		free, ok := e.Claim.Release(last, e.After, w.wall(s.p))
		if !ok {
			given()
			return
		}
		w.appendTo(s.p, w.ledger, subj, last.Seq, free.Bytes(), func(_ uint64, err error) {
			if err != nil {
				failed()
				return
			}
			w.counts.Moves++
			given()
		})
	})
}

// seal ends a journal; done is told whether that worked before patience ended.
func (s *start) seal(j job.Journal, until time.Duration, done func(bool)) {
	w := s.w
	subj := ledger.JournalSubject(j)
	again := func() {
		if w.now > until {
			done(false)
			return
		}
		s.after(ledgerRetry, func() { s.seal(j, until, done) })
	}
	if w.rules.SealElsewhere || w.rules.ClaimUnsealed {
		s.after(w.flight(), func() { w.sealedElsewhere(j, s.mine); done(true) })
		return
	}
	w.lastOf(s.p, w.ledger, subj, func(st ledger.Stored, err error) {
		if err != nil && !isNoRecord(err) {
			again()
			return
		}
		rec, sealed, err := ledger.SealAfter(j, st, s.mine, w.nonce())
		if err != nil || sealed {
			done(true)
			return
		}
		w.appendTo(s.p, w.ledger, subj, st.Seq, rec.Bytes(), func(_ uint64, err error) {
			if err != nil {
				again()
				return
			}
			done(true)
		})
	})
}

// openOf lists what a sealed journal left open.
func (s *start) openOf(j job.Journal) []outbound.Inherited {
	var out []outbound.Inherited
	for _, o := range s.index.OpenReserves(func(of job.Journal) bool { return of == j }) {
		out = append(out, outbound.Inherited{Key: outbound.Key{Ref: o.Ref, Inc: o.Inc}, Job: o.Job, Range: o.Range, Open: o.Set.Clone(), Doubted: o.Doubted})
	}
	return out
}

// feed passes a journal record on to the index, and tells the cores.
func (s *start) feed(st ledger.Stored) {
	changes, err := s.index.Apply(background, s.misread(st))
	if err != nil {
		s.w.fail("I1", "the index of %s: %v", s.mine, err)
		s.w.kill(s.p)
		return
	}
	s.refundAgain(st)
	s.noteJournal(st)
	s.w.compareIndex(s)
	var online []*idset.Set
	for _, c := range changes {
		if !s.has(c.Range) || c.Parked.IsEmpty() || s.w.rules.Stranded {
			continue
		}
		// No stranding (rule 20): the row is in the index; who is online now will not
		// log in for it.
		if on := s.presence.online(c.Parked); !on.IsEmpty() {
			online = append(online, on)
		}
	}
	s.post(func() {
		s.doHome(s.home.Step(home.Applied{Seq: st.Seq}))
		for _, on := range online {
			s.doHome(s.home.Step(home.Wanted{Who: on}))
		}
	})
}

// noteJournal tells the core of tenure about a journal that is new, or whose seal is
// applied now.
func (s *start) noteJournal(st ledger.Stored) {
	j, _, err := ledger.NameOf(st.Data)
	switch {
	case err != nil:
		return
	case j == s.mine:
		if s.index.Sealed(j) {
			s.post(func() { s.stopped("another has sealed it") })
		}
		return
	}
	was, seen := s.known[j]
	now := s.index.Sealed(j)
	s.known[j] = now
	switch {
	case now && !was:
		s.post(func() {
			s.doTenure(s.tenure.Step(s.now(), tenure.Sealed{Journal: j, Open: len(s.openOf(j)) > 0}))
		})
	case !seen:
		s.post(func() { s.doTenure(s.tenure.Step(s.now(), tenure.Seen{Journal: j})) })
	}
}
