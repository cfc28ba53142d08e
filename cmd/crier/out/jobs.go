package out

import (
	"fmt"
	"strings"

	"crier/api"
	"crier/job"
)

// StuckGrid says of each job why it should have gone on, who is to move it on, and what it
// waits on.
func StuckGrid(p *Printer, all []api.Job) Grid {
	g := Grid{Of: "jobs that overstay their state", Columns: []Column{{Name: "job"}, {Name: "state", State: true}, {Name: "for", Right: true}, {Name: "late", Right: true}, {Name: "owner", Wide: true},
		{Name: "tries", Right: true, Wide: true}, {Name: "account", Flex: 1, Wide: true}, {Name: "waiting on", Below: true}}}
	for _, j := range all {
		g.Rows = append(g.Rows, []string{j.Job.String(), j.State.String(), Span(p.Now.Sub(j.UpdatedAt)), Span(p.Now.Sub(j.Due)), j.Owner,
			fmt.Sprint(j.Tries), j.Account, j.WaitingOn})
	}
	return g
}

// stateWords is a job's state with what a list would not tell otherwise: that it is paused,
// which is no state of its own once it is sent, and that nobody submitted it.
func stateWords(j api.Job) string {
	var more []string
	if j.Paused && j.State != job.Paused && !j.State.Terminal() {
		more = append(more, "(paused)")
	}
	if !j.Withdraws.IsZero() {
		more = append(more, "(withdrawal)")
	}
	return strings.Join(append([]string{j.State.String()}, more...), " ")
}

// JobGrid lists jobs; with why, what each waits on is told in any width.
func JobGrid(p *Printer, all []api.Job, why bool) Grid {
	g := Grid{Of: "jobs", Columns: []Column{{Name: "job"}, {Name: "state", State: true, Flex: 2, Wrap: true}, {Name: "account", Flex: 1}, {Name: "total", Right: true}, {Name: "handled", Right: true, Wide: true},
		{Name: "delivered", Right: true}, {Name: "parked", Right: true}, {Name: "class", Wide: true}, {Name: "pri", Right: true, Wide: true}, {Name: "age", Right: true, Wide: true}, {Name: "waiting on", Flex: 1, Wide: true}}}
	if why {
		g.Columns[len(g.Columns)-1] = Column{Name: "waiting on", Below: true}
	}
	for _, j := range all {
		g.Rows = append(g.Rows, []string{j.Job.String(), stateWords(j), j.Account, Count(j.Recipients), Percent(j.Done(), j.Recipients),
			Count(j.Counts.Delivered), Count(j.Counts.Parked), j.Class.String(), fmt.Sprint(j.Priority), Span(p.Now.Sub(j.SubmittedAt)), j.WaitingOn})
	}
	return g
}
