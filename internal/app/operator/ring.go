package operator

import (
	"cmp"
	"context"
	"maps"
	"slices"

	"crier/api"
	"crier/internal/app/member"
	"crier/job"
	"crier/scheduler/apta/hint"
	"crier/scheduler/apta/link"
	"crier/state/ledger"
)

// Ring implements service.Cluster.
func (o *Operator) Ring(ctx context.Context, req api.AskRing) (api.Ring, error) {
	s := o.cfg.Membership.Snapshot(ctx)
	r, different := compare(&s, req.Kind, o.things(req.Kind))
	if !req.Diff {
		return r, nil
	}
	from := 0
	if req.Cursor != "" {
		from, _ = slices.BinarySearchFunc(different, req.Cursor, func(d api.Different, cursor string) int {
			return cmp.Or(cmp.Compare(d.Thing, cursor), -1) // the first behind it
		})
	}
	different = different[from:]
	if len(different) > req.Size() {
		different = different[:req.Size()]
		r.Next = different[req.Size()-1].Thing
	}
	r.Different = different
	return r, nil
}

// things gives the last claim on each thing of a kind, its epoch 0 if there was none.
func (o *Operator) things(kind string) (list []ledger.Claim) {
	switch kind {
	case api.RingRange:
		for r := range job.Range(job.Ranges) {
			list = append(list, o.cfg.Claims.Of(ledger.RangeThing(r)))
		}
	case api.RingJob:
		for _, j := range o.cfg.Jobs.Live() {
			list = append(list, o.cfg.Claims.Of(ledger.JobThing(j.Spec.ID)))
		}
	case api.RingSlice: // one that nobody ever claimed is known to its scheduler only
		o.cfg.Claims.All(ledger.ClaimSlice, func(c ledger.Claim) {
			if id, _, ok := ledger.SliceOf(c.Thing()); ok && o.cfg.Jobs.IsLive(id) {
				list = append(list, c)
			}
		})
	case api.RingJournal:
		for _, t := range o.unclosed() {
			list = append(list, o.cfg.Claims.Of(t))
		}
	}
	return list
}

// compare says who should hold each thing by the hint of a view, and who does.
func compare(s *Snapshot, kind string, things []ledger.Claim) (api.Ring, []api.Different) {
	role := link.Worker
	if kind == api.RingJob {
		role = link.Scheduler
	}
	takers := s.View.Takers(role)
	table := hint.New(takers)
	members := map[string]*api.RingMember{}
	of := func(id string) *api.RingMember {
		if members[id] == nil {
			members[id] = &api.RingMember{ID: id}
		}
		return members[id]
	}
	for _, t := range takers {
		of(t.ID).Weight = t.Weight
	}
	r := api.Ring{Kind: kind, View: hashText(s.View.Hash), Frozen: s.Self.Frozen, Things: uint64(len(things)), Disagree: s.View.Disagreeing()}
	var different []api.Different
	for _, c := range things {
		should, holder := table.At(member.Shard(c.Thing()), 0), ""
		if should != "" {
			of(should).Hinted++
		}
		if !c.Journal.IsZero() {
			holder = member.Of(c.Journal.Worker)
			of(holder).Holds++
			r.Claimed++
		}
		switch {
		case holder == should && holder != "":
			of(should).Both++
			continue
		case holder != "":
			r.Differ++
			if should != "" {
				of(should).Others++
			}
		case should != "":
			of(should).Nobodys++
		}
		if holder != "" || kind != api.RingRange {
			different = append(different, api.Different{Thing: c.ID, Hint: should, Holder: holder, Epoch: c.Epoch, Since: c.At})
		}
	}
	r.Members = make([]api.RingMember, 0, len(members))
	for _, id := range slices.Sorted(maps.Keys(members)) {
		r.Members = append(r.Members, *members[id])
	}
	slices.SortFunc(different, func(a, b api.Different) int { return cmp.Compare(a.Thing, b.Thing) })
	return r, different
}
