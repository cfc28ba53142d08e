package app

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"time"

	"crier/audience/members"
	"crier/internal/app/backup"
	"crier/internal/app/content"
	"crier/internal/app/datadir"
	"crier/internal/app/entry"
	"crier/internal/app/index"
	"crier/internal/app/member"
	"crier/internal/app/operator"
	"crier/internal/app/projection"
	"crier/internal/app/withdrawal"
	"crier/internal/auth"
	"crier/internal/authority"
	"crier/internal/bus"
	"crier/internal/bus/natsbus"
	"crier/internal/inhand"
	"crier/internal/service"
	"crier/internal/webhook"
	"crier/job"
	"crier/presence"
	"crier/scheduler"
	"crier/scheduler/apta"
	"crier/scheduler/apta/timing"
	"crier/state/blob"
	"crier/state/claims"
	"crier/state/coord"
	"crier/state/erased"
	"crier/state/events"
	"crier/state/fold"
	"crier/state/jobs"
	"crier/state/ledger"
	"crier/state/ledger/jetstream"
	"crier/state/outbox"
	"crier/state/overstay"
	"crier/state/parked"
	"crier/state/parked/feed"
	"crier/state/parked/kv"
	"crier/state/proof"
	"crier/state/report"
	"crier/state/sql"
	"crier/worker"
	"crier/worker/tenure"
)

// controlsMax bounds the stream of controls.
const controlsMax = 256 << 20

// parts is everything a process is made of.
type parts struct {
	boot      string
	keys      *auth.Keys
	authority *authority.Authority
	trail     *projection.Trail
	nats      *natsbus.Server
	natsToken string
	conn      *natsbus.Conn
	bus       bus.Bus
	system    *natsbus.Conn // to servers elsewhere, as one who may ask them
	streams   streams
	copied    struct{ ledger, controls backup.Log } // the streams, as a backup has them
	store     *sql.DB
	blobs     *blob.Dir
	members   *members.Store
	jobs      *jobs.Table
	claims    *claims.Table
	erased    *erased.Table
	stays     *overstay.Watch
	mute      sync.Map // schedulers that did not say what a job waits on, by name, and when
	entry     *entry.Desk
	clocks    []entry.Clock
	content   *content.Content
	files     *index.Files
	index     *parked.Index
	kv        kv.Store
	planes    *presence.Planes
	inhand    *inhand.Book
	timers    timing.Timers // by the cluster's profile
	core      apta.Config   // of the member
	tls       *tls.Config   // between members; nil: none
	member    *member.Node
	worker    *worker.Worker
	folder    *fold.Folder
	scheduler *scheduler.Scheduler
	coord     coord.Store
	recorder  *projection.Recorder
	slices    *projection.Slices
	mirror    *projection.Mirror
	gateway   *gatewayPart
	events    *events.Stream
	relay     *outbox.Relay
	courier   *webhook.Courier
	operator  *operator.Operator
	service   *service.Service
}

type streams struct{ ledger, controls ledger.Log }

// open makes the parts, each after those that it needs.
func (a *app) open(ctx context.Context) error {
	for _, step := range []struct {
		what string
		fn   func(context.Context) error
	}{
		{"boot id", a.openBoot}, {"messaging", a.openNATS}, {"ledger", a.openLedger}, {"cluster", a.openEntry}, {"keys", a.openKeys}, {"coordination store", a.openCoordination}, {"stores", a.openStores}, {"cluster", a.enter},
		{"parked index", a.openIndex}, {"presence", a.openPresence}, {"membership", a.openMember}, {"roles", a.openRoles}, {"gateway", a.openGateway}, {"relay", a.openRelay}, {"operator", a.openOperator}, {"service", a.openService},
	} {
		if err := step.fn(ctx); err != nil {
			return fmt.Errorf("%s: %w", step.what, err)
		}
	}
	return nil
}

func (a *app) path(name ...string) string {
	return filepath.Join(append([]string{a.cfg.Data}, name...)...)
}

func (a *app) openBoot(context.Context) (err error) {
	a.boot, err = datadir.BootID()
	return err
}

func (a *app) openKeys(context.Context) (err error) {
	a.keys, err = auth.Open(auth.Config{Data: a.cfg.Keys, Erased: a.erased.Last})
	if errors.As(err, new(*fs.PathError)) {
		return job.Invalid("keys", "keys: give a directory that this process may read and write", err)
	}
	return err
}

