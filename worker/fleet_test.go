package worker

import (
	"context"
	"encoding/json"
	"hash/fnv"
	"io"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"crier/internal/bus"
	"crier/internal/work"
	"crier/job"
	"crier/presence"
	"crier/presence/gateway"
	"crier/presence/handoff"
	"crier/state/claims"
	"crier/state/jobs"
	"crier/state/ledger"
	"crier/state/parked"
	"crier/state/parked/feed"
	"crier/state/parked/kv"
	"crier/worker/tenure"
)

// fleet is a world with several workers. Its own table of claims and its index belong
// to nobody: gateways ask the one, and what is proved at the end asks the other.
type fleet struct {
	*world
	members []*member
	lapsed  map[job.Journal]bool // what all members believe of the others
	out     map[string]bool      // who is not to have anything
	end     func()
}

// member is the process of one worker, through all its starts.
type member struct {
	f       *fleet
	name    string
	gate    gate
	kv      kv.Store
	planes  *presence.Planes
	index   *parked.Index
	worker  *Worker
	ring    atomic.Pointer[view]
	looks   atomic.Int64 // how often the ring was looked at
	looked  func(n int64)
	cancel  context.CancelFunc
	done    chan struct{} // closed when it has ended, by err
	err     error
	refused atomic.Int64 // appends to its journals
	silent  atomic.Bool  // by order of an operator
}

// view is what a member believes about the others at one moment.
type view struct {
	me      string
	members []string
	lapsed  map[job.Journal]bool
	frozen  bool
}

func (v *view) Lapsed(j job.Journal) bool { return v.lapsed[j] }
func (v *view) Frozen() bool              { return v.frozen }

func (v *view) Choice(t ledger.Thing) int { return slices.Index(choices(t, v.members), v.me) }

// choices ranks members for a thing.
func choices(t ledger.Thing, members []string) []string {
	weight := func(m string) uint64 {
		h := fnv.New64a()
		io.WriteString(h, m+" "+t.String()+" "+m)
		return h.Sum64()
	}
	return slices.SortedFunc(slices.Values(members), func(a, b string) int {
		if weight(a) < weight(b) {
			return -1
		}
		return 1
	})
}

// gate stops a process: what it sends, and what comes to it, waits until it goes on.
type gate struct {
	mu     sync.Mutex
	closed chan struct{} // nil: open
}

func (g *gate) wait() {
	g.mu.Lock()
	c := g.closed
	g.mu.Unlock()
	if c != nil {
		<-c
	}
}

func (g *gate) isOpen() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.closed == nil
}

func (g *gate) shut() {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.closed == nil {
		g.closed = make(chan struct{})
	}
}

func (g *gate) open() {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.closed != nil {
		close(g.closed)
		g.closed = nil
	}
}

// gatedBus is a bus behind a gate.
type gatedBus struct {
	bus.Bus
	g *gate
}

func (b *gatedBus) Publish(subject string, data []byte) error {
	b.g.wait()
	return b.Bus.Publish(subject, data)
}

func (b *gatedBus) Request(ctx context.Context, subject string, data []byte) ([]byte, error) {
	b.g.wait()
	answer, err := b.Bus.Request(ctx, subject, data)
	b.g.wait()
	return answer, err
}

func (b *gatedBus) Ask(q bus.Question, done func([]byte, error)) error {
	b.g.wait()
	return b.Bus.Ask(q, func(answer []byte, err error) {
		if b.g.isOpen() {
			done(answer, err)
			return
		}
		go func() { b.g.wait(); done(answer, err) }() // whoever answers does not stand still
	})
}

func (b *gatedBus) Subscribe(pattern string, fn func(bus.Msg)) (bus.Subscription, error) {
	return b.Bus.Subscribe(pattern, func(m bus.Msg) { b.g.wait(); fn(m) })
}

// gatedLog is a ledger behind a gate; it counts the appends to journals that are refused.
type gatedLog struct {
	ledger.Log
	g       *gate
	refused *atomic.Int64
}

func (l *gatedLog) Append(ctx context.Context, subject string, last uint64, data []byte) (uint64, error) {
	l.g.wait()
	seq, err := l.Log.Append(ctx, subject, last, data)
	if err != nil && strings.HasPrefix(subject, "led.j.") {
		l.refused.Add(1)
	}
	l.g.wait()
	return seq, err
}

func (l *gatedLog) Last(ctx context.Context, subject string) (ledger.Stored, error) {
	l.g.wait()
	return l.Log.Last(ctx, subject)
}

