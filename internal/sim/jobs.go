package sim

import (
	"context"
	"encoding/json"
	"slices"
	"time"

	"crier/internal/idset"
	"crier/job"
	"crier/presence/handoff"
	"crier/state/jobs"
	"crier/state/ledger"
)

type jobID = job.ID

// jobInfo is a job as it was submitted.
type jobInfo struct {
	n      int
	spec   job.Spec
	who    []uint32
	drops  map[uint32]bool // whom the filters drop
	slices []job.Span
	// When operators cancelled or recalled it, for the judge; zero if they did not.
	cancelled time.Duration
}

// packageRange gives the ids of a job's package in a range.
func (w *World) packageRange(id jobID, r job.Range) *idset.Set {
	s := idset.New(r)
	for _, who := range w.byID[id].who {
		if job.Recipient(who).Range() == r {
			s.Add(who)
		}
	}
	return s
}

// packages is what an index reads of packages.
type packages struct{ w *World }

// PackageRange implements parked.Packages.
func (p packages) PackageRange(_ context.Context, id job.ID, r job.Range) (*idset.Set, error) {
	return p.w.packageRange(id, r), nil
}

func (w *World) message(id jobID) *handoff.Message {
	return &handoff.Message{Account: 1, Body: []byte{byte(w.byID[id].n)}}
}

// submit accepts a job: as much as the api does.
func (w *World) submit() {
	j := &jobInfo{n: len(w.jobs), drops: map[uint32]bool{}}
	var random [10]byte
	random[0] = byte(j.n + 1)
	j.spec = job.Spec{ID: job.NewID(w.mono(), random), Account: 1, SubmittedAt: w.mono(), ExpiresAt: w.mono().Add(30 * 24 * time.Hour)}
	j.spec.CollapseKey = w.collapseKey(j.n)
	share := []float64{1, 0.8, 0.4}[w.n(3)]
	ranges := map[job.Range]bool{}
	for _, who := range w.people {
		if w.of(share) {
			j.who = append(j.who, who)
			ranges[job.Recipient(who).Range()] = true
			if w.of(0.04) {
				j.drops[who] = true
			}
		}
	}
	if len(j.who) == 0 {
		return
	}
	j.spec.Recipients = uint64(len(j.who))
	if w.of(0.3) {
		j.spec.OnUnknown = job.Resend
	}
	if w.of(0.3) {
		j.spec.Class, j.spec.Priority = job.Realtime, uint8(1+w.n(99))
	}
	if w.of(0.3) {
		j.spec.Rate = uint32(1 + w.n(20))
	}
	if w.of(0.15) {
		j.spec.ExpiresAt = w.mono().Add(10*time.Second + w.upTo(40*time.Second))
	}
	j.slices = w.slice(j)
	w.jobs = append(w.jobs, j)
	w.byID[j.spec.ID] = j
	w.fold.Package(j.spec.ID, j.who)
	w.trace("job %d is submitted: %d recipients, %d slices, unknown %s, rate %d", j.n, len(j.who), len(j.slices), j.spec.OnUnknown, j.spec.Rate)
	w.transition(j.spec, 1, job.Submitted, 0, nil)
	w.outbox.accepted(j.spec.ID)
}

// slice cuts a job between ranges.
func (w *World) slice(j *jobInfo) []job.Span {
	one := w.of(0.3)
	var out []job.Span
	for _, who := range j.who {
		s := job.Recipient(who).Range().Span()
		switch n := len(out); {
		case n > 0 && out[n-1].Hi >= s.Hi:
		case n > 0 && one:
			out[n-1].Hi = s.Hi
		default:
			out = append(out, s)
		}
	}
	return out
}

// transition writes a version of a job at once; whoever moves it on does so by
// appendTo.
func (w *World) transition(spec job.Spec, version uint64, to job.State, last uint64, by *proc) {
	b := transitionBytes(spec, version, to, w.mono())
	if by == nil {
		w.ledger.Store(w.mono(), ledger.JobSubject(spec.ID), last, b)
	}
}

func transitionBytes(spec job.Spec, version uint64, to job.State, at time.Time) []byte {
	b, err := json.Marshal(job.Transition{Job: spec.ID, Version: version, State: to, At: at.Format(time.RFC3339Nano), Spec: spec})
	if err != nil {
		panic(err)
	}
	return b
}

// order gives a job a control, as the api does.
func (w *World) order(j *jobInfo, c job.Control) {
	c.At = w.mono()
	b, err := json.Marshal(c)
	if err != nil {
		panic(err)
	}
	subj := ledger.ControlSubject(j.spec.ID)
	w.controls.Store(w.mono(), subj, w.controls.Tip(subj), b)
	if (c.Cancel || c.Recall) && j.cancelled == 0 {
		j.cancelled = w.now
	}
	w.trace("job %d is ordered %s", j.n, b)
}

// table is one process's view of the jobs.
type table struct {
	jobs  map[jobID]*jobs.Job
	last  map[jobID]uint64 // sequence of the last record of each
	order []jobID
	early map[jobID]*job.Controls
	sure  time.Duration // when all controls were last known
}

func newTable() *table {
	return &table{jobs: map[jobID]*jobs.Job{}, last: map[jobID]uint64{}, early: map[jobID]*job.Controls{}, sure: -time.Hour}
}

func (t *table) takeJob(st ledger.Stored) {
	var tr job.Transition
	if err := json.Unmarshal(st.Data, &tr); err != nil {
		panic(err)
	}
	j := t.jobs[tr.Job]
	if j == nil {
		j = &jobs.Job{Spec: tr.Spec}
		if c := t.early[tr.Job]; c != nil {
			j.Controls = *c
		}
		t.jobs[tr.Job] = j
		t.order = append(t.order, tr.Job)
		slices.SortFunc(t.order, func(a, b jobID) int { return slices.Compare(a[:], b[:]) })
	}
	if tr.Version > j.Version {
		j.State, j.Version = tr.State, tr.Version
		t.last[tr.Job] = st.Seq
	}
}

// takeControl takes a control in and gives the sum.
func (t *table) takeControl(st ledger.Stored) (jobID, job.Controls) {
	id, err := ledger.ControlJob(st.Subject)
	var c job.Control
	if err == nil {
		err = json.Unmarshal(st.Data, &c)
	}
	if err != nil {
		panic(err)
	}
	if j := t.jobs[id]; j != nil {
		j.Controls.Apply(c)
		return id, j.Controls
	}
	if t.early[id] == nil {
		t.early[id] = &job.Controls{}
	}
	t.early[id].Apply(c)
	return id, *t.early[id]
}

func (t *table) isLive(id jobID) bool {
	j := t.jobs[id]
	return j != nil && j.IsLive()
}

func (t *table) live() []*jobs.Job {
	var out []*jobs.Job
	for _, id := range t.order {
		if t.isLive(id) {
			out = append(out, t.jobs[id])
		}
	}
	return out
}
