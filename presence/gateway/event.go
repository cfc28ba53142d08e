package gateway

import (
	"crier/job"
	"crier/presence/handoff"
)

// Conn numbers a connection of this incarnation; no number is used twice.
type Conn uint64

// Token names a request that waits for its answer; each gets exactly one Reply.
type Token uint64

// Event is one of the types below.
type Event interface{ event() }

// Connected says that a client is there and what it said. It comes again for the
// same connection if the client's hello arrived late.
type Connected struct {
	Conn      Conn
	Recipient job.Recipient
	Client    uint64   // hash of its client id; 0 if it gave none
	Speaks    bool     // says what it has: have was present
	Withdraws bool     // takes messages back that are withdrawn
	Have      []job.ID // its unsettled ids, at most MaxHave
}

// Disconnected says that a connection has ended: nothing is read from it and
// nothing written to it any more.
type Disconnected struct {
	Conn      Conn
	Unwritten []job.ID // messages of which no byte went to the socket, provably
}

// Acked is an acknowledgement by a client.
type Acked struct {
	Conn Conn
	IDs  []job.ID
}

// HandedOff is a hand-off.
type HandedOff struct {
	Request *handoff.Handoff
	Token   Token
}

// Fenced is a fence.
type Fenced struct {
	Request handoff.Fence
	Token   Token
}

// Recorded says which report is durable.
type Recorded struct{ handoff.Recorded }

// Settled comes from a home: clients may forget ids.
type Settled struct{ handoff.Settle }

// Announced says that a home has taken in an announcement. Again: it knows nothing
// of the earlier ones and asks for everything, from 1 on.
type Announced struct {
	Range  job.Range
	Flight uint64 // of the Announce
	Again  bool
}

// Anew says that the homes of some ranges ask for everything, from 1 on.
type Anew struct{ Ranges []job.Range }

// Redirected asks to send the clients of recipients to another gateway, where their
// home has them now (rule 23). It comes again as long as it is so.
type Redirected struct {
	To  string // URL
	Who []job.Recipient
}

// Written answers an Append. Not OK: the file is full or broken and holds nothing
// of the record.
type Written struct {
	Ref job.Ref
	OK  bool
}

// Pump makes the next piece leave. It is due whenever State.Pending says so;
// what arrived meanwhile goes first, so that an urgent job can pass.
type Pump struct{}

// Tick lets time pass. It is due at State.Next; an early one changes nothing.
type Tick struct{}

func (Connected) event()    {}
func (Disconnected) event() {}
func (Acked) event()        {}
func (HandedOff) event()    {}
func (Fenced) event()       {}
func (Recorded) event()     {}
func (Settled) event()      {}
func (Announced) event()    {}
func (Anew) event()         {}
func (Redirected) event()   {}
func (Written) event()      {}
func (Pump) event()         {}
func (Tick) event()         {}

// Effect is one of the types below. Effects are carried out in their order.
type Effect interface{ effect() }

// Append writes a record to the accepted-file; Written answers it.
type Append struct{ Record Record }

// Mark sets the acknowledgement bit of a rank in the accepted-file.
type Mark struct {
	Ref  job.Ref
	Rank uint32
}

// Free tells the accepted-file of an incarnation of this gateway that nobody will
// ask for a reserve again.
type Free struct {
	Start uint32
	Ref   job.Ref
}

// Reply answers a request.
type Reply struct {
	Token  Token
	Answer handoff.Answer
}

// Publish sends a report to the owner of a journal.
type Publish struct {
	To     job.Journal
	Report handoff.Report
}

// Deliver writes a message to connections, one piece of a reserve at a time.
type Deliver struct {
	Job     job.ID
	Message *handoff.Message
	Conns   []Conn
}

// SendSettled tells a client what it may forget, behind all that was written.
type SendSettled struct {
	Conn Conn
	IDs  []job.ID
}

// Close ends a connection; Disconnected must follow.
type Close struct {
	Conn Conn
	Why  CloseReason
	To   string // if it is Moved: where the client is to connect
}

// CloseReason says why the gateway ends a connection.
type CloseReason uint8

// The reasons.
const (
	Unacknowledged CloseReason = iota + 1 // a message was not acknowledged in time (rule 15)
	Replaced                              // the same client has a newer connection
	Moved                                 // the recipient is at another gateway
)

// String is the reason in words, as the client sees it.
func (r CloseReason) String() string {
	switch r {
	case Replaced:
		return "replaced by a newer connection of this client"
	case Moved:
		return "the recipient's other clients are at another gateway"
	}
	return "a message was not acknowledged in time"
}

// Announce asks the home of a range to take in who came and who left; Announced
// answers it, or nothing, and then it is repeated.
type Announce struct {
	Flight  uint64 // to be given back in Announced; a repeat has the same
	Message handoff.Announce
}

// Beat is to be published to all homes.
type Beat struct{ Message handoff.Beat }

func (Beat) effect()        {}
func (Append) effect()      {}
func (Mark) effect()        {}
func (Free) effect()        {}
func (Reply) effect()       {}
func (Publish) effect()     {}
func (Deliver) effect()     {}
func (SendSettled) effect() {}
func (Close) effect()       {}
func (Announce) effect()    {}
