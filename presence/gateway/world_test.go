package gateway

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"time"

	"pgregory.net/rapid"

	"crier/internal/idset"
	"crier/job"
	"crier/presence/handoff"
)

// world is everything around the core, written without looking into it: devices
// that show and acknowledge messages, sockets that break, an owner that hands off,
// records and takes over from itself, a home that settles, and a machine on which
// the gateway is killed. It judges what the devices showed.
type world struct {
	t      *rapid.T
	rng    *rand.Rand
	s      *State
	now    time.Duration
	start  uint32
	tokens Token
	asked  map[Token]*question
	conns  map[Conn]*socket
	last   Conn

	devices  []*device
	told     map[job.Range]handoff.Announced // the last announcement of each range
	file     map[job.Ref]*Record             // the accepted-file of the running incarnation
	history  map[uint32][]*Record            // of earlier ones
	appends  []Record                        // not answered yet
	journal  uint32                          // the owner's
	n        uint64
	reserves []*asked
	items    map[item]*place    // the ledger
	tells    []handoff.Recorded // sent to the gateway, some time
	careful  bool               // nothing is lost any more
	events   []Event            // of the running incarnation, for the replay
	times    []time.Duration
	effects  []string
}

type item struct {
	who job.Recipient
	job job.ID
}

// place is where the ledger has a recipient of a job.
type place struct {
	status string // parked, handed, delivered, doubt, refused
	shown  int
}

type device struct {
	who    job.Recipient
	client uint64
	speaks bool
	takes  bool // what is withdrawn back
	memory map[job.ID]bool
	shown  map[job.ID]int
	socket *socket // as the device sees it
}

type frame struct {
	job     job.ID
	settled bool
}

type socket struct {
	num     Conn
	dev     *device
	open    bool    // as the gateway sees it
	cut     bool    // what is written is lost
	queue   []frame // in the shell, not written
	wire    []frame
	acks    []job.ID
	window  map[job.ID]bool // have + sent − settled
	speaks  bool
	started time.Duration
	oldest  map[job.ID]time.Duration
	closing bool
	got     map[job.ID]bool // was sent in this socket's life
}

// asked is one reserve of the owner at one incarnation.
type asked struct {
	ref      job.Ref
	inc      job.Incarnation
	job      job.ID
	targets  *idset.Set
	open     *idset.Set // without a durable done
	version  uint32
	content  map[uint32]string // version → what it said
	accepted bool              // a record was appended and answered OK
	closed   bool
	fenced   bool
}

type question struct {
	res   *asked // nil for a fence
	fence job.Journal
	by    job.Journal
	to    job.Incarnation
}

func (w *world) fail(format string, a ...any) { w.t.Fatalf(format, a...) }

func (w *world) inc() job.Incarnation { return job.Incarnation{Gateway: "gw1", Start: w.start} }

func (w *world) owner() job.Journal { return job.Journal{Worker: "w", Incarnation: w.journal} }

// boot starts the next incarnation from what the files say.
func (w *world) boot() {
	w.start++
	h := History{First: 1}
	for _, start := range slices.Sorted(maps.Keys(w.history)) {
		e := Ended{Start: start}
		for _, r := range w.history[start] {
			e.Records = append(e.Records, *r)
		}
		h.Ended = append(h.Ended, e)
	}
	s, err := New(Config{Incarnation: w.inc(), History: h, Window: 3})
	if err != nil {
		w.fail("New: %v", err)
	}
	w.s, w.now = s, time.Second
	w.file, w.appends = map[job.Ref]*Record{}, nil
	w.events, w.times, w.effects = nil, nil, nil
}

// kill ends the process: sockets break, what was appended stays.
func (w *world) kill() {
	var left []*Record
	for _, ref := range slices.SortedFunc(maps.Keys(w.file), compareRefs) {
		left = append(left, w.file[ref])
	}
	w.history[w.start] = left
	for _, c := range w.conns {
		c.open, c.cut = false, true
		if c.dev.socket == c {
			c.dev.socket = nil
		}
	}
	w.conns = map[Conn]*socket{}
	w.asked = map[Token]*question{}
	for _, a := range w.reserves {
		a.fenced = false
	}
	w.boot()
}

func (w *world) step(ev Event) {
	w.events, w.times = append(w.events, ev), append(w.times, w.now)
	effects := slices.Clone(w.s.Step(w.now, ev))
	w.effects = append(w.effects, describe(effects))
	for _, e := range effects {
		w.effect(e)
	}
}

func describe(effects []Effect) string {
	out := ""
	show := func(p *handoff.Report) string { return fmt.Sprintf("%x", p.Bytes()) }
	for _, e := range effects {
		switch e := e.(type) {
		case Publish:
			out += fmt.Sprintf("publish %v %s\n", e.To, show(&e.Report))
		case Reply:
			out += fmt.Sprintf("reply %v %x\n", e.Token, e.Answer.Bytes())
		case Announce:
			out += fmt.Sprintf("announce %d %x\n", e.Flight, e.Message.Bytes())
		case Deliver:
			out += fmt.Sprintf("deliver %v %v\n", e.Job, e.Conns)
		default:
			out += fmt.Sprintf("%T %v\n", e, e)
		}
	}
	return out
}

