// Package journal is the pure core of a worker's journal: it gathers entries into
// records, keeps one append in flight, and reads an unclear answer back before it
// goes on (protocol rules 1 to 3).
//
// It guarantees that every ticket is answered exactly once: Durable with the
// place of its entry, or Refused or Stopped. After Stopped nothing is appended, and
// nothing ever is behind a seal, its owner's own included.
//
// Each Append is answered by one Stored or Unclear and, if it asks, by Rested, each ReadLast
// by one LastRecord, NoRecord or Unclear.
package journal

import (
	"fmt"
	"time"

	"crier/job"
	"crier/state/ledger"
)

// Ticket is the caller's name for an entry that it submitted; 0 names none, and is
// never answered.
type Ticket uint64

// Config is what a journal is started with.
type Config struct {
	Journal  job.Journal
	Boot     string          // boot id, written into the first record
	Nonce    func() [16]byte // randomness: a different value each time
	MaxBytes int             // size of a record from which on the next entry waits; default ledger.MaxRecord
	Shared   int             // groups in a record from which on the next one waits for Rested; default 4
}

// sharedRest is how much later than a record that many groups share the next one begins, at least: each
// costs a sync, a write to the index and messages to gateways, whatever it has. Who is alone, with
// one group after the other, waits for nothing.
const sharedRest = 3 * time.Millisecond

// State is a journal. The zero value is not usable; see New.
type State struct {
	cfg      Config
	next     uint64 // number of the next record
	last     uint64 // sequence of the last record of the subject
	prev     job.Digest
	queue    []submission
	inflight *attempt
	reading  bool
	resting  bool   // the next record waits for Rested
	stopped  string // reason; "" while it runs
	full     bool   // reserves are refused: 85 % of the stream is used (rule 3)
}

type submission struct {
	ticket     Ticket
	bytes      []byte
	containers int  // of its sets, see ledger.MaxContainers
	group      bool // it is the first of one
	seals      bool
}

type attempt struct {
	data    []byte
	nonce   [16]byte
	tickets []Ticket
	seals   bool // its last entry is a seal
	tries   int  // appends before the one that is out
}

// Event is one of Submit, Together, Stored, Rested, Unclear, LastRecord, NoRecord, Space.
type Event interface{ event() }

// Submit asks for an entry to be appended. A Charge, Reserve or Drain is refused while
// space is short.
type Submit struct {
	Ticket Ticket
	Entry  ledger.Entry
}

// Together is a group: submissions that may share a record, in their order.
type Together []Submit

// Stored is the stream's first OK to the append in flight.
type Stored struct{ Seq uint64 }

// Rested says that the time is over for which an append asked.
type Rested struct{}

// Unclear is any other answer to the append in flight, and any error of reading.
type Unclear struct{ Err error }

// LastRecord is the last record of the journal's subject.
type LastRecord struct{ Stored ledger.Stored }

// NoRecord says that the subject has no record.
type NoRecord struct{}

// Space tells whether the stream has room for reserves.
type Space struct{ Full bool }

func (Submit) event()     {}
func (Together) event()   {}
func (Stored) event()     {}
func (Rested) event()     {}
func (Unclear) event()    {}
func (LastRecord) event() {}
func (NoRecord) event()   {}
func (Space) event()      {}

// Effect is one of Append, ReadLast, Durable, Refused, Stopped.
type Effect interface{ effect() }

// Append asks for a conditional append to the journal's subject.
type Append struct {
	Last  uint64 // expected last sequence of the subject
	Data  []byte
	Tries int           // how often the same append was tried before; wait a little if it is not 0
	Rest  time.Duration // if not 0, answer it with Rested, too, so much later
}

// ReadLast asks for the last record of the journal's subject.
type ReadLast struct{}

// Durable says that an entry stands in the ledger.
type Durable struct {
	Ticket Ticket
	Ref    job.Ref
	Seq    uint64
}

// Refused says that an entry was not and will not be appended.
type Refused struct {
	Ticket Ticket
	Reason string
}

// Stopped says that the journal has ended: it is sealed, or it is not ours.
// What was queued is not in the ledger; what was in flight may be, before the
// seal, and is whoever's who sealed it.
type Stopped struct {
	Reason  string
	Tickets []Ticket
}

func (Append) effect()   {}
func (ReadLast) effect() {}
func (Durable) effect()  {}
func (Refused) effect()  {}
func (Stopped) effect()  {}

// New makes a journal and the append of its open record.
func New(cfg Config) (*State, []Effect) {
	if cfg.MaxBytes == 0 {
		cfg.MaxBytes = ledger.MaxRecord
	}
	if cfg.Shared == 0 {
		cfg.Shared = 4
	}
	s := &State{cfg: cfg}
	s.queue = []submission{{bytes: ledger.EncodeEntry(ledger.Open{Boot: cfg.Boot})}}
	return s, s.pump(nil)
}

// Running reports whether the journal still accepts.
func (s *State) Running() bool { return s.stopped == "" }

// Idle reports whether nothing is queued or in flight.
func (s *State) Idle() bool { return s.inflight == nil && len(s.queue) == 0 }

