// Package wire is the messages between members and their bounds.
package wire

import (
	"fmt"

	"crier/job"
	"crier/scheduler/apta/link"
)

// Protocol is the version of the messages; members of another are refused.
const Protocol = 1

// Identity tells processes apart.
type Identity struct {
	ID          string `json:"i"`
	Incarnation uint32 `json:"n"`
	Nonce       uint64 `json:"o"`
	Home        uint64 `json:"h,omitempty"`
}

// Message is what members send each other: the sender and exactly one of the others.
type Message struct {
	From     Identity      `json:"f"`
	Hello    *Hello        `json:"hello,omitempty"`
	Refuse   *Refuse       `json:"refuse,omitempty"`
	Bye      bool          `json:"bye,omitempty"` // the sender is no neighbour any more, by the overlay
	Describe *Describe     `json:"describe,omitempty"`
	Request  []link.Key    `json:"request,omitempty"`
	Update   []link.Record `json:"update,omitempty"`
	Ack      []link.Header `json:"ack,omitempty"`
	Relay    *Relay        `json:"relay,omitempty"`
}

// Hello says that the sender is there, and whom it hears.
type Hello struct {
	Cluster  string     `json:"c"`
	Protocol int        `json:"p"`
	Profile  string     `json:"pr,omitempty"` // of its timers
	Wall     int64      `json:"w"`            // the sender's wall clock, Unix milliseconds
	Addr     string     `json:"a"`            // where it hears
	Heard    []Heard    `json:"r,omitempty"`
	State    link.State `json:"s"`
	Digest   uint64     `json:"d"` // of its database
	Health   int        `json:"e,omitempty"`
	Want     bool       `json:"t,omitempty"` // it wants the receiver as a neighbour
	// StoreAge is how long ago the coordination store answered it, in ms; -1: never.
	StoreAge int64 `json:"g"`
}

// Heard is a member that was heard within the dead interval.
type Heard struct {
	ID    string `json:"i"`
	Nonce uint64 `json:"o"`
}

// Describe lists a database.
type Describe struct {
	Headers []link.Header `json:"h,omitempty"`
	Ask     bool          `json:"a,omitempty"` // the sender wants the receiver's
}

// Relay carries a request to any member, or its answer back.
type Relay struct {
	Source string `json:"s"`
	Target string `json:"t"`
	TTL    int    `json:"l"`
	Req    uint64 `json:"r"` // chosen by who asks; the answer has the same
	Answer bool   `json:"w,omitempty"`
	Kind   string `json:"k"`
	Body   []byte `json:"b,omitempty"`
	Err    string `json:"e,omitempty"` // of an answer: the request was not executed
}

// Limits of messages.
const (
	// MaxTTL is over how many links a request goes.
	MaxTTL = 8
	// MaxBody bounds the bytes of a request or an answer.
	MaxBody = 64 << 10
	// maxHeard bounds a hello's list.
	maxHeard = 1024
)

// Validate says what is wrong with a message that came from outside.
func (m *Message) Validate() error {
	if !job.ValidName(m.From.ID) || m.From.Nonce == 0 {
		return fmt.Errorf("message from %q: not a member", m.From.ID)
	}
	if h := m.Hello; h != nil {
		if len(h.Heard) > maxHeard || h.Addr == "" || len(h.Addr) > link.MaxAddr || h.Health < 0 {
			return fmt.Errorf("hello from %s: %d heard, address %q, health %d", m.From.ID, len(h.Heard), h.Addr, h.Health)
		}
	}
	if d := m.Describe; d != nil && len(d.Headers) > link.MaxRecords {
		return fmt.Errorf("description from %s: %d records, more than %d", m.From.ID, len(d.Headers), link.MaxRecords)
	}
	for i := range m.Update {
		if err := m.Update[i].Validate(); err != nil {
			return fmt.Errorf("update from %s: %w", m.From.ID, err)
		}
	}
	if r := m.Relay; r != nil && (len(r.Body) > MaxBody || !job.ValidName(r.Source) || !job.ValidName(r.Target)) {
		return fmt.Errorf("relay from %s: from %q to %q with %d bytes", m.From.ID, r.Source, r.Target, len(r.Body))
	}
	return nil
}

// RefuseCode says why a hello is refused.
type RefuseCode string

// Why a hello is refused.
const (
	RefusedCluster   RefuseCode = "cluster"   // it is of another cluster
	RefusedProtocol  RefuseCode = "protocol"  // it speaks another version
	RefusedProfile   RefuseCode = "profile"   // it has other timers
	RefusedClock     RefuseCode = "clock"     // its wall clock is off
	RefusedDuplicate RefuseCode = "duplicate" // another process with its id is there
	RefusedUsed      RefuseCode = "used"      // its incarnation is used up: it takes a higher one
)

// Refuse is the answer to a hello that is not taken.
type Refuse struct {
	Code RefuseCode `json:"c"`
	// Nonce is of the process that is refused, so that its successor is not.
	Nonce uint64 `json:"o"`
	// Incarnation is the highest one known of the id, with RefusedUsed.
	Incarnation uint32 `json:"n,omitempty"`
	Text        string `json:"t"`
}

// Lease is what a member has in the coordination store.
type Lease struct {
	Identity
	Addr string `json:"a"`
	// Profile and Protocol are what the member runs by; all have the same.
	Profile  string `json:"p,omitempty"`
	Protocol int    `json:"v,omitempty"`
}
