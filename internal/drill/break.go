package drill

import (
	"context"
	"fmt"
	"os"
	"runtime"
	"strings"
	"time"

	"crier/api"
	"crier/internal/crowd"
	"crier/internal/drill/holders"
	"crier/internal/drill/verdict"
	"crier/job"
)

const (
	loginAfter   = 2 * time.Second  // the late ones log in while things are broken
	bitesWithin  = 10 * time.Second // for the fault to show
	resumesAtEnd = 25 * time.Second // how long it is waited for work to resume
	undoWithin   = 90 * time.Second
	probeWithin  = 60 * time.Second
)

// breakIt does the fault, watches what comes of it, and ends it.
func (r *run) breakIt(ctx context.Context) (err error) {
	if r.claims.Kind != "" {
		if err := r.api.do(ctx, r.claims.Read); err != nil {
			return fmt.Errorf("reading who holds what: %w", err)
		}
	}
	if r.report.Fault.Victims, err = r.drill.pick(ctx, r); err != nil {
		return fmt.Errorf("looking for the victim: %w", err)
	}
	if r.ofVictim, err = r.clientsOf(r.report.Fault.Victims[0]); err != nil {
		return err
	}
	if r.drill.outage {
		r.report.Outage = new(verdict.Outage)
	}
	if r.drill.zombie {
		if r.before, err = r.refusals(ctx); err != nil {
			return err
		}
	}
	r.was = holders.Held(r.claims.All, r.report.Fault.Victims[0], r.drill.holds, time.Now(), r.load)
	r.onEnd(func() error { // whatever happens
		undo, cancel := context.WithTimeout(context.WithoutCancel(ctx), undoWithin)
		defer cancel()
		err := r.drill.undo(undo, r)
		switch {
		case ctx.Err() == nil:
		case err != nil:
			r.cfg.Say("the cluster is not whole: %v; crier cluster up starts what is missing, and names what is paused", err)
		default:
			r.cfg.Say("the cluster is whole again")
		}
		return err
	})
	f := &r.report.Fault
	f.At = time.Now()
	if f.What, err = r.drill.do(ctx, r); err != nil {
		return fmt.Errorf("breaking %s: %w", strings.Join(f.Victims, ", "), err)
	}
	r.note("the machine's load was %s, of %d processors", machineLoad(), runtime.NumCPU())
	r.cfg.Say("%s: %s", strings.Join(f.Victims, ", "), f.What)
	r.logIn(ctx)
	if r.drill.probe {
		r.submitProbe(ctx)
	}
	if _, err := r.until(ctx, bitesWithin, func() bool { f.Bit, f.Proof = r.drill.bit(ctx, r); return f.Bit }); err != nil {
		return err
	}
	if err := r.watch(ctx); err != nil {
		return err
	}
	if r.drill.lasts > 0 && (f.Bit || r.drill.Name == CutPair) { // a cut counts until its end
		f.Bit, f.Proof = r.drill.bit(ctx, r)
	}
	return r.restore(ctx)
}

// machineLoad is how many threads wanted to run in the last minute: with many more than
// there are processors, times say little about Crier.
func machineLoad() string {
	b, err := os.ReadFile("/proc/loadavg")
	if err != nil {
		return "unknown"
	}
	load, _, _ := strings.Cut(string(b), " ")
	return load
}

// watch looks until the fault is to end: after its time, but one that others are to take
// over from not before they do, as far as that can be waited for.
func (r *run) watch(ctx context.Context) error {
	lasts := r.drill.lasts
	within := resumesAtEnd
	if lasts > 0 {
		within = time.Until(r.report.Fault.At.Add(lasts))
		if r.drill.taken {
			within += resumesAtEnd
		}
	}
	_, err := r.until(ctx, within, func() bool {
		r.readClaims(ctx)
		r.notice(ctx)
		r.submitMeanwhile(ctx)
		if lasts == 0 {
			return r.resumed() != nil
		}
		return r.drill.taken && !r.detected.IsZero() && time.Since(r.report.Fault.At) >= lasts
	})
	return err
}

