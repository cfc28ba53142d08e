package worker

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"log/slog"
	"maps"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"crier/filters"
	"crier/internal/bus"
	"crier/internal/idset"
	"crier/internal/work"
	"crier/job"
	"crier/presence"
	"crier/presence/gateway"
	"crier/presence/handoff"
	"crier/state/blob"
	"crier/state/claims"
	"crier/state/erased"
	"crier/state/jobs"
	"crier/state/ledger"
	"crier/state/parked"
	"crier/state/parked/kv"
	"crier/state/proof"
	"crier/state/report"
	"crier/worker/block"
)

// people is a set of recipients made of a map: packages, lists, and the oracle.
type people map[uint32]bool

func (p people) Range(r job.Range) (*idset.Set, error) {
	s := idset.New(r)
	for id := range p {
		if job.Recipient(id).Range() == r {
			s.Add(id)
		}
	}
	return s, nil
}

func (p people) Ranges() iter.Seq2[job.Range, int] {
	n := map[job.Range]int{}
	for id := range p {
		n[job.Recipient(id).Range()]++
	}
	return func(yield func(job.Range, int) bool) {
		for _, r := range slices.Sorted(maps.Keys(n)) {
			if !yield(r, n[r]) {
				return
			}
		}
	}
}

func (p people) Cardinality() uint64 { return uint64(len(p)) }

// content is what jobs send, in memory.
type content struct {
	packages   map[job.ID]people
	followers  people
	suppressed people // replaced, never changed, once a worker runs

	suppressedAt uint64                   // how often it was
	damaged      uint32                   // the account whose lists cannot be read; 0: none
	poison       job.ID                   // whose lists break whoever reads them
	broke        int                      // how often they did
	missing      job.ID                   // whose package is not there
	held         chan struct{}            // if there is one, reading lists waits until it is closed
	waiting      atomic.Bool              // for held
	slow         map[job.ID]chan struct{} // reading the body of a job waits until it is closed
	mu           sync.Mutex               // for all but followers
}

func (c *content) add(id job.ID, pkg people) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.packages[id] = pkg
}

func (c *content) pkg(id job.ID) people {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.packages[id]
}

// suppress adds to the suppression list.
func (c *content) suppress(ids ...uint32) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.suppressed = maps.Clone(c.suppressed)
	c.suppressedAt++
	for _, id := range ids {
		c.suppressed[id] = true
	}
}

func (c *content) Package(_ context.Context, spec job.Spec) (block.Package, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if spec.ID == c.missing {
		return nil, errors.New("the package is not there")
	}
	return c.packages[spec.ID], nil
}

func (c *content) PackageRange(_ context.Context, id job.ID, r job.Range) (*idset.Set, error) {
	return c.pkg(id).Range(r)
}