func (l *gatedLog) Follow(ctx context.Context, from uint64, filter string, fn func(ledger.Stored) error, caughtUp func()) error {
	said := caughtUp
	if said == nil {
		said = func() {}
	}
	return l.Log.Follow(ctx, from, filter, func(st ledger.Stored) error { l.g.wait(); return fn(st) }, func() { l.g.wait(); said() })
}

// newFleet makes a fleet in a world; nobody of it works yet.
func newFleet(w *world, names ...string) *fleet {
	f := &fleet{world: w, lapsed: map[job.Journal]bool{}, out: map[string]bool{}}
	ctx, cancel := context.WithCancel(context.Background())
	w.table, w.claims = jobs.New(w.log, w.ctl), claims.New(w.log)
	w.homes.Store(w.claims)
	var err error
	if w.index, err = parked.New(ctx, kv.NewMemory(), w.content, w.log); err != nil {
		w.t.Fatal(err)
	}
	var wg sync.WaitGroup
	wg.Go(func() { w.table.Run(ctx) })
	wg.Go(func() { w.claims.Run(ctx) })
	wg.Go(func() {
		err := feed.Follow(ctx, w.index, w.log, nil)
		if ctx.Err() == nil {
			w.t.Errorf("the ledger: %v", err)
		}
	})
	<-w.table.Ready()
	<-w.claims.Ready()
	for _, name := range names {
		planes, err := presence.Open(presence.Config{})
		if err != nil {
			w.t.Fatal(err)
		}
		f.members = append(f.members, &member{f: f, name: name, kv: kv.NewMemory(), planes: planes})
	}
	f.tell()
	f.end = func() {
		for _, m := range f.members {
			m.gate.open()
			m.kill()
			m.planes.Close()
		}
		cancel()
		wg.Wait()
	}
	return f
}

// tell makes all members believe the same.
func (f *fleet) tell() {
	for _, m := range f.members {
		m.believe(func(*view) {})
	}
}

func (m *member) believe(change func(*view)) {
	v := &view{me: m.name, lapsed: maps.Clone(m.f.lapsed)}
	for _, o := range m.f.members {
		if !m.f.out[o.name] {
			v.members = append(v.members, o.name)
		}
	}
	change(v)
	m.ring.Store(v)
}

// look gives what the member believes.
func (m *member) look() tenure.Ring {
	v := m.ring.Load()
	if n := m.looks.Add(1); m.looked != nil {
		m.looked(n)
	}
	return v
}

// start begins the member's next incarnation.
func (m *member) start() {
	ctx, cancel := context.WithCancel(context.Background())
	w := m.f.world
	log := &gatedLog{w.ledger, &m.gate, &m.refused}
	table, who := jobs.New(w.log, w.ctl), claims.New(log)
	var err error
	if m.index, err = parked.New(ctx, m.kv, w.content, w.log); err != nil {
		w.t.Fatal(err)
	}
	m.worker, err = New(Config{Name: m.name, Log: log, Bus: &gatedBus{w.bus, &m.gate}, Index: m.index, Jobs: table, Claims: who, Presence: m.planes,
		Content: w.content, Policy: w.policy, DrainRate: w.drains, Logger: slog.New(slog.DiscardHandler), Ring: m.look, Silent: m.silent.Load})
	if err != nil {
		w.t.Fatal(err)
	}
	m.done, m.cancel, m.err = make(chan struct{}), cancel, nil
	var wg sync.WaitGroup
	wg.Go(func() { table.Run(ctx) })
	wg.Go(func() { who.Run(ctx) })
	wg.Go(func() {
		defer cancel()
		select {
		case <-table.Ready():
			m.err = m.worker.Run(ctx)
		case <-ctx.Done(): // killed before
		}
	})
	go func() { wg.Wait(); close(m.done) }()
}

// kill ends the member as a crash would, and gives the error by which it had ended. What
// stands still at its gate is on its way by then, and may arrive.
func (m *member) kill() error {
	if m.cancel == nil {
		return nil
	}
	m.cancel()
	m.gate.open()
	<-m.done
	return m.err
}

// journal is that of its last incarnation; zero as long as that has none.
func (m *member) journal() (j job.Journal) {
	select {
	case <-m.worker.Ready():
		return m.worker.journal
	default:
		return j
	}
}

func (m *member) ended() bool {
	select {
	case <-m.done:
		return true
	default:
		return false
	}
}

// homeOf is who of the members is home to a range, nil if nobody is. Two never are.
func (f *fleet) homeOf(r job.Range) *member {
	var home *member
	for _, m := range f.members {
		if m.worker == nil || m.ended() || !m.worker.holds.Has(r) || f.index.Sealed(m.worker.journal) {
			continue
		}
		if home != nil {
			f.t.Fatalf("%s and %s are both home to range %s", home.worker.journal, m.worker.journal, r)
		}
		home = m
	}
	return home
}