// notice looks whether somebody acts on what the victim held.
func (r *run) notice(ctx context.Context) {
	if !r.detected.IsZero() {
		return
	}
	for _, at := range holders.Taken(r.claims.All, r.was) {
		if at.After(r.report.Fault.At) && (r.detected.IsZero() || at.Before(r.detected)) {
			r.detected = at
		}
	}
	if r.drill.noticed == nil {
		return
	}
	if at := r.drill.noticed(r, ctx); !at.IsZero() && (r.detected.IsZero() || at.Before(r.detected)) {
		r.detected = at
	}
}

// restore ends the fault.
func (r *run) restore(ctx context.Context) error {
	if r.report.Fault.Bit && r.drill.taken && r.detected.IsZero() {
		r.report.Fault.Bit, r.report.Fault.Proof = false, "nobody took anything over before it ended"
	}
	undo, cancel := context.WithTimeout(ctx, undoWithin)
	defer cancel()
	if err := r.drill.undo(undo, r); err != nil {
		return fmt.Errorf("making the cluster whole again: %w", err)
	}
	r.restored = time.Now()
	r.report.Fault.Seconds = r.restored.Sub(r.report.Fault.At).Round(time.Millisecond).Seconds()
	r.cfg.Say("whole again after %.1f s", r.report.Fault.Seconds)
	if !r.drill.probe {
		r.submitProbe(ctx)
	}
	return r.agree(ctx)
}

// submitProbe submits one more job, as fast as it goes, and notes when it was taken in; and
// another one, which brings nobody anything new. It recalls a third.
func (r *run) submitProbe(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, probeWithin)
	defer cancel()
	if err := r.submit(ctx, "probe", 0, job.Realtime); err != nil {
		r.note("one more job was not taken in: %v", err)
		return
	}
	r.probe, r.probed = r.jobs[len(r.jobs)-1], time.Now()
	if err := r.submit(ctx, "again", 0, job.Realtime, r.once); err != nil {
		r.note("a job that sends what was sent was not taken in: %v", err)
	}
	r.recall(ctx)
}

// logIn connects the late ones in a while.
func (r *run) logIn(ctx context.Context) {
	members := r.lateTokens
	var err error
	go func() {
		if err == nil {
			select {
			case <-time.After(loginAfter):
			case <-ctx.Done():
			}
			var rep crowd.Report
			err = r.late.child.Ask(crowd.Request{Connect: members}, &rep)
		}
		r.lateIn.Store(err == nil)
		r.lateErr <- err
	}()
}

// resumed is how long it took until what the victim did was done again; nil: not yet.
func (r *run) resumed() *verdict.Seconds {
	if r.drill.resumed == nil {
		return nil
	}
	return r.drill.resumed(r)
}

// probeTaken: one more job was taken in.
func (r *run) probeTaken() *verdict.Seconds {
	if r.probed.IsZero() {
		return nil
	}
	return verdict.In(r.probed.Sub(r.report.Fault.At))
}

// clientsLost: the first client of the victim that lost its connection. It may have another
// before anybody looks.
func (r *run) clientsLost(context.Context) (first time.Time) {
	for who, ms := range r.lost {
		at := time.UnixMilli(ms)
		if r.ofVictim[who] && !at.Before(r.report.Fault.At.Truncate(time.Millisecond)) && (first.IsZero() || at.Before(first)) {
			first = at
		}
	}
	return first
}

// resumedClients: the first receipt of a client that had lost its connection.
func (r *run) resumedClients() *verdict.Seconds {
	if r.detected.IsZero() {
		return nil
	}
	first, ok := verdict.FirstOf(r.receipts, r.detected, func(x crowd.Receipt) bool { return r.ofVictim[x.Recipient] })
	if !ok {
		return nil
	}
	return verdict.In(first.Sub(r.report.Fault.At))
}

