package sim

import (
	"cmp"
	"encoding/json"
	"fmt"
	"slices"
	"time"

	"crier/job"
	"crier/state/ledger"
)

// outbox is the way of a job's versions to SQL and to subscribers: a recorder applies
// version v + 1 only, each application puts a row into the outbox in the same
// transaction, rows commit out of order, and a relay publishes what is not published.
type outbox struct {
	w         *World
	recorder  *proc
	relay     *proc
	position  uint64           // up to where the recorder remembers that it has read
	versions  map[jobID]uint64 // in SQL
	under     map[jobID]bool   // a transaction is under way
	waiting   map[jobID][]job.Transition
	rows      []*row                     // committed
	all       map[jobID][]job.Transition // as the ledger has them
	allRead   uint64
	nextRow   uint64
	mark      uint64 // for a planted bug
	published map[string]int
	jobs      []jobID
	wrong     string
}

type row struct {
	id        uint64
	name      string
	published bool
}

func newOutbox(w *World) *outbox {
	o := &outbox{w: w, versions: map[jobID]uint64{}, published: map[string]int{}, all: map[jobID][]job.Transition{}}
	o.recorder, o.relay = w.newProc("recorder"), w.newProc("relay")
	w.at(0, o.boot)
	w.at(0, o.bootRelay)
	return o
}

func (o *outbox) accepted(id jobID) { o.jobs = append(o.jobs, id) }

// boot starts the recorder where it was; transactions that were under way are gone.
func (o *outbox) boot() {
	w := o.w
	w.start(o.recorder)
	o.under, o.waiting = map[jobID]bool{}, map[jobID][]job.Transition{}
	w.follow(o.recorder, w.ledger, ofJob, o.position+1, func(st ledger.Stored) {
		var tr job.Transition
		if err := json.Unmarshal(st.Data, &tr); err != nil {
			panic(err)
		}
		o.waiting[tr.Job] = append(o.waiting[tr.Job], tr)
		o.apply(tr.Job, st.Seq)
	}, nil)
	if life := 5*time.Second + w.upTo(20*time.Second); !w.calm {
		w.timer(o.recorder, life, func() {
			w.kill(o.recorder)
			w.at(w.upTo(time.Second), o.boot)
		})
	}
}

// apply begins a transaction for the next version of a job.
func (o *outbox) apply(id jobID, seq uint64) {
	w := o.w
	if o.under[id] || len(o.waiting[id]) == 0 {
		return
	}
	tr := o.waiting[id][0]
	have := o.versions[id]
	switch {
	case tr.Version <= have:
		o.waiting[id] = o.waiting[id][1:]
		o.apply(id, seq)
		return
	case tr.Version > have+1 && !w.rules.RecorderSkips:
		o.waiting[id] = o.read(id, have) // what it missed
		o.apply(id, seq)
		return
	}
	o.waiting[id] = o.waiting[id][1:]
	o.under[id] = true
	o.nextRow++
	r := &row{id: o.nextRow, name: fmt.Sprintf("%s/%d", id, tr.Version)}
	commit := w.upTo(50 * time.Millisecond)
	if w.bad(0.1) {
		commit = w.upTo(2 * time.Second)
	}
	w.timer(o.recorder, commit, func() {
		if tr.Version < o.versions[id] {
			o.wrong = fmt.Sprintf("the projection of %s goes back from %d to %d", id, o.versions[id], tr.Version)
		}
		o.versions[id] = tr.Version
		o.rows = append(o.rows, r)
		o.position = max(o.position, seq) // others before it may not be committed yet
		o.under[id] = false
		o.apply(id, seq)
	})
}

// read gives the versions of a job after one.
func (o *outbox) read(id jobID, after uint64) []job.Transition {
	for o.allRead < o.w.ledger.Len() {
		o.allRead++
		if st, _ := o.w.ledger.At(o.allRead); kindOf(st.Subject) == ofJob {
			var tr job.Transition
			if err := json.Unmarshal(st.Data, &tr); err != nil {
				panic(err)
			}
			o.all[tr.Job] = append(o.all[tr.Job], tr)
			if n := uint64(len(o.all[tr.Job])); tr.Version != n {
				o.w.fail("I10", "record %d is version %d of %s, not %d", st.Seq, tr.Version, tr.Job, n)
			}
		}
	}
	all := o.all[id]
	return slices.Clone(all[min(after, uint64(len(all))):])
}

func (o *outbox) bootRelay() {
	w := o.w
	w.start(o.relay)
	w.every(o.relay, 300*time.Millisecond, o.publish)
}

// publish sends what is not published; whether that worked may stay unknown.
func (o *outbox) publish() {
	w := o.w
	rows := slices.Clone(o.rows)
	slices.SortFunc(rows, func(a, b *row) int { return cmp.Compare(a.id, b.id) })
	for _, r := range rows {
		if w.rules.HighWater && r.id <= o.mark || !w.rules.HighWater && r.published {
			continue
		}
		if w.bad(0.1) {
			return // not published
		}
		o.published[r.name]++
		if w.bad(0.1) {
			return // published, and nobody knows
		}
		r.published = true
		o.mark = max(o.mark, r.id)
	}
	o.sweep()
}

// sweep looks for versions that the recorder missed, as its successor does.
func (o *outbox) sweep() {
	if o.w.rules.RecorderSkips {
		return
	}
	for _, id := range o.jobs {
		if o.recorder.up && !o.under[id] && len(o.waiting[id]) == 0 {
			if missed := o.read(id, o.versions[id]); len(missed) > 0 {
				o.waiting[id] = missed
				o.apply(id, 0)
			}
		}
	}
}

// missing says which version of a job was never published.
func (o *outbox) missing() string {
	for _, id := range o.jobs {
		for _, tr := range o.read(id, 0) {
			if name := fmt.Sprintf("%s/%d", id, tr.Version); o.published[name] == 0 {
				return "never published: " + name
			}
		}
	}
	return ""
}
