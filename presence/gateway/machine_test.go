package gateway

import (
	"encoding/binary"
	"maps"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"crier/internal/idset"
	"crier/job"
	"crier/presence/handoff"
)

func jobID(n int) job.ID {
	var id job.ID
	binary.BigEndian.PutUint64(id[:], uint64(n))
	return id
}

// withdrawal is the one job of the world whose message takes another back.
var withdrawal = jobID(0)

const (
	worldRecipients = 4
	worldJobs       = 5
)

func newWorld(t *rapid.T) *world {
	// A generator of its own chooses evenly, which rapid's integers do not.
	rng := rand.New(rand.NewPCG(rapid.Uint64().Draw(t, "seed"), 0))
	w := &world{t: t, rng: rng, told: map[job.Range]handoff.Announced{}, asked: map[Token]*question{}, conns: map[Conn]*socket{}, history: map[uint32][]*Record{},
		items: map[item]*place{}, journal: 1}
	for r := range worldRecipients {
		for d := range 1 + rng.IntN(2) {
			w.devices = append(w.devices, &device{who: job.Recipient(r), client: uint64(r*10 + d + 1),
				speaks: r > 1 || r+d == 1, takes: r < 2 || r == 3 && d == 0, memory: map[job.ID]bool{}, shown: map[job.ID]int{}})
		}
		for j := range worldJobs {
			w.items[item{job.Recipient(r), jobID(j)}] = &place{status: "parked"}
		}
	}
	w.boot()
	return w
}

// TestNothingIsLostAndNothingShownTwice drives the core with everything that can
// happen to a gateway and judges by what the devices showed.
func TestNothingIsLostAndNothingShownTwice(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := newWorld(t)
		for range rapid.IntRange(50, 400).Draw(t, "steps") {
			w.act()
			w.check()
		}
		w.replay()
		w.quiesce()
	})
}

// act does one thing; the weights let messages travel far before something breaks.
func (w *world) act() {
	n := w.rng.IntN(1000)
	for _, a := range []struct {
		weight int
		do     func()
	}{
		{80, w.connectIdle}, {15, w.connect}, {120, w.handOff}, {40, w.copy}, {100, w.finishAppend}, {80, w.pump},
		{130, w.write}, {120, w.read}, {90, w.ack}, {40, w.cut}, {60, w.notice}, {60, w.tell}, {30, w.tick}, {10, w.settleAtHome},
		{10, w.flow}, {3, w.redirect}, {8, w.takeOver}, {4, w.kill}, {3, w.longTick},
	} {
		if n -= a.weight; n < 0 {
			a.do()
			return
		}
	}
}

// redirect sends somebody's clients elsewhere.
func (w *world) redirect() {
	if d, ok := pick(w, w.devices); ok {
		w.step(Redirected{To: "wss://elsewhere", Who: []job.Recipient{d.who}})
	}
}

// connectIdle lets a device without a connection come.
func (w *world) connectIdle() {
	var idle []*device
	for _, d := range w.devices {
		if d.socket == nil {
			idle = append(idle, d)
		}
	}
	if d, ok := pick(w, idle); ok {
		w.connectDevice(d)
	}
}

func pick[T any](w *world, all []T) (T, bool) {
	var none T
	if len(all) == 0 {
		return none, false
	}
	return all[w.rng.IntN(len(all))], true
}

func (w *world) sockets(want func(*socket) bool) []*socket {
	var all []*socket
	for _, n := range slices.Sorted(maps.Keys(w.conns)) {
		if want(w.conns[n]) {
			all = append(all, w.conns[n])
		}
	}
	return all
}

func (w *world) connect() {
	d, _ := pick(w, w.devices)
	w.connectDevice(d)
}

