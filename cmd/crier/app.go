package main

import (
	"context"

	"crier/internal/app"
	"crier/internal/bus/natsbus"
	"crier/internal/config"
)

// serveApp runs the server until ctx ends.
func serveApp(ctx context.Context, cfg config.Server, s serving) error {
	cluster := app.Cluster{ID: cfg.Cluster.ID, Listen: cfg.Cluster.Listen, Seeds: cfg.Cluster.Seeds, Fast: cfg.Cluster.Profile == "fast",
		ZooKeeper: cfg.Coordination.ZooKeeper, Root: cfg.Coordination.Root}
	return app.Run(ctx, app.Config{Data: cfg.Data, Name: cfg.Name, Blobs: cfg.Blobs, Keys: cfg.Keys, Cluster: cluster, Listen: cfg.Listen, Roles: cfg.Roles, ReadyFile: cfg.ReadyFile, NATS: cfg.NATS.Listen, SQL: cfg.SQL.DSN,
		Messaging: messaging(cfg.NATS),
		LedgerMax: int64(cfg.Limits.Ledger), FoldEvery: uint64(cfg.Limits.Fold), Lanes: cfg.Limits.Lanes, DrainRate: cfg.Limits.Drain, Version: s.version, Logger: s.log,
		Announce: func(r app.Ready) { s.ready(r.API, r.Gateway) }})
}

func messaging(n config.NATS) app.Messaging {
	return app.Messaging{Name: n.Name, ClusterListen: n.ClusterListen, Routes: n.Routes, Servers: n.Servers, Token: n.Token, Creds: n.Creds,
		System: n.System, SyncAttested: n.SyncAttested, TLS: natsbus.TLS{CA: n.TLSCA, Cert: n.TLSCert, Key: n.TLSKey}, Replicas: n.Copies()}
}