func (c *content) Lists(_ context.Context, spec job.Spec) (filters.Lists, error) {
	if c.held != nil {
		c.waiting.Store(true)
		<-c.held
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if spec.ID == c.poison {
		c.broke++
		panic("poison")
	}
	return filters.Lists{Followers: c.followers, Suppressed: c.suppressed}, nil
}

func (c *content) Suppressed(_ context.Context, account uint32, r job.Range) (*idset.Set, error) {
	if c.held != nil {
		c.waiting.Store(true)
		<-c.held
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if account == c.damaged && c.damaged > 0 {
		return nil, errors.New("the lists of the account cannot be read")
	}
	return c.suppressed.Range(r)
}

func (c *content) SuppressionVersion() uint64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.suppressedAt
}

func (c *content) Message(_ context.Context, spec job.Spec) (*handoff.Message, error) {
	c.mu.Lock()
	slow := c.slow[spec.ID]
	c.mu.Unlock()
	if slow != nil {
		<-slow
	}
	return &handoff.Message{Body: []byte("hello")}, nil
}

// wire is a bus that can be closed.
type wire interface {
	bus.Bus
	Close()
}

// world is a worker with everything around it in memory, in a bubble of fake time.
type world struct {
	t       *testing.T
	rng     *rand.Rand
	log     *ledger.Memory
	ctl     *stalling
	bus     wire
	ledger  ledger.Log // log, as the worker sees it
	kv      kv.Store
	blobs   *blob.Memory // reports and checkpoints, if the ledger is folded
	planes  *presence.Planes
	content *content
	drains  int // DrainRate
	parkCap int
	policy  block.Policy
	starts  uint32 // of the worker's process; 0 is not counted
	gw      *host
	table   *jobs.Table
	claims  *claims.Table
	erased  *erased.Table
	homes   atomic.Pointer[claims.Table] // the same, for gateways
	index   *parked.Index
	worker  *Worker
	stop    func() error
}

// newWorld makes a world in which nothing runs yet.
func newWorld(t *testing.T, seed uint64) *world {
	planes, err := presence.Open(presence.Config{})
	if err != nil {
		t.Fatal(err)
	}
	w := &world{t: t, rng: rand.New(rand.NewPCG(seed, 7)), log: ledger.NewMemory(ledger.MemoryConfig{}),
		ctl: &stalling{Memory: ledger.NewMemory(ledger.MemoryConfig{})},
		bus: bus.NewMemory(), kv: kv.NewMemory(), blobs: blob.NewMemory(0), planes: planes,
		content: &content{packages: map[job.ID]people{}, followers: people{}, suppressed: people{}}}
	w.ledger = w.log
	return w
}

func inWorld(t *testing.T, seed uint64, run func(w *world)) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, seed)
		w.gw = &host{w: w, name: "g1", clients: map[job.Recipient]*client{}}
		defer w.planes.Close()
		defer w.bus.Close()
		w.gw.start(1, gateway.History{})
		defer w.gw.end()
		w.start()
		defer func() { w.stop() }()
		run(w)
	})
}

// stalling is a stream whose followers hear nothing while it stalls.
type stalling struct {
	*ledger.Memory
	on atomic.Bool
}

func (s *stalling) Follow(ctx context.Context, from uint64, filter string, fn func(ledger.Stored) error, caughtUp func()) error {
	wait := func() {
		for s.on.Load() && ctx.Err() == nil {
			time.Sleep(10 * time.Millisecond)
		}
	}
	return s.Memory.Follow(ctx, from, filter, func(st ledger.Stored) error { wait(); return fn(st) }, func() { wait(); caughtUp() })
}

// start runs a worker with its job table and index.
func (w *world) start() {
	ctx, cancel := context.WithCancel(context.Background())
	w.table = jobs.New(w.log, w.ctl)
	w.claims, w.erased = claims.New(w.log), erased.New(w.log)
	w.homes.Store(w.claims)
	index, err := parked.New(ctx, w.kv, w.content, w.log)
	if err != nil {
		w.t.Fatal(err)
	}
	w.index = index
	quiet := slog.New(slog.NewTextHandler(io.Discard, nil))
	w.worker, err = New(Config{Name: "w1", Start: w.starts, Log: w.ledger, Bus: w.bus, Index: index, Jobs: w.table, Claims: w.claims, Erased: w.erased, Presence: w.planes, Content: w.content, Policy: w.policy,
		DrainRate: w.drains, ParkCap: w.parkCap, Logger: quiet})
	if err != nil {
		w.t.Fatal(err)
	}
	var wg sync.WaitGroup
	var runErr error
	wg.Go(func() { w.table.Run(ctx) })
	wg.Go(func() { w.claims.Run(ctx) })
	wg.Go(func() { w.erased.Run(ctx) })
	<-w.table.Ready()
	<-w.claims.Ready()
	wg.Go(func() { runErr = w.worker.Run(ctx) })
	done := make(chan struct{})
	go func() { wg.Wait(); close(done) }()
	w.stop = func() error {
		cancel()
		<-done
		return runErr
	}
	select {
	case <-w.worker.Ready():
	case <-done:
		w.t.Fatalf("the worker did not start: %v", runErr)
	}
}

