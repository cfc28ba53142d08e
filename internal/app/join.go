package app

import (
	"cmp"
	"context"
	"crypto/rand"
	"encoding/binary"
	"fmt"
	"net"
	"slices"
	"time"

	"crier/internal/app/member"
	"crier/job"
	"crier/scheduler/apta"
	"crier/scheduler/apta/link"
	"crier/scheduler/apta/timing"
	"crier/state/ledger"
)

const (
	// joinWithin bounds becoming a member; who does not become one says why and ends.
	joinWithin = 10 * time.Second
	// leaveWithin bounds giving up what is held when the process is asked to stop.
	leaveWithin = 3 * time.Second
	// heardWithin is how fresh the ledger's last sign of life is, if it answers.
	heardWithin = 3 * time.Second
	// share is a member's weight in each of its roles.
	share = 100
)

// openMember makes the process a member of its cluster, if it has one.
func (a *app) openMember(ctx context.Context) error {
	c := a.cfg.Cluster
	if !c.isOn() {
		return nil
	}
	listener, err := (&net.ListenConfig{}).Listen(ctx, "tcp", c.Listen)
	if err != nil {
		return job.Invalid("cluster.listen", "cluster.listen: listening", err)
	}
	timers := timing.Default()
	if c.Fast {
		timers = timing.Fast()
	}
	var weights link.Weights
	for _, name := range a.cfg.Roles {
		role, err := link.ParseRole(name)
		if err != nil {
			return err
		}
		weights[role] = share
	}
	var random [16]byte
	rand.Read(random[:]) // never fails
	a.member = member.New(member.Config{
		Core: apta.Config{Cluster: cmp.Or(c.ID, "crier"), ID: a.node.Name, Incarnation: a.node.Starts, Nonce: binary.LittleEndian.Uint64(random[:]) | 1,
			Home: a.node.Home, Addr: cmp.Or(c.Advertise, listener.Addr().String()), Weights: weights, Seeds: slices.Clone(c.Seeds), Timers: timers,
			Seed: binary.LittleEndian.Uint64(random[8:])},
		Listen: listener, Leases: member.NewLeases(a.coord),
		Ledger: func() bool { return time.Since(a.claims.Heard()) < heardWithin },
		Alive:  func() bool { return a.worker == nil || a.worker.Alive() },
		Fit:    func() bool { return true },
		Owned:  a.owned, Log: a.log})
	return nil
}

// waitMember waits until this process is a member that works.
func (a *app) waitMember(ctx context.Context) error {
	if a.member == nil {
		return nil
	}
	select {
	case <-a.member.Working():
		return nil
	case <-time.After(joinWithin):
		st := a.member.Now().Status
		return job.Unavailable(fmt.Sprintf("this process did not become a member of cluster %s within %s: it is %s (%s)", a.cfg.Cluster.ID, joinWithin, st.State, st.Reason))
	case <-ctx.Done():
		return ctx.Err()
	}
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

// owned counts the claims that this process holds.
func (a *app) owned() int {
	n := 0
	for _, kind := range []ledger.ClaimKind{ledger.ClaimJob, ledger.ClaimSlice, ledger.ClaimRange, ledger.ClaimRole} {
		a.claims.All(kind, func(c ledger.Claim) {
			if member.Of(c.Journal.Worker) == a.node.Name && !c.Journal.IsZero() {
				n++
			}
		})
	}
	return n
}

// silent reports whether this process is to give up what it holds.
func (a *app) silent() bool {
	return a.member != nil && a.member.Now().Status.State == link.Silence
}
