package journal

import (
	"bytes"
	"encoding/binary"
	"errors"
	"flag"
	"fmt"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"crier/internal/idset"
	"crier/job"
	"crier/state/ledger"
)

func init() { // before the command line, which may say otherwise
	flag.Set("rapid.checks", "1000")
	flag.Set("rapid.steps", "100")
	flag.Set("rapid.nofailfile", "true")
}

var (
	mine  = job.Journal{Worker: "w1", Incarnation: 4}
	taker = job.Journal{Worker: "w2", Incarnation: 9}
)

// subject is the journal's subject as a stream with faults has it: requests stay
// on the wire, are stored late, or are lost, and so are the answers.
type subject struct {
	records []ledger.Stored
	foreign []bool // of each record: not the journal's own
	seq     uint64 // of the stream, which has other subjects too
	wire    []Append
}

func (s *subject) last() uint64 {
	if len(s.records) == 0 {
		return 0
	}
	return s.records[len(s.records)-1].Seq
}

func (s *subject) store(last uint64, data []byte, foreign bool) (uint64, bool) {
	if last != s.last() {
		return 0, false
	}
	s.seq += 1 + s.seq%3 // others write in between
	s.records = append(s.records, ledger.Stored{Seq: s.seq, Data: data})
	s.foreign = append(s.foreign, foreign)
	return s.seq, true
}

// rig runs a journal against a subject and keeps what the oracle needs.
type rig struct {
	t       fatal
	s       *State
	sub     subject
	nonces  uint64
	out     *Append  // the append that is not answered yet
	reads   int      // reads that are not answered yet
	oks     []uint64 // OKs that were delivered, to be repeated late
	stale   []ledger.Stored
	tickets Ticket
	entries map[Ticket][]byte // as submitted
	sent    []Ticket          // in the order of submission, without the refused
	durable map[Ticket]Durable
	refused map[Ticket]bool
	stopped map[Ticket]bool
	ended   bool
	full    bool
	resting bool
}

type fatal interface{ Fatalf(string, ...any) }

func newRig(t fatal, maxBytes, shared int) *rig {
	r := &rig{t: t, entries: map[Ticket][]byte{}, durable: map[Ticket]Durable{}, refused: map[Ticket]bool{}, stopped: map[Ticket]bool{}}
	nonce := func() [16]byte {
		r.nonces++
		var n [16]byte
		binary.BigEndian.PutUint64(n[:], r.nonces)
		return n
	}
	s, effects := New(Config{Journal: mine, Boot: "b", Nonce: nonce, MaxBytes: maxBytes, Shared: shared})
	r.s = s
	r.take(effects)
	return r
}

func (r *rig) step(ev Event) {
	if stored, ok := ev.(Stored); ok {
		r.oks = append(r.oks, stored.Seq)
	}
	r.take(r.s.Step(ev))
}

func (r *rig) settle(t Ticket) {
	_, isDurable := r.durable[t]
	if t == 0 || r.entries[t] == nil || isDurable || r.refused[t] || r.stopped[t] {
		r.t.Fatalf("ticket %d is unknown or settled already", t)
	}
}

func (r *rig) take(effects []Effect) {
	for _, e := range effects {
		if _, refused := e.(Refused); r.ended && !refused {
			r.t.Fatalf("%T after the journal stopped", e)
		}
		switch e := e.(type) {
		case Append:
			if r.out != nil || r.resting && e.Tries == 0 {
				r.t.Fatalf("two appends at a time, or one while it rests: %v", r.resting)
			}
			r.resting = r.resting || e.Rest > 0
			r.out = &e
			r.sub.wire = append(r.sub.wire, e)
		case ReadLast:
			if r.out != nil {
				r.t.Fatalf("a read while an append is out")
			}
			r.reads++
		case Durable:
			r.settle(e.Ticket)
			r.durable[e.Ticket] = e
		case Refused:
			r.settle(e.Ticket)
			r.refused[e.Ticket] = true
			r.sent = slices.DeleteFunc(r.sent, func(t Ticket) bool { return t == e.Ticket })
		case Stopped:
			for _, t := range e.Tickets {
				r.settle(t)
				r.stopped[t] = true
			}
			r.ended = true
		}
	}
}

