// Package launch runs a server as its configuration says: it turns settings into what
// the packages that do the work are made of.
package launch

import (
	"context"
	"log/slog"

	"crier/internal/app"
	"crier/internal/app/member"
	"crier/internal/app/space"
	"crier/internal/bus/natsbus"
	"crier/internal/config"
	"crier/worker/block"
)

// Process is what a server gets besides its configuration.
type Process struct {
	Log     *slog.Logger
	Version string
	// Ready is told, once, where the server is.
	Ready func(app.Ready)
}

// Run runs the server until ctx ends; see app.Run.
func Run(ctx context.Context, cfg config.Server, p Process) error {
	if p.Log == nil {
		p.Log = slog.Default()
	}
	made, err := settings(cfg, p)
	if err != nil {
		return err
	}
	made.Announce = func(r app.Ready) {
		if err := leave(cfg, p.Version); err != nil {
			p.Log.Warn("the next support bundle will lack the settings of this start", "error", err)
		}
		if p.Ready != nil {
			p.Ready(r)
		}
	}
	return profiled(cfg.CPUProfile, func() error { return app.Run(ctx, made) })
}

// settings is what a configuration makes of a server.
func settings(cfg config.Server, p Process) (app.Config, error) {
	policy, err := policy(cfg.Frequency)
	if err != nil {
		return app.Config{}, err
	}
	networks, err := cfg.Webhooks.Networks()
	return app.Config{
		Data: cfg.Data, Name: cfg.Name, Blobs: cfg.Blobs, Keys: cfg.Keys, Listen: cfg.Listen, Gateway: cfg.GatewayURL, Roles: cfg.Roles, ReadyFile: cfg.ReadyFile,
		NATS: cfg.NATS.Listen, Messaging: messaging(cfg.NATS), SQL: cfg.SQL.DSN, Cluster: cluster(cfg),
		Disk:      space.Limits{Warn: float64(cfg.Limits.DiskWarn), Crit: float64(cfg.Limits.DiskCrit)},
		LedgerMax: int64(cfg.Limits.Ledger), FoldEvery: uint64(cfg.Limits.Fold), Lanes: cfg.Limits.Lanes, DrainRate: cfg.Limits.Drain, ParkCap: cfg.Parking.Cap, Policy: policy, Webhooks: networks,
		Version: p.Version, Logger: p.Log, Announce: p.Ready}, err
}

func policy(f config.Frequency) (p block.Policy, err error) {
	p.Cap, p.AccountCap = f.Cap, f.AccountCap
	if p.Zone, err = f.Location(); err != nil {
		return p, err
	}
	if p.Exempt, err = f.Classes(); err != nil {
		return p, err
	}
	p.Slots, err = f.Times()
	return p, err
}

func cluster(cfg config.Server) app.Cluster {
	return app.Cluster{ID: cfg.Cluster.ID, Listen: cfg.Cluster.Listen, Advertise: cfg.Cluster.Advertise, Seeds: cfg.Cluster.Seeds, Profile: cfg.Cluster.Profile, Adopt: cfg.Cluster.Adopt,
		TLS:       member.TLS{Cert: cfg.Cluster.TLS.Cert, Key: cfg.Cluster.TLS.Key, CA: cfg.Cluster.TLS.CA},
		ZooKeeper: cfg.Coordination.ZooKeeper, Root: cfg.Coordination.Root}
}

func messaging(n config.NATS) app.Messaging {
	return app.Messaging{Name: n.Name, ClusterListen: n.ClusterListen, Routes: n.Routes, Servers: n.Servers, Token: n.Token, Creds: n.Creds,
		System: n.System, SyncAttested: n.SyncAttested, TLS: natsbus.TLS{CA: n.TLSCA, Cert: n.TLSCert, Key: n.TLSKey}, Replicas: n.Copies()}
}