// first is who should be home to a range.
func (f *fleet) first(r job.Range) *member {
	name := choices(ledger.RangeThing(r), f.members[0].ring.Load().members)[0]
	return f.members[slices.IndexFunc(f.members, func(m *member) bool { return m.name == name })]
}

// rangeOf gives a range of which a member is the first choice, from one on.
func (f *fleet) rangeOf(m *member, from job.Range) job.Range {
	for f.first(from) != m {
		from++
	}
	return from
}

// offer offers a slice of a job to a member and gives its answer.
func (f *fleet) offer(m *member, id job.ID, number uint32, span job.Span) job.SliceState {
	ctx, cancel := context.WithTimeout(context.Background(), 4*time.Second)
	defer cancel()
	b, _ := json.Marshal(work.Offer{Job: id, Number: number, Span: span})
	answer, err := f.bus.Request(ctx, work.OfferTo(m.name), b)
	var r work.Reply
	if err != nil || json.Unmarshal(answer, &r) != nil {
		return job.SlicePlanned
	}
	return r.State
}

var whole = job.Span{Hi: 1 << 32}

// sendBy offers the job to a member until it is sent.
func (f *fleet) sendBy(m *member, id job.ID) {
	f.until("the job is sent by "+m.name, func() bool { return f.offer(m, id, 0, whole) == job.SliceSent })
}

// inFleet runs a test with some workers and the gateways g1 and g2.
func inFleet(t *testing.T, seed uint64, workers int, run func(f *fleet, gws []*host)) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, seed)
		defer w.planes.Close()
		defer time.Sleep(10 * time.Second) // who waits for an answer gives up
		defer w.bus.Close()
		f := newFleet(w, []string{"w1", "w2", "w3"}[:workers]...)
		var gws []*host
		for _, name := range []string{"g1", "g2"} {
			h := &host{w: w, name: name, clients: map[job.Recipient]*client{}}
			h.start(1, gateway.History{})
			defer h.end()
			gws = append(gws, h)
		}
		w.gw = gws[0]
		defer func() { f.end() }()
		for _, m := range f.members {
			m.start()
			<-m.worker.Ready()
		}
		run(f, gws)
	})
}

// in gives n recipients of a range.
func in(r job.Range, n int) []uint32 {
	var ids []uint32
	for i := range n {
		ids = append(ids, uint32(r.Lo())+uint32(i)*70_001)
	}
	return ids
}

func peopleOf(lists ...[]uint32) people {
	p := people{}
	for _, ids := range lists {
		for _, id := range ids {
			p[id] = true
		}
	}
	return p
}

// onlineAt waits until those who are home to the recipients know that they are there.
func (f *fleet) onlineAt(ids ...uint32) {
	f.t.Helper()
	f.until("the homes know who is online", func() bool {
		for _, id := range ids {
			m := f.homeOf(job.Recipient(id).Range())
			if m == nil {
				return false
			}
			set, _ := peopleOf([]uint32{id}).Range(job.Recipient(id).Range())
			if m.planes.Online(set).IsEmpty() {
				return false
			}
		}
		return true
	})
}

// delivered waits until all of a job are, each shown once by one of the gateways' clients.
func (f *fleet) delivered(id job.ID, pkg people, gws ...*host) {
	f.t.Helper()
	f.until("all are delivered", func() bool {
		for _, h := range gws {
			h.reconnect()
		}
		return f.counts(id).Delivered == uint64(len(pkg))
	})
	if c := f.reconcile(id); c.Delivered != uint64(len(pkg)) {
		f.t.Fatalf("%+v", c)
	}
	shown := map[uint32]int{}
	for _, h := range gws {
		for who, n := range h.shown(id) {
			shown[who] += n
		}
	}
	for who := range pkg {
		if shown[who] != 1 {
			f.t.Errorf("%d was shown the job %d times", who, shown[who])
		}
	}
}

// wantUntil asks for the home of a range until something is so.
func (f *fleet) wantUntil(r job.Range, ok func() bool) {
	f.t.Helper()
	f.until("range "+r.String()+" has its home", func() bool {
		f.bus.Publish(handoff.WantTo, (&handoff.Want{Ranges: []job.Range{r}}).Bytes())
		return ok()
	})
}

// reconnect lets clients come again whose connection was closed while they remember
// something.
func (h *host) reconnect() {
	var ids []uint32
	h.with(func() {
		for who, c := range h.clients {
			if c.conn == 0 && len(c.have) > 0 {
				ids = append(ids, uint32(who))
			}
		}
	})
	h.connect(true, ids...)
}