// home makes the worker home to a range.
func (w *world) home(r job.Range) {
	w.until("the worker is home to range "+r.String(), func() bool {
		w.bus.Publish(handoff.WantTo, (&handoff.Want{Ranges: []job.Range{r}}).Bytes())
		return w.worker.holds.Has(r)
	})
}

// restart ends the worker as a crash would: what was not in the ledger is gone.
func (w *world) restart() {
	if err := w.stop(); err != nil {
		w.t.Fatalf("the worker had ended: %v", err)
	}
	w.start()
}

// submit accepts a job and offers it as one slice until it is sent.
func (w *world) submit(pkg people, change func(*job.Spec)) job.ID {
	now := time.Now().UTC()
	spec := job.Spec{Account: 1, Recipients: uint64(len(pkg)), Priority: 50, SubmittedAt: now, ExpiresAt: now.Add(time.Hour)}
	for i := range spec.Nonce {
		spec.Nonce[i] = byte(w.rng.Uint32())
	}
	spec.ID = job.NewID(now, [10]byte(spec.Nonce[:10]))
	spec.Package = job.Digest(spec.Nonce)
	if change != nil {
		change(&spec)
	}
	w.content.add(spec.ID, pkg)
	if _, _, err := w.table.Accept(context.Background(), spec); err != nil {
		w.t.Fatal(err)
	}
	for _, s := range []job.State{job.Packed, job.Queued, job.Preparing, job.Prepared, job.Sending} {
		if _, err := w.table.Transition(context.Background(), spec.ID, s, "", now); err != nil {
			w.t.Fatal(err)
		}
	}
	synctest.Wait()
	return spec.ID
}

// offer offers the job and gives the worker's answer.
func (w *world) offer(id job.ID) job.SliceState { return w.ask(id).State }

// ask offers the job and gives all of the answer.
func (w *world) ask(id job.ID) work.Reply {
	b, _ := json.Marshal(work.Offer{Job: id, Span: job.Span{Hi: 1 << 32}})
	answer, err := w.bus.Request(context.Background(), work.OfferTo("w1"), b)
	if err != nil {
		return work.Reply{}
	}
	var r work.Reply
	if err := json.Unmarshal(answer, &r); err != nil {
		w.t.Fatal(err)
	}
	return r
}

// send offers the job until it is sent.
func (w *world) send(id job.ID) {
	w.until("the job is sent", func() bool { return w.offer(id) == job.SliceSent })
}

// until lets fake time pass until a condition holds.
func (w *world) until(what string, ok func() bool) {
	w.t.Helper()
	deadline := time.Now().Add(5 * time.Minute)
	for wait := 20 * time.Millisecond; !ok(); wait = min(2*wait, time.Second) {
		if time.Now().After(deadline) {
			w.t.Fatalf("waited in vain: %s", what)
		}
		time.Sleep(wait)
	}
}

// reconcile proves conservation and gives the counts; the index must agree.
func (w *world) reconcile(id job.ID) job.Counts {
	w.t.Helper()
	res, err := (&proof.Prover{Log: w.log, Reports: report.NewStore(w.blobs)}).Reconcile(context.Background(), id, w.content.pkg(id), true)
	if err != nil {
		w.t.Fatal(err)
	}
	if !res.Conserved() {
		w.t.Fatalf("not conserved: %v", res.Violations)
	}
	u, _ := w.log.Usage(context.Background())
	w.until("the index has caught up", func() bool { return w.caughtUp(u.Last) })
	total, err := w.index.Total(id)
	if err != nil {
		w.t.Fatal(err)
	}
	if got := total.Counts(uint64(len(w.content.pkg(id)))); fmt.Sprint(got) != fmt.Sprint(res.Counts) {
		w.t.Fatalf("the index counts %v, the proof %v", got, res.Counts)
	}
	return res.Counts
}

