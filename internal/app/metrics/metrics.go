// Package metrics is the forms of what a process tells Prometheus; what it tells is the process's.
package metrics

import (
	"context"
	"math"
	"sync/atomic"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"

	"crier/job"
	"crier/state/jobs"
	"crier/state/ledger"
	"crier/state/parked"
)

// Registry takes metrics, by names without the prefix that all have.
type Registry struct{ *prometheus.Registry }

// New makes a registry that has what every process tells.
func New() Registry {
	reg := prometheus.NewRegistry()
	reg.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return Registry{reg}
}

// Gauge registers a number that goes up and down.
func (r Registry) Gauge(name, help string, fn func() float64) {
	r.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{Namespace: "crier", Name: name, Help: help}, fn))
}

// Counter registers a number that only grows.
func (r Registry) Counter(name, help string, fn func() float64) {
	r.MustRegister(prometheus.NewCounterFunc(prometheus.CounterOpts{Namespace: "crier", Name: name, Help: help}, fn))
}

// Counters registers one that has a label, with its values.
func (r Registry) Counters(name, label, help string, of map[string]*atomic.Uint64) {
	for value, n := range of {
		r.MustRegister(prometheus.NewCounterFunc(prometheus.CounterOpts{Namespace: "crier", Name: name, Help: help, ConstLabels: prometheus.Labels{label: value}},
			func() float64 { return float64(n.Load()) }))
	}
}

// Stream registers how large a stream is, and may be.
func (r Registry) Stream(name string, log ledger.Log) {
	part := func(of func(ledger.Usage) uint64) func() float64 {
		return func() float64 { // what is not known is no number
			u, err := log.Usage(context.Background())
			if err != nil {
				return math.NaN()
			}
			return float64(of(u))
		}
	}
	r.Gauge(name+"_bytes", "Bytes of the "+name+".", part(func(u ledger.Usage) uint64 { return u.Bytes }))
	r.Gauge(name+"_limit_bytes", "Bytes that the "+name+" may have; from 85 % on nothing new is sent.", part(func(u ledger.Usage) uint64 { return u.Limit }))
}

// Recipients collects how many recipients of the jobs that are not over wait, and
// how many jobs are in each state.
type Recipients struct {
	Jobs  *jobs.Table
	Index *parked.Index
}

var (
	openRecipients = prometheus.NewDesc("crier_open_recipients", "Recipients of jobs that are not over, by outcome so far.", []string{"outcome"}, nil)
	jobsByState    = prometheus.NewDesc("crier_jobs", "Jobs that are not over, by state.", []string{"state"}, nil)
)

// Describe implements prometheus.Collector.
func (r Recipients) Describe(ch chan<- *prometheus.Desc) { ch <- openRecipients; ch <- jobsByState }

// Collect implements prometheus.Collector.
func (r Recipients) Collect(ch chan<- prometheus.Metric) {
	states := map[job.State]int{}
	var sum job.Counts
	for _, j := range r.Jobs.Live() {
		states[j.State]++
		if t, err := r.Index.Total(j.Spec.ID); err == nil {
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
