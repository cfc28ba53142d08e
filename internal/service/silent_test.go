package service

import (
	"context"
	"strings"
	"testing"
	"time"

	"crier/api"
	"crier/job"
	"crier/state/events"
	"crier/state/ledger"
)

// dumb is a log of which a follower hears nothing.
type dumb struct{ ledger.Log }

func (dumb) Follow(ctx context.Context, _ uint64, _ string, _ func(ledger.Stored) error, _ func()) error {
	<-ctx.Done()
	return ctx.Err()
}

type dumbEvents struct{}

func (dumbEvents) Follow(ctx context.Context, _ events.Query, _ func(events.Stored) error, _ func()) error {
	<-ctx.Done()
	return ctx.Err()
}

// While the bus is silent, proofs and lists of what was end with a word.
func TestReadsOfASilentBusEnd(t *testing.T) {
	f := newFixture(t)
	id := f.submitSeen(api.SubmitJob{Account: "news", Audience: api.AudienceFollowers, Body: "x"})
	silent := f.cfg
	silent.Log, silent.Controls, silent.Events, silent.Patience = dumb{Log: f.log}, dumb{Log: f.controls}, dumbEvents{}, 20*time.Millisecond
	svc := New(silent)
	for name, ask := range map[string]func(context.Context) error{
		"reconcile": func(ctx context.Context) error { _, err := svc.ReconcileJob(ctx, id); return err },
		"explain":   func(ctx context.Context) error { _, err := svc.ExplainJob(ctx, id, 3<<20); return err },
		"verify":    func(ctx context.Context) error { _, err := svc.VerifyLedger(ctx); return err },
		"ledger":    func(ctx context.Context) error { return svc.TailLedger(ctx, api.TailLedger{}, nil) },
		"events":    func(ctx context.Context) error { return svc.TailEvents(ctx, api.TailEvents{}, nil) },
	} {
		ctx, cancel := context.WithTimeout(asked(t), 10*time.Second)
		if err := ask(ctx); job.CodeOf(err) != job.CodeUnavailable || !strings.Contains(err.Error(), "does not answer") {
			t.Errorf("%s: %v", name, err)
		}
		cancel()
	}
}
