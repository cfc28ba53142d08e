package sim

import (
	"slices"

	"crier/internal/idset"
	"crier/job"
	"crier/state/jobs"
	"crier/state/ledger"
	"crier/state/parked"
	"crier/worker/home"
	"crier/worker/lane"
)

// What a pass of the home finds, and the sweep.

// findings looks the index up first and everything else a moment later, as the
// goroutines of production do at their worst.
func (s *start) findings(p home.Pass) {
	f := home.Findings{Range: p.Range, Logins: p.Logins, Cap: s.w.parkCap()}
	f.Items = parsed(s.index.ParkedOf(p.Who))
	f.Doubts = parsed(s.index.DoubtIn(p.Range, jobID{}))
	s.after(s.w.upTo(tickEvery/20), func() {
		s.findMore(p, &f)
		s.post(func() { s.doHome(s.home.Step(home.Found{Findings: f})) })
	})
}

func (s *start) findMore(p home.Pass, f *home.Findings) {
	f.Logins = append(slices.Clip(f.Logins), s.arrivals.Hellos.Of(p.Who, f.Doubts)...)
	for i, l := range f.Logins {
		for _, id := range l.Have {
			if i >= len(p.Logins) && !inDoubt(f.Doubts, id, l.Recipient) {
				continue
			}
			where := parsed(s.index.Where(id, l.Recipient))
			if s.w.rules.SettledEarly && where == job.HandedOff {
				where = job.Delivered
			}
			f.Standing = append(f.Standing, home.Standing{Login: i, Job: id, Where: where})
		}
	}
	if s.w.rules.SettledEarly {
		for i := range f.Doubts {
			f.Doubts[i].Unanswered = false
		}
	}
	for _, id := range p.Ending {
		f.Ending = append(f.Ending, home.Ended{Job: id, Parked: parsed(s.index.ParkedIn(p.Range, id))})
	}
	s.spoil(p, f)
	f.Job = s.describe
	f.Online = s.online(p.Who)
}

func (s *start) online(who *idset.Set) (at []home.Online) {
	targets, _ := s.presence.Split(who)
	for _, t := range targets {
		if !s.full[t.Inc] && !t.Set.IsEmpty() {
			at = append(at, home.Online{Inc: t.Inc, Set: t.Set})
		}
	}
	return at
}

func inDoubt(doubts []parked.Doubt, id jobID, who job.Recipient) bool {
	return slices.ContainsFunc(doubts, func(d parked.Doubt) bool { return d.Job == id && d.Set.Has(uint32(who)) })
}

func (s *start) describe(id jobID) home.JobInfo {
	j := s.table.jobs[id]
	if j == nil {
		return home.JobInfo{Over: job.Parked}
	}
	unsure := s.w.now-s.table.sure > lane.ControlsMaxAge
	info := home.JobInfo{Known: true, Paused: j.Controls.Paused || unsure, Over: j.Over(s.w.wall(s.p)),
		Resend: resends(j), Drop: j.Controls.Doubt == job.DecideDrop,
		Submitted: j.Spec.SubmittedAt.UnixNano(), Account: j.Spec.Account, CollapseKey: j.Spec.CollapseKey}
	if s.w.rules.OldestStays {
		info.Submitted = -info.Submitted
	}
	if s.w.rules.CancelLost && (info.Over == job.Cancelled || info.Over == job.Recalled) && !s.ownsCancel(id) {
		info.Over = job.Parked
	}
	if j.Spec.Class == job.Realtime {
		info.Urgent = j.Spec.Priority
	}
	return info
}

// isStale reports whether what a look found for later is not so any more.
func (s *start) isStale(e home.Append) bool {
	return !home.IsAt(e.Entries, s.online(e.Who)) || slices.ContainsFunc(e.Entries, func(x ledger.Entry) bool {
		info := s.describe(x.(*ledger.Drain).Job)
		return !info.Known || info.Paused || info.Over != job.Parked
	})
}

func resends(j *jobs.Job) bool {
	return j.Spec.OnUnknown == job.Resend || j.Controls.Doubt == job.DecideResend
}

// sweep looks for who is parked or in doubt and online, and for jobs that are over.
func (s *start) sweep() {
	live := s.table.live()
	resend := map[jobID]bool{}
	for _, j := range live {
		resend[j.Spec.ID] = resends(j)
	}
	for _, r := range s.w.ranges {
		if !s.has(r) || s.w.rules.Stranded {
			continue
		}
		set, crowded := s.waitingIn(r, resend)
		if on := s.presence.online(set); !on.IsEmpty() {
			crowded.Or(on)
		}
		if !crowded.IsEmpty() {
			s.doHome(s.home.Step(home.Wanted{Who: crowded}))
		}
		set.Release()
	}
	for _, j := range live {
		s.sweepJob(j)
	}
}

func (s *start) waitingIn(r job.Range, resend map[jobID]bool) (set, crowded *idset.Set) {
	set, crowded = s.crowded(r)
	for _, d := range parsed(s.index.DoubtIn(r, jobID{})) {
		if !d.Mute || resend[d.Job] {
			set.Or(d.Set)
		}
	}
	return set, crowded
}

func (s *start) sweepJob(j *jobs.Job) {
	over := s.describe(j.Spec.ID).Over != job.Parked
	if !over && j.Controls.Doubt == 0 {
		return
	}
	total := parsed(s.index.Total(j.Spec.ID))
	if total.InDoubt == 0 && (total.Parked == 0 || !over) {
		return
	}
	for _, r := range s.w.ranges {
		if !s.has(r) {
			continue
		}
		if !parsed(s.index.InDoubt(r, j.Spec.ID)) && (!over || !parsed(s.index.IsParked(r, j.Spec.ID))) {
			continue
		}
		if s.w.rules.LateParkStays {
			if s.ended[r] == nil {
				s.ended[r] = map[jobID]bool{}
			}
			if s.ended[r][j.Spec.ID] {
				continue
			}
			s.ended[r][j.Spec.ID] = true
		}
		s.doHome(s.home.Step(home.Ending{Range: r, Job: j.Spec.ID}))
	}
}
