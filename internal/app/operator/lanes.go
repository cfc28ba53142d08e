package operator

import (
	"context"
	"encoding/json"
	"maps"
	"slices"
	"strings"

	"crier/api"
	"crier/internal/work"
	"crier/scheduler/apta/link"
	"crier/state/ledger"
)

// workers are the names of all workers: of the members with that role, and of those who
// hold ranges or slices and are not over.
func (o *Operator) workers(s *Snapshot) map[string]bool {
	names := map[string]bool{}
	for _, m := range s.View.Members {
		if m.Weights[link.Worker] > 0 {
			names["w-"+m.ID] = true
		}
	}
	for _, kind := range []ledger.ClaimKind{ledger.ClaimRange, ledger.ClaimSlice} {
		o.cfg.Claims.All(kind, func(c ledger.Claim) {
			if strings.HasPrefix(c.Journal.Worker, "w-") && !s.lapsed(c.Journal) {
				names[c.Journal.Worker] = true
			}
		})
	}
	return names
}

// Lanes implements service.Cluster.
func (o *Operator) Lanes(ctx context.Context) (api.LaneList, error) {
	s := o.cfg.Membership.Snapshot(ctx)
	questions := map[string]string{}
	for name := range o.workers(&s) {
		questions[name] = work.LanesTo(name)
	}
	answers, silent := o.ask(ctx, questions, nil)
	list := api.LaneList{Lanes: []api.Lane{}}
	for _, name := range slices.Sorted(maps.Keys(answers)) {
		var lanes []work.Lane
		if err := json.Unmarshal(answers[name], &lanes); err != nil {
			silent = append(silent, api.Silent{Name: name, Why: "its answer cannot be read"})
			continue
		}
		for i, l := range lanes {
			list.Lanes = append(list.Lanes, laneOf(name, i, l))
		}
	}
	list.Silent = sorted(silent)
	return list, ctx.Err()
}

func laneOf(worker string, n int, l work.Lane) api.Lane {
	out := api.Lane{Worker: worker, Lane: n, Phase: l.Phase, Targets: uint64(l.Targets), Since: l.Since.UTC()}
	if !l.Job.IsZero() {
		out.Job, out.Slice = l.Job, &l.Slice
	}
	if !l.Span.IsEmpty() {
		last := l.Span.Hi - 1
		out.First, out.Last = &l.Span.Lo, &last
	}
	return out
}
