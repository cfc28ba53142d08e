package operator

import (
	"sync"
	"time"

	"crier/api"
	"crier/scheduler/apta/link"
)

const (
	// goneFor is for how long it is told of a member that is gone, if it does not come back.
	goneFor = 24 * time.Hour
	maxGone = 256 // no more are told of
)

// gone is a member that was there and is not, though it has not left. Who holds something
// is missed by that; of any other nothing else is left.
type gone struct {
	ID          string            `json:"id"`
	Incarnation uint32            `json:"incarnation"`
	Roles       map[string]uint16 `json:"roles"`
	Address     string            `json:"address"`
	Since       time.Time         `json:"since"` // since when that is seen
}

// departures remember who was there. They are safe for concurrent use.
type departures struct {
	sync.Mutex
	last map[string]link.Seen // of those that are there
	gone map[string]gone
}

// there lists who is seen or has a lease.
func (s *Snapshot) there() map[string]bool { return known(s, nil) }

// note takes in who is there now. Who leaves withdraws its record before it vanishes; that of
// who does not stays for minutes.
func (d *departures) note(now time.Time, s *Snapshot) {
	d.Lock()
	defer d.Unlock()
	if d.last == nil {
		d.last, d.gone = map[string]link.Seen{}, map[string]gone{}
	}
	there := s.there()
	for _, m := range s.View.Members {
		if m.ID != s.Self.ID {
			d.last[m.ID] = m
		}
	}
	for id, m := range d.last {
		if there[id] {
			continue
		}
		delete(d.last, id)
		if s.Recorded != nil && s.Recorded(id) && len(d.gone) < maxGone {
			d.gone[id] = gone{ID: id, Incarnation: m.Incarnation, Roles: roles(m.Weights), Address: m.Addr, Since: now}
		}
	}
	for id, g := range d.gone {
		if there[id] || now.Sub(g.Since) >= goneFor {
			delete(d.gone, id)
		}
	}
}

// list gives all that are gone.
func (d *departures) list() (all []gone) {
	d.Lock()
	defer d.Unlock()
	for _, g := range d.gone {
		all = append(all, g)
	}
	return all
}

// missed joins what this process and those that answered know of who is gone: one that began
// a moment ago knows of nobody.
func (o *Operator) missed(s *Snapshot, told map[string]*report) map[string]gone {
	there, all := s.there(), map[string]gone{}
	add := func(list []gone) {
		for _, g := range list {
			if was, ok := all[g.ID]; !there[g.ID] && (!ok || g.Since.Before(was.Since)) {
				all[g.ID] = g
			}
		}
	}
	add(o.departures.list())
	for _, r := range told {
		add(r.Gone)
	}
	return all
}

// mark says of a member that did not answer that it is gone.
func (g gone) mark(m *api.Member) {
	m.Gone, m.State, m.Since, m.Incarnation, m.Roles, m.Address = true, api.Lapsed, g.Since, max(m.Incarnation, g.Incarnation), g.Roles, g.Address
}