// submit submits an entry that names its ticket, so that it is known again.
func (r *rig) submit(kind string) {
	r.tickets++
	n := uint64(r.tickets)
	var e ledger.Entry
	switch kind {
	case "reserve":
		e = &ledger.Reserve{Job: job.ID{1}, IDs: uint32(n), Span: job.Span{Hi: 64}}
	case "drain":
		e = &ledger.Drain{Job: job.ID{byte(n), byte(n >> 8)}}
	case "seal":
		e = ledger.Seal{By: job.Journal{Worker: "w1", Incarnation: uint32(n)}}
	default:
		e = &ledger.Doubt{Job: job.ID{1}, Of: job.Ref{Journal: mine, N: n}}
	}
	r.entries[r.tickets] = ledger.EncodeEntry(e)
	r.sent = append(r.sent, r.tickets)
	if kind == "drain" {
		r.step(Together{{r.tickets, e}})
	} else {
		r.step(Submit{r.tickets, e})
	}
	takes := kind == "reserve" || kind == "drain"
	if !r.ended && r.refused[r.tickets] != (r.full && takes) {
		r.t.Fatalf("ticket %d (%s) refused: %v, with the ledger full: %v", r.tickets, kind, r.refused[r.tickets], r.full)
	}
}

// deliver takes the request of the append that is out to the stream and, unless
// the answer is lost, the answer back.
func (r *rig) deliver(answer bool) {
	e := *r.out
	r.out = nil
	r.sub.wire = slices.DeleteFunc(r.sub.wire, func(a Append) bool { return a.Tries == e.Tries && bytes.Equal(a.Data, e.Data) })
	seq, ok := r.sub.store(e.Last, e.Data, false)
	if answer && ok {
		r.step(Stored{seq})
	} else {
		r.step(Unclear{errors.New("no answer, or a refusal")})
	}
}

func (r *rig) read(answer bool) {
	r.reads--
	switch {
	case !answer:
		r.step(Unclear{errors.New("no answer")})
	case len(r.sub.records) == 0:
		r.step(NoRecord{})
	default:
		st := r.sub.records[len(r.sub.records)-1]
		r.stale = append(r.stale, st)
		r.step(LastRecord{st})
	}
}

func (r *rig) rested() {
	r.resting = false
	r.step(Rested{})
}

// late lets an old request arrive at the stream; nobody hears of it.
func (r *rig) late(i int) {
	a := r.sub.wire[i]
	r.sub.wire = slices.Delete(r.sub.wire, i, i+1)
	r.sub.store(a.Last, a.Data, false)
}

// seal is what a taker does: it reads the last record and appends a seal to it.
func (r *rig) seal() {
	last := ledger.Record{N: 1 << 40}
	if n := len(r.sub.records); n > 0 {
		last, _ = ledger.ParseRecord(r.sub.records[n-1].Data)
	}
	rec := ledger.Record{Journal: mine, N: last.N + 1, Nonce: [16]byte{0xff}, Entries: []ledger.Entry{ledger.Seal{By: taker}}}
	r.sub.store(r.sub.last(), rec.Bytes(), true)
}

// finish ends all faults and lets the journal come to rest.
func (r *rig) finish() {
	for range 10_000 {
		switch {
		case r.out != nil && !r.ended:
			r.deliver(true)
		case r.reads > 0 && !r.ended:
			r.read(true)
		case r.resting && !r.ended:
			r.rested()
		default:
			if !r.ended && !r.s.Idle() {
				r.t.Fatalf("nothing is under way and the journal is not idle")
			}
			return
		}
	}
	r.t.Fatalf("the journal never comes to rest")
}

// check holds what was told against what the subject has.
func (r *rig) check() {
	place := map[string]Durable{} // of each entry that counts
	n, prev, over := uint64(0), job.Digest{}, false
	for i, st := range r.sub.records {
		if r.sub.foreign[i] {
			over = true
			continue
		}
		rec, err := ledger.ParseRecord(st.Data)
		if err != nil {
			r.t.Fatalf("record %d: %v", i, err)
		}
		if over {
			r.t.Fatalf("record %s/%d stands behind a foreign record or a seal", rec.Journal, rec.N)
		}
		if rec.Journal != mine || rec.N != n || rec.Prev != prev {
			r.t.Fatalf("record %d is %s/%d after %s, want %s/%d after %s", i, rec.Journal, rec.N, rec.Prev, mine, n, prev)
		}
		if _, isOpen := rec.Entries[0].(ledger.Open); isOpen != (n == 0) {
			r.t.Fatalf("record %d: open is %v", n, isOpen)
		}
		for k, e := range rec.Entries {
			if over {
				r.t.Fatalf("entry %d of record %d stands behind a seal", k, n)
			}
			b := string(ledger.EncodeEntry(e))
			if _, twice := place[b]; twice {
				r.t.Fatalf("entry %d of record %d is in the journal twice", k, n)
			}
			place[b] = Durable{Ref: job.Ref{Journal: mine, N: n, Entry: uint16(k)}, Seq: st.Seq}
			_, over = e.(ledger.Seal)
		}
		n, prev = n+1, ledger.HashOf(st.Data)
	}
	for t, d := range r.durable {
		want, ok := place[string(r.entries[t])]
		want.Ticket = t
		if !ok || want != d {
			r.t.Fatalf("ticket %d is told as %+v, the ledger has %+v (%v)", t, d, want, ok)
		}
	}
	for t := range r.refused {
		if _, ok := place[string(r.entries[t])]; ok {
			r.t.Fatalf("ticket %d was refused and is in the ledger", t)
		}
	}
	var before job.Ref
	for _, t := range r.sent {
		d, ok := place[string(r.entries[t])]
		if ok && !before.Before(d.Ref) {
			r.t.Fatalf("ticket %d stands at %s, an earlier one at %s", t, d.Ref, before)
		}
		if ok {
			before = d.Ref
		}
	}
}

