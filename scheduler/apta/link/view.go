package link

import (
	"cmp"
	"encoding/binary"
	"slices"

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
