package node

import (
	"context"

	"crier/scheduler/apta"
	"crier/scheduler/apta/wire"
)

// do does what the core has decided. What may take time goes to a goroutine.
func (n *Node) do(ctx context.Context, e apta.Effect) {
	switch e := e.(type) {
	case apta.Send:
		frame, err := wire.Encode(e.Message)
		if err != nil {
			n.log.Error("membership: a message is not sent", "to", e.Addr, "error", err)
			return
		}
		n.cfg.Transport.Send(e.Addr, frame)
	case apta.Renew:
		n.renew(ctx, e)
	case apta.Release:
		n.spawn(func() { n.release(ctx, e.Lease) })
	case apta.Execute:
		n.execute(ctx, e)
	case apta.Answered:
		n.asks.answer(e)
	case apta.Changed:
		n.log.Info("membership: state", "from", e.From, "to", e.To, "reason", e.Reason)
	case apta.Silenced:
		select {
		case <-n.silenced: // nobody needs an older one
		default:
		}
		n.silenced <- e.Reason // only the owner puts one in
	case apta.Rejoin:
		n.spawn(func() { n.rejoin(ctx) })
	case apta.Refused:
		n.refused(e)
	case apta.Left:
		n.left = true
	}
}

// renew renews a lease within the time for an answer; then the store counts as silent.
func (n *Node) renew(ctx context.Context, e apta.Renew) {
	answer := apta.LeaseAnswer{Sent: e.Sent, For: e.For, Outcome: apta.Silent}
	if e.For != (apta.Call{}) && !n.claim() {
		n.spawn(func() { n.post(ctx, answer) })
		return
	}
	n.spawn(func() {
		if e.For != (apta.Call{}) {
			defer n.unclaim()
		}
		short, cancel := context.WithTimeout(ctx, n.timers.Answer)
		defer cancel()
		holder, ok, err := n.cfg.Leases.Renew(short, e.Lease, e.TTL)
		switch {
		case err != nil:
			n.log.Debug("membership: renewing a lease", "of", e.Lease.ID, "error", err)
		case ok:
			answer.Outcome = apta.Renewed
		default:
			answer.Outcome, answer.Holder = apta.Taken, holder
		}
		n.post(ctx, answer)
	})
}

// claim takes a token for executing a request of another member, if there is one.
func (n *Node) claim() bool {
	select {
	case n.running <- struct{}{}:
		return true
	default:
		return false
	}
}

func (n *Node) unclaim() { <-n.running }

// release gives the lease up, also when the node ends meanwhile.
func (n *Node) release(ctx context.Context, l wire.Lease) {
	short, cancel := context.WithTimeout(context.WithoutCancel(ctx), 2*n.timers.Answer)
	defer cancel()
	if err := n.cfg.Leases.Release(short, l); err != nil {
		n.log.Warn("membership: the lease is not released, and lapses instead", "error", err)
	}
}

func (n *Node) execute(ctx context.Context, e apta.Execute) {
	if !n.claim() {
		n.spawn(func() { n.post(ctx, apta.Executed{For: e.Call, Err: "too many requests are being executed"}) })
		return
	}
	n.spawn(func() {
		defer n.unclaim()
		short, cancel := context.WithTimeout(ctx, 2*n.timers.Answer)
		defer cancel()
		body, err := n.cfg.App.Execute(short, e.Call.Source, e.Call.Kind, e.Body)
		done := apta.Executed{For: e.Call, Body: body}
		if err != nil {
			done.Err = err.Error()
		}
		n.post(ctx, done)
	})
}

// rejoin has the application release what it holds, until it has.
func (n *Node) rejoin(ctx context.Context) {
	for ctx.Err() == nil {
		incarnation, err := n.cfg.App.Rejoin(ctx)
		if err == nil {
			n.post(ctx, apta.Rejoined{Incarnation: incarnation})
			return
		}
		n.log.Warn("membership: releasing what was held before this member was cut off", "error", err)
		pause(ctx, retry)
	}
}

