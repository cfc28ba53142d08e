package link

import (
	"cmp"
	"slices"

	"github.com/cespare/xxhash/v2"
)

// The overlay is the union of rings: in each, the members stand in an order of their
// own, and each is a neighbour of the one before it and the one after it. So both
// ends agree, one that comes or goes changes the links of those beside it only, and
// five random rings are an expander: 200 members are 3 to 4 links apart.
const (
	rings = 5
	// Degree is how many neighbours a member has at most by the overlay.
	Degree = 2 * rings
)

// Overlay gives the ids, in order, of those that a member should be a neighbour of.
// ids are the members there are, in order, itself among them or not. Whom blocked
// names cannot be reached directly now; the next one in the ring stands in for it.
func Overlay(self string, ids []string, blocked func(id string) bool) []string {
	if len(ids) <= Degree+1 {
		return slices.DeleteFunc(slices.Clone(ids), func(id string) bool { return id == self })
	}
	var chosen []string
	for ring := range rings {
		before, after := beside(self, ids, ring, blocked)
		for _, id := range []string{before, after} {
			if id != "" && !slices.Contains(chosen, id) {
				chosen = append(chosen, id)
			}
		}
	}
	slices.Sort(chosen)
	return chosen
}

// spot is a place in a ring.
type spot struct {
	hash uint64
	id   string
}

func spotOf(id string, ring int) spot {
	x := xxhash.Sum64String(id) + uint64(ring+1)*0x9e3779b97f4a7c15
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return spot{x ^ x>>31, id}
}

func (s spot) compare(o spot) int {
	return cmp.Or(cmp.Compare(s.hash, o.hash), cmp.Compare(s.id, o.id))
}

// beside finds the nearest members of a ring that are not blocked, before and after
// a member.
func beside(self string, ids []string, ring int, blocked func(string) bool) (before, after string) {
	me := spotOf(self, ring)
	var least, most, prev, next spot
	for _, id := range ids {
		if id == self || blocked(id) {
			continue
		}
		s := spotOf(id, ring)
		if least.id == "" || s.compare(least) < 0 {
			least = s
		}
		if most.id == "" || s.compare(most) > 0 {
			most = s
		}
		if s.compare(me) < 0 && (prev.id == "" || s.compare(prev) > 0) {
			prev = s
		}
		if s.compare(me) > 0 && (next.id == "" || s.compare(next) < 0) {
			next = s
		}
	}
	if prev.id == "" {
		prev = most
	}
	if next.id == "" {
		next = least
	}
	return prev.id, next.id
}
