package sim

import (
	"errors"
	"fmt"
	"iter"
	"slices"
	"time"

	"crier/internal/idset"
	"crier/job"
	"crier/scheduler/apta/link"
	"crier/state/ledger"
	"crier/state/parked"
	"crier/state/parked/kv"
	"crier/state/proof"
)

// The judge: the devices are its witnesses, and the oracle's reading of the ledger.

// judgeShown asks whether a message may be shown at all.
func (w *World) judgeShown(j *jobInfo, d *device) {
	if !slices.Contains(j.who, d.who) || j.drops[d.who] {
		w.fail("I1", "device %d of %d shows job %d, which is not for it", d.n, d.who, j.n)
	}
}

// judgeSend asks whether a job may still be sent (I12): an order reaches a sender within
// 5 s, or it stops.
func (w *World) judgeSend(s *start, id jobID, what string) {
	if j := w.byID[id]; j.cancelled != 0 && w.now > j.cancelled+5*time.Second {
		w.fail("I12", "%s %ss job %d %s after its cancel or recall", s.mine, what, j.n, w.now-j.cancelled)
	}
}

// judgeSeal asks whether there was a reason to seal (rules 5 and 24).
func (w *World) judgeSeal(s *start, j job.Journal) {
	x := w.worker(j.Worker)
	if x.run == nil || x.run.mine != j || !x.run.ready || !x.p.up || x.p.paused || s.members.wrong[j] != 0 {
		return
	}
	if w.apta && max(x.p.skew, -x.p.skew, s.p.skew, -s.p.skew) > 50*time.Second {
		return // apta refuses a member whose clock is off
	}
	if w.apta && x.run.member.core.Status().State == link.Offline {
		return // cut off from the ledger and all others at once it lets its lease go, and waits for one of them
	}
	if w.now-x.p.well > 9*time.Second && w.now-x.run.since > 9*time.Second {
		w.fail("I7", "%s seals %s, which is well and has a lease", s.mine, j)
	}
}

// compareIndex samples the index against the oracle (I1).
func (w *World) compareIndex(s *start) {
	if s.index.Watermark() != w.folded+1 || s.w.rng.IntN(4) != 0 {
		return
	}
	w.checked++
	for _, j := range w.jobs {
		t := parsed(s.index.Total(j.spec.ID))
		n := w.fold.Count(j.spec.ID)
		got := [job.Failed + 1]uint64{job.Pending: uint64(len(j.who)) - t.Reserved, job.HandedOff: t.HandedOff, job.Parked: t.Parked, job.InDoubt: t.InDoubt,
			job.Delivered: t.Delivered, job.Expired: t.Expired, job.Recalled: t.Recalled, job.Cancelled: t.Cancelled, job.Failed: t.Failed}
		for _, d := range t.Dropped {
			got[job.Dropped] += d
		}
		if got != n {
			w.fail("I1", "the index of %s counts job %d as %v, the ledger says %v", s.mine, j.n, got, n)
		}
	}
	if w.charges() {
		w.compareCharges(s)
	}
}

// compareCharges samples the counters against the oracle; those of days long over are gone.
func (w *World) compareCharges(s *start) {
	for _, who := range w.people {
		last := w.fold.LastDay(job.Recipient(who).Range())
		for day := max(last, 1) - 1; day <= last; day++ {
			if got, want := parsed(s.index.Charges.Used(job.Recipient(who), day, 0)), w.fold.Used(who, day); got != want {
				w.fail("charge", "the index of %s says that %d is charged %d messages of day %d, the ledger says %d", s.mine, who, got, day, want)
			}
		}
	}
}

// reachable reports whether somebody has a device.
func (w *World) reachable(who uint32) bool {
	return slices.ContainsFunc(w.devices, func(d *device) bool { return d.who == who })
}

func (w *World) speaks(who uint32) bool {
	return slices.ContainsFunc(w.devices, func(d *device) bool { return d.who == who && d.speaks })
}

