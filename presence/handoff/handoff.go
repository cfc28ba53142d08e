// Package handoff holds the messages between the owner of a journal, the
// gateways and the homes, and their binary forms. It decides nothing.
//
// The owner of a journal asks a gateway to take the targets of a reserve
// (Handoff); the gateway answers with a Report and repeats reports, each of
// which tells the whole state of that reserve at that incarnation, until the
// owner says that it recorded them (Recorded); of each of these, several may go together in one
// message of the bus. A Fence ends what a sealed journal
// can still do at an incarnation. Announce tells a range's home who came and went.
package handoff

import (
	"fmt"
	"slices"

	"crier/internal/bin"
	"crier/internal/idset"
	"crier/job"
)

// Kind is a gateway's answer to a hand-off or a fence (protocol rule 9).
type Kind uint8

// The answers. With Accepted and Seen the report says where each target stands.
const (
	Accepted   Kind = iota + 1 // journaled in the accepted-file; now or by an earlier copy of this request
	Settled                    // below the journal's settled watermark: closed and forgotten
	Fenced                     // the journal is fenced here; nothing of this request was or will be accepted
	InProgress                 // a copy of this request is being worked on; ask again
	NeedBody                   // send again with the body
	Over                       // the named incarnation has ended; the report is its last word
	Unreadable                 // it has ended and its accepted-file cannot be read: in doubt
	Stranger                   // this gateway never was that incarnation, or it cannot tell: ask again, then doubt
)

var kindNames = [...]string{"", "accepted", "settled", "fenced", "in progress", "need body", "over", "unreadable", "stranger"}

// String is the answer in words.
func (k Kind) String() string {
	if int(k) < len(kindNames) {
		return kindNames[k]
	}
	return fmt.Sprintf("kind(%d)", uint8(k))
}

// Message is what the gateway needs of a job to show it: it goes once per
// gateway and job.
type Message struct {
	Account     uint32
	AccountName string
	Body        []byte
	SentAt      int64 // Unix milliseconds, like the next two; 0 is unset
	DisplayAt   int64
	ExpiresAt   int64
	CollapseKey string
	Withdraws   job.ID // the job whose message is to be taken back; there is no body then
}

// Handoff asks the incarnation To to deliver Job to Targets. Its identity is Ref
// and To; copies of it may arrive late, more than once, and out of order.
type Handoff struct {
	Ref     job.Ref
	To      job.Incarnation
	Job     job.ID
	Urgent  uint8 // 0 normal; 1..99 real-time, 99 first
	Targets *idset.Set
	Settled job.Ref  // every reserve of this journal up to here is closed at To; zero if none
	Message *Message // nil unless the gateway asked for it
}

// Report tells where each target of a reserve stands at one incarnation. It is
// cumulative: a later report (larger Version) replaces an earlier one. The sets
// are disjoint; Rest says what the targets in none of them are.
type Report struct {
	Ref     job.Ref
	Inc     job.Incarnation
	Job     job.ID
	Version uint32
	Rest    Rest
	Acked   *idset.Set // acknowledged, or the client said that it has it
	Waiting *idset.Set // accepted, not acknowledged, a socket that got it is open
	NotHere *idset.Set // no connection, or its window is full: never written
	Unacked *idset.Set // written, last socket ended without acknowledgement; speaks the protocol
	Mute    *idset.Set // the same, but the client does not say what it has: in doubt
	Refused *idset.Set // refused for good
}

// Rest is what the targets that a report does not name are.
type Rest uint8

// The two values of Rest.
const (
	RestWaiting Rest = iota
	RestAcked
)

// Recorded tells a gateway that a report of this version is durable: it sends
// "settled" for what the report called acknowledged and, if nothing waits,
// forgets the reserve. Settled is as in Handoff.
type Recorded struct {
	Ref     job.Ref
	Inc     job.Incarnation
	Version uint32
	Settled job.Ref
}

// Fence asks the gateway to accept nothing more of a sealed journal and to
// report to By from now on. It is repeated until answered.
type Fence struct {
	Journal job.Journal
	To      job.Incarnation
	By      job.Journal
}

// Answer is the reply to a hand-off (one report, or none) and to a fence (a
// report for every reserve of the journal that was accepted and is not settled).
type Answer struct {
	Kind    Kind
	Reports []Report
}

// Settle tells a gateway which ids a recipient's clients may forget.
type Settle struct {
	Inc       job.Incarnation
	Recipient job.Recipient
	Jobs      []job.ID
}

// Hello is what a client said when it connected.
type Hello struct {
	Recipient job.Recipient
	Client    uint64   // hash of its client id; 0 if it gave none
	Speaks    bool     // says what it has: have was present
	Have      []job.ID // unsettled ids
}

