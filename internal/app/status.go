package app

import (
	"context"
	"fmt"
	"math"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"crier/api"
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
		st.Stores = append(st.Stores, api.Store{Name: s.name, Bytes: s.Bytes, Limit: s.Limit})
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

// recipients collects how many recipients of the jobs that are not over wait, and
// how many jobs are in each state.
type recipients struct{ a *app }

var (
	openRecipients = prometheus.NewDesc("crier_open_recipients", "Recipients of jobs that are not over, by outcome so far.", []string{"outcome"}, nil)
	jobsByState    = prometheus.NewDesc("crier_jobs", "Jobs that are not over, by state.", []string{"state"}, nil)
)

// Describe implements prometheus.Collector.
func (r *recipients) Describe(ch chan<- *prometheus.Desc) { ch <- openRecipients; ch <- jobsByState }

// Collect implements prometheus.Collector.
func (r *recipients) Collect(ch chan<- prometheus.Metric) {
	states := map[job.State]int{}
	var sum job.Counts
	for _, j := range r.a.jobs.Live() {
		states[j.State]++
		if t, err := r.a.index.Total(j.Spec.ID); err == nil {
			sum.Parked, sum.HandedOff, sum.InDoubt = sum.Parked+t.Parked, sum.HandedOff+t.HandedOff, sum.InDoubt+t.InDoubt
		}
	}
	for outcome, n := range map[job.Outcome]uint64{job.Parked: sum.Parked, job.HandedOff: sum.HandedOff, job.InDoubt: sum.InDoubt} {
		ch <- prometheus.MustNewConstMetric(openRecipients, prometheus.GaugeValue, float64(n), outcome.String())
	}
	for state, n := range states {
		ch <- prometheus.MustNewConstMetric(jobsByState, prometheus.GaugeValue, float64(n), state.String())
	}
}

// counters registers one that has a label, with its values.
func counters(reg *prometheus.Registry, name, label, help string, of map[string]*atomic.Uint64) {
	for value, n := range of {
		reg.MustRegister(prometheus.NewCounterFunc(prometheus.CounterOpts{Namespace: "crier", Name: name, Help: help, ConstLabels: prometheus.Labels{label: value}},
			func() float64 { return float64(n.Load()) }))
	}
}

// metrics is the handler of /metrics: never a label per job or recipient.
func (a *app) metrics() http.Handler {
	reg := prometheus.NewRegistry()
	reg.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	gauge := func(name, help string, fn func() float64) {
		reg.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{Namespace: "crier", Name: name, Help: help}, fn))
	}
	counter := func(name, help string, fn func() float64) {
		reg.MustRegister(prometheus.NewCounterFunc(prometheus.CounterOpts{Namespace: "crier", Name: name, Help: help}, fn))
	}
	reg.MustRegister(a.space.Alarms)
	if a.planes != nil {
		gauge("online_recipients", "Recipients who are online.", func() float64 { return float64(a.online()) })
	}
	for _, s := range []struct {
		name string
		log  ledger.Log
	}{{"ledger", a.streams.ledger}, {"controls", a.streams.controls}} {
		part := func(of func(ledger.Usage) uint64) func() float64 {
			return func() float64 { // what is not known is no number
				u, err := s.log.Usage(context.Background())
				if err != nil {
					return math.NaN()
				}
				return float64(of(u))
			}
		}
		gauge(s.name+"_bytes", "Bytes of the "+s.name+".", part(func(u ledger.Usage) uint64 { return u.Bytes }))
		gauge(s.name+"_limit_bytes", "Bytes that the "+s.name+" may have; from 85 % on nothing new is sent.", part(func(u ledger.Usage) uint64 { return u.Limit }))
	}
	counters(reg, "refused_appends_total", "of", "Conditional appends that the ledger refused, because another had written first: of a journal, who sealed it.",
		map[string]*atomic.Uint64{"journal": &a.refused.Journal, "claim": &a.refused.Claim, "job": &a.refused.Job})
	if a.courier != nil {
		s := a.courier.Stats()
		counters(reg, "webhooks_total", "of", "Attempts to tell a webhook, by what became of them: failed is tried again.",
			map[string]*atomic.Uint64{"delivered": &s.Delivered, "failed": &s.Failed, "gone": &s.Gone, "given-up": &s.GivenUp})
	}
	if a.index != nil {
		reg.MustRegister(&recipients{a})
		gauge("index_watermark", "Sequence of the ledger up to which the parked index is built.", func() float64 { return float64(a.index.Watermark()) })
	}
	if a.service != nil {
		gauge("keys_age_seconds", "For how long the store of keys has not answered: some seconds are usual; a key that was revoked since is still in force here.", func() float64 { return a.authority.Age().Seconds() })
	}
	if a.worker != nil {
		s := a.worker.Stats()
		counter("journal_records_total", "Records appended to this worker's journal.", func() float64 { return float64(s.Records.Load()) })
		counter("journal_bytes_total", "Bytes appended to this worker's journal.", func() float64 { return float64(s.Bytes.Load()) })
		counter("reserves_total", "Blocks reserved.", func() float64 { return float64(s.Reserves.Load()) })
		counter("drains_total", "Drains reserved.", func() float64 { return float64(s.Drains.Load()) })
		counters(reg, "parked_dropped_total", "reason", "Parked messages that were dropped, one for each recipient, because too much waited for them.",
			map[string]*atomic.Uint64{job.ReasonCollapsed.String(): &s.Collapsed, job.ReasonParkCap.String(): &s.Capped})
		counter("dones_total", "Done and doubt entries appended.", func() float64 { return float64(s.Dones.Load()) })
	}
	if a.gateway != nil {
		gauge("gateway_connections", "Open connections of recipients.", func() float64 { return float64(a.gateway.connections()) })
		a.gateway.register(counter)
	}
	return promhttp.HandlerFor(reg, promhttp.HandlerOpts{})
}
