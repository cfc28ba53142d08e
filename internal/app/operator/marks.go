package operator

import (
	"context"
	"sync"
	"time"

	"crier/internal/app/member"
	"crier/job"
)

// marks remember since when things are as they are.
type marks struct {
	sync.Mutex
	since map[mark]time.Time
}

// mark is one thing that can be so for a while.
type mark struct {
	what    string // state, differs, unsealed
	who, is string
}

// note takes in all that is so now; what is not so any more is forgotten.
func (m *marks) note(now time.Time, all []mark) {
	m.Lock()
	defer m.Unlock()
	next := make(map[mark]time.Time, len(all))
	for _, k := range all {
		next[k] = now
		if since, ok := m.since[k]; ok {
			next[k] = since
		}
	}
	m.since = next
}

// of tells since when something is so; zero if it is not.
func (m *marks) of(k mark) time.Time {
	m.Lock()
	defer m.Unlock()
	return m.since[k]
}

// age tells for how long something is so.
func (m *marks) age(now time.Time, k mark) time.Duration {
	if since := m.of(k); !since.IsZero() {
		return max(now.Sub(since), 0)
	}
	return 0
}

func stateMark(id, state string) mark { return mark{"state", id, state} }
func differsMark(id string) mark      { return mark{"differs", id, ""} }
func unsealedMark(j job.Journal) mark { return mark{"unsealed", j.String(), ""} }
func (s *Snapshot) lapsed(part job.Journal) bool {
	return s.Lapsed(member.Of(part.Worker), part.Incarnation)
}

// observe notes how things are, and gives the snapshot that it saw.
func (o *Operator) observe(ctx context.Context) Snapshot {
	s := o.cfg.Membership.Snapshot(ctx)
	var all []mark
	held := o.holdings(&s)
	for id := range known(&s, held) {
		all = append(all, stateMark(id, stateOf(&s, id, held[id].last)))
	}
	for _, id := range s.View.Disagreeing() {
		all = append(all, differsMark(id))
	}
	if o.cfg.Index != nil {
		for _, j := range o.cfg.Index.JournalInfos() {
			if !j.Sealed && s.lapsed(j.Journal) {
				all = append(all, unsealedMark(j.Journal))
			}
		}
	}
	now := time.Now().UTC().Round(0)
	o.marks.note(now, all)
	o.departures.note(now, &s)
	return s
}
