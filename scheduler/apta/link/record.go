// Package link is the link-state database of a member and what follows from it: who
// is reachable and by which way, and whom to be a neighbour of.
//
// Everything here is a function of records and ids. Two members with the same
// records compute the same overlay and see the same members, whatever the order in
// which the records came.
package link

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"fmt"
	"slices"
	"time"

	"crier/job"

	"github.com/cespare/xxhash/v2"
)

// Role is a kind of work that a member takes part in.
type Role uint8

// The roles.
const (
	API Role = iota
	Scheduler
	Worker
	Gateway
	Relay
	Roles // how many there are
)

var roleNames = [Roles]string{"api", "scheduler", "worker", "gateway", "relay"}

// String gives the role's name.
func (r Role) String() string {
	if r < Roles {
		return roleNames[r]
	}
	return fmt.Sprintf("role %d", uint8(r))
}

// ParseRole reads what String writes.
func ParseRole(s string) (Role, error) {
	for r, name := range roleNames {
		if name == s {
			return Role(r), nil
		}
	}
	return 0, fmt.Errorf("role %q: want one of %v", s, roleNames)
}

// Weights is a member's share in each role; 0 is no part in it.
type Weights [Roles]uint16

// State is what a member says of itself.
type State uint8

// The states. Only who is WORKING takes new work.
const (
	Joining State = iota + 1
	Online
	Working
	Silence
	Offline
)

var stateNames = [...]string{"", "JOINING", "ONLINE", "WORKING", "SILENCE", "OFFLINE"}

// String gives the state's name.
func (s State) String() string {
	if s >= Joining && s <= Offline {
		return stateNames[s]
	}
	return fmt.Sprintf("state %d", uint8(s))
}

// Kind says what a record is about. Only a Membership record can change who is
// reachable; the others are flooded in the same way and carry bytes.
type Kind uint8

// The kinds of records.
const (
	Membership Kind = iota + 1 // of a member, by itself
	Load                       // of a member, by itself: how busy it is
	Demand                     // of a member, by itself: what it would take
	Command                    // to a member, by anyone: the latest counts
)

// Key names a record: there is one per kind and member.
type Key struct {
	Kind Kind   `json:"k"`
	ID   string `json:"i"`
}

// Compare orders keys.
func (k Key) Compare(o Key) int {
	return cmp.Or(cmp.Compare(k.Kind, o.Kind), cmp.Compare(k.ID, o.ID))
}

// Version orders the records of a key: by incarnation, then by number, then the
// withdrawn one last. The nonce of the process that made it comes at the end, so
// that of two members with one id everybody keeps the same record.
type Version struct {
	Incarnation uint32 `json:"n"`
	Seq         uint64 `json:"q"`
	Dead        bool   `json:"d,omitempty"` // withdrawn: it only says that the record is over
	Nonce       uint64 `json:"o"`
}

// Compare orders versions: the newer is the greater.
func (v Version) Compare(o Version) int {
	return cmp.Or(cmp.Compare(v.Incarnation, o.Incarnation), cmp.Compare(v.Seq, o.Seq), compareBool(v.Dead, o.Dead),
		cmp.Compare(v.Nonce, o.Nonce))
}

func compareBool(a, b bool) int {
	switch {
	case a == b:
		return 0
	case a:
		return 1
	}
	return -1
}

// Header is a record without its content.
type Header struct {
	Key
	Version
}

// digest is a number that stands for the header; those of a database are joined so
// that their order does not matter.
func (h Header) digest() uint64 {
	b := make([]byte, 0, 96)
	b = append(b, byte(h.Kind))
	b = append(b, h.ID...)
	b = binary.BigEndian.AppendUint32(b, h.Incarnation)
	b = binary.BigEndian.AppendUint64(b, h.Seq)
	b = binary.BigEndian.AppendUint64(b, h.Nonce)
	if h.Dead {
		b = append(b, 1)
	}
	return xxhash.Sum64(b)
}

// Record is what is flooded. It does not change after it was made.
type Record struct {
	Header
	// Age is how old it was when it was sent; a record of MaxAge is over.
	Age    time.Duration `json:"a,omitempty"`
	Member *Member       `json:"m,omitempty"` // of a Membership record that is not dead
	Data   []byte        `json:"b,omitempty"` // of another
}

// Member is what a member says of itself.
type Member struct {
	State    State    `json:"s"`
	Weights  Weights  `json:"w"`
	Addr     string   `json:"a"`           // where it hears others
	Links    []string `json:"l,omitempty"` // two-way neighbours, by id
	ViewHash uint64   `json:"v"`           // of its view, so that others see who disagrees
	// ActiveFrom is the second, in Unix milliseconds, from which it takes work, so
	// that all switch at once; 0 if it does not know yet.
	ActiveFrom int64 `json:"f,omitempty"`
	// Home is the data directory whose lock the process holds: who holds the same
	// lock later proves that this process is dead.
	Home uint64 `json:"h,omitempty"`
}

// Limits of records.
const (
	MaxData    = 16 << 10 // bytes
	MaxLinks   = 256
	MaxAddr    = 256
	MaxRecords = 4096 // of a database
)

// Validate says what is wrong with a record that came from outside.
func (r *Record) Validate() error {
	switch {
	case r.Kind < Membership || r.Kind > Command:
		return fmt.Errorf("record of kind %d: unknown", r.Kind)
	case !job.ValidName(r.ID):
		return fmt.Errorf("record of %q: not a member's id", r.ID)
	case r.Age < 0:
		return fmt.Errorf("record of %s: its age %s is negative", r.ID, r.Age)
	case len(r.Data) > MaxData:
		return fmt.Errorf("record of %s: %d bytes, more than %d", r.ID, len(r.Data), MaxData)
	case (r.Member != nil) != (r.Kind == Membership && !r.Dead):
		return fmt.Errorf("record of %s: kind %d with the content of another", r.ID, r.Kind)
	case r.Member == nil:
		return nil
	}
	m := r.Member
	switch {
	case m.State < Joining || m.State > Offline:
		return fmt.Errorf("record of %s: unknown %s", r.ID, m.State)
	case len(m.Links) > MaxLinks || len(m.Addr) > MaxAddr:
		return fmt.Errorf("record of %s: %d links and an address of %d bytes are too many", r.ID, len(m.Links), len(m.Addr))
	}
	for i, l := range m.Links {
		if !job.ValidName(l) || i > 0 && m.Links[i-1] >= l {
			return fmt.Errorf("record of %s: link %q is no id or not in order", r.ID, l)
		}
	}
	return nil
}

// sameRoutes reports whether two records lead to the same routes.
func sameRoutes(a, b *Record) bool {
	if a == nil || b == nil || (a.Member == nil) != (b.Member == nil) {
		return a == nil && b == nil
	}
	return a.Member == nil || slices.Equal(a.Member.Links, b.Member.Links)
}

// sameView reports whether two records lead to the same view.
func sameView(a, b *Record) bool {
	if a == nil || b == nil || (a.Member == nil) != (b.Member == nil) {
		return a == nil && b == nil
	}
	x, y := a.Member, b.Member
	return x == nil || a.Incarnation == b.Incarnation && x.State == y.State && x.Weights == y.Weights && x.Addr == y.Addr && x.ActiveFrom == y.ActiveFrom
}

func sameHash(a, b *Record) bool {
	return a == nil || a.Member == nil || b.Member == nil || a.Member.ViewHash == b.Member.ViewHash
}

// Same reports whether two records have the same content.
func (r *Record) Same(o *Record) bool {
	return sameRoutes(r, o) && sameView(r, o) && bytes.Equal(r.Data, o.Data)
}
