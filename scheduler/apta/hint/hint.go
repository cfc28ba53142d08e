// Package hint says which member should take which shard: weighted rendezvous
// hashing with a cap on each member's load.
//
// A table is a function of the set of members and their weights alone: whoever has
// the same set has the same table, in whatever order the set was given and on
// whatever machine. Nobody holds more than Slack times its share, rounded, and when
// a member leaves hardly anything moves but what it held. It is a hint: who acts on
// a wrong one loses a conditional write and nothing else.
package hint

import (
	"cmp"
	"slices"

	"github.com/cespare/xxhash/v2"
)

const (
	// Shards is the number of shards of a table; it equals the number of id ranges.
	Shards = 4096
	// Choices is how many members a shard has an order of.
	Choices = 3
	// MaxWeight bounds a weight.
	MaxWeight = 10_000
	// None is the choice of a member that is not among a shard's.
	None = -1

	// slackNum / slackDen is the cap c: 1.25 times the fair share.
	slackNum, slackDen = 5, 4
)

// Member is who takes part, with a weight of 1 to MaxWeight. Others are left out.
type Member struct {
	ID     string
	Weight uint16
}

// Shard gives the shard of a name.
func Shard(name []byte) uint16 { return uint16(xxhash.Sum64(name) % Shards) }

// Table is who should take each shard. It does not change.
type Table struct {
	members []Member // by id
	choices [Shards][Choices]uint16
	held    []int // shards by member
}

// nobody stands in a shard's choices where there are too few members.
const nobody = 1<<16 - 1

// MaxMembers bounds a table; further members, by id, are left out.
const MaxMembers = 4096

// New computes the table of a set of members. Of two with one id the one with the
// larger weight counts.
func New(members []Member) *Table {
	t := &Table{members: clean(members)}
	for i := range t.choices {
		t.choices[i] = [Choices]uint16{nobody, nobody, nobody}
	}
	t.held = make([]int, len(t.members))
	if len(t.members) == 0 {
		return t
	}
	m := newMatching(t.members)
	m.run()
	for shard := range Shards {
		first := m.owner[shard]
		t.choices[shard][0] = first
		t.held[first]++
		n := 1
		// The next ones are those that the shard likes best, the full ones among
		// them too: a cap is about steady load, not about a second try.
		for _, c := range m.likes[shard][:m.liked] {
			if c.member != first && n < Choices {
				t.choices[shard][n] = c.member
				n++
			}
		}
	}
	return t
}

func clean(members []Member) []Member {
	list := slices.DeleteFunc(slices.Clone(members), func(m Member) bool { return m.Weight == 0 || m.Weight > MaxWeight })
	slices.SortFunc(list, func(a, b Member) int {
		return cmp.Or(cmp.Compare(a.ID, b.ID), cmp.Compare(b.Weight, a.Weight))
	})
	list = slices.CompactFunc(list, func(a, b Member) bool { return a.ID == b.ID })
	return list[:min(len(list), MaxMembers)]
}

// Choice says which choice a member is for a shard: 0 is the first, None is not
// among them.
func (t *Table) Choice(id string, shard uint16) int {
	i, ok := t.find(id)
	if !ok || shard >= Shards {
		return None
	}
	return slices.Index(t.choices[shard][:], uint16(i))
}

// At gives the member that is a shard's n-th choice, from 0; "" if there are fewer.
func (t *Table) At(shard uint16, n int) string {
	if shard >= Shards || n < 0 || n >= Choices || t.choices[shard][n] == nobody {
		return ""
	}
	return t.members[t.choices[shard][n]].ID
}

// Held is the number of shards a member is the first choice for.
func (t *Table) Held(id string) int {
	if i, ok := t.find(id); ok {
		return t.held[i]
	}
	return 0
}

func (t *Table) find(id string) (int, bool) {
	return slices.BinarySearchFunc(t.members, id, func(m Member, id string) int { return cmp.Compare(m.ID, id) })
}