// resumedSlices: the first receipt of a job whose slice another has.
func (r *run) resumedSlices() *verdict.Seconds {
	since := map[string]time.Time{}
	for id, at := range holders.Taken(r.claims.All, r.was) {
		if j := r.was[id].Job(); at.After(r.report.Fault.At) && (since[j].IsZero() || at.Before(since[j])) {
			since[j] = at
		}
	}
	first, ok := verdict.FirstOf(r.receipts, r.report.Fault.At, func(x crowd.Receipt) bool {
		at, ok := since[x.Job.String()]
		return ok && x.At >= at.UnixMilli()
	})
	if !ok {
		return nil
	}
	return verdict.In(first.Sub(r.report.Fault.At))
}

// resumedJobs: all jobs have another who moves them on.
func (r *run) resumedJobs() *verdict.Seconds {
	at := holders.Taken(r.claims.All, r.was)
	last := r.report.Fault.At
	for id := range r.was {
		when, ok := at[id]
		if !ok {
			return nil
		}
		if when.After(last) {
			last = when
		}
	}
	return verdict.In(last.Sub(r.report.Fault.At))
}

// event: the relay that is left published that the probe is being sent.
func (r *run) event() *verdict.Seconds {
	if r.probed.IsZero() || r.published != nil {
		return r.published
	}
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
	defer cancel()
	err := r.api.list[r.api.at].TailEvents(ctx, api.TailEvents{Job: r.probe}, func(api.Event) error {
		r.published = verdict.In(time.Since(r.report.Fault.At))
		return nil
	})
	if err != nil {
		r.api.at = (r.api.at + 1) % len(r.api.list)
	}
	return r.published
}

// measure makes times of what was seen.
func (r *run) measure() {
	f, t := r.report.Fault, &r.report.Times
	if f.At.IsZero() || len(r.receipts) == 0 {
		return
	}
	end := time.UnixMilli(r.receipts[len(r.receipts)-1].At)
	if !r.detected.IsZero() {
		t.Detected = verdict.In(r.detected.Sub(f.At))
	}
	t.Resumed = r.resumed()
	usual := min(r.report.Load.Rate, r.report.Load.Before)
	load := r.ofLoad()
	if len(load) > 0 {
		end = time.UnixMilli(load[len(load)-1].At)
	}
	t.Stall = verdict.In(verdict.Stall(load, f.At, end))
	switch {
	case !r.drill.probe: // one more job, submitted when all was whole again
		if first, ok := verdict.FirstOf(r.receipts, r.restored, func(x crowd.Receipt) bool { return x.Job == r.probe }); ok {
			t.CaughtUp = verdict.In(first.Sub(r.restored))
		}
	case r.drill.lasts > 0:
		t.CaughtUp = verdict.FlowsFrom(load, r.restored, end, usual)
		if t.CaughtUp == nil && end.Sub(r.restored) < verdict.Window { // all was sent before
			t.CaughtUp = verdict.In(0)
		}
	default:
		t.CaughtUp = verdict.FlowsFrom(load, f.At, end, usual)
	}
}

// ofLoad is the receipts of the load by those who were connected from the start.
func (r *run) ofLoad() (list []crowd.Receipt) {
	late := map[job.Recipient]bool{}
	for _, id := range r.late.members {
		late[id] = true
	}
	for _, x := range r.receipts {
		if r.load[x.Job.String()] && !late[x.Recipient] {
			list = append(list, x)
		}
	}
	return list
}

// clientsOf is the clients that began at a gateway.
func (r *run) clientsOf(gateway string) (map[job.Recipient]bool, error) {
	all, err := r.cluster.Role("gateway")
	if err != nil {
		return nil, err
	}
	set := map[job.Recipient]bool{}
	for i, id := range r.online.members {
		if all[i%len(all)].Name == gateway {
			set[id] = true
		}
	}
	return set, nil
}