func (a *app) openLedger(ctx context.Context) (err error) {
	limit, keep := a.cfg.LedgerMax, false
	if limit == 0 {
		if limit, err = a.space.ForLedger(); err != nil {
			return err
		}
		keep = !a.cfg.Messaging.alone() // what others' disks have free is another limit
	}
	defer func() {
		if err != nil {
			err = fmt.Errorf("the streams in nats.servers, with nats.replicas %d and limits.ledger %d: %w; correct the one that is named", a.cfg.Messaging.Replicas, limit, err)
		}
	}()
	log, err := jetstream.Open(ctx, a.conn, jetstream.Config{Stream: ledger.Stream, Subjects: []string{ledger.AllSubjects}, MaxBytes: limit, Keep: keep,
		Replicas: a.cfg.Messaging.Replicas, Logger: a.log})
	if err != nil {
		return err
	}
	a.streams.ledger = beyond(a.cfg.Edge.Log, a.refused.Counted(log))
	controls, err := jetstream.Open(ctx, a.conn, jetstream.Config{Stream: ledger.ControlStream, Subjects: []string{ledger.AllControls},
		MaxBytes: min(controlsMax, limit), Keep: keep, Replicas: a.cfg.Messaging.Replicas, Logger: a.log})
	if err != nil {
		return err
	}
	a.streams.controls = beyond(a.cfg.Edge.Log, ledger.Log(controls))
	a.copied.ledger, a.copied.controls = backup.Log{Name: ledger.Stream, Copy: log.Snapshot}, backup.Log{Name: ledger.ControlStream, Copy: controls.Snapshot}
	a.jobs, a.claims, a.erased = jobs.New(a.streams.ledger, a.streams.controls), claims.New(a.streams.ledger), erased.New(a.streams.ledger)
	if a.nats == nil {
		a.clocks = append(a.clocks, entry.Clock{Name: "NATS (nats.servers)", Ask: log.Time})
	}
	return nil
}

func (a *app) openStores(ctx context.Context) (err error) {
	if err := os.MkdirAll(a.path("scratch"), 0o700); err != nil {
		return err
	}
	if err := a.entry.Dir(ctx, "blobs", a.cfg.Blobs); err != nil {
		return err
	}
	open := blob.OpenDir
	if a.cfg.Cluster.isOn() {
		open = blob.OpenShared
	}
	if a.blobs, err = open(a.cfg.Blobs); err != nil {
		return job.Invalid("blobs", "blobs: give a directory that this process may write", err)
	}
	if !a.cfg.has("api", "scheduler", "worker", "relay") {
		return nil
	}
	if err := a.openSQL(ctx); err != nil {
		return err
	}
	a.members, err = members.New(members.Config{Sets: a.store.Sets, Blobs: a.blobs, Scratch: a.path("scratch", "members"),
		OnChange: a.tellOfSuppression, Outlive: a.cfg.Cluster.isOn()})
	if err != nil {
		return err
	}
	a.content = content.New(a.blobs, a.members, a.erased, a.jobs)
	a.onClose("content", func() error { a.content.Close(); return nil })
	return nil
}

func (a *app) openIndex(ctx context.Context) (err error) {
	if !a.cfg.has("api", "scheduler", "worker") {
		return nil
	}
	a.files = &index.Files{Dir: a.path("parked"), Starts: a.node.Starts, Ledger: a.streams.ledger, Blobs: a.blobs, Log: a.log}
	if a.kv, err = a.files.Open(ctx); err != nil {
		return err
	}
	a.onClose("parked index", a.kv.Close)
	a.index, err = parked.New(ctx, beyond(a.cfg.Edge.Index, a.kv), a.content, a.streams.ledger)
	return err
}

func (a *app) openPresence(context.Context) (err error) {
	if !a.cfg.has("worker") {
		return nil
	}
	a.planes, err = presence.Open(presence.Config{Path: a.path("presence.planes"), Logger: a.log})
	if err == nil {
		a.onClose("presence", a.planes.Close)
	}
	return err
}

