package app

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"crier/job"
	"crier/state/ledger"
	"crier/state/natskv"
	"crier/state/zk"
)

// openCoordination opens the store of leases and statuses.
func (a *app) openCoordination(ctx context.Context) error {
	c := a.cfg.Cluster
	if len(c.ZooKeeper) > 0 {
		store, err := zk.Open(ctx, zk.Config{Servers: c.ZooKeeper, Root: c.Root, Create: true, Logger: a.log})
		if err != nil {
			field := "coordination.zookeeper"
			if strings.Contains(err.Error(), c.Root) {
				field = "coordination.root"
			}
			return job.Invalid(field, field+": "+err.Error(), err)
		}
		a.onClose("ZooKeeper", func() error { store.Close(); return nil })
		a.coord = store
	} else {
		store, err := natskv.Open(ctx, a.conn, natskv.Config{Bucket: "coordination", Replicas: a.cfg.Messaging.Replicas, Logger: a.log})
		if err != nil {
			return err
		}
		a.coord = store
	}
	if !c.isOn() {
		return nil
	}
	return checkIdentity(ctx, a.streams.ledger, identity{Cluster: c.ID, Coordination: c.coordination()})
}

// coordination says which store a cluster has.
func (c Cluster) coordination() string {
	if len(c.ZooKeeper) > 0 {
		return "zookeeper " + c.Root
	}
	return "nats"
}

// identity is the ledger's own word of whose it is.
type identity struct {
	Cluster      string    `json:"cluster"`
	Coordination string    `json:"coordination"`
	At           time.Time `json:"at"`
}

// checkIdentity refuses a process whose settings would make it half a member: it would
// share the ledger with others, and be blind for their leases. The first process of a
// cluster writes what the others are held to.
func checkIdentity(ctx context.Context, l ledger.Log, mine identity) error {
	for {
		st, err := l.Last(ctx, ledger.ClusterSubject)
		switch {
		case errors.Is(err, ledger.ErrNoRecord):
			mine.At = time.Now().UTC()
			b, err := json.Marshal(mine)
			if err != nil {
				return fmt.Errorf("encoding the cluster's identity: %w", err)
			}
			if _, err = l.Append(ctx, ledger.ClusterSubject, 0, b); err == nil || ctx.Err() != nil {
				return err
			}
			continue // another was first, or it is not known: the next look tells
		case err != nil:
			return fmt.Errorf("reading the cluster's identity in the ledger: %w", err)
		}
		var have identity
		if err := json.Unmarshal(st.Data, &have); err != nil {
			return fmt.Errorf("decoding the cluster's identity in record %d: %w", st.Seq, err)
		}
		switch {
		case have.Cluster != mine.Cluster:
			return job.Invalid("cluster.id", fmt.Sprintf("cluster.id: the ledger is of cluster %q, this process of %q", have.Cluster, mine.Cluster), nil)
		case have.Coordination != mine.Coordination:
			return job.Invalid("coordination.root", fmt.Sprintf("coordination.root: the cluster keeps its leases in %q, this process in %q", have.Coordination, mine.Coordination), nil)
		}
		return nil
	}
}
