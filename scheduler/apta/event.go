package apta

import (
	"time"

	"crier/scheduler/apta/link"
	"crier/scheduler/apta/timing"
	"crier/scheduler/apta/wire"
)

// Instant and Now are the times of events.
type (
	Instant = timing.Instant
	Now     = timing.Now
)

// Event is what happened.
type Event interface{ event() }

// The events.
type (
	// Tick: it is the time that Next named, or any other.
	Tick struct{}
	// Received: a message came.
	Received struct{ Message *wire.Message }
	// Pulse: the application's loop goes on, or is stalled. Who is stalled says no
	// hello and renews no lease.
	Pulse struct{ Alive bool }
	// LeaseAnswer: what became of a Renew effect.
	LeaseAnswer struct {
		Sent    Instant // of the effect
		For     Call    // of the effect
		Outcome Outcome
		Holder  wire.Lease // with Taken
	}
	// StoreAnswered: the coordination store has answered the watcher of the leases,
	// which has seen all that was stored.
	StoreAnswered struct{}
	// LeaseSeen: the watcher saw a member's lease, or that it is gone.
	LeaseSeen struct {
		Lease wire.Lease // only the ID counts if it is gone
		Alive bool
	}
	// Ledger: the ledger answers, or does not any more. Until told it does not.
	Ledger struct{ Answers bool }
	// SelfCheck: the member is fit for its roles, or not. Until told it is not.
	SelfCheck struct{ OK bool }
	// Health: how slow the member itself is, 0 (not at all) to MaxHealth, and
	// whether that is too bad to take work.
	Health struct {
		Level int
		Bad   bool
	}
	// Owned: how many claims the member holds.
	Owned struct{ Claims int }
	// Operate: an operator wants a member silent, or to resume, and may say why. An
	// empty target is this member.
	Operate struct {
		Target string
		Action Action
		Reason string
	}
	// Stop: the member is to leave once nothing is owned.
	Stop struct{}
	// Rejoined: what a member held before it was OFFLINE is released, or its journal
	// is sealed and it has a higher incarnation. That may be told at any time.
	Rejoined struct{ Incarnation uint32 }
	// Publish: the member's load or demand is another.
	Publish struct {
		Kind link.Kind
		Data []byte
	}
	// Reweigh: the member's shares are others.
	Reweigh struct{ Weights link.Weights }
	// Ask: send a request to a member, or with To empty to any neighbour, the next
	// one each time. Answered tells the outcome.
	Ask struct {
		Req  uint64 // chosen by who asks, not used before
		To   string
		Kind string // not "lease"
		Body []byte
	}
	// Executed: the answer to an Execute effect.
	Executed struct {
		For  Call
		Body []byte
		Err  string // why it was not executed; else ""
	}
)

// MaxHealth bounds Health's level.
const MaxHealth = 8

// Outcome is what a renewal of a lease came to.
type Outcome uint8

// The outcomes.
const (
	Renewed Outcome = iota + 1
	Taken           // the store answered: another process has the lease
	Silent          // the store did not answer; the renewal may have happened
)

// Action is what an operator asks of a member.
type Action string

// The actions.
const (
	GoSilent Action = "silence"
	Resume   Action = "resume"
)

// Call names a request of another member that is being executed; the zero value is
// none.
type Call struct {
	Source string
	Req    uint64
	Kind   string
	By     string // the neighbour that it came from, and the answer goes back to
}

// Effect is what is to be done.
type Effect interface{ effect() }

// The effects.
type (
	// Send a message to an address. It may be lost.
	Send struct {
		Addr    string
		Message *wire.Message
	}
	// Renew a lease in the coordination store and tell the outcome with LeaseAnswer,
	// Silent after Timers.Answer at the latest.
	Renew struct {
		Lease wire.Lease
		TTL   time.Duration
		Sent  Instant
		For   Call
	}
	// Release the own lease, if it is still held.
	Release struct{ Lease wire.Lease }
	// Execute a request of another member and tell the answer with Executed.
	Execute struct {
		Call Call
		Body []byte
	}
	// Answered: what became of an Ask. Err is "" if it was executed; with an Err of
	// NoAnswer it may have been.
	Answered struct {
		Req  uint64
		Body []byte
		Err  string
	}
	// Changed: the member's state is another. Reason is in words.
	Changed struct {
		From, To link.State
		Reason   string
	}
	// Silenced: an operator wants the member silent, for a reason in words, or no more,
	// which is "". It outlasts the process: its next start gets it as Config.Silence.
	Silenced struct{ Reason string }
	// Rejoin: the member was OFFLINE: release what it holds, or seal its journal and
	// take a higher incarnation, and tell so with Rejoined.
	Rejoin struct{}
	// Refused: others do not take this member, or it does not take another one (then
	// Peer is that one's id). If it is final the member must end.
	Refused struct {
		Code        wire.RefuseCode
		Peer        string
		Addr        string
		Incarnation uint32 // with RefusedUsed: a Rejoined with a higher one helps
		Text        string
		Final       bool
	}
	// Left: the member's record is withdrawn; it can end.
	Left struct{}
)

// NoAnswer is the error of a request whose outcome is unknown; NoRoute of one that
// was not sent.
const (
	NoAnswer = "no answer within the time: it may have been executed"
	NoRoute  = "no way to the member"
)

func (Tick) event()          {}
func (Received) event()      {}
func (Pulse) event()         {}
func (LeaseAnswer) event()   {}
func (StoreAnswered) event() {}
func (LeaseSeen) event()     {}
func (Ledger) event()        {}
func (SelfCheck) event()     {}
func (Health) event()        {}
func (Owned) event()         {}
func (Operate) event()       {}
func (Stop) event()          {}
func (Rejoined) event()      {}
func (Publish) event()       {}
func (Reweigh) event()       {}
func (Ask) event()           {}
func (Executed) event()      {}

func (Send) effect()     {}
func (Renew) effect()    {}
func (Release) effect()  {}
func (Execute) effect()  {}
func (Answered) effect() {}
func (Changed) effect()  {}
func (Rejoin) effect()   {}
func (Silenced) effect() {}
func (Refused) effect()  {}
func (Left) effect()     {}