// Step takes one event in and says what to do.
func (s *State) Step(ev Event) []Effect {
	switch ev := ev.(type) {
	case Submit:
		return s.pump(s.submit(ev, false, nil))
	case Together:
		var out []Effect
		for i, e := range ev {
			out = s.submit(e, i == 0, out)
		}
		return s.pump(out)
	}
	if s.stopped != "" {
		return nil
	}
	switch ev := ev.(type) {
	case Space:
		s.full = ev.Full
	case Stored:
		// A sequence that is not new is a late copy of an earlier answer.
		if s.inflight != nil && !s.reading && ev.Seq > s.last {
			return s.stored(ev.Seq)
		}
	case Rested:
		s.resting = false
		return s.pump(nil)
	case Unclear:
		if s.inflight != nil {
			s.reading = true
			return []Effect{ReadLast{}}
		}
	case NoRecord:
		if s.reading {
			return s.none()
		}
	case LastRecord:
		if s.reading {
			return s.compare(ev.Stored)
		}
	}
	return nil
}

// submit queues an entry, or refuses it.
func (s *State) submit(ev Submit, group bool, out []Effect) []Effect {
	if s.stopped != "" {
		return append(out, Refused{ev.Ticket, s.stopped})
	}
	if s.full && takes(ev.Entry) {
		return append(out, Refused{ev.Ticket, "the ledger is over 85 % of its limit; reserving waits for space"})
	}
	_, seals := ev.Entry.(ledger.Seal)
	s.queue = append(s.queue, submission{ev.Ticket, ledger.EncodeEntry(ev.Entry), ledger.Containers(ev.Entry), group, seals})
	return out
}

// takes reports whether the entry starts new work, for which space is not kept.
func takes(e ledger.Entry) bool {
	switch e.(type) {
	case *ledger.Charge, *ledger.Reserve, *ledger.Drain:
		return true
	}
	return false
}

// pump starts the next append if none is in flight and the journal does not rest. A seal is the last entry of
// its record: what is queued behind it is never appended.
func (s *State) pump(out []Effect) []Effect {
	if s.inflight != nil || s.resting || len(s.queue) == 0 {
		return out
	}
	a := &attempt{nonce: s.cfg.Nonce()}
	size, held, groups, n := 0, 0, 0, 0
	for n < len(s.queue) && n < ledger.MaxEntries && !a.seals {
		size += len(s.queue[n].bytes)
		held += s.queue[n].containers
		if n > 0 && (size > s.cfg.MaxBytes || held > ledger.MaxContainers) {
			break
		}
		a.seals = s.queue[n].seals
		if s.queue[n].group {
			groups++
		}
		n++
	}
	entries := make([][]byte, n)
	for i, q := range s.queue[:n] {
		entries[i] = q.bytes
		a.tickets = append(a.tickets, q.ticket)
	}
	s.queue = append(s.queue[:0:0], s.queue[n:]...)
	a.data = ledger.EncodeRecord(ledger.Record{Journal: s.cfg.Journal, N: s.next, Nonce: a.nonce, Prev: s.prev}, entries)
	s.inflight = a
	next := Append{Last: s.last, Data: a.data}
	if s.resting = groups >= s.cfg.Shared; s.resting {
		next.Rest = sharedRest
	}
	return append(out, next)
}

// stored settles the append in flight and starts the next.
func (s *State) stored(seq uint64) []Effect {
	var out []Effect
	for i, t := range s.inflight.tickets {
		if t != 0 {
			out = append(out, Durable{t, job.Ref{Journal: s.cfg.Journal, N: s.next, Entry: uint16(i)}, seq})
		}
	}
	s.prev, s.last = ledger.HashOf(s.inflight.data), seq
	s.next++
	seals := s.inflight.seals
	s.inflight, s.reading = nil, false
	if seals {
		return append(out, s.stop("it was sealed by its owner")...)
	}
	return s.pump(out)
}

// compare decides what an unclear answer meant (rule 2): my nonce, it is stored;
// the record before mine, it is not; anything else, the journal is not mine any more.
func (s *State) compare(st ledger.Stored) []Effect {
	rec, err := ledger.ParseRecord(st.Data)
	switch {
	case err != nil:
		return s.stop(fmt.Sprintf("its last record cannot be read: %v", err))
	case rec.Sealed() && rec.Nonce != s.inflight.nonce:
		return s.stop("it was sealed by " + sealer(rec))
	case rec.Nonce == s.inflight.nonce:
		return s.stored(st.Seq)
	case st.Seq == s.last:
		return s.retry()
	case st.Seq < s.last:
		return []Effect{ReadLast{}} // a replica that lags has answered
	}
	return s.stop(fmt.Sprintf("record %d of it was written by another", rec.N))
}

func sealer(rec ledger.Record) string {
	for _, e := range rec.Entries {
		if seal, ok := e.(ledger.Seal); ok && !seal.By.IsZero() {
			return seal.By.String()
		}
	}
	return "its next owner"
}

// none retries the open record; a journal that had records and has none is lost.
func (s *State) none() []Effect {
	if s.last != 0 {
		return s.stop("its records are gone")
	}
	return s.retry()
}

// retry appends the same bytes again: with the same nonce, so that whichever of
// the tries was stored is known as mine.
func (s *State) retry() []Effect {
	s.reading = false
	s.inflight.tries++
	return []Effect{Append{Last: s.last, Data: s.inflight.data, Tries: s.inflight.tries}}
}

func (s *State) stop(reason string) []Effect {
	s.stopped = reason
	var tickets []Ticket
	if s.inflight != nil {
		for _, t := range s.inflight.tickets {
			if t != 0 {
				tickets = append(tickets, t)
			}
		}
	}
	for _, q := range s.queue {
		if q.ticket != 0 {
			tickets = append(tickets, q.ticket)
		}
	}
	s.inflight, s.queue = nil, nil
	return []Effect{Stopped{reason, tickets}}
}
