package sim

import (
	"errors"
	"time"

	"crier/internal/sim/stream"
	"crier/state/ledger"
)

// The network: messages get lost, late and doubled; two processes may not reach each
// other, in one direction or both. What one sender sends to one subscription arrives in
// order, with gaps, as the bus has it; copies apart.

// Channels are the subscriptions of a process.
const (
	toHandoff = iota
	toFence
	toRecorded
	toSettle
	toAnew
	toReport
	toAnnounce
	toBeat
	toWant
	toBlock
	toOffer
	toMember // leases and hellos: a slow one would look like a death
	toReply
)

type route struct {
	from, to *proc
	channel  int
}

func (w *World) isCut(from, to *proc) bool { return w.cuts[[2]int{from.n, to.n}] }

// flight is how long a message takes.
func (w *World) flight() time.Duration {
	switch {
	case w.bad(w.weather.slow):
		return w.upTo(8 * time.Second)
	case w.bad(w.weather.slow * 5):
		return w.upTo(300 * time.Millisecond)
	}
	return 200*time.Microsecond + w.upTo(2*time.Millisecond)
}

// send publishes to a process: fn runs there, or never, or twice.
func (w *World) send(from, to *proc, channel int, fn func()) {
	if w.isCut(from, to) || w.bad(w.weather.loss) {
		w.counts.Lost++
		return
	}
	at := w.now + w.flight()
	if channel == toMember {
		at = w.now + w.upTo(2*time.Millisecond)
	}
	r := route{from, to, channel}
	if channel != toReply {
		at = max(at, w.lastAt[r])
		w.lastAt[r] = at
	}
	arrive := func() {
		if to.up && !w.isCut(from, to) {
			w.do(event{p: to, gen: to.gen, fn: fn})
		}
	}
	w.push(event{at: at, fn: arrive})
	if w.bad(w.weather.copies) {
		w.counts.Copies++
		w.push(event{at: at + w.upTo(10*time.Second), fn: arrive})
	}
}

// ask publishes and waits for one answer; ok is false if none came in time.
func (w *World) ask(from, to *proc, channel int, patience time.Duration, handle func(answer func([]byte)), then func(b []byte, ok bool)) {
	done := false
	finish := func(b []byte, ok bool) {
		if !done {
			done = true
			then(b, ok)
		}
	}
	gen := from.gen
	w.timer(from, patience, func() { finish(nil, false) })
	w.send(from, to, channel, func() {
		handle(func(b []byte) {
			w.send(to, from, toReply, func() {
				if from.gen == gen {
					finish(b, true)
				}
			})
		})
	})
}

var errNoAnswer = errors.New("no answer from the stream")

const ledgerWait = 2 * time.Second

// appendTo appends to a stream, as a process sees it: an error may mean anything.
func (w *World) appendTo(p *proc, s *stream.Stream, subj string, last uint64, data []byte, then func(uint64, error)) {
	done := false
	finish := func(seq uint64, err error) {
		if !done {
			done = true
			then(seq, err)
		}
	}
	w.timer(p, ledgerWait, func() { finish(0, errNoAnswer) })
	if w.isCut(p, w.ledgerHost) || w.bad(w.weather.loss) {
		return
	}
	gen := p.gen
	store := func() {
		if w.ledgerHost.paused {
			return
		}
		seq, err := s.Store(w.mono(), subj, last, data)
		w.counts.Appends++
		if err == nil {
			w.trace("%s stored %s as %d", p.name, subj, seq)
		} else if kindOf(subj) == ofJournal && w.fold.Sealed(parsed(ledger.JournalOf(subj))) {
			w.counts.ZombieRefused++
		}
		if w.isCut(w.ledgerHost, p) || w.bad(w.weather.loss) {
			return
		}
		w.push(event{at: w.now + w.flight(), p: p, gen: gen, fn: func() { finish(seq, err) }})
	}
	r := route{p, w.ledgerHost, toReply}
	late := max(w.flight(), w.lastAt[r]-w.now)
	w.lastAt[r] = w.now + late // in the order in which they were sent
	if w.bad(w.weather.slow) {
		late = w.upTo(30 * time.Second)
	}
	w.at(late, store)
	if w.bad(w.weather.copies) {
		w.at(late+w.upTo(10*time.Second), store)
	}
}