func (w *world) effect(e Effect) {
	switch e := e.(type) {
	case Append:
		a := w.reserve(e.Record.Ref, w.inc())
		if w.file[a.ref] != nil || a.accepted {
			w.fail("%s is accepted a second time", a.ref)
		}
		if a.fenced {
			w.fail("%s of a fenced journal is accepted", a.ref)
		}
		w.checkRecord(a, e.Record)
		w.appends = append(w.appends, e.Record)
	case Mark:
		r := w.file[e.Ref]
		for i := range w.appends { // decided, the append still under way
			if w.appends[i].Ref == e.Ref {
				r = &w.appends[i]
			}
		}
		if r == nil {
			w.fail("a mark for %s, which is not in the file", e.Ref)
		}
		r.Acked.Set(int(e.Rank))
	case Free:
		w.freed(e)
	case Reply:
		w.answered(e)
	case Publish:
		if w.careful || w.rng.IntN(4) > 0 {
			w.report(&e.Report)
		}
	case Deliver:
		for _, n := range e.Conns {
			w.sent(n, e.Job)
		}
	case SendSettled:
		w.settledSent(e)
	case Close:
		c := w.conns[e.Conn]
		if c == nil || c.closing {
			w.fail("connection %d is closed twice, or is none", e.Conn)
		}
		c.closing = true
	case Announce:
		w.announced(e)
	case Beat:
		w.beat(e)
	}
}

func (w *world) reserve(ref job.Ref, inc job.Incarnation) *asked {
	for _, a := range w.reserves {
		if a.ref == ref && a.inc == inc {
			return a
		}
	}
	w.fail("%s at %s was never asked for", ref, inc)
	return nil
}

// checkRecord: accepted and away are the targets, and whoever may get it from a
// client that does not say what it has is marked so.
func (w *world) checkRecord(a *asked, r Record) {
	all := idset.New(a.targets.Range)
	for _, id := range slices.Concat(r.IDs, r.Away) {
		if all.Has(id) {
			w.fail("%s: %d is accepted and away", a.ref, id)
		}
		all.Add(id)
	}
	if !all.Equal(a.targets) || !slices.IsSorted(r.IDs) {
		w.fail("%s: the record is not of its targets", a.ref)
	}
}

func (w *world) freed(e Free) {
	a := w.reserve(e.Ref, job.Incarnation{Gateway: "gw1", Start: e.Start})
	if !a.closed {
		w.fail("%s is freed before its owner has closed it", e.Ref)
	}
	if e.Start == w.start {
		delete(w.file, e.Ref)
		return
	}
	w.history[e.Start] = slices.DeleteFunc(w.history[e.Start], func(r *Record) bool { return r.Ref == e.Ref })
}

func (w *world) sent(n Conn, id job.ID) {
	c := w.conns[n]
	if c == nil {
		w.fail("a message to connection %d, which has ended", n)
	}
	ok := false
	for _, r := range w.file {
		ok = ok || r.Job == id && slices.Contains(r.IDs, uint32(c.dev.who))
	}
	if !ok && !slices.ContainsFunc(w.reserves, func(a *asked) bool { // accepted, recorded and freed meanwhile
		return a.inc == w.inc() && a.job == id && a.accepted && a.closed && a.targets.Has(uint32(c.dev.who))
	}) {
		w.fail("%s leaves for %d and is not in the accepted-file", id, c.dev.who)
	}
	if c.window[id] {
		w.fail("%s is sent to a client that has it", id)
	}
	if id == withdrawal && !c.dev.takes {
		w.fail("a withdrawal is sent to a client that does not know what it is")
	}
	c.window[id], c.got[id] = true, true
	c.oldest[id] = w.now
	if len(c.window) > 3 {
		w.fail("%d unsettled ids on a connection", len(c.window))
	}
	c.queue = append(c.queue, frame{job: id})
}

func (w *world) settledSent(e SendSettled) {
	c := w.conns[e.Conn]
	for _, id := range e.IDs {
		p := w.items[item{c.dev.who, id}]
		if p.status != "delivered" {
			w.fail("a client is told to forget %s, which is %s", id, p.status)
		}
		if !c.window[id] || c.oldest[id] != 0 {
			w.fail("a client is told to forget %s, which it may not have", id)
		}
		delete(c.window, id)
		c.queue = append(c.queue, frame{id, true})
	}
}

// beat must tell the last announcement of each range.
func (w *world) beat(e Beat) {
	for _, a := range e.Message.Ranges {
		if last := w.told[a.Range]; e.Message.Inc == w.inc() && (a.Round != last.Round || a.Seq != last.Seq) {
			w.fail("a beat says %+v, the last announcement was %+v", a, last)
		}
	}
}