// connectDevice opens a socket. What the device got on the former one stays in its
// memory; the gateway may not have noticed that that one is dead.
func (w *world) connectDevice(d *device) {
	if d.socket != nil {
		d.socket.cut = true
	}
	w.last++
	c := &socket{num: w.last, dev: d, open: true, window: map[job.ID]bool{}, oldest: map[job.ID]time.Duration{}, got: map[job.ID]bool{},
		speaks: d.speaks, started: w.now}
	ev := Connected{Conn: c.num, Recipient: d.who, Client: d.client, Speaks: d.speaks, Withdraws: d.takes}
	if d.speaks {
		for _, id := range slices.SortedFunc(maps.Keys(d.memory), func(a, b job.ID) int { return int(a[7]) - int(b[7]) }) {
			ev.Have = append(ev.Have, id)
			c.window[id] = true
		}
	}
	d.socket = c
	w.conns[c.num] = c
	w.step(ev)
	for _, o := range w.conns {
		if o != c && o.dev == d && !o.closing {
			w.fail("connection %d of the same client is left open", o.num)
		}
	}
}

// handOff reserves a job for those to whom it is parked, and asks.
func (w *world) handOff() {
	w.handOffJob(jobID(w.rng.IntN(worldJobs)), func() bool { return w.rng.IntN(4) > 0 })
}

func (w *world) handOffJob(id job.ID, in func() bool) {
	targets := idset.New(0)
	for r := range worldRecipients {
		if x := w.items[item{job.Recipient(r), id}]; x.status == "parked" && in() {
			targets.Add(uint32(r))
			x.status = "handed"
		}
	}
	if targets.IsEmpty() {
		return
	}
	w.n++
	a := &asked{ref: job.Ref{Journal: w.owner(), N: w.n}, inc: w.inc(), job: id, targets: targets, open: targets.Clone(), content: map[uint32]string{}}
	w.reserves = append(w.reserves, a)
	if w.rng.IntN(3) > 0 {
		w.ask(a)
	}
}

// copy asks again for any reserve, old or closed, as a late duplicate would.
func (w *world) copy() {
	if a, ok := pick(w, w.reserves); ok {
		w.ask(a)
	}
}

func (w *world) ask(a *asked) {
	w.tokens++
	w.asked[w.tokens] = &question{res: a}
	h := &handoff.Handoff{Ref: a.ref, To: a.inc, Job: a.job, Targets: a.targets, Settled: w.watermark(a.ref.Journal),
		Urgent: uint8(w.rng.IntN(3))}
	if w.rng.IntN(2) == 0 {
		h.Message = &handoff.Message{Body: []byte("hello")}
		if a.job == withdrawal {
			h.Message = &handoff.Message{Withdraws: jobID(worldJobs)}
		}
	}
	w.step(HandedOff{h, w.tokens})
}

// watermark is as far as every reserve of a journal at this incarnation is closed.
func (w *world) watermark(j job.Journal) job.Ref {
	var mark job.Ref
	for _, a := range w.reserves {
		if a.ref.Journal != j {
			continue
		}
		if !a.closed {
			return mark
		}
		mark = a.ref
	}
	return mark
}

func (w *world) pump() {
	if w.s.Pending() {
		w.step(Pump{})
	}
}

func (w *world) write() {
	if c, ok := pick(w, w.sockets(func(c *socket) bool { return len(c.queue) > 0 })); ok {
		w.writeOne(c)
	}
}

func (w *world) writeOne(c *socket) {
	if !c.cut {
		c.wire = append(c.wire, c.queue[0])
	}
	c.queue = c.queue[1:]
}

func (w *world) read() {
	if c, ok := pick(w, w.sockets(func(c *socket) bool { return !c.cut && len(c.wire) > 0 })); ok {
		w.readOne(c)
	}
}

// readOne is the client: it drops what it has, forgets only when told to.
func (w *world) readOne(c *socket) {
	f := c.wire[0]
	c.wire = c.wire[1:]
	d := c.dev
	switch {
	case f.settled:
		delete(d.memory, f.job)
		return
	case d.memory[f.job] && d.speaks:
	default:
		if d.shown[f.job]++; d.shown[f.job] > 1 {
			w.fail("device %d shows %s twice", d.client, f.job)
		}
		w.items[item{d.who, f.job}].shown++
		d.memory[f.job] = true
	}
	c.acks = append(c.acks, f.job)
}

