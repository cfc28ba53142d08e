package app

import (
	"context"

	"crier/api"
	"crier/internal/app/member"
	"crier/internal/app/operator"
	"crier/job"
	"crier/scheduler/apta"
)

// openOperator makes the part that tells of the cluster, in every process: each is asked
// about itself by the others.
func (a *app) openOperator(context.Context) error {
	a.operator = operator.New(operator.Config{Membership: a.membership(), Claims: a.claims, Jobs: a.jobs, Index: a.index, Log: a.streams.ledger, Bus: a.bus,
		Counts: a.counts, Here: a.here, Logger: a.log})
	return nil
}

// membership is this process's part in the cluster.
func (a *app) membership() operator.Membership {
	if a.member != nil {
		return oneOfMany{a.member}
	}
	return operator.Alone{ID: a.node.Name, Incarnation: a.node.Starts, Roles: a.cfg.Roles, Since: a.started, Leased: func(ctx context.Context) bool {
		_, err := a.coord.Get(ctx, "members/"+a.node.Name)
		return err == nil
	}}
}

// oneOfMany is the membership of a process that has others.
type oneOfMany struct{ n *member.Node }

// Snapshot implements operator.Membership.
func (m oneOfMany) Snapshot(context.Context) operator.Snapshot {
	now := m.n.Snapshot()
	return operator.Snapshot{Self: now.Status, Since: m.n.Since(), Address: m.n.Address(), Leased: now.MayTake(), View: now.View,
		Leases: m.n.Leases(), Lapsed: m.n.Lapsed, Recorded: m.n.Recorded}
}

// Operate implements operator.Membership.
func (m oneOfMany) Operate(_ context.Context, id string, action apta.Action, reason string) error {
	m.n.Operate(id, action, reason)
	return nil
}

// here is what this process knows of a recipient.
func (a *app) here(who job.Recipient) (h operator.Here) {
	if a.gateway != nil {
		h.Online = operator.Sockets(a.node.Gateway(), a.gateway.gw.Connections(who))
	}
	if a.planes != nil {
		h.Home = a.node.Worker()
		if inc, ok := a.planes.Lookup(who); ok {
			h.Primary = inc.String()
		}
	}
	return h
}

// counts is what only this process knows.
func (a *app) counts() operator.Counts {
	c := operator.Counts{Online: a.online(), Disks: a.disks()}
	if a.gateway != nil {
		c.Sockets = uint64(a.gateway.connections())
	}
	return c
}

// clusterStatus is what all members know; status is what this one knows.
func (a *app) clusterStatus(ctx context.Context) api.Status {
	return a.operator.Sum(ctx, a.status(ctx))
}