// over is what becomes of a job that may not be sent any more.
func (w *World) over(j *jobInfo) bool {
	return j.cancelled != 0 || !w.mono().Before(j.spec.ExpiresAt)
}

// quiescent says what is not at its end yet (I2, I5).
func (w *World) quiescent() string {
	for _, j := range w.jobs {
		for _, who := range j.who {
			switch p := w.fold.Place(j.spec.ID, who); {
			case p.Outcome == job.Pending, p.Outcome == job.HandedOff, p.Outcome == job.Parked && (w.reachable(who) || w.over(j)),
				p.Outcome == job.InDoubt && (w.speaks(who) || w.over(j) || j.spec.OnUnknown == job.Resend || w.resent[j.spec.ID]):
				return fmt.Sprintf("job %d: %d is %s by %s since record %d (doubt %d)", j.n, who, p.Outcome, p.Of, p.Since, p.Doubt)
			}
		}
	}
	for _, d := range w.devices {
		for _, id := range d.haves() {
			return fmt.Sprintf("device %d of %d was not told to forget job %d, which may be written by %v", d.n, d.who, w.byID[id].n, w.fold.MayBeWritten(id, d.who))
		}
	}
	if what := w.stillCrowded(); what != "" {
		return what
	}
	return w.outbox.missing()
}

// check is asked again and again.
func (w *World) check() {
	if !w.calm || w.now < w.healed+15*time.Second {
		return
	}
	// I21: nobody is parked and online for long.
	limit := 6 * time.Second
	if w.windowed {
		limit = 30 * time.Second
	}
	for _, d := range w.devices {
		if d.pipe == nil || w.now-d.still < limit+2*time.Second || w.fold.Owner(ledger.RangeThing(job.Recipient(d.who).Range())).Journal.IsZero() {
			continue
		}
		for _, j := range w.jobs {
			if !slices.Contains(j.who, d.who) || w.over(j) {
				continue
			}
			p := w.fold.Place(j.spec.ID, d.who)
			if p.Outcome == job.Parked {
				if st, _ := w.ledger.At(p.Since); w.mono().Sub(st.Time) > limit {
					w.fail("I21", "job %d: %d is parked since %s and online since %s", j.n, d.who, st.Time.Sub(epoch), d.still)
					return
				}
			}
		}
	}
}

// judge asks at the end what was promised.
func (w *World) judge() {
	if w.broken != "" {
		w.fail("broken", "%s", w.broken)
		return
	}
	if what := w.quiescent(); what != "" {
		w.fail("I2", "%s after everything healed: %s", w.now-w.healed, what)
	}
	for _, j := range w.jobs {
		w.judgeJob(j)
	}
	w.judgeIndexes()
	if what := w.outbox.wrong; what != "" {
		w.fail("I10", "%s", what)
	}
}

// judgeJob holds the ledger's word against the devices', and the proof against both.
func (w *World) judgeJob(j *jobInfo) {
	for _, who := range j.who {
		shown, acked := 0, false
		for _, d := range w.devices {
			if d.who == who {
				if d.ever[j.spec.ID] {
					shown++
				}
				acked = acked || d.acked[j.spec.ID] || d.speaks && d.ever[j.spec.ID]
			}
		}
		switch p := w.fold.Place(j.spec.ID, who); {
		case p.Outcome == job.Delivered && !acked:
			w.fail("I4", "job %d: %d counts as delivered by record %d and no device acknowledged", j.n, who, p.Since)
		case p.Outcome == job.Parked && shown > 0 && w.speaks(who):
			w.fail("I2", "job %d: %d has it and is parked", j.n, who)
		}
	}
	prover := proof.Prover{Log: w.ledger}
	res, err := prover.Reconcile(background, j.spec.ID, pkg{w, j}, false)
	if err != nil {
		w.fail("I1", "the proof of job %d: %v", j.n, err)
		return
	}
	if w.counts.Purges > 0 {
		return // it would need the reports
	}
	for _, v := range res.Violations {
		w.fail("I1", "the proof of job %d: %s", j.n, v)
	}
	w.judgeSeen(j, prover)
	n, c := w.fold.Count(j.spec.ID), res.Counts
	if got := [job.Failed + 1]uint64{c.Pending, c.HandedOff, c.Parked, c.InDoubt, c.Delivered, c.DroppedTotal(), c.Expired, c.Recalled, c.Cancelled, c.Failed}; got != n {
		w.fail("I1", "the proof counts job %d as %v, the oracle as %v", j.n, got, n)
	}
	who := j.who[int(w.hash%uint64(len(j.who)))]
	x, err := prover.Explain(background, j.spec.ID, pkg{w, j}, job.Recipient(who))
	if p := w.fold.Place(j.spec.ID, who); err != nil || x.Outcome != p.Outcome {
		w.fail("I20", "job %d: %d is explained as %s, the oracle says %s: %v", j.n, who, x.Outcome, p.Outcome, err)
	}
}

