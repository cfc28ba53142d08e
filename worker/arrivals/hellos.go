package arrivals

import (
	"slices"
	"sync"

	"crier/internal/idset"
	"crier/job"
	"crier/presence/handoff"
	"crier/state/parked"
	"crier/worker/home"
)

// maxHellos is how many clients of one recipient are kept; the oldest go first.
const maxHellos = 8

// Hellos keeps what the clients that are connected said they have (rule 18): a
// client that came before the doubt was recorded does not come again for it. It
// needs some 150 bytes a connection. Safe for concurrent use.
type Hellos struct {
	mu     sync.Mutex
	kept   map[job.Range]map[job.Recipient][]home.Login
	newest map[string]uint32 // start of each gateway
}

// NewHellos makes an empty one.
func NewHellos() *Hellos {
	return &Hellos{kept: map[job.Range]map[job.Recipient][]home.Login{}, newest: map[string]uint32{}}
}

// Take takes in an announcement. A client that came to another place is where it was no
// more; the recipient's other clients still are (rule 23).
func (h *Hellos) Take(ann *handoff.Announce) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if ann.Inc.Start < h.newest[ann.Inc.Gateway] {
		return
	}
	if ann.Inc.Start > h.newest[ann.Inc.Gateway] {
		h.newest[ann.Inc.Gateway] = ann.Inc.Start
		for r := range h.kept {
			h.keepIf(r, func(l home.Login) bool { return l.Inc.Gateway != ann.Inc.Gateway })
		}
	}
	if ann.Seq == 1 { // it tells everything anew
		h.keepIf(ann.Range, func(l home.Login) bool { return l.Inc != ann.Inc })
	}
	people := h.kept[ann.Range]
	if people == nil {
		people = map[job.Recipient][]home.Login{}
		h.kept[ann.Range] = people
	}
	for id := range ann.Leave.All() {
		filter(people, job.Recipient(id), func(l home.Login) bool { return l.Inc != ann.Inc })
	}
	for _, hello := range ann.Hellos {
		filter(people, hello.Recipient, func(l home.Login) bool { return hello.Client == 0 || l.Client != hello.Client })
		if !hello.Speaks {
			continue
		}
		all := append(people[hello.Recipient], home.Login{Hello: hello, Inc: ann.Inc})
		people[hello.Recipient] = all[max(0, len(all)-maxHellos):]
	}
	if len(people) == 0 {
		delete(h.kept, ann.Range)
	}
}

// Over drops what incarnations said that have ended.
func (h *Hellos) Over(inc job.Incarnation) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.newest[inc.Gateway] = max(h.newest[inc.Gateway], inc.Start+1)
	for r := range h.kept {
		h.keepIf(r, func(l home.Login) bool { return l.Inc.Gateway != inc.Gateway || l.Inc.Start > inc.Start })
	}
}

// Forget drops what is kept of a range, whose home is another now.
func (h *Hellos) Forget(r job.Range) {
	h.mu.Lock()
	defer h.mu.Unlock()
	delete(h.kept, r)
}

// Gone drops what came by an incarnation that is silent.
func (h *Hellos) Gone(inc job.Incarnation) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for r := range h.kept {
		h.keepIf(r, func(l home.Login) bool { return l.Inc != inc })
	}
}

func (h *Hellos) keepIf(r job.Range, keep func(home.Login) bool) {
	for id := range h.kept[r] {
		filter(h.kept[r], id, keep)
	}
}

// filter keeps some of a recipient's hellos.
func filter(people map[job.Recipient][]home.Login, id job.Recipient, keep func(home.Login) bool) {
	left := slices.DeleteFunc(people[id], func(l home.Login) bool { return !keep(l) })
	if len(left) == 0 {
		delete(people, id)
		return
	}
	people[id] = left
}

// Of gives what is kept of those of who that are in doubt.
func (h *Hellos) Of(who *idset.Set, doubts []parked.Doubt) []home.Login {
	in := idset.New(who.Range)
	defer in.Release()
	for _, d := range doubts {
		in.Or(d.Set)
	}
	in.And(who)
	h.mu.Lock()
	defer h.mu.Unlock()
	var all []home.Login
	for id := range in.All() {
		all = append(all, h.kept[who.Range][job.Recipient(id)]...)
	}
	return all
}