// Announce tells the home of one range who came to and left an incarnation.
// Seq counts the announcements of an incarnation to a range, from 1, without a
// gap; a repeated one changes nothing. Round counts, from 1, how often the incarnation
// began to tell everything: with another round Seq starts again, and whoever is not
// told is not there. Join holds the recipients of Hellos too, but for those that are told
// again.
type Announce struct {
	Inc    job.Incarnation
	Round  uint64
	Seq    uint64
	Range  job.Range
	Join   *idset.Set
	Leave  *idset.Set
	Hellos []Hello
}

// Bytes encodes the message.
func (h *Handoff) Bytes() []byte {
	var w bin.Writer
	w.Ref(h.Ref)
	w.Incarnation(h.To)
	w.Fixed(h.Job[:])
	w.Byte(h.Urgent)
	w.Set(h.Targets)
	w.Ref(h.Settled)
	w.Bool(h.Message != nil)
	if m := h.Message; m != nil {
		w.Uint(uint64(m.Account))
		w.String(m.AccountName)
		w.Bytes(m.Body)
		w.Uint(uint64(m.SentAt))
		w.Uint(uint64(m.DisplayAt))
		w.Uint(uint64(m.ExpiresAt))
		w.String(m.CollapseKey)
		if !m.Withdraws.IsZero() { // at the end, so that other messages have the form of before
			w.Fixed(m.Withdraws[:])
		}
	}
	return w.B
}

// ParseHandoffs decodes hand-offs that were sent together; a body shares memory with b. One
// that has a message is the last.
func ParseHandoffs(b []byte) ([]*Handoff, error) {
	all, err := together("hand-off", b, readHandoff)
	if i := slices.IndexFunc(all, func(h *Handoff) bool { return h.Message != nil }); i >= 0 && i < len(all)-1 {
		return nil, fmt.Errorf("decoding a hand-off: %w: one with a message is not the last", bin.ErrBytes)
	}
	return all, err
}

func readHandoff(r *bin.Reader) *Handoff {
	h := &Handoff{Ref: r.Ref(), To: r.Incarnation(), Job: r.JobID(), Urgent: r.Byte(), Targets: r.Set(), Settled: r.Ref()}
	if r.Bool() {
		h.Message = &Message{Account: uint32(r.Max(1<<32 - 1)), AccountName: r.String(), Body: r.Bytes(),
			SentAt: int64(r.Uint()), DisplayAt: int64(r.Uint()), ExpiresAt: int64(r.Uint()), CollapseKey: r.String()}
		if r.Len() > 0 {
			h.Message.Withdraws = r.JobID()
		}
	}
	return h
}

func (p *Report) sets() [6]**idset.Set {
	return [6]**idset.Set{&p.Acked, &p.Waiting, &p.NotHere, &p.Unacked, &p.Mute, &p.Refused}
}

// Write appends the report's binary form.
func (p *Report) Write(w *bin.Writer) {
	w.Ref(p.Ref)
	w.Incarnation(p.Inc)
	w.Fixed(p.Job[:])
	w.Uint(uint64(p.Version))
	w.Byte(byte(p.Rest))
	var mask byte
	for i, s := range p.sets() {
		if !(*s).IsEmpty() {
			mask |= 1 << i
		}
	}
	w.Byte(mask)
	for i, s := range p.sets() {
		if mask>>i&1 == 1 {
			w.Set(*s)
		}
	}
}

// ReadReport reads what Write wrote; absent sets are nil.
func ReadReport(r *bin.Reader) Report {
	p := Report{Ref: r.Ref(), Inc: r.Incarnation(), Job: r.JobID(), Version: uint32(r.Max(1<<32 - 1)), Rest: Rest(r.Max(1))}
	mask := r.Byte()
	for i, s := range p.sets() {
		if mask>>i&1 == 1 {
			*s = r.Set()
		}
	}
	return p
}

// Split works out who of the targets is acknowledged and who still waits. The
// returned sets are the caller's.
func (p *Report) Split(targets *idset.Set) (acked, waiting *idset.Set) {
	rest := targets.Clone()
	for _, s := range p.sets() {
		if *s != nil {
			rest.AndNot(*s)
		}
	}
	acked, waiting = idset.New(targets.Range), idset.New(targets.Range)
	if p.Acked != nil {
		acked.Or(p.Acked)
	}
	if p.Waiting != nil {
		waiting.Or(p.Waiting)
	}
	if p.Rest == RestAcked {
		acked.Or(rest)
	} else {
		waiting.Or(rest)
	}
	rest.Release()
	return acked, waiting
}

// Bytes encodes a report, as gateways publish it.
func (p *Report) Bytes() []byte {
	var w bin.Writer
	p.Write(&w)
	return w.B
}

// ParseReports decodes reports that were published together.
func ParseReports(b []byte) ([]*Report, error) {
	return together("report", b, func(r *bin.Reader) *Report {
		p := ReadReport(r)
		return &p
	})
}

// Bytes encodes the answer.
func (a *Answer) Bytes() []byte {
	var w bin.Writer
	w.Byte(byte(a.Kind))
	w.Uint(uint64(len(a.Reports)))
	for i := range a.Reports {
		a.Reports[i].Write(&w)
	}
	return w.B
}

