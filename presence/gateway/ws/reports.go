package ws

import (
	"crier/job"
	"crier/presence/handoff"
)

// reports are those to be published, together for each journal: who acknowledges a dozen
// messages, each of a reserve of its own, makes as many reports.
type reports struct {
	to  []job.Journal // as they came
	all []journalReports
}

type journalReports struct {
	n    int
	data []byte
}

// reportsBytes is from how much on the reports to a journal are published at once.
const reportsBytes = 64 << 10

func (r *reports) add(g *Gateway, to job.Journal, p *handoff.Report) {
	i := 0
	for i < len(r.to) && r.to[i] != to {
		i++
	}
	if i == len(r.to) {
		r.to, r.all = append(r.to, to), append(r.all, journalReports{})
	}
	x := &r.all[i]
	x.data, x.n = append(x.data, p.Bytes()...), x.n+1
	if x.n == handoff.Together || len(x.data) >= reportsBytes {
		r.publish(g)
	}
}

// publish publishes them. What does not get through is repeated by the core.
func (r *reports) publish(g *Gateway) {
	for i, to := range r.to {
		if err := g.cfg.Bus.Publish(handoff.ReportTo(to), r.all[i].data); err != nil {
			g.cfg.Log.Debug("publishing reports", "journal", to.String(), "err", err)
		}
	}
	r.to, r.all = nil, nil
}