// counts reads the index.
func (w *world) counts(id job.ID) job.Counts {
	total, err := w.index.Total(id)
	if err != nil {
		w.t.Fatal(err)
	}
	return total.Counts(uint64(len(w.content.pkg(id))))
}

// caughtUp reports whether the index has every journal record up to last.
func (w *world) caughtUp(last uint64) bool {
	for seq := w.index.Watermark(); seq <= last; seq++ {
		st, err := w.log.Get(context.Background(), seq)
		if err == nil && len(st.Subject) > 6 && st.Subject[:6] == "led.j." {
			return false
		}
	}
	return true
}

// client is a recipient's device.
type client struct {
	id       job.Recipient
	speaks   bool
	deaf     bool // never acknowledges
	conn     gateway.Conn
	have     map[job.ID]bool // what a speaking client keeps until it is settled
	shown    map[job.ID]int
	lateAcks []job.ID
}

// host carries out the effects of a gateway's core, with clients in memory.
type host struct {
	name    string
	window  int // of connections; 0 is the default
	w       *world
	mu      sync.Mutex
	state   *gateway.State
	inc     job.Incarnation
	began   time.Time
	next    gateway.Conn
	clients map[job.Recipient]*client
	conns   map[gateway.Conn]*client
	tokens  map[gateway.Token]func(handoff.Answer)
	records map[job.Ref]*gateway.Record
	cancel  func()
	subs    []bus.Subscription
	events  []gateway.Event
	busy    bool
	slow    time.Duration               // clients acknowledge so late
	deaf    bool                        // no request reaches it
	dumb    bool                        // of what it says only that it needs a body arrives
	untold  atomic.Bool                 // it does not hear what was recorded
	cut     atomic.Bool                 // it neither hears nor says anything but to devices
	may     atomic.Pointer[func() bool] // take hand-offs; nil is always
	sink    func(gateway.Effect) bool   // carries out some effects in another way; may be nil
}

func (h *host) start(start uint32, history gateway.History) {
	inc := job.Incarnation{Gateway: h.name, Start: start}
	state, err := gateway.New(gateway.Config{Incarnation: inc, History: history, Window: h.window, URL: "ws://" + h.name})
	if err != nil {
		h.w.t.Fatal(err)
	}
	h.mu.Lock() // the last tick of the one before may still come
	h.inc, h.state, h.began = inc, state, time.Now()
	h.conns, h.tokens, h.records = map[gateway.Conn]*client{}, map[gateway.Token]func(handoff.Answer){}, map[job.Ref]*gateway.Record{}
	h.mu.Unlock()
	for subject, fn := range map[string]func(bus.Msg){
		handoff.HandoffTo(h.name): func(m bus.Msg) {
			if all, err := handoff.ParseHandoffs(m.Data); err == nil && h.mayTake() {
				h.ask(m, len(all), func(i int, t gateway.Token) gateway.Event { return gateway.HandedOff{Request: all[i], Token: t} })
			}
		},
		handoff.FenceTo(h.name): func(m bus.Msg) {
			if r, err := handoff.ParseFence(m.Data); err == nil {
				h.ask(m, 1, func(_ int, t gateway.Token) gateway.Event { return gateway.Fenced{Request: *r, Token: t} })
			}
		},
		handoff.RecordedTo(h.name): func(m bus.Msg) {
			if all, err := handoff.ParseRecorded(m.Data); err == nil && !h.untold.Load() {
				for _, r := range all {
					h.post(gateway.Recorded{Recorded: *r})
				}
			}
		},
		handoff.AnewTo(h.name): func(m bus.Msg) {
			if r, err := handoff.ParseAnew(m.Data); err == nil && r.Inc == inc {
				h.post(gateway.Anew{Ranges: r.Ranges})
			}
		},
		handoff.RedirectTo(h.name): func(m bus.Msg) {
			if r, err := handoff.ParseRedirect(m.Data); err == nil && r.Inc == inc {
				h.redirect(r)
			}
		},
		handoff.SettleTo(h.name): func(m bus.Msg) {
			if r, err := handoff.ParseSettle(m.Data); err == nil {
				h.post(gateway.Settled{Settle: *r})
			}
		},
	} {
		sub, err := h.w.bus.Subscribe(subject, h.unlessCut(fn))
		if err != nil {
			h.w.t.Fatal(err)
		}
		h.subs = append(h.subs, sub)
	}
	ctx, cancel := context.WithCancel(context.Background())
	h.cancel = cancel
	go func() {
		t := time.NewTicker(5 * time.Millisecond)
		defer t.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-t.C:
				h.post(gateway.Tick{})
			}
		}
	}()
}