// judgeSeen holds whom a withdrawal would go to against the devices: to everybody who has
// ever shown the message, and to nobody to whom it was never handed off.
func (w *World) judgeSeen(j *jobInfo, prover proof.Prover) {
	open := w.fold.Count(j.spec.ID)
	got := map[uint32]bool{}
	err := prover.MayHaveSeen(background, j.spec.ID, func(s *idset.Set) error {
		for who := range s.All() {
			got[who] = true
		}
		return nil
	})
	if open[job.HandedOff]+open[job.InDoubt] > 0 {
		if !errors.Is(err, proof.ErrOpen) {
			w.fail("I1", "job %d: it is said who may have seen it while %d are handed off and %d in doubt: %v", j.n, open[job.HandedOff], open[job.InDoubt], err)
		}
		return
	}
	if err != nil {
		w.fail("I1", "who may have seen job %d: %v", j.n, err)
		return
	}
	for _, d := range w.devices {
		if d.ever[j.spec.ID] && !got[d.who] {
			w.fail("I2", "job %d: %d has shown it, and its withdrawal would leave it out", j.n, d.who)
		}
	}
	for who := range got {
		if !slices.Contains(j.who, who) || j.drops[who] {
			w.fail("I1", "job %d: its withdrawal would go to %d, whom it was not for", j.n, who)
		}
	}
}

// judgeIndexes builds the index again and compares the rows (I22).
func (w *World) judgeIndexes() {
	if w.counts.Purges > 0 {
		return
	}
	index, err := parked.New(background, kv.NewMemory(), packages{w}, w.ledger)
	if err != nil {
		panic(err)
	}
	for _, st := range w.ledger.All() {
		if kindOf(st.Subject) != ofJournal {
			continue
		}
		if _, err := index.Apply(background, st); err != nil {
			w.fail("I22", "building the index again: %v", err)
			return
		}
	}
	want := dump(index)
	for _, x := range w.workers {
		if s := x.run; s != nil && x.p.up && s.ready && s.index.Watermark() == index.Watermark() && dump(s.index) != want {
			w.fail("I22", "the index of %s differs from one built again", s.mine)
		}
	}
}

func dump(x *parked.Index) string {
	var b []byte
	if err := x.Dump(func(k, v []byte) error {
		b = append(append(append(append(b, k...), 0xff), v...), 0xfe)
		return nil
	}); err != nil {
		panic(err)
	}
	return string(b)
}

// pkg is a job's package as a proof reads it.
type pkg struct {
	w *World
	j *jobInfo
}

// Ranges implements proof.Package.
func (p pkg) Ranges() iter.Seq2[job.Range, int] {
	return func(yield func(job.Range, int) bool) {
		for _, r := range p.w.ranges {
			if s := p.w.packageRange(p.j.spec.ID, r); !s.IsEmpty() && !yield(r, s.Card()) {
				return
			}
		}
	}
}

// Range implements proof.Package.
func (p pkg) Range(r job.Range) (*idset.Set, error) { return p.w.packageRange(p.j.spec.ID, r), nil }

// Cardinality implements proof.Package.
func (p pkg) Cardinality() uint64 { return uint64(len(p.j.who)) }
