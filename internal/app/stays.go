package app

import (
	"cmp"
	"context"
	"fmt"
	"time"

	"crier/internal/app/member"
	"crier/internal/pause"
	"crier/internal/work"
	"crier/job"
	"crier/state/ledger"
	"crier/state/overstay"
)

// What a job waits on is asked of the scheduler that moves it on.
const (
	waitingWait = 300 * time.Millisecond
	muteFor     = 2 * time.Second // one that did not answer is not asked about the next job
)

// waitingOn says what a live job waits on, as the scheduler that moves it on knows,
// whichever process that is.
func (a *app) waitingOn(id job.ID) string {
	const nobody = "a scheduler to take it"
	holder := a.claims.Of(ledger.JobThing(id)).Journal
	switch {
	case a.scheduler != nil && (holder.IsZero() || holder == a.node.Scheduler()):
		return cmp.Or(a.scheduler.WaitingOn(id), nobody)
	case holder.IsZero():
		return nobody
	}
	mute := fmt.Sprintf("scheduler %s, which does not answer", member.Of(holder.Worker))
	if at, ok := a.mute.Load(holder.Worker); ok && time.Since(at.(time.Time)) < muteFor {
		return mute
	}
	ctx, cancel := context.WithTimeout(context.Background(), waitingWait)
	defer cancel()
	b, err := a.bus.Request(ctx, work.WaitingTo(holder.Worker), id[:])
	if err != nil {
		a.mute.Store(holder.Worker, time.Now())
		return mute
	}
	a.mute.Delete(holder.Worker)
	return cmp.Or(string(b), fmt.Sprintf("scheduler %s, which has just taken it", member.Of(holder.Worker)))
}

// sweep makes what tells of jobs that overstay their state and takes them from who does
// not move them on; one process at a time has that duty.
func (a *app) sweep() *overstay.Sweep {
	return overstay.NewSweep(overstay.Config{Watch: a.stays, Ready: a.jobs.Ready(), WaitingOn: a.waitingOn, Events: a.events, Claims: a.claims, Logger: a.log,
		Take: func(ctx context.Context, c ledger.Claim, version uint64, at time.Time) error {
			ctx, cancel := context.WithTimeout(ctx, takeWithin)
			defer cancel()
			return ledger.TakeAway(ctx, a.streams.ledger, c, version, at)
		}})
}

// takeWithin bounds taking a job away.
const takeWithin = 2 * time.Second

// staysLook is how often a process that is asked about jobs looks how far they are.
const staysLook = 5 * time.Second

// watchStays notes how far all jobs are, so that it is known since when nothing was done.
func (a *app) watchStays(ctx context.Context) error {
	for pause.For(ctx, staysLook) {
		if _, err := a.stays.Late(); err != nil && ctx.Err() == nil {
			a.log.Warn("looking how far jobs are; it is tried again", "error", err)
		}
	}
	return nil
}