// mayTake reports whether the gateway may take hand-offs now.
func (h *host) mayTake() bool {
	may := h.may.Load()
	return may == nil || (*may)()
}

// with runs what looks at clients, or changes them, while nothing happens to them.
func (h *host) with(fn func()) {
	h.mu.Lock()
	defer h.mu.Unlock()
	fn()
}

// end kills the gateway and gives what its accepted-file holds.
func (h *host) end() gateway.Ended {
	h.cancel()
	for _, s := range h.subs {
		s.Unsubscribe()
	}
	h.subs = nil
	h.mu.Lock()
	defer h.mu.Unlock()
	e := gateway.Ended{Start: h.inc.Start}
	for _, r := range h.records {
		e.Records = append(e.Records, *r)
	}
	for _, c := range h.conns {
		c.conn, c.lateAcks = 0, nil
	}
	h.state = nil
	return e
}

func (h *host) ask(m bus.Msg, n int, event func(int, gateway.Token) gateway.Event) {
	h.mu.Lock()
	if h.deaf {
		h.mu.Unlock()
		return
	}
	answers, left, tokens := make([][]byte, n), n, make([]gateway.Token, n)
	for i := range n {
		h.next++
		tokens[i] = gateway.Token(h.next)
		h.tokens[tokens[i]] = func(a handoff.Answer) {
			if answers[i], left = a.Bytes(), left-1; left == 0 {
				m.Respond(bytes.Join(answers, nil))
			}
		}
	}
	h.mu.Unlock()
	for i, t := range tokens {
		h.post(event(i, t))
	}
}

// post gives the core an event and carries out what follows, one after the other.
func (h *host) post(ev gateway.Event) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.state == nil {
		return // dead
	}
	h.events = append(h.events, ev)
	if h.busy {
		return
	}
	h.busy = true
	for len(h.events) > 0 && h.state != nil {
		ev := h.events[0]
		h.events = h.events[1:]
		for _, e := range slices.Clone(h.state.Step(time.Since(h.began), ev)) {
			h.do(e)
		}
		if h.state.Pending() && len(h.events) == 0 {
			h.events = append(h.events, gateway.Pump{})
		}
	}
	h.busy = false
}

