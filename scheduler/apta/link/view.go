package link

import (
	"cmp"
	"encoding/binary"
	"slices"
	"time"

	"crier/scheduler/apta/hint"

	"github.com/cespare/xxhash/v2"
)

// View is who is reachable, as one member sees it. It does not change.
type View struct {
	// Hash stands for who takes work with which weights. Members with the same hash
	// have the same tables.
	Hash uint64
	// Members are those that are reachable, this one among them, by id.
	Members []Seen

	self string
}

// NewView makes the view of a member.
func NewView(self string, members []Seen) *View {
	v := &View{Members: members, self: self}
	v.Hash = v.hash()
	return v
}

// Self is what a member knows of itself, and the time by its wall clock.
type Self struct {
	Seen
	ActiveFrom int64
	Wall       time.Time
}

// Look makes the view of a member from its records and routes. wait is after how long
// another one is due, because an announced second is reached; 0: never.
func Look(d *DB, routes Routes, id string, self Self) (v *View, wait time.Duration) {
	var members []Seen
	for _, h := range routes {
		r := d.Get(Key{Membership, h.ID})
		if r == nil || r.Member == nil || r.Member.State == Offline && h.ID != id {
			continue
		}
		m := r.Member
		one := Seen{ID: r.ID, Incarnation: r.Incarnation, State: m.State, Weights: m.Weights, Addr: m.Addr, ViewHash: m.ViewHash, Away: h.Away}
		from := m.ActiveFrom
		if h.ID == id {
			one.State, one.Weights, one.Incarnation, from = self.State, self.Weights, self.Incarnation, self.ActiveFrom
		}
		one.Takes = one.State == Working
		if one.State == Online && from > 0 {
			left := time.UnixMilli(from).Sub(self.Wall)
			one.Takes = left <= 0
			if left > 0 && (wait == 0 || left < wait) {
				wait = left
			}
		}
		members = append(members, one)
	}
	return NewView(id, members), wait
}

// Seen is a member as another one sees it.
type Seen struct {
	ID          string
	Incarnation uint32
	State       State
	Weights     Weights
	Addr        string
	Takes       bool   // it takes work
	ViewHash    uint64 // of its view, as it said last
	Away        int    // links
}

// hash stands for who takes what.
func (v *View) hash() uint64 {
	var b []byte
	for _, m := range v.Members {
		if m.Takes {
			b = append(b, m.ID...)
			b = binary.BigEndian.AppendUint32(append(b, 0), m.Incarnation)
			for _, w := range m.Weights {
				b = binary.BigEndian.AppendUint16(b, w)
			}
		}
	}
	return xxhash.Sum64(b)
}

// Takers lists who takes the work of a role, with their weights.
func (v *View) Takers(r Role) []hint.Member {
	var list []hint.Member
	for _, m := range v.Members {
		if m.Takes && r < Roles && m.Weights[r] > 0 {
			list = append(list, hint.Member{ID: m.ID, Weight: m.Weights[r]})
		}
	}
	return list
}

// Disagreeing lists the reachable members whose view was another when they told last.
func (v *View) Disagreeing() []string {
	var ids []string
	for _, m := range v.Members {
		if m.ID != v.self && m.ViewHash != v.Hash {
			ids = append(ids, m.ID)
		}
	}
	return ids
}

// Find gives a member of the view.
func (v *View) Find(id string) (Seen, bool) {
	i, ok := slices.BinarySearchFunc(v.Members, id, func(m Seen, id string) int { return cmp.Compare(m.ID, id) })
	if !ok {
		return Seen{}, false
	}
	return v.Members[i], true
}
