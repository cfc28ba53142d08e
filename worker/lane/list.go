package lane

import "crier/internal/work"

var phaseNames = [...]string{idle: "idle", preparing: "preparing", reserving: "reserving", handing: "handing"}

// List says what each lane is at.
func (s *State) List() []work.Lane {
	list := make([]work.Lane, len(s.lanes))
	for i, l := range s.lanes {
		list[i] = work.Lane{Phase: phaseNames[l.phase]}
		if l.phase != idle {
			list[i] = work.Lane{Phase: phaseNames[l.phase], Job: l.slice.Job, Slice: l.slice.Number, Span: l.span, Targets: l.targets, Since: l.since}
		}
	}
	return list
}