func (w *world) ack() {
	if c, ok := pick(w, w.sockets(func(c *socket) bool { return !c.cut && len(c.acks) > 0 })); ok {
		w.ackAll(c)
	}
}

func (w *world) ackAll(c *socket) {
	for _, id := range c.acks {
		c.oldest[id] = 0
	}
	w.step(Acked{c.num, c.acks})
	c.acks = nil
}

func (w *world) cut() {
	if c, ok := pick(w, w.sockets(func(c *socket) bool { return !c.cut })); ok {
		c.cut = true
		if c.dev.socket == c {
			c.dev.socket = nil
		}
	}
}

// notice is the shell telling the core that a socket has ended.
func (w *world) notice() {
	if c, ok := pick(w, w.sockets(func(c *socket) bool { return c.cut || c.closing })); ok {
		w.noticeOne(c)
	}
}

func (w *world) noticeOne(c *socket) {
	ev := Disconnected{Conn: c.num}
	for _, f := range c.queue {
		if !f.settled {
			ev.Unwritten = append(ev.Unwritten, f.job)
		}
	}
	c.open, c.cut = false, true
	delete(w.conns, c.num)
	if c.dev.socket == c {
		c.dev.socket = nil
	}
	w.step(ev)
}

// tell tells the gateway what is durable; it may come late, or twice.
func (w *world) tell() {
	if m, ok := pick(w, w.tells); ok {
		w.step(Recorded{m})
	}
}

// flow lets everything go its way once, without faults.
func (w *world) flow() {
	w.finishAll()
	for _, c := range w.sockets(func(c *socket) bool { return true }) {
		w.flowSocket(c)
	}
}

func (w *world) finishAll() {
	for len(w.appends) > 0 {
		r := w.appends[0]
		w.appends = w.appends[1:]
		w.file[r.Ref] = &r
		w.reserve(r.Ref, w.inc()).accepted = true
		w.step(Written{r.Ref, true})
	}
	for w.s.Pending() {
		w.step(Pump{})
	}
}

func (w *world) flowSocket(c *socket) {
	for len(c.queue) > 0 {
		w.writeOne(c)
	}
	for !c.cut && len(c.wire) > 0 {
		w.readOne(c)
	}
	if !c.cut && len(c.acks) > 0 {
		w.ackAll(c)
	}
}

func (w *world) finishAppend() {
	if len(w.appends) == 0 {
		return
	}
	r := w.appends[0]
	w.appends = w.appends[1:]
	if w.rng.IntN(10) == 0 {
		w.step(Written{Ref: r.Ref})
		return
	}
	w.file[r.Ref] = &r
	w.reserve(r.Ref, w.inc()).accepted = true
	w.step(Written{r.Ref, true})
}

func (w *world) tick() {
	w.now += time.Duration(1+w.rng.IntN(2000)) * time.Millisecond
	w.step(Tick{})
}

func (w *world) longTick() {
	for range 36 {
		w.now += time.Second
		w.step(Tick{})
	}
}

// settleAtHome lets clients forget what is delivered and in no open reserve.
func (w *world) settleAtHome() {
	d, _ := pick(w, w.devices)
	w.settleFor(d)
}

func (w *world) settleFor(d *device) {
	var ids []job.ID
	for j := range worldJobs {
		id := jobID(j)
		open := slices.ContainsFunc(w.reserves, func(a *asked) bool { return !a.closed && a.job == id && a.targets.Has(uint32(d.who)) })
		if w.items[item{d.who, id}].status == "delivered" && !open {
			ids = append(ids, id)
		}
	}
	if len(ids) > 0 {
		w.step(Settled{handoff.Settle{Inc: w.inc(), Recipient: d.who, Jobs: ids}})
	}
}

