package app

import (
	"context"
	"time"

	"crier/internal/app/entry"
	"crier/scheduler/apta/timing"
	"crier/state/natskv"
	"crier/state/zk"
)

// openEntry looks whose the ledger is, and whether the keys are its cluster's, or nobody's.
func (a *app) openEntry(ctx context.Context) (err error) {
	c := a.cfg.Cluster
	if !c.isOn() {
		a.entry, err = entry.OpenAlone(ctx, a.streams.ledger, a.cfg.SQL != "" || len(c.ZooKeeper) > 0)
		if err != nil {
			return err
		}
		return a.entry.Dir(ctx, "keys", a.cfg.Keys)
	}
	if a.tls, err = c.TLS.Load(time.Now()); err != nil {
		return err
	}
	if a.timers, err = timing.Of(c.Profile); err != nil {
		return err
	}
	a.entry, err = entry.Open(ctx, entry.Config{Log: a.streams.ledger, Cluster: c.ID, Coordination: c.coordination(), Adopt: c.Adopt})
	if err != nil {
		return err
	}
	if err := a.entry.Number(ctx, a.cfg.Data, a.node, a.log); err != nil {
		return err
	}
	return a.entry.Dir(ctx, "keys", a.cfg.Keys)
}

// openCoordination opens the store of leases and statuses.
func (a *app) openCoordination(ctx context.Context) error {
	c := a.cfg.Cluster
	if len(c.ZooKeeper) == 0 { // it is where the ledger is
		store, err := natskv.Open(ctx, a.conn, natskv.Config{Bucket: "coordination", Replicas: a.cfg.Messaging.Replicas, Logger: a.log})
		a.coord = store
		return err
	}
	store, err := a.entry.ZooKeeper(ctx, zk.Config{Servers: c.ZooKeeper, Root: c.Root, Look: a.timers.Look, Logger: a.log})
	if err != nil {
		return err
	}
	a.onClose("ZooKeeper", func() error { store.Close(); return nil })
	a.coord, a.clocks = store, append(a.clocks, entry.Clock{Name: "ZooKeeper (coordination.zookeeper)", Ask: store.Time})
	return nil
}

// openSQL opens the database.
func (a *app) openSQL(ctx context.Context) (err error) {
	if a.store, err = a.entry.SQL(ctx, a.database()); err != nil {
		return err
	}
	a.onClose("SQL store", a.store.Close)
	if a.cfg.SQL != "" {
		a.clocks = append(a.clocks, entry.Clock{Name: "the database (sql.dsn)", Ask: a.store.Time})
	}
	return nil
}

// coordination says which store a cluster has.
func (c Cluster) coordination() string {
	if len(c.ZooKeeper) > 0 {
		return "zookeeper " + c.Root
	}
	return "nats"
}