// ParseAnswers decodes the answers to messages that were sent together, in their order.
func ParseAnswers(b []byte) ([]*Answer, error) { return together("answer", b, readAnswer) }

func readAnswer(r *bin.Reader) *Answer {
	a := &Answer{Kind: Kind(r.Byte())}
	n := r.Max(uint64(r.Len()))
	for range n {
		if r.Err(false) != nil {
			break
		}
		a.Reports = append(a.Reports, ReadReport(r))
	}
	return a
}

// Bytes encodes the message.
func (m *Recorded) Bytes() []byte {
	var w bin.Writer
	w.Ref(m.Ref)
	w.Incarnation(m.Inc)
	w.Uint(uint64(m.Version))
	w.Ref(m.Settled)
	return w.B
}

// ParseRecorded decodes what was told together.
func ParseRecorded(b []byte) ([]*Recorded, error) {
	return together("recorded", b, func(r *bin.Reader) *Recorded {
		return &Recorded{Ref: r.Ref(), Inc: r.Incarnation(), Version: uint32(r.Max(1<<32 - 1)), Settled: r.Ref()}
	})
}

// Bytes encodes the message.
func (m *Fence) Bytes() []byte {
	var w bin.Writer
	w.Journal(m.Journal)
	w.Incarnation(m.To)
	w.Journal(m.By)
	return w.B
}

// ParseFence decodes what Bytes wrote.
func ParseFence(b []byte) (*Fence, error) {
	r := bin.NewReader(b)
	m := &Fence{Journal: r.Journal(), To: r.Incarnation(), By: r.Journal()}
	return m, wrap("fence", r.Err(true))
}

// Bytes encodes the message.
func (m *Settle) Bytes() []byte {
	var w bin.Writer
	w.Incarnation(m.Inc)
	w.Uint(uint64(m.Recipient))
	writeJobs(&w, m.Jobs)
	return w.B
}

// ParseSettle decodes what Bytes wrote.
func ParseSettle(b []byte) (*Settle, error) {
	r := bin.NewReader(b)
	m := &Settle{Inc: r.Incarnation(), Recipient: job.Recipient(r.Max(1<<32 - 1)), Jobs: readJobs(r)}
	return m, wrap("settle", r.Err(true))
}

// Bytes encodes the message.
func (m *Announce) Bytes() []byte {
	var w bin.Writer
	w.Incarnation(m.Inc)
	w.Uint(m.Round)
	w.Uint(m.Seq)
	w.Uint(uint64(m.Range))
	w.Set(m.Join)
	w.Set(m.Leave)
	w.Uint(uint64(len(m.Hellos)))
	for _, h := range m.Hellos {
		w.Uint(uint64(h.Recipient))
		w.Uint(h.Client)
		w.Bool(h.Speaks)
		writeJobs(&w, h.Have)
	}
	return w.B
}

// ParseAnnounce decodes what Bytes wrote.
func ParseAnnounce(b []byte) (*Announce, error) {
	r := bin.NewReader(b)
	m := &Announce{Inc: r.Incarnation(), Round: r.Uint(), Seq: r.Uint(), Range: job.Range(r.Max(job.Ranges - 1)), Join: r.Set(), Leave: r.Set()}
	n := r.Max(uint64(len(b)))
	for range n {
		if r.Err(false) != nil {
			break
		}
		m.Hellos = append(m.Hellos, Hello{Recipient: job.Recipient(r.Max(1<<32 - 1)), Client: r.Uint(), Speaks: r.Bool(), Have: readJobs(r)})
	}
	return m, wrap("announcement", r.Err(true))
}

func writeJobs(w *bin.Writer, ids []job.ID) {
	w.Uint(uint64(len(ids)))
	for _, id := range ids {
		w.Fixed(id[:])
	}
}

func readJobs(r *bin.Reader) []job.ID {
	n := r.Max(uint64(r.Len() / len(job.ID{})))
	var ids []job.ID
	for range n {
		ids = append(ids, r.JobID())
	}
	return ids
}

// Together is the most messages of a kind that one message of the bus carries, one behind the
// other: a login is as many hand-offs as messages wait, and a message of the bus costs as
// much as several of them.
const Together = 256

// together decodes one message or several.
func together[M any](what string, b []byte, read func(*bin.Reader) M) ([]M, error) {
	r := bin.NewReader(b)
	var all []M
	for len(all) == 0 || r.Len() > 0 {
		if len(all) == Together {
			return nil, fmt.Errorf("decoding a %s: %w: more than %d together", what, bin.ErrBytes, Together)
		}
		all = append(all, read(r))
		if err := r.Err(false); err != nil {
			return nil, wrap(what, err)
		}
	}
	return all, nil
}

func wrap(what string, err error) error {
	if err != nil {
		return fmt.Errorf("decoding a %s: %w", what, err)
	}
	return nil
}
