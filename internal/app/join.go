package app

import (
	"cmp"
	"context"
	"crypto/rand"
	"encoding/binary"
	"fmt"
	"slices"
	"time"

	"crier/internal/app/datadir"
	"crier/internal/app/entry"
	"crier/internal/app/member"
	"crier/internal/app/projection"
	"crier/job"
	"crier/scheduler/apta"
	"crier/scheduler/apta/link"
	"crier/scheduler/apta/transport"
	"crier/scheduler/apta/wire"
	"crier/state/ledger"
)

const (
	// joinWithin bounds becoming a member, on a busy machine too; who does not become one
	// says why and ends. Who cannot be one is refused before.
	joinWithin = 30 * time.Second
	// lookAtRefusals is how often it looks meanwhile whether it can become one at all.
	lookAtRefusals = 250 * time.Millisecond
	// clearWithin is longer than the lease of a process that has died is there.
	clearWithin = 9 * time.Second
	// leaveWithin bounds giving up what is held when the process is asked to stop.
	leaveWithin = 3 * time.Second
	// heardWithin is how fresh the ledger's last sign of life is, if it answers.
	heardWithin = 3 * time.Second
	// share is a member's weight in each of its roles.
	share = 100
)

// enter looks whether this process can be there beside the others, before it is.
func (a *app) enter(ctx context.Context) (err error) {
	c := a.cfg.Cluster
	if !c.isOn() {
		return a.enterAlone(ctx)
	}
	if err := entry.CheckClock(ctx, a.clocks, a.log); err != nil {
		return err
	}
	var random [16]byte
	rand.Read(random[:]) // never fails
	a.core = apta.Config{Cluster: cmp.Or(c.ID, "crier"), ID: a.node.Name, Incarnation: a.node.Starts, Nonce: binary.LittleEndian.Uint64(random[:]) | 1,
		Home: a.node.Home, Silence: a.node.Silence, Seeds: slices.Clone(c.Seeds), Timers: a.timers, Seed: binary.LittleEndian.Uint64(random[8:])}
	mine := wire.Lease{Identity: wire.Identity{ID: a.core.ID, Incarnation: a.core.Incarnation, Nonce: a.core.Nonce, Home: a.core.Home}, Profile: a.timers.Profile, Protocol: wire.Protocol}
	if err := entry.Clear(ctx, a.coord, mine, clearWithin); err != nil {
		return err
	}
	err = entry.Reach(ctx, a.coord, a.node.Name, clearWithin, func(ctx context.Context, addr string) error {
		return transport.Probe(ctx, transport.TCPConfig{TLS: a.tls}, addr)
	})
	if err != nil {
		return err
	}
	return a.entry.Seat(ctx)
}

// enterAlone is enter of a process that knows of no others. It looks twice: first before it
// leaves a lease, and then, for another may have looked at the same time, with a lease, that is
// kept until the process ends: at least one of two sees the other's.
func (a *app) enterAlone(ctx context.Context) error {
	lease := &projection.Lease{Store: a.coord, Member: a.node.Name, Roles: a.cfg.Roles, Logger: a.log}
	if len(a.cfg.Messaging.Servers) == 0 { // the ledger is inside
		a.keep(lease)
		return nil
	}
	if err := entry.Sole(ctx, a.coord, a.node.Name, clearWithin); err != nil {
		return err
	}
	if err := lease.Begin(ctx); err != nil {
		return fmt.Errorf("saying in the coordination store that this process is there: %w", err)
	}
	a.keep(lease)
	return entry.Sole(ctx, a.coord, a.node.Name, clearWithin)
}

// keep renews a lease until the process is closed.
func (a *app) keep(lease *projection.Lease) {
	ctx, end := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- lease.Run(ctx) }()
	a.onClose("lease", func() error { end(); return <-ended })
}

