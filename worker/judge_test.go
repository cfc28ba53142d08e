package worker

import (
	"context"

	"crier/job"
	"crier/state/proof"
	"crier/state/report"
)

// judge asks what was promised. The devices are the witnesses.
func (s *storm) judge() {
	for n, j := range s.jobs {
		c := s.reconcile(j.id)
		if c.Parked+c.HandedOff+c.Pending > 0 {
			s.t.Errorf("job %d is still open: %+v", n, c)
		}
		shown, speaks := map[job.Recipient]int{}, map[job.Recipient]bool{}
		for _, d := range s.devices {
			speaks[d.who] = d.speaks
			shown[d.who] += d.shown[j.id]
			if d.shown[j.id] > 1 && (d.speaks || !j.resend) {
				s.t.Errorf("job %d: device %d of %d showed it %d times (it speaks: %v)", n, d.n, d.who, d.shown[j.id], d.speaks)
			}
			if d.have[j.id] {
				s.t.Errorf("job %d: device %d of %d was never told to forget it", n, d.n, d.who)
			}
		}
		for who := range speaks {
			if shown[who] == 0 {
				s.judgeUnseen(n, who, speaks[who])
			}
			where, err := s.index.Where(j.id, who)
			if err != nil {
				s.t.Fatal(err)
			}
			if speaks[who] && where == job.InDoubt {
				s.t.Errorf("job %d: %d speaks and is in doubt", n, who)
			}
		}
	}
}

// judgeUnseen asks why nobody saw a message.
func (s *storm) judgeUnseen(n int, who job.Recipient, speaks bool) {
	j := s.jobs[n]
	prover := &proof.Prover{Log: s.log, Reports: report.NewStore(s.blobs)}
	x, err := prover.Explain(context.Background(), j.id, s.content.pkg(j.id), who)
	if err != nil {
		s.t.Fatal(err)
	}
	if x.Outcome == job.Delivered || !j.over && (speaks || x.Outcome != job.InDoubt) {
		s.t.Errorf("job %d: %d never saw it and is %s (it speaks: %v)", n, who, x.Outcome, speaks)
	}
}