func (h *host) do(e gateway.Effect) {
	if h.swallows(e) {
		return
	}
	if h.sink != nil && h.sink(e) {
		return
	}
	switch e := e.(type) {
	case gateway.Append:
		r := e.Record
		h.records[r.Ref] = &gateway.Record{Ref: r.Ref, Job: r.Job, IDs: slices.Clone(r.IDs), Away: slices.Clone(r.Away),
			Mute: slices.Clone(r.Mute), Acked: append(slices.Clone(r.Acked), make(gateway.Bits, len(r.IDs)/64+1)...)}
		h.events = append(h.events, gateway.Written{Ref: r.Ref, OK: true})
	case gateway.Mark:
		h.records[e.Ref].Acked.Set(int(e.Rank))
	case gateway.Free:
		if e.Start == h.inc.Start {
			delete(h.records, e.Ref)
		}
	case gateway.Reply:
		if !h.dumb || e.Answer.Kind == handoff.NeedBody {
			h.tokens[e.Token](e.Answer)
		}
		delete(h.tokens, e.Token)
	case gateway.Publish:
		if h.dumb {
			return
		}
		h.w.bus.Publish(handoff.ReportTo(e.To), e.Report.Bytes())
	case gateway.Deliver:
		for _, conn := range e.Conns {
			h.receive(h.conns[conn], e.Job)
		}
	case gateway.SendSettled:
		if c := h.conns[e.Conn]; c != nil {
			for _, id := range e.IDs {
				delete(c.have, id)
			}
		}
	case gateway.Close:
		h.disconnect(h.conns[e.Conn])
	case gateway.Announce:
		b := e.Message.Bytes()
		go func() {
			ctx, cancel := context.WithTimeout(context.Background(), time.Second)
			defer cancel()
			r := e.Message.Range
			for h.w.homes.Load().Home(r) == "" && ctx.Err() == nil {
				h.w.bus.Publish(handoff.WantTo, (&handoff.Want{Ranges: []job.Range{r}}).Bytes())
				time.Sleep(time.Millisecond)
			}
			answer, err := h.w.bus.Request(ctx, handoff.AnnounceTo(h.w.homes.Load().Home(r)), b)
			if got, bad := handoff.ParseReception(answer); err == nil && bad == nil && got != handoff.NotHome {
				h.post(gateway.Announced{Range: r, Flight: e.Flight, Again: got == handoff.WantsAnew})
			}
		}()
	case gateway.Beat:
		h.w.bus.Publish(handoff.BeatTo, e.Message.Bytes())
	}
}

func (h *host) receive(c *client, id job.ID) {
	if c == nil {
		return
	}
	if !c.speaks || !c.have[id] {
		c.shown[id]++
	}
	if c.speaks {
		c.have[id] = true
	}
	ack := gateway.Acked{Conn: c.conn, IDs: []job.ID{id}}
	switch {
	case c.deaf:
	case h.slow > 0:
		time.AfterFunc(h.slow, func() { h.post(ack) })
	default:
		h.events = append(h.events, ack)
	}
}

func (h *host) disconnect(c *client) {
	if c == nil || c.conn == 0 {
		return
	}
	h.events = append(h.events, gateway.Disconnected{Conn: c.conn})
	delete(h.conns, c.conn)
	c.conn = 0
}

// lets sets what gets through to and from the gateway.
func (h *host) lets(in, out bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.deaf, h.dumb = !in, !out
}

// connect logs recipients in.
func (h *host) connect(speaks bool, ids ...uint32) {
	for _, id := range ids {
		h.mu.Lock()
		c := h.clients[job.Recipient(id)]
		if c == nil {
			c = &client{id: job.Recipient(id), speaks: speaks, have: map[job.ID]bool{}, shown: map[job.ID]int{}}
			h.clients[c.id] = c
		}
		h.next++
		c.conn = h.next
		h.conns[c.conn] = c
		have := slices.SortedFunc(maps.Keys(c.have), func(a, b job.ID) int { return slices.Compare(a[:], b[:]) })
		h.mu.Unlock()
		h.post(gateway.Connected{Conn: c.conn, Recipient: c.id, Client: uint64(id) + 1, Speaks: c.speaks, Have: have})
	}
}

// remembered counts what clients were not told to forget.
func (h *host) remembered() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	n := 0
	for _, c := range h.clients {
		n += len(c.have)
	}
	return n
}

// shown counts how often each client showed a job.
func (h *host) shown(id job.ID) map[uint32]int {
	h.mu.Lock()
	defer h.mu.Unlock()
	out := map[uint32]int{}
	for r, c := range h.clients {
		if n := c.shown[id]; n > 0 {
			out[uint32(r)] = n
		}
	}
	return out
}