// lastOf reads the last record of a subject.
func (w *World) lastOf(p *proc, s *stream.Stream, subj string, then func(ledger.Stored, error)) {
	done := false
	finish := func(st ledger.Stored, err error) {
		if !done {
			done = true
			then(st, err)
		}
	}
	w.timer(p, ledgerWait, func() { finish(ledger.Stored{}, errNoAnswer) })
	if w.isCut(p, w.ledgerHost) || w.bad(w.weather.loss) {
		return
	}
	gen := p.gen
	w.at(w.flight(), func() {
		if w.ledgerHost.paused || w.isCut(w.ledgerHost, p) {
			return
		}
		st, err := s.Last(background, subj)
		w.push(event{at: w.now + w.flight(), p: p, gen: gen, fn: func() { finish(st, err) }})
	})
}

// follower passes a stream's records on to a process, in order, some time later.
type follower struct {
	w        *World
	p        *proc
	s        *stream.Stream
	prefix   byte // the kind of subject: see kindOf
	next     uint64
	gen      uint64
	awake    bool
	fn       func(ledger.Stored)
	caughtUp func()
}

// Kinds of subjects.
const (
	ofJournal = iota
	ofClaim
	ofJob
	ofControl
	ofElse
)

func kindOf(subj string) byte {
	switch {
	case len(subj) > 6 && subj[:6] == "led.j.":
		return ofJournal
	case len(subj) > 10 && subj[:10] == "led.claim.":
		return ofClaim
	case len(subj) > 8 && subj[:8] == "led.job.":
		return ofJob
	case len(subj) > 4 && subj[:4] == "ctl.":
		return ofControl
	}
	return ofElse
}

func (w *World) follow(p *proc, s *stream.Stream, kind byte, from uint64, fn func(ledger.Stored), caughtUp func()) *follower {
	f := &follower{w: w, p: p, s: s, prefix: kind, next: max(1, from), gen: p.gen, fn: fn, caughtUp: caughtUp}
	w.followers = append(w.followers, f)
	if caughtUp != nil {
		w.every(p, 500*time.Millisecond, f.wake)
	}
	f.wake()
	return f
}

// stored wakes those who follow.
func (w *World) stored(s *stream.Stream, kind byte) {
	alive := w.followers[:0]
	for _, f := range w.followers {
		if f.p.gen != f.gen {
			continue
		}
		alive = append(alive, f)
		if f.s == s && (f.prefix == kind || kind == ofElse) {
			f.wake()
		}
	}
	w.followers = alive
}

func (f *follower) wake() {
	if f.awake {
		return
	}
	f.awake = true
	lag := time.Millisecond + f.w.upTo(8*time.Millisecond)
	if f.w.bad(f.w.weather.lag) {
		lag = f.w.upTo(4 * time.Second)
	}
	f.w.timer(f.p, lag, f.pump)
}

func (f *follower) pump() {
	w := f.w
	f.awake = false
	if w.ledgerHost.paused || w.isCut(w.ledgerHost, f.p) || w.isCut(f.p, w.ledgerHost) {
		f.awake = true
		w.timer(f.p, 200*time.Millisecond, f.pump)
		return
	}
	for end := f.s.Len(); f.next <= end && f.p.gen == f.gen && f.p.up; {
		st, ok := f.s.At(f.next)
		f.next++
		if ok && kindOf(st.Subject) == f.prefix {
			f.fn(st)
		}
	}
	if f.caughtUp != nil && f.p.gen == f.gen {
		f.caughtUp()
	}
}