func (a *app) openRoles(ctx context.Context) (err error) {
	a.mirror = &projection.Mirror{Log: a.streams.ledger, Store: a.coord, Logger: a.log}
	a.bus = natsbus.New(a.conn)
	a.stays = overstay.NewWatch(a.jobs, a.index, a.claims, time.Now)
	if a.inhand, err = inhand.Open(a.path("inhand")); err != nil {
		return err
	}
	a.onClose("what is in hand", a.inhand.Close)
	if a.cfg.has("worker") {
		a.worker, err = worker.New(worker.Config{Name: a.node.Worker(), Start: a.node.Starts, Silent: a.silent, Log: a.streams.ledger, Bus: a.bus, Index: a.index, Jobs: a.jobs, Claims: a.claims, Ring: func() tenure.Ring { return a.ring().Worker() },
			Presence: a.planes, Content: a.content, Erased: a.erased, Filters: a.cfg.Filters, Lanes: a.cfg.Lanes, DrainRate: a.cfg.DrainRate, ParkCap: a.cfg.ParkCap, Policy: a.cfg.Policy, Boot: a.boot, InHand: a.inhand, Logger: a.log})
		if err != nil {
			return err
		}
		a.folder = fold.New(fold.Config{Log: a.streams.ledger, Index: a.index, Blobs: a.blobs, Every: a.cfg.FoldEvery, Logger: a.log})
	}
	if !a.cfg.has("scheduler") {
		return nil
	}
	a.scheduler = scheduler.New(scheduler.Config{Self: a.node.Scheduler(), Jobs: a.jobs, Claims: a.claims,
		Ring: func() scheduler.Ring { return a.ring().Scheduler() }, Silent: a.silent, Log: a.streams.ledger, Bus: a.bus,
		Packages: a.content, Totals: a.index, Withdrawals: a.withdrawals(), InHand: a.inhand, Logger: a.log})
	a.trail = &projection.Trail{Controls: a.streams.controls, Store: a.store.Access, Jobs: a.jobs, Logger: a.log, Publish: func(ctx context.Context, e job.Event) error { return a.events.Publish(ctx, e) }}
	a.slices = &projection.Slices{Store: a.coord, Jobs: a.jobs, Of: a.slicesOf, Logger: a.log}
	a.recorder = &projection.Recorder{Log: a.streams.ledger, Store: a.store.Jobs, Jobs: a.jobs, Coord: a.coord, Logger: a.log, Tally: func(s job.Spec) (job.Counts, uint64, error) {
		mark := a.index.Watermark()
		t, err := a.index.Total(s.ID)
		return t.Counts(s.Recipients), mark, err
	}}
	return nil
}

// withdrawals makes the withdrawals of recalled jobs; what a former process left of one
// that it was making is of no use.
func (a *app) withdrawals() *withdrawal.Maker {
	scratch := a.path("scratch", "withdrawals")
	if err := os.RemoveAll(scratch); err != nil {
		a.log.Warn("removing packages that were under way", "error", err)
	}
	return &withdrawal.Maker{Seen: &proof.Prover{Log: a.streams.ledger, Reports: report.NewStore(a.blobs)}, Jobs: a.jobs, Blobs: a.blobs, Scratch: scratch}
}

func (a *app) openService(ctx context.Context) error {
	a.authority = authority.New(authority.Config{Admin: a.keys})
	if !a.cfg.has("api") {
		return nil
	}
	a.authority = authority.New(authority.Config{Admin: a.keys, Store: a.store.Access, Logger: a.log})
	if err := a.authority.Refresh(ctx); err != nil {
		return err
	}
	a.service = service.New(service.Config{Log: a.streams.ledger, Controls: a.streams.controls, Store: a.store, Authority: a.authority, Blobs: a.blobs, Members: a.members,
		Jobs: a.jobs, Erased: a.erased, Index: a.index, Events: a.events, Reports: report.NewStore(a.blobs), Keys: a.keys, Scratch: a.path("scratch"), Status: a.clusterStatus, Cluster: a.operator, Whereabouts: a.operator.Whereabouts,
		Backup: a.backup(), Caps: func(now time.Time) service.Caps {
			return service.Caps{Day: a.cfg.Policy.Date(now), Zone: a.cfg.Policy.Zone.String(), All: a.cfg.Policy.Cap, Account: a.cfg.Policy.AccountCap}
		}, CheckWebhook: webhook.Guard{Allow: a.cfg.Webhooks}.URL,
		Set: a.content.Set, Filters: a.content.Filters, Why: a.content.Why,
		WaitingOn: a.waitingOn, Stays: a.stays})
	wake := a.jobs.OnJob
	a.jobs.OnJob = func(j jobs.Job) {
		if wake != nil {
			wake(j)
		}
		a.service.JobChanged(j.Spec.ID)
	}
	return nil
}

// feedIndex keeps the index of a process that has no worker.
func (a *app) feedIndex(ctx context.Context) error {
	return feed.Follow(ctx, a.index, a.streams.ledger, nil)
}