func (n *Node) refused(e apta.Refused) {
	n.log.Warn("membership: refused", "code", e.Code, "peer", e.Peer, "address", e.Addr, "reason", e.Text)
	n.refusals = append(n.refusals, e)
	n.refusals = n.refusals[max(0, len(n.refusals)-refusalsKept):]
	if e.Final {
		n.err = refusal(e)
	}
}

func (a *asks) open() (uint64, <-chan apta.Answered) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.mu.next++
	answer := make(chan apta.Answered, 1)
	a.mu.open[a.mu.next] = answer
	return a.mu.next, answer
}

func (a *asks) answer(e apta.Answered) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if answer, ok := a.mu.open[e.Req]; ok {
		delete(a.mu.open, e.Req)
		answer <- e
	}
}

func (a *asks) close(req uint64) {
	a.mu.Lock()
	defer a.mu.Unlock()
	delete(a.mu.open, req)
}

// publish makes a new snapshot if anything in it is another.
func (n *Node) publish() {
	view, st := n.core.View(), n.core.Status()
	old := n.snapshot.Load()
	if old != nil && old.View == view && sameStatus(old.Status, st) && len(old.Refusals) == len(n.refusals) &&
		(len(n.refusals) == 0 || old.Refusals[len(old.Refusals)-1] == n.refusals[len(n.refusals)-1]) {
		return
	}
	s := newSnapshot(view, st, append([]apta.Refused(nil), n.refusals...), n.boot)
	if old != nil && old.View == view {
		s.tables = old.tables
	}
	n.snapshot.Store(s)
	if old != nil && (old.View.Hash != view.Hash || len(old.View.Members) != len(view.Members) || old.State != st.State || old.Frozen != st.Frozen || old.Incarnation != st.Incarnation) {
		select {
		case n.changed <- struct{}{}:
		default:
		}
	}
}

// Stop makes the member leave: it takes nothing new, and once Owned says that nothing
// is owned its record is withdrawn and its lease released. Run returns then.
func (n *Node) Stop() { n.post(context.Background(), apta.Stop{}) }

// Tell gives the member an event of its application: Ledger, SelfCheck, Health, Owned,
// Operate, Rejoined, Publish or Reweigh.
func (n *Node) Tell(ev apta.Event) { n.post(context.Background(), ev) }

// Ask sends a request to a member, or to any neighbour if to is "", and waits for the
// answer. After ErrNoAnswer, or the end of ctx, it may have been executed.
func (n *Node) Ask(ctx context.Context, to, kind string, body []byte) ([]byte, error) {
	req, answer := n.asks.open()
	defer n.asks.close(req)
	if !n.post(ctx, apta.Ask{Req: req, To: to, Kind: kind, Body: body}) {
		return nil, ended(ctx)
	}
	select {
	case a := <-answer:
		return a.Body, askError(a)
	case <-ctx.Done():
		return nil, ctx.Err()
	case <-n.done:
		return nil, ErrEnded
	}
}

func ended(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	return ErrEnded
}

// Look asks the owner of the core for something: fn is called by it, must not wait, and
// must keep nothing of the core.
func (n *Node) Look(ctx context.Context, fn func(*apta.State)) error {
	seen := make(chan struct{})
	if !n.post(ctx, func(s *apta.State) { fn(s); close(seen) }) {
		return ended(ctx)
	}
	select {
	case <-seen:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	case <-n.done:
		return ErrEnded
	}
}

// Lapsed reports whether an incarnation of a member is over; see apta.State.Lapsed.
func (n *Node) Lapsed(ctx context.Context, id string, incarnation uint32) (lapsed bool, err error) {
	answer := make(chan bool, 1)
	if err := n.Look(ctx, func(s *apta.State) { answer <- s.Lapsed(id, incarnation) }); err != nil {
		return false, err
	}
	return <-answer, nil
}

// Recorded reports whether a member is recorded; see apta.State.Recorded.
func (n *Node) Recorded(ctx context.Context, id string) (recorded bool, err error) {
	answer := make(chan bool, 1)
	if err := n.Look(ctx, func(s *apta.State) { answer <- s.Recorded(id) }); err != nil {
		return false, err
	}
	return <-answer, nil
}

// Snapshot is the newest view and state; it does not wait.
func (n *Node) Snapshot() *Snapshot { return n.snapshot.Load() }
