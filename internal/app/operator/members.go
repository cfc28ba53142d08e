package operator

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"time"

	"crier/api"
	"crier/internal/app/member"
	"crier/job"
	"crier/scheduler/apta"
	"crier/scheduler/apta/link"
	"crier/scheduler/apta/wire"
	"crier/state/ledger"
)

// holding is what a member holds, and its last incarnation that the claims name.
type holding struct {
	api.Holdings
	last uint32
}

// holdings adds up the claims of each member. Claims on jobs that are over, on slices of those
// that are sent, and on journals of which nothing is open any more, count no longer.
func (o *Operator) holdings(s *Snapshot) map[string]holding {
	all := map[string]holding{}
	unclosed := map[ledger.Thing]bool{}
	for _, t := range o.unclosed() {
		unclosed[t] = true
	}
	each := func(kind ledger.ClaimKind, counts func(*holding, ledger.Claim)) {
		o.cfg.Claims.All(kind, func(c ledger.Claim) {
			if c.Journal.IsZero() || !o.matters(c.Thing(), unclosed) {
				return
			}
			id := member.Of(c.Journal.Worker)
			h := all[id]
			h.last = max(h.last, c.Journal.Incarnation)
			// What a process that is over claimed waits for whoever takes it over; but its
			// duties nobody does.
			if kind != ledger.ClaimRole || !s.lapsed(c.Journal) {
				counts(&h, c)
			}
			all[id] = h
		})
	}
	each(ledger.ClaimRange, func(h *holding, _ ledger.Claim) { h.Ranges++ })
	each(ledger.ClaimSlice, func(h *holding, _ ledger.Claim) { h.Slices++ })
	each(ledger.ClaimJob, func(h *holding, _ ledger.Claim) { h.Jobs++ })
	each(ledger.ClaimJournal, func(h *holding, _ ledger.Claim) { h.Journals++ })
	each(ledger.ClaimRole, func(h *holding, c ledger.Claim) {
		h.Duties = append(h.Duties, c.ID)
		slices.Sort(h.Duties)
	})
	return all
}

// matters reports whether a claim on a thing still means something.
func (o *Operator) matters(t ledger.Thing, unclosed map[ledger.Thing]bool) bool {
	switch t.Kind {
	case ledger.ClaimJob:
		id, err := job.ParseID(t.ID)
		return err == nil && o.cfg.Jobs.IsLive(id)
	case ledger.ClaimSlice:
		id, _, ok := ledger.SliceOf(t)
		j, live := o.cfg.Jobs.Current(id)
		return ok && live && j.State != job.Sent
	case ledger.ClaimJournal:
		return unclosed[t]
	}
	return true
}

// unclosed lists the sealed journals of which something is open.
func (o *Operator) unclosed() (list []ledger.Thing) {
	if o.cfg.Index == nil {
		return nil
	}
	for _, j := range o.cfg.Index.JournalInfos() {
		if j.Sealed && j.Open > 0 {
			list = append(list, ledger.JournalThing(j.Journal))
		}
	}
	return list
}

// known are the ids of all that are seen, have a lease, or hold something.
func known(s *Snapshot, held map[string]holding) map[string]bool {
	ids := map[string]bool{s.Self.ID: true}
	for _, m := range s.View.Members {
		ids[m.ID] = true
	}
	for _, l := range s.Leases {
		ids[l.ID] = true
	}
	for id := range held {
		ids[id] = true
	}
	return ids
}

func leaseOf(s *Snapshot, id string) (wire.Lease, bool) {
	i := slices.IndexFunc(s.Leases, func(l wire.Lease) bool { return l.ID == id })
	if i < 0 {
		return wire.Lease{}, false
	}
	return s.Leases[i], true
}

// stateOf is a member's state as this process sees it; incarnation is the last one that
// is known of it, for one that is not seen.
func stateOf(s *Snapshot, id string, incarnation uint32) string {
	if id == s.Self.ID {
		return s.Self.State.String()
	}
	if m, ok := s.View.Find(id); ok {
		return m.State.String()
	}
	if _, ok := leaseOf(s, id); ok {
		return api.Unreachable
	}
	if s.Lapsed(id, incarnation) {
		return api.Lapsed
	}
	return api.Unknown
}