// takeOver seals the owner's journal and fences it wherever it has open reserves.
func (w *world) takeOver() {
	old := w.owner()
	w.journal++
	for start := uint32(1); start <= w.start; start++ {
		to := job.Incarnation{Gateway: "gw1", Start: start}
		w.tokens++
		w.asked[w.tokens] = &question{fence: old, by: w.owner(), to: to}
		w.step(Fenced{handoff.Fence{Journal: old, To: to, By: w.owner()}, w.tokens})
	}
}

// check looks at what must hold at any moment.
func (w *world) check() {
	for _, c := range w.conns {
		for id, at := range c.oldest {
			if at != 0 && w.now-at > 33*time.Second && !c.closing {
				w.fail("%s is unacknowledged for %v on an open connection", id, w.now-at)
			}
		}
	}
}

// replay feeds the same events to a fresh core: the effects must be the same.
func (w *world) replay() {
	old := w.s
	defer func() { w.s = old }()
	h := old.cfg.History
	s, err := New(Config{Incarnation: w.inc(), History: h, Window: 3})
	if err != nil {
		w.fail("New: %v", err)
	}
	for i, ev := range w.events {
		if got := describe(s.Step(w.times[i], ev)); got != w.effects[i] {
			w.fail("event %d %T gave\n%sand the second time\n%s", i, ev, w.effects[i], got)
		}
	}
}

// quiesce stops the faults and lets everything come to its end: all is delivered,
// or in doubt where a client does not say what it has.
func (w *world) quiesce() {
	for _, d := range w.devices {
		w.connectDevice(d)
	}
	w.careful = true
	for range 60 {
		w.now += time.Second
		w.step(Tick{})
		w.finishAll()
		for _, c := range w.sockets(func(c *socket) bool { return c.cut || c.closing }) {
			w.noticeOne(c)
		}
		for _, c := range w.sockets(func(c *socket) bool { return true }) {
			w.flowSocket(c)
		}
		for _, a := range slices.Clone(w.reserves) {
			switch {
			case !a.closed && a.ref.Journal != w.owner():
				w.tokens++
				w.asked[w.tokens] = &question{fence: a.ref.Journal, by: w.owner(), to: a.inc}
				w.step(Fenced{handoff.Fence{Journal: a.ref.Journal, To: a.inc, By: w.owner()}, w.tokens})
			case !a.closed:
				w.ask(a)
			case a.version > 0:
				w.step(Recorded{handoff.Recorded{Ref: a.ref, Inc: a.inc, Version: a.version, Settled: w.watermark(a.ref.Journal)}})
			}
		}
		for _, d := range w.devices {
			if d.socket == nil {
				w.connectDevice(d)
			}
			w.settleFor(d)
		}
		for j := range worldJobs {
			w.handOffJob(jobID(j), func() bool { return true })
		}
	}
	for _, a := range w.reserves { // late copies of everything
		w.ask(a)
	}
	w.judge()
}

func (w *world) judge() {
	mute := map[job.Recipient]bool{0: true, 1: true}
	for x, p := range w.items {
		switch {
		case x.job == withdrawal && x.who == 2 && p.status != "refused":
			w.fail("%s of %d, whose clients cannot take it, is %s", x.job, x.who, p.status)
		case p.status == "refused" && (x.job != withdrawal || x.who < 2):
			w.fail("%s is refused to %d, whose clients can take it", x.job, x.who)
		case p.status == "delivered" && p.shown == 0:
			w.fail("%d never got %s, which is called delivered", x.who, x.job)
		case p.status == "doubt" && !mute[x.who]:
			w.fail("%s is in doubt for %d, whose clients say what they have", x.job, x.who)
		case p.status == "handed" || p.status == "parked":
			w.fail("%s of %d never came to an end: %s", x.job, x.who, p.status)
		}
	}
	if n := w.s.Open(); n != 0 {
		w.fail("%d reserves are still open", n)
	}
	if len(w.file) != 0 {
		w.fail("%d records are left in the accepted-file", len(w.file))
	}
	st := w.s.Stats()
	if st.ReserveBytes != 0 || st.Recipients != worldRecipients {
		w.fail("memory is left: %+v", st)
	}
}
