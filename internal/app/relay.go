package app

import (
	"context"
	"fmt"

	"crier/internal/webhook"
	"crier/state/events"
	"crier/state/outbox"
	"crier/state/sql"
)

// eventsMax bounds the stream of events, which drops the oldest ones: some 250,000.
const eventsMax = 64 << 20

// database says where the SQL store is.
func (a *app) database() sql.Config {
	if a.cfg.SQL != "" {
		return sql.Config{DSN: a.cfg.SQL}
	}
	return sql.Config{Path: a.path("crier.db")}
}

// openRelay opens the stream of events and, if this process has the role, makes the
// relay. It goes by the node's name, so that a process that starts again goes on at
// once with what the former one had taken.
func (a *app) openRelay(ctx context.Context) (err error) {
	a.events, err = events.Open(ctx, a.conn, events.Config{MaxBytes: eventsMax, Replicas: a.cfg.Messaging.Replicas, Logger: a.log})
	if err != nil || !a.cfg.has("relay") {
		return err
	}
	a.relay, err = outbox.New(outbox.Config{Rows: a.store.Outbox, Publisher: a.events, Owner: "relay-" + a.node.Name, Logger: a.log})
	if err != nil {
		return err
	}
	// Who dies leaves what it was sending to the leases: its name must not come again.
	a.courier, err = webhook.New(webhook.Config{Store: a.store.Hooks, Owner: fmt.Sprintf("relay-%s-%d", a.node.Name, a.node.Starts),
		Guard: webhook.Guard{Allow: a.cfg.Webhooks}, Logger: a.log})
	if err != nil {
		return err
	}
	if a.recorder != nil {
		a.recorder.Told = func() { a.relay.Notify(); a.courier.Notify() }
	}
	return nil
}
