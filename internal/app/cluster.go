package app

import (
	"context"
	"fmt"
	"time"

	"crier/internal/app/duty"
	"crier/internal/app/member"
	"crier/internal/bus"
	"crier/internal/pause"
	"crier/job"
	"crier/scheduler"
	"crier/state/ledger"
	"crier/state/sql"
	"crier/worker/tenure"
)

// Cluster says how a process takes part in a cluster. Its zero value says that it is
// alone: it plays all roles, or does not know of others.
type Cluster struct {
	ID        string     // all members have the same; default "crier"
	Listen    string     // host:port at which other members reach this one; "" is alone
	Advertise string     // host:port that other members are told; default Listen
	Seeds     []string   // host:port of some others
	Profile   string     // of the members' timers, see timing.Of; default timing.Standard
	TLS       member.TLS // between members; its zero value: none
	Adopt     []string   // settings of what all members share, was lost, and is begun anew
	ZooKeeper []string   // host:port of the servers of the coordination store; none: NATS
	Root      string     // node of ZooKeeper under which everything is; default /crier
}

func (c Cluster) isOn() bool { return c.Listen != "" }

// ring is what this process believes about the other members at one moment, for
// workers, schedulers and duties.
type ring interface {
	// Worker is the ring as this process's worker sees it.
	Worker() tenure.Ring
	// Scheduler is the ring as this process's scheduler sees it.
	Scheduler() scheduler.Ring
	// Lapsed reports whether a part of a member is dead for all that can be known.
	Lapsed(part job.Journal) bool
	// Frozen reports whether nothing new may be taken.
	Frozen() bool
}

// alone is the ring of a process that has no others.
type alone struct{ worker string }

// Worker implements ring.
func (alone) Worker() tenure.Ring { return tenure.Alone{} }

// Scheduler implements ring.
func (r alone) Scheduler() scheduler.Ring { return scheduler.Alone{Worker: r.worker} }

// Lapsed implements ring.
func (alone) Lapsed(job.Journal) bool { return false }

// Frozen implements ring.
func (alone) Frozen() bool { return false }

// ring gives what this process believes now.
func (a *app) ring() ring {
	if a.member != nil {
		return a.member.Ring()
	}
	return alone{a.node.Worker()}
}

// suppressionTo is where processes tell each other that a suppression list changed; who
// misses it looks again soon.
const (
	suppressionTo   = "crier.suppression"
	suppressionLook = 3 * time.Second
)

func (a *app) tellOfSuppression() {
	if !a.cfg.Cluster.isOn() {
		return
	}
	if err := a.bus.Publish(suppressionTo, []byte{1}); err != nil {
		a.log.Debug("telling of a suppression list", "error", err)
	}
}

// hearOfSuppression looks again at suppression lists that others may have changed.
func (a *app) hearOfSuppression(ctx context.Context) error {
	if !a.cfg.Cluster.isOn() {
		return nil
	}
	sub, err := a.bus.Subscribe(suppressionTo, func(bus.Msg) { a.members.Touch() })
	if err != nil {
		return fmt.Errorf("subscribing to changes of suppression lists: %w", err)
	}
	defer sub.Unsubscribe()
	for pause.For(ctx, suppressionLook) {
		a.members.Touch()
	}
	return nil
}

// slicesOf lists a job's slices, if this process moves the job on.
func (a *app) slicesOf(id job.ID) []sql.Slice {
	if a.scheduler == nil || a.claims.Of(ledger.JobThing(id)).Journal != a.node.Scheduler() {
		return nil
	}
	var out []sql.Slice
	for _, x := range a.scheduler.Slices(id) {
		c := a.claims.Of(ledger.SliceThing(id, x.Number))
		out = append(out, sql.Slice{Job: id, Number: x.Number, State: x.State, Worker: c.Journal.Worker, Epoch: c.Epoch})
	}
	return out
}

// duties are those that this start of the process may have.
func (a *app) duties() *duty.Roster {
	return &duty.Roster{Self: job.Journal{Worker: "p-" + a.node.Name, Incarnation: a.node.Starts}, Log: a.streams.ledger, Claims: a.claims,
		Lapsed: func(holder job.Journal) bool { return a.ring().Lapsed(holder) }, Frozen: func() bool { return a.ring().Frozen() }, Silent: a.silent, Logger: a.log}
}

const pruneEvery = time.Minute

// pruneClaims keeps the table of claims to the jobs that are not over.
func (a *app) pruneClaims(ctx context.Context) error {
	select {
	case <-a.jobs.Ready(): // it knows all of them
	case <-ctx.Done():
		return nil
	}
	for pause.For(ctx, pruneEvery) {
		a.claims.Prune(a.jobs.IsLive)
	}
	return nil
}