func (r *rig) settled() {
	foreign := slices.Contains(r.sub.foreign, true)
	sealed := false
	for t := range r.durable {
		sealed = sealed || r.entries[t][0] == ledger.EncodeEntry(ledger.Seal{})[0]
	}
	if r.ended != (foreign || sealed) && (r.ended || !r.s.Idle()) {
		r.t.Fatalf("stopped: %v; a foreign record: %v; its own seal: %v", r.ended, foreign, sealed)
	}
	for _, t := range r.sent {
		_, isDurable := r.durable[t]
		switch {
		case isDurable || r.stopped[t] && r.ended:
		default:
			r.t.Fatalf("ticket %d is not settled", t)
		}
	}
	if r.s.Running() == r.ended {
		r.t.Fatalf("running: %v, stopped: %v", r.s.Running(), r.ended)
	}
}

func TestJournalAgainstAFaultyStream(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		r := newRig(t, rapid.SampledFrom([]int{1, 200, 0}).Draw(t, "max bytes"), rapid.IntRange(1, 4).Draw(t, "shared by"))
		foreign := rapid.Bool().Draw(t, "foreign records")
		kinds := []string{"reserve", "drain", "done", "done", "done"}
		if rapid.IntRange(0, 4).Draw(t, "own seal") == 0 {
			kinds = append(kinds, "seal")
		}
		t.Repeat(map[string]func(*rapid.T){
			"submit": func(t *rapid.T) {
				for range rapid.IntRange(1, 5).Draw(t, "how many") {
					r.submit(rapid.SampledFrom(kinds).Draw(t, "kind"))
				}
			},
			"answer": func(t *rapid.T) {
				if r.out == nil || r.ended {
					return
				}
				r.deliver(true)
			},
			"stored but no answer": func(t *rapid.T) {
				if r.out == nil || r.ended {
					return
				}
				r.deliver(false)
			},
			"delayed or lost": func(t *rapid.T) {
				if r.out == nil || r.ended {
					return
				}
				r.out = nil // its request stays on the wire
				r.step(Unclear{errors.New("timeout")})
			},
			"an old request arrives": func(t *rapid.T) {
				if len(r.sub.wire) == 0 {
					return
				}
				r.late(rapid.IntRange(0, len(r.sub.wire)-1).Draw(t, "which"))
			},
			"read": func(t *rapid.T) {
				if r.reads == 0 || r.ended {
					return
				}
				r.read(rapid.IntRange(0, 3).Draw(t, "answered") > 0)
			},
			"rested": func(t *rapid.T) {
				if r.resting && !r.ended {
					r.rested()
				}
			},
			"late copy of an OK": func(t *rapid.T) {
				if len(r.oks) == 0 {
					return
				}
				r.take(r.s.Step(Stored{rapid.SampledFrom(r.oks).Draw(t, "which")}))
			},
			"late copy of a reading": func(t *rapid.T) {
				if len(r.stale) == 0 || r.reads > 0 {
					return
				}
				r.take(r.s.Step(LastRecord{rapid.SampledFrom(r.stale).Draw(t, "which")}))
			},
			"a replica that lags answers a reading": func(t *rapid.T) {
				if r.reads == 0 || r.ended || len(r.sub.records) == 0 {
					return
				}
				r.reads--
				r.step(LastRecord{rapid.SampledFrom(r.sub.records).Draw(t, "which")})
			},
			"seal by another": func(t *rapid.T) {
				if !foreign || rapid.IntRange(0, 9).Draw(t, "now") > 0 {
					return
				}
				r.seal()
			},
			"another writes": func(t *rapid.T) {
				if !foreign || rapid.IntRange(0, 9).Draw(t, "now") > 0 {
					return
				}
				rec := ledger.Record{Journal: mine, N: uint64(len(r.sub.records)), Nonce: [16]byte{0xee}, Entries: []ledger.Entry{ledger.Open{}}}
				r.sub.store(r.sub.last(), rec.Bytes(), true)
			},
			"space": func(t *rapid.T) {
				r.full = rapid.Bool().Draw(t, "full")
				r.step(Space{r.full})
			},
			"": func(t *rapid.T) { r.check() },
		})
		r.finish()
		r.check()
		r.settled()
	})
}