// openMember makes the process a member of its cluster, if it has one.
func (a *app) openMember(context.Context) (err error) {
	c := a.cfg.Cluster
	if !c.isOn() {
		return nil
	}
	for _, name := range a.cfg.Roles {
		role, err := link.ParseRole(name)
		if err != nil {
			return err
		}
		a.core.Weights[role] = share
	}
	a.member, err = member.New(member.Config{
		Core:   a.core,
		Listen: c.Listen, Advertise: c.Advertise, TLS: a.tls, Leases: member.NewLeases(a.coord),
		Ledger: func() bool { return time.Since(a.claims.Heard()) < heardWithin },
		Alive:  func() bool { return a.worker == nil || a.worker.Alive() },
		Ready:  a.able,
		Owned:  a.owned, Log: a.log,
		Silenced: func(reason string) error { return datadir.Silenced(a.cfg.Data, *a.node, reason) }})
	if err == nil {
		// The next try of a process that cannot begin again yet listens at the same address.
		a.onClose("membership", func() error { a.member.Close(); return nil })
	}
	return err
}

// able is closed when this process can do what its roles are for: its worker has read on in its
// index, which may take long after a long absence.
func (a *app) able() <-chan struct{} {
	if a.worker != nil {
		return a.worker.Ready()
	}
	return a.jobs.Ready()
}

// waitMember waits until this process is a member that works.
func (a *app) waitMember(ctx context.Context) error {
	if a.member == nil {
		return nil
	}
	look := time.NewTicker(lookAtRefusals)
	defer look.Stop()
	late := time.After(joinWithin)
	for over := false; !over; {
		select {
		case <-a.member.Working():
			return nil
		case <-look.C:
			if err := turnedAway(a.core, a.member.Snapshot().Refusals); err != nil {
				return err
			}
		case <-late:
			over = true
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	st := a.member.Snapshot()
	text := fmt.Sprintf("this process did not become a member of cluster %s within %s: it is %s (%s); start it again if the machine or the coordination store was busy, or see whether the others reach it at cluster.advertise",
		a.cfg.Cluster.ID, joinWithin, st.State, st.Reason)
	for _, r := range st.Refusals {
		text += "; " + r.Text
	}
	return job.Unavailable(text)
}

// turnedAway says why a process cannot become a member however long it waits: another one
// has its name; or others know its start number already, of one with its name, because its
// data directory was lost, or is an old copy.
func turnedAway(mine apta.Config, refusals []apta.Refused) error {
	for _, r := range refusals {
		if r.Final {
			return job.Conflict("name: " + r.Text + "; give this process another name, or start it again when the other one is gone")
		}
		if r.Code == wire.RefusedUsed && r.Peer == mine.ID && r.Incarnation >= mine.Incarnation {
			return job.Conflict(fmt.Sprintf("name: the members know a process %q with the start number %d, and this data directory counts %d; "+
				"give this process the data directory that it had, or another name", mine.ID, r.Incarnation, mine.Incarnation))
		}
	}
	return nil
}

// leave gives up what the process holds, as far as that works soon, so that others go on
// with it at once.
func (a *app) leave(ctx context.Context) {
	if a.member == nil {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, leaveWithin)
	defer cancel()
	a.member.Leave(ctx)
}

// owned counts the claims that this start of the process holds. What an earlier one claimed
// is there for others to take; claims on jobs that are over, and on slices of those that are
// sent, mean nothing any more.
func (a *app) owned() int {
	n := 0
	for _, kind := range []ledger.ClaimKind{ledger.ClaimJob, ledger.ClaimSlice, ledger.ClaimRange, ledger.ClaimRole} {
		a.claims.All(kind, func(c ledger.Claim) {
			if member.Of(c.Journal.Worker) == a.node.Name && c.Journal.Incarnation >= a.node.Starts && a.matters(c.Thing()) {
				n++
			}
		})
	}
	return n
}

// matters reports whether something is left to do about a thing.
func (a *app) matters(t ledger.Thing) bool {
	switch t.Kind {
	case ledger.ClaimJob:
		id, err := job.ParseID(t.ID)
		return err == nil && a.jobs.IsLive(id)
	case ledger.ClaimSlice:
		id, _, ok := ledger.SliceOf(t)
		j, live := a.jobs.Current(id)
		return ok && live && j.State != job.Sent
	}
	return true
}

// silent reports whether this process is to give up what it holds.
func (a *app) silent() bool {
	return a.member != nil && a.member.Snapshot().State == link.Silence
}
