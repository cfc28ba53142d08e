package operator

import (
	"maps"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"crier/api"
	"crier/job"
	"crier/scheduler/apta/link"
)

// crowd is who is there, as a test says and all processes see it.
type crowd struct {
	sync.Mutex
	there, leased, recorded map[string]bool
}

func (c *crowd) set(what map[string]bool, id string, is bool) {
	c.Lock()
	defer c.Unlock()
	what[id] = is
}

// seat is that of one of them.
func (c *crowd) seat(self string) membership {
	return membership{&seat{Snapshot: func() Snapshot {
		c.Lock()
		defer c.Unlock()
		var members []link.Seen
		for _, id := range slices.Sorted(maps.Keys(c.there)) {
			if c.there[id] {
				members = append(members, works(id, 3))
			}
		}
		var leases []string
		for id, is := range c.leased {
			if is {
				leases = append(leases, id)
			}
		}
		s := seen(self, members, leases)
		s.Recorded = func(id string) bool {
			c.Lock()
			defer c.Unlock()
			return c.recorded[id]
		}
		return s
	}}}
}

// Who was there and vanishes is told to be gone, unless it withdrew its record as who leaves
// does; for as long as its lease lives it may be back, and when it is back nothing was.
func TestGone(t *testing.T) {
	onStage(t, func(s *stage) {
		c := &crowd{there: map[string]bool{"a": true, "b": true, "c": true, "d": true, "e": true}, leased: map[string]bool{}, recorded: map[string]bool{}}
		for id := range c.there {
			c.recorded[id], c.leased[id] = true, true
		}
		a := s.open(c.seat("a"), Counts{})
		listed := func(o *Operator) map[string]api.Member {
			t.Helper()
			all := map[string]api.Member{}
			list, err := o.Members(s.ctx, "")
			s.must(err)
			for _, m := range list {
				all[m.ID] = m
			}
			return all
		}
		gone := func(o *Operator, want ...string) {
			t.Helper()
			var ids []string
			for id, m := range listed(o) {
				if m.Gone {
					ids = append(ids, id)
				}
			}
			slices.Sort(ids)
			if !slices.Equal(ids, want) {
				t.Errorf("gone are %v, want %v", ids, want)
			}
		}
		s.pass(time.Minute)
		gone(a)
		for _, id := range []string{"c", "d", "e"} { // c leaves, the others are killed
			c.set(c.there, id, false)
		}
		c.set(c.recorded, "c", false)
		c.set(c.leased, "c", false)
		s.pass(2 * time.Second)
		gone(a)
		if m := listed(a)["d"]; m.State != api.Unreachable {
			t.Errorf("with a lease it is %+v", m)
		}
		c.set(c.leased, "d", false)
		c.set(c.leased, "e", false)
		s.pass(2 * time.Second)
		gone(a, "d", "e")
		if _, ok := listed(a)["c"]; ok {
			t.Error("who has left is listed")
		}
		want := api.Member{ID: "d", State: api.Lapsed, Since: listed(a)["d"].Since, Incarnation: 3, Address: "d:1", Gone: true,
			Roles: map[string]uint16{"api": 1, "scheduler": 1, "worker": 1, "gateway": 1, "relay": 1}}
		if diff := cmp.Diff(want, listed(a)["d"]); diff != "" || time.Since(want.Since) > 2*time.Second || want.Since.After(time.Now()) {
			t.Errorf("since %s, at %s: (-want +got):\n%s", want.Since, time.Now(), diff)
		}
		if one, err := a.Members(s.ctx, "d"); err != nil || len(one) != 1 || !one[0].Gone {
			t.Errorf("asked about one: %+v, %v", one, err)
		}
		if err := a.Operate(s.ctx, "d", true, "why"); job.CodeOf(err) != job.CodeConflict {
			t.Errorf("who is gone is to be silent: %v", err)
		}
		c.set(c.recorded, "d", false) // it has come to its age
		s.pass(time.Hour)
		gone(a, "d", "e")

		b := s.open(c.seat("b"), Counts{}) // it has seen nobody go
		gone(b, "d", "e")
		c.set(c.there, "e", true)
		s.pass(2 * time.Second)
		gone(a, "d")
		gone(b, "d")
		if m := listed(b)["e"]; m.State != "WORKING" {
			t.Errorf("who is back is %+v", m)
		}
		s.pass(23*time.Hour - time.Minute)
		gone(b, "d")
		s.pass(2 * time.Minute)
		gone(a)
		gone(b)
		if _, ok := listed(a)["d"]; ok {
			t.Error("it is listed for ever")
		}
	})
}
