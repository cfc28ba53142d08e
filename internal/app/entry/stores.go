package entry

import (
	"context"
	"errors"
	"fmt"

	"crier/job"
	"crier/state/coord"
	"crier/state/sql"
	"crier/state/zk"
)

// markKey is where the coordination store has the mark.
const markKey = "cluster"

// ZooKeeper opens the coordination store, if it is the cluster's. On a nil Desk, that of a
// process without others, it only opens it.
func (d *Desk) ZooKeeper(ctx context.Context, cfg zk.Config) (*zk.Store, error) {
	const setting = "coordination.root"
	cfg.Create = d == nil || !d.Bound(setting)
	store, err := zk.Open(ctx, cfg)
	switch {
	case errors.Is(err, zk.ErrRoot) && !cfg.Create:
		return nil, job.Invalid(setting, "coordination.root, coordination.zookeeper: the cluster's store is not there; give this process the others' settings, "+
			"or, if ZooKeeper has lost it for good, start it with cluster.adopt: [coordination.root]", err)
	case errors.Is(err, zk.ErrRoot):
		return nil, job.Invalid(setting, setting+": correct it, or create the node above it", err)
	case err != nil:
		return nil, &job.Error{Code: job.CodeUnavailable, Field: "coordination.zookeeper", Message: "coordination.zookeeper: start the servers or correct the addresses", Err: err}
	case d == nil:
		return store, nil
	}
	if err := d.markStore(ctx, setting, cfg.Root, store); err != nil {
		store.Close()
		return nil, err
	}
	return store, nil
}

func (d *Desk) markStore(ctx context.Context, setting, root string, store coord.Store) error {
	for {
		e, err := store.Get(ctx, markKey)
		if err != nil && !errors.Is(err, coord.ErrNotFound) {
			return fmt.Errorf("reading the mark of the coordination store: %w", err)
		}
		if err := d.Admit(setting, "ZooKeeper's "+root, string(e.Value)); err != nil {
			return err
		}
		if err == nil {
			return d.Bind(ctx, setting)
		}
		if _, err := store.Put(ctx, markKey, []byte(d.have.ID), 0); err != nil && !errors.Is(err, coord.ErrConflict) {
			return fmt.Errorf("marking the coordination store: %w", err)
		}
	}
}

// SQL opens the database, if it is the cluster's; a file is this process's own.
func (d *Desk) SQL(ctx context.Context, cfg sql.Config) (*sql.DB, error) {
	const setting = "sql.dsn"
	if d == nil || cfg.DSN == "" {
		return sql.Open(ctx, cfg)
	}
	mark, err := sql.ReadMark(ctx, cfg.DSN)
	if err != nil {
		return nil, err
	}
	if err := d.Admit(setting, "its database", mark); err != nil {
		return nil, err
	}
	db, err := sql.Open(ctx, cfg)
	if err != nil {
		return nil, err
	}
	mark, err = db.SetMark(ctx, d.have.ID)
	if err == nil {
		err = d.Admit(setting, "its database", mark)
	}
	if err != nil {
		return nil, errors.Join(err, db.Close())
	}
	if err := d.Bind(ctx, setting); err != nil {
		return nil, errors.Join(err, db.Close())
	}
	return db, nil
}