// announced is the home: it takes everything in at once.
func (w *world) announced(e Announce) {
	for id := range e.Message.Join.All() {
		if e.Message.Leave.Has(id) {
			w.fail("%d comes and leaves in one announcement", id)
		}
	}
	w.told[e.Message.Range] = handoff.Announced{Range: e.Message.Range, Round: e.Message.Round, Seq: e.Message.Seq}
}

// answered takes a reply in as the owner.
func (w *world) answered(e Reply) {
	q := w.asked[e.Token]
	if q == nil {
		w.fail("token %d is answered twice, or was never asked", e.Token)
	}
	delete(w.asked, e.Token)
	if !w.careful && w.rng.IntN(6) == 0 {
		return // the answer is lost
	}
	for i := range e.Answer.Reports {
		w.report(&e.Answer.Reports[i])
	}
	over := e.Answer.Kind == handoff.Over
	switch {
	case q.res != nil && over && len(e.Answer.Reports) == 0:
		w.neverAccepted(q.res)
	case q.res != nil && e.Answer.Kind == handoff.Accepted && len(e.Answer.Reports) != 1:
		w.fail("an acceptance with %d reports", len(e.Answer.Reports))
	case q.res == nil && (over || e.Answer.Kind == handoff.Fenced):
		w.fencedBy(q, e.Answer.Reports)
	}
}

// fencedBy: what the answer to a fence does not name was and will be accepted nowhere.
func (w *world) fencedBy(q *question, reports []handoff.Report) {
	for _, a := range w.reserves {
		if a.ref.Journal != q.fence || a.inc != q.to {
			continue
		}
		a.fenced = true
		if !slices.ContainsFunc(reports, func(p handoff.Report) bool { return p.Ref == a.ref }) {
			w.neverAccepted(a)
		}
	}
}

func (w *world) neverAccepted(a *asked) {
	if a.closed {
		return
	}
	for id := range a.open.All() {
		w.items[item{job.Recipient(id), a.job}].status = "parked"
	}
	a.open, a.closed = idset.New(0), true
}

// report takes a report in as the owner whose ledger is never slow.
func (w *world) report(p *handoff.Report) {
	a := w.reserve(p.Ref, p.Inc)
	acked, waiting := p.Split(a.targets)
	said := fmt.Sprint(slices.Collect(acked.All()), slices.Collect(waiting.All()))
	n := acked.Card() + waiting.Card()
	for _, set := range []*idset.Set{p.NotHere, p.Unacked, p.Mute, p.Refused} {
		if set != nil {
			said += fmt.Sprint(slices.Collect(set.All()))
			n += set.Card()
			out := set.Clone()
			if out.AndNot(a.targets); !out.IsEmpty() {
				w.fail("%s: the report names others than its targets", p.Ref)
			}
		} else {
			said += "-"
		}
	}
	if n != a.targets.Card() {
		w.fail("%s: a report places %d of %d targets", p.Ref, n, a.targets.Card())
	}
	if before, ok := a.content[p.Version]; ok && before != said {
		w.fail("%s: version %d said %s, now %s", p.Ref, p.Version, before, said)
	}
	a.content[p.Version] = said
	if p.Version <= a.version || a.closed {
		version := a.version
		if a.closed {
			version = p.Version
		}
		w.tells = append(w.tells, handoff.Recorded{Ref: a.ref, Inc: a.inc, Version: version, Settled: w.watermark(a.ref.Journal)})
		return
	}
	a.version = p.Version
	for id := range a.targets.All() {
		w.place(a, p, id, acked, waiting)
	}
	a.closed = a.open.IsEmpty()
	w.tells = append(w.tells, handoff.Recorded{Ref: a.ref, Inc: a.inc, Version: a.version, Settled: w.watermark(a.ref.Journal)})
}

func (w *world) place(a *asked, p *handoff.Report, id uint32, acked, waiting *idset.Set) {
	x := w.items[item{job.Recipient(id), a.job}]
	was := a.open.Has(id)
	if waiting.Has(id) {
		if !was {
			w.fail("%s: %d waits again", a.ref, id)
		}
		return
	}
	if !was {
		return
	}
	a.open.Remove(id)
	for _, c := range w.conns {
		if !acked.Has(id) && a.inc == w.inc() && c.dev.who == job.Recipient(id) && c.oldest[a.job] != 0 {
			w.fail("%s: %d is given up, and connection %d may still acknowledge", a.ref, id, c.num)
		}
	}
	switch {
	case acked.Has(id):
		x.status = "delivered"
		if x.shown == 0 {
			w.fail("%s: %d is called acknowledged and nothing was shown", a.ref, id)
		}
	case p.Mute.Card() > 0 && p.Mute.Has(id):
		x.status = "doubt"
	case p.Refused.Card() > 0 && p.Refused.Has(id):
		x.status = "refused"
	default:
		x.status = "parked"
	}
}
