package app

import (
	"context"
	"fmt"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus/promhttp"

	"crier/api"
	"crier/internal/app/metrics"
	"crier/internal/app/space"
	"crier/job"
	"crier/state/ledger"
)

// health remembers since when the process is as healthy as it is.
type health struct {
	sync.Mutex
	healthy bool
	since   time.Time
}

func (h *health) note(healthy bool, now time.Time) time.Time {
	h.Lock()
	defer h.Unlock()
	if h.since.IsZero() || h.healthy != healthy {
		h.healthy, h.since = healthy, now
	}
	return h.since
}

// status is what only the process knows of itself.
func (a *app) status(ctx context.Context) api.Status {
	st := api.Status{Version: a.cfg.Version, StartedAt: a.started, Roles: a.cfg.Roles, Online: a.online()}
	if a.gateway != nil {
		st.Sockets = uint64(a.gateway.connections())
	}
	for _, s := range a.usages(ctx) {
		if s.err != nil {
			st.Problems = append(st.Problems, fmt.Sprintf("the %s does not answer: %v", s.name, s.err))
			continue
		}
		st.Stores = append(st.Stores, api.Store{Name: s.name, Bytes: s.Bytes, Limit: s.Limit, Replicas: s.Replicas, Missing: s.Missing})
		if s.Full() {
			st.Problems = append(st.Problems, fmt.Sprintf("the %s is over 85 %% of its limit; nothing new is sent", s.name))
		}
	}
	st.Stores = append(st.Stores, api.Store{Name: "blobs", Bytes: space.Usage(a.cfg.Blobs)}, api.Store{Name: "parked", Bytes: space.Usage(a.path("parked"))})
	if a.cfg.SQL == "" {
		st.Stores = append(st.Stores, api.Store{Name: "sql", Bytes: space.Usage(a.path("crier.db")) + space.Usage(a.path("crier.db-wal"))})
	}
	st.Disks = a.disks()
	st.Healthy = len(st.Problems) == 0
	st.Since = a.health.note(st.Healthy, time.Now().UTC())
	return st
}

// usageWithin is how long who asks for the status waits for streams that do not answer.
const usageWithin = 3 * time.Second

// usage is the size of a stream, or why it is not known.
type usage struct {
	name string
	ledger.Usage
	err error
}

// usages asks both streams at the same time.
func (a *app) usages(ctx context.Context) []usage {
	ctx, cancel := context.WithTimeout(ctx, usageWithin)
	defer cancel()
	all := []usage{{name: "ledger"}, {name: "controls"}}
	var wg sync.WaitGroup
	for i, log := range []ledger.Log{a.streams.ledger, a.streams.controls} {
		wg.Go(func() { all[i].Usage, all[i].err = log.Usage(ctx) })
	}
	wg.Wait()
	return all
}

// disks is how full the disks of this process are.
func (a *app) disks() (all []api.Disk) {
	limits := a.space.Alarms.Limits()
	for _, d := range a.space.Alarms.Look() {
		all = append(all, api.Disk{Of: d.Of, Used: d.Used, Size: d.Size, Percent: d.Percent(), Level: d.Level.String(), Warn: limits.Warn, Crit: limits.Crit})
	}
	return all
}

// online is how many recipients are online in the ranges that this process is home to.
func (a *app) online() uint64 {
	if a.planes == nil {
		return 0
	}
	return a.planes.Count()
}

// metrics is the handler of /metrics: never a label per job or recipient.
func (a *app) metrics() http.Handler {
	reg := metrics.New()
	reg.MustRegister(a.space.Alarms)
	if a.planes != nil {
		reg.Gauge("online_recipients", "Recipients who are online.", func() float64 { return float64(a.online()) })
	}
	reg.Stream("ledger", a.streams.ledger)
	reg.Stream("controls", a.streams.controls)
	reg.Counters("refused_appends_total", "of", "Conditional appends that the ledger refused, because another had written first: of a journal, who sealed it.",
		map[string]*atomic.Uint64{"journal": &a.refused.Journal, "claim": &a.refused.Claim, "job": &a.refused.Job})
	if a.courier != nil {
		s := a.courier.Stats()
		reg.Counters("webhooks_total", "of", "Attempts to tell a webhook, by what became of them: failed is tried again.",
			map[string]*atomic.Uint64{"delivered": &s.Delivered, "failed": &s.Failed, "gone": &s.Gone, "given-up": &s.GivenUp})
	}
	if a.index != nil {
		reg.MustRegister(metrics.Recipients{Jobs: a.jobs, Index: a.index})
		reg.Gauge("index_watermark", "Sequence of the ledger up to which the parked index is built.", func() float64 { return float64(a.index.Watermark()) })
	}
	if a.service != nil {
		reg.Gauge("keys_age_seconds", "For how long the store of keys has not answered: some seconds are usual; a key that was revoked since is still in force here.", func() float64 { return a.authority.Age().Seconds() })
	}
	if a.worker != nil {
		s := a.worker.Stats()
		reg.Counter("journal_records_total", "Records appended to this worker's journal.", func() float64 { return float64(s.Records.Load()) })
		reg.Counter("journal_bytes_total", "Bytes appended to this worker's journal.", func() float64 { return float64(s.Bytes.Load()) })
		reg.Counter("reserves_total", "Blocks reserved.", func() float64 { return float64(s.Reserves.Load()) })
		reg.Counter("drains_total", "Drains reserved.", func() float64 { return float64(s.Drains.Load()) })
		reg.Counters("parked_dropped_total", "reason", "Parked messages that were dropped, one for each recipient, because too much waited for them.",
			map[string]*atomic.Uint64{job.ReasonCollapsed.String(): &s.Collapsed, job.ReasonParkCap.String(): &s.Capped})
		reg.Counter("dones_total", "Done and doubt entries appended.", func() float64 { return float64(s.Dones.Load()) })
	}
	if a.gateway != nil {
		reg.Gauge("gateway_connections", "Open connections of recipients.", func() float64 { return float64(a.gateway.connections()) })
		a.gateway.register(reg.Counter)
	}
	return promhttp.HandlerFor(reg.Registry, promhttp.HandlerOpts{})
}