// memberOf puts together what this process sees of a member, holds, and was told by it
// (nil: it did not answer).
func (o *Operator) memberOf(now time.Time, s *Snapshot, id string, held holding, told *report) api.Member {
	m := api.Member{ID: id, Self: id == s.Self.ID, State: stateOf(s, id, held.last), Incarnation: held.last, Roles: map[string]uint16{}, Holds: held.Holdings,
		Answered: told != nil}
	m.Since = o.marks.of(stateMark(id, m.State))
	if l, ok := leaseOf(s, id); ok {
		m.Lease, m.Incarnation, m.Address = true, l.Incarnation, l.Addr
	}
	seen, inView := s.View.Find(id)
	if inView {
		away := seen.Away
		m.Away, m.Incarnation, m.Roles, m.View = &away, seen.Incarnation, roles(seen.Weights), hashText(seen.ViewHash)
		m.Agrees = seen.ViewHash == s.View.Hash
		m.DiffersFor = api.Duration(o.marks.age(now, differsMark(id)))
		if seen.Addr != "" {
			m.Address = seen.Addr
		}
	}
	if m.Self {
		m.Lease, m.Incarnation, m.Address, m.View, m.Agrees, m.DiffersFor = s.Leased, s.Self.Incarnation, s.Address, hashText(s.View.Hash), true, 0
	}
	if told == nil || told.Incarnation < m.Incarnation {
		return m // of an earlier start: it says nothing of this one
	}
	m.Frozen, m.Neighbours = told.Frozen, told.Neighbours
	if told.View != "" && !m.Self {
		m.View = told.View
	}
	if m.View == hashText(s.View.Hash) {
		m.Agrees, m.DiffersFor = true, 0
	}
	if len(m.Roles) == 0 && told.Roles != nil {
		m.Roles = told.Roles
	}
	// Who is not in the view yet, or any more, and says so, is not just unreachable.
	if !inView && !m.Self && (told.State == link.Joining.String() || told.State == link.Offline.String()) {
		m.State = told.State
	}
	if m.State == told.State {
		m.Since, m.Reason = told.Since, told.Reason
	}
	return m
}

func hashText(h uint64) string { return fmt.Sprintf("%016x", h) }

// Members implements service.Cluster.
func (o *Operator) Members(ctx context.Context, only string) ([]api.Member, error) {
	s := o.observe(ctx)
	held := o.holdings(&s)
	ids := known(&s, held)
	if only != "" && ids[only] && s.there()[only] {
		ids = map[string]bool{only: true} // else any other may know of it
	}
	told, _ := o.reports(ctx, &s, slices.Sorted(maps.Keys(ids)))
	missed := o.missed(&s, told)
	for id := range missed {
		ids[id] = true
	}
	now := time.Now()
	list := make([]api.Member, 0, len(ids))
	for _, id := range slices.Sorted(maps.Keys(ids)) {
		if only != "" && id != only {
			continue
		}
		m := o.memberOf(now, &s, id, held[id], told[id])
		if g, ok := missed[id]; ok && told[id] == nil {
			g.mark(&m)
		}
		list = append(list, m)
	}
	return list, ctx.Err()
}

// reports asks members about themselves.
func (o *Operator) reports(ctx context.Context, s *Snapshot, ids []string) (map[string]*report, []api.Silent) {
	questions := map[string]string{}
	told := map[string]*report{}
	for _, id := range ids {
		if id == s.Self.ID {
			own := o.report(*s)
			told[id] = &own
			continue
		}
		questions[id] = aboutTo(id)
	}
	answers, silent := o.ask(ctx, questions, nil)
	for id, b := range answers {
		r := new(report)
		if err := json.Unmarshal(b, r); err != nil || r.ID != id {
			silent = append(silent, api.Silent{Name: id, Why: "its answer cannot be read"})
			continue
		}
		told[id] = r
	}
	return told, sorted(silent)
}

func over(id string) error {
	return job.Conflict(fmt.Sprintf("member %s is gone; what it holds is taken over, and there is nobody to ask", id))
}

// Operate implements service.Cluster.
func (o *Operator) Operate(ctx context.Context, id string, silence bool, reason string) error {
	s := o.cfg.Membership.Snapshot(ctx)
	held := o.holdings(&s)
	if !known(&s, held)[id] {
		if slices.ContainsFunc(o.departures.list(), func(g gone) bool { return g.ID == id }) {
			return over(id)
		}
		return job.NotFound(fmt.Sprintf("there is no member %q; crier member ls names those there are", id))
	}
	action := apta.Resume
	if silence {
		action = apta.GoSilent
	}
	switch state := stateOf(&s, id, held[id].last); state {
	case api.Unreachable, api.Unknown:
		return job.Unavailable(fmt.Sprintf("member %s is %s from here; try again, or ask another process", id, state))
	case api.Lapsed:
		return over(id)
	}
	if err := o.cfg.Membership.Operate(ctx, id, action, reason); err != nil {
		return fmt.Errorf("asking member %s to %s: %w", id, action, err)
	}
	o.cfg.Logger.Info("an operator asked a member", "member", id, "action", string(action), "reason", reason)
	return nil
}
