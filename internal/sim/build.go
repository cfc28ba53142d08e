package sim

import (
	"bytes"
	"fmt"
	"io"
	"slices"
	"time"

	"crier/internal/sim/oracle"
	"crier/job"
	"crier/state/ledger"
)

// build makes the cluster that a seed stands for.
func (w *World) build() {
	w.fold = oracle.New(w.fail)
	if w.charges() {
		w.fold.Cap = w.mostADay()
	}
	w.fold.Most, w.fold.Replaces = w.parkCap(), w.replaces
	if w.opts.Trace != nil {
		w.fold.Moved = func(c oracle.Cell, p oracle.Place) {
			fmt.Fprintf(w.opts.Trace, "%10.3f   job %d: %d is %s by %s at %s\n", w.now.Seconds(), w.byID[c.Job].n, c.Who, p.Outcome, p.Of, p.Inc)
		}
	}
	w.ledger.OnStored = w.onStored
	w.controls.OnStored = func(ledger.Stored) { w.stored(w.controls, ofControl) }
	w.ledgerHost, w.coordHost = w.newProc("ledger"), w.newProc("coordination")
	w.start(w.ledgerHost)
	w.start(w.coordHost)
	w.coord = &coord{}
	w.weather = w.forecast()
	w.outbox = newOutbox(w)

	for r := range 1 + w.n(4) {
		w.ranges = append(w.ranges, job.Range(r))
	}
	for n := range 8 + w.n(20) {
		r := w.ranges[w.n(len(w.ranges))]
		w.people = append(w.people, r.Lo()+uint32(w.n(2))<<16+uint32(n))
	}
	slices.Sort(w.people)
	workers := w.opts.Workers
	if pick := []int{2, 3, 3, 2, 3, 5}[w.n(6)]; workers == 0 {
		workers = pick
	}
	schedulers := 1 + w.n(2)
	for n := range workers {
		x := &worker{w: w, name: fmt.Sprint("w", n+1), disk: newDisk(), sched: n < schedulers}
		x.p = w.newProc(x.name)
		w.workers = append(w.workers, x)
	}
	window := []int{0, 0, 3, 6}[w.n(4)]
	for n := range 2 + w.n(2) {
		g := &gatewayHost{w: w, name: fmt.Sprint("g", n+1), window: window}
		g.p = w.newProc(g.name)
		w.gateways = append(w.gateways, g)
	}
	w.windowed = window > 0
	w.makeDevices()
	for _, x := range w.workers {
		w.at(w.upTo(2*time.Second), x.bootIfDown)
	}
	for _, g := range w.gateways {
		w.at(w.upTo(time.Second), g.boot)
	}
	w.trace("%d workers, %d gateways, %d people, %d devices, ranges %v, window %d", workers, len(w.gateways), len(w.people), len(w.devices), w.ranges, window)
}

func (w *World) makeDevices() {
	for i, who := range w.people {
		many := 1
		switch {
		case w.of(0.08):
			many = 0 // never connected
		case w.of(0.25):
			many = 2
		}
		for range many {
			w.devicesMade++
			w.devices = append(w.devices, &device{w: w, n: len(w.devices) + 1, client: uint64(w.devicesMade), who: who, speaks: i%4 != 3,
				have: map[jobID]int{}, shown: map[jobID]int{}, acked: map[jobID]bool{}, ever: map[jobID]bool{}, at: map[jobID]string{}})
		}
	}
}

// onStored reads each record as it is stored: the oracle is never behind.
func (w *World) onStored(st ledger.Stored) {
	kind := kindOf(st.Subject)
	switch kind {
	case ofJournal:
		if rec, err := ledger.ParseRecord(st.Data); err == nil && rec.Sealed() {
			w.counts.Seals++
			w.trace("%s is sealed by record %d", rec.Journal, st.Seq)
		}
		w.fold.Journal(st)
		w.folded = st.Seq
	case ofClaim:
		c := parsed(ledger.ParseClaim(st))
		w.fold.Claim(c)
		w.trace("%s: epoch %d is %s's, after %d", c.Thing(), c.Epoch, c.Journal, c.After)
	}
	w.stored(w.ledger, kind)
}

func (w *World) checkpointReader() io.Reader { return bytes.NewReader(w.checkpoint) }

// fold keeps a checkpoint of some worker's index and purges what it makes superfluous
// (rule 6).
func (w *World) purge() {
	x := w.workers[w.n(len(w.workers))]
	s := x.run
	if s == nil || !s.ready || !x.p.up {
		return
	}
	var b bytes.Buffer
	at := parsed(s.index.WriteCheckpoint(&b))
	w.checkpoint, w.checkpointAt = b.Bytes(), at.Watermark
	for _, o := range w.workers { // who lags still follows
		if o.run != nil && o.p.up {
			at.Needs = min(at.Needs, o.run.index.Watermark())
		}
	}
	w.counts.Purges++
	for _, subj := range w.ledger.Under("led.j.") {
		if tip := w.ledger.Tip(subj); w.rules.PurgeAll && tip < at.Needs {
			w.ledger.Drop(subj, at.Needs)
			continue
		}
		if err := w.ledger.Purge(background, subj, at.Needs); err != nil {
			panic(err)
		}
	}
	w.trace("the ledger is purged up to %d", at.Needs)
}