// append gives the one append among effects.
func onlyAppend(t *testing.T, effects []Effect) Append {
	t.Helper()
	if len(effects) != 1 {
		t.Fatalf("%d effects, want an append", len(effects))
	}
	a, ok := effects[0].(Append)
	if !ok {
		t.Fatalf("%T, want an append", effects[0])
	}
	return a
}

func TestARetryHasTheSameBytesAndCounts(t *testing.T) {
	s, effects := New(Config{Journal: mine, Nonce: func() [16]byte { return [16]byte{1} }})
	first := onlyAppend(t, effects)
	for try := 1; try < 4; try++ {
		s.Step(Unclear{errors.New("the stream is full")})
		again := onlyAppend(t, s.Step(NoRecord{}))
		if !bytes.Equal(again.Data, first.Data) || again.Last != 0 || again.Tries != try {
			t.Fatalf("try %d: %+v after %+v", try, again, first)
		}
	}
}

func TestAJournalWhoseRecordsAreGoneStops(t *testing.T) {
	s, _ := New(Config{Journal: mine, Nonce: func() [16]byte { return [16]byte{1} }})
	s.Step(Stored{5})
	s.Step(Submit{1, &ledger.Doubt{}})
	s.Step(Unclear{errors.New("timeout")})
	effects := s.Step(NoRecord{})
	if len(effects) != 1 || fmt.Sprint(effects[0]) != fmt.Sprint(Stopped{"its records are gone", []Ticket{1}}) || s.Running() {
		t.Fatalf("%+v", effects)
	}
}

func TestARecordIsBounded(t *testing.T) {
	const limit = 4 << 10
	r := newRig(t, limit, 0)
	for range 1000 {
		r.submit("reserve")
	}
	r.finish()
	r.check()
	r.settled()
	if len(r.sub.records) < 3 {
		t.Fatalf("%d records", len(r.sub.records))
	}
	for _, st := range r.sub.records {
		rec, err := ledger.ParseRecord(st.Data)
		if err != nil {
			t.Fatal(err)
		}
		size := 0
		for _, e := range rec.Entries {
			size += len(ledger.EncodeEntry(e))
		}
		if size > limit || len(rec.Entries) > ledger.MaxEntries {
			t.Fatalf("record %d has %d entries of %d bytes, the limit is %d", rec.N, len(rec.Entries), size, limit)
		}
	}
}

// Sets that are short as bytes and large in memory are spread over several records.
func TestARecordsMemoryIsBounded(t *testing.T) {
	r := newRig(t, 0, 0)
	sparse := idset.New(0)
	for c := range uint32(idset.Containers) {
		sparse.Add(c << idset.ContainerBits)
	}
	const entries = 3000
	for range entries {
		r.step(Submit{Entry: &ledger.Outcome{Outcome: job.Expired, Set: sparse}})
	}
	r.finish()
	got := 0
	for _, st := range r.sub.records {
		rec, err := ledger.ParseRecord(st.Data)
		if err != nil {
			t.Fatal(err)
		}
		held := 0
		for _, e := range rec.Entries {
			held += ledger.Containers(e)
			if _, ok := e.(*ledger.Outcome); ok {
				got++
			}
		}
		if held > ledger.MaxContainers {
			t.Errorf("record %d has %d containers", rec.N, held)
		}
	}
	if got != entries {
		t.Errorf("%d of %d entries are in the ledger", got, entries)
	}
}

// TestWhatManyShareRests: behind a record that many groups share the next one waits, and has what came
// meanwhile; behind one with few groups it does not, whatever they have.
func TestWhatManyShareRests(t *testing.T) {
	r := newRig(t, 0, 3)
	r.deliver(true)
	is := func(what string, want int, rests bool) {
		t.Helper()
		got := 0
		if r.out != nil {
			rec, err := ledger.ParseRecord(r.out.Data)
			if err != nil {
				t.Fatal(err)
			}
			got = len(rec.Entries)
		}
		if got != want || r.resting != rests {
			t.Errorf("%s: %d entries are out and it rests: %v; want %d and %v", what, got, r.resting, want, rests)
		}
	}
	submit := func(kinds ...string) {
		for _, k := range kinds {
			r.submit(k)
		}
	}
	submit("drain")
	is("one", 1, false)
	submit("drain", "done", "done", "done", "drain")
	r.deliver(true)
	is("two groups came meanwhile", 5, false)
	submit("drain", "drain", "done", "drain")
	r.deliver(true)
	is("three came meanwhile", 4, true)
	submit("done")
	r.deliver(true)
	is("it is stored", 0, true)
	submit("drain")
	is("another comes", 0, true)
	r.rested()
	is("it has rested", 2, false)
}
