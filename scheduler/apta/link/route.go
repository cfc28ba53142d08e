package link

import (
	"cmp"
	"slices"
)

// Hop is a member that can be reached: by which neighbour, and over how many links.
type Hop struct {
	ID   string
	By   string // "" for the member itself
	Away int
}

// Routes says who is reachable, by id.
type Routes []Hop

// Find gives the way to a member.
func (r Routes) Find(id string) (Hop, bool) {
	i, ok := slices.BinarySearchFunc(r, id, func(h Hop, id string) int { return cmp.Compare(h.ID, id) })
	if !ok {
		return Hop{}, false
	}
	return r[i], true
}

// Compute finds the shortest ways from a member along the links that both ends name.
// Of several ways the one by the neighbour with the least id is taken.
func Compute(d *DB, self string) Routes {
	members := d.Records(Membership)
	numbers := make(map[string]int, len(members))
	for i, m := range members {
		numbers[m.ID] = i
	}
	index := func(id string) int {
		if i, ok := numbers[id]; ok {
			return i
		}
		return -1
	}
	start := index(self)
	if start < 0 {
		return nil
	}
	by, away := make([]int, len(members)), make([]int, len(members))
	for i := range by {
		by[i] = -1
	}
	by[start] = start
	for queue := []int{start}; len(queue) > 0; queue = queue[1:] {
		at := queue[0]
		for _, id := range members[at].Member.Links {
			next := index(id)
			if next < 0 || by[next] >= 0 {
				continue
			}
			if _, both := slices.BinarySearch(members[next].Member.Links, members[at].ID); !both {
				continue
			}
			by[next], away[next] = by[at], away[at]+1
			if at == start {
				by[next] = next
			}
			queue = append(queue, next)
		}
	}
	var routes Routes
	for i, m := range members {
		switch {
		case i == start:
			routes = append(routes, Hop{ID: m.ID})
		case by[i] >= 0:
			routes = append(routes, Hop{ID: m.ID, By: members[by[i]].ID, Away: away[i]})
		}
	}
	return routes
}
