// Package aptatest simulates a cluster of members in one goroutine: with a network
// that delays and loses messages and can be cut in one direction, a coordination
// store that can be down, and members that crash, stall and come back. Everything
// follows from a seed.
package aptatest

import (
	"container/heap"
	"fmt"
	"math/rand/v2"
	"slices"
	"time"

	"crier/scheduler/apta"
	"crier/scheduler/apta/link"
	"crier/scheduler/apta/timing"
	"crier/scheduler/apta/wire"
)

// Options describe a world.
type Options struct {
	Seed     uint64
	Timers   timing.Timers
	MinDelay time.Duration // of a message
	MaxDelay time.Duration
	Loss     float64 // share of the messages that are lost
}

// start is the wall clock at the beginning.
var start = time.Date(2026, 3, 1, 0, 0, 0, 0, time.UTC)

// boot is the monotonic clock at the beginning.
const boot = timing.Instant(time.Hour)

// World is a cluster. It is used by one goroutine.
type World struct {
	Options
	// Sent counts messages, by what they carry.
	Sent map[string]int
	// OnEffect, if not nil, sees what each member wants done.
	OnEffect func(m *Member, e apta.Effect)

	now     timing.Instant
	rand    *rand.Rand
	queue   queue
	seq     int
	members []*Member // by id
	cuts    map[[2]string]bool
	store   *store
}

// Member is a process of the world.
type Member struct {
	ID          string
	Core        *apta.State
	Incarnation uint32
	Nonce       uint64
	Up          bool
	Stalled     bool // it does not run; what comes waits
	ClockOff    time.Duration
	Ended       bool   // it left, or was refused for good
	Silence     string // what an operator wants of it, as it was to keep it
	Refusals    []apta.Refused
	Changes     []apta.Changed
	Answers     []apta.Answered

	world   *World
	life    int // so that events of a former life are dropped
	wakeAt  timing.Instant
	waiting []apta.Event
	known   map[string]wire.Lease // what its watcher has seen
}

// New makes an empty world.
func New(o Options) *World {
	if o.Timers == (timing.Timers{}) {
		o.Timers = timing.Default()
	}
	if o.MaxDelay == 0 {
		o.MinDelay, o.MaxDelay = time.Millisecond, 10*time.Millisecond
	}
	w := &World{Options: o, now: boot, rand: rand.New(rand.NewPCG(o.Seed, 1)), cuts: map[[2]string]bool{}, Sent: map[string]int{}}
	w.store = &store{world: w, leases: map[string]*held{}, cut: map[string]bool{}}
	return w
}

// Now is the time since the beginning.
func (w *World) Now() time.Duration { return w.now.Since(boot) }

// clock is a member's time.
func (m *Member) clock() timing.Now {
	return timing.Now{Mono: m.world.now, Wall: start.Add(m.world.Now() + m.ClockOff)}
}

// Config is what a member starts with unless it is changed.
func (w *World) Config(id string) apta.Config {
	return apta.Config{Cluster: "sim", ID: id, Incarnation: 1, Nonce: w.rand.Uint64() | 1, Home: hash(id), Addr: id, Timers: w.Timers,
		Weights: link.Weights{link.Worker: 100, link.Scheduler: 100}, Seed: w.rand.Uint64()}
}

func hash(id string) (h uint64) {
	for _, c := range []byte(id) {
		h = h*31 + uint64(c) + 1
	}
	return h
}

// Start starts a member, or starts a dead one again. Two with one id need different
// addresses; Find and the other calls mean the one whose address is named.
func (w *World) Start(cfg apta.Config) *Member {
	i, ok := w.find(cfg.Addr)
	if !ok {
		w.members = slices.Insert(w.members, i, &Member{ID: cfg.Addr, world: w})
	}
	m := w.members[i]
	m.life++
	m.Up, m.Stalled, m.Ended, m.Incarnation, m.Nonce = true, false, false, cfg.Incarnation, cfg.Nonce
	m.waiting, m.known, m.wakeAt = nil, map[string]wire.Lease{}, 0
	core, err := apta.New(cfg, m.clock())
	if err != nil {
		panic(err)
	}
	m.Core = core
	m.Tell(apta.SelfCheck{OK: true})
	m.Tell(apta.Ledger{Answers: true})
	w.after(0, m, func() { m.watch() })
	return m
}

func (w *World) find(addr string) (int, bool) {
	return slices.BinarySearchFunc(w.members, addr, func(m *Member, id string) int {
		switch {
		case m.ID < id:
			return -1
		case m.ID > id:
			return 1
		}
		return 0
	})
}

// Member gives the member at an address.
func (w *World) Member(addr string) *Member {
	if i, ok := w.find(addr); ok {
		return w.members[i]
	}
	return nil
}

// Members lists all that run, by address.
func (w *World) Members() []*Member {
	return slices.DeleteFunc(slices.Clone(w.members), func(m *Member) bool { return !m.Up })
}

// Crash kills a member.
func (w *World) Crash(addr string) {
	m := w.Member(addr)
	m.Up = false
	m.life++
}

// Stall stops a member from running, or lets it go on.
func (w *World) Stall(addr string, stalled bool) {
	m := w.Member(addr)
	m.Stalled = stalled
	if !stalled {
		waiting := m.waiting
		m.waiting = nil
		m.Tell(apta.Tick{})
		for _, ev := range waiting {
			m.Tell(ev)
		}
	}
}

// Cut makes all messages from one address to another vanish, or ends that.
func (w *World) Cut(from, to string, cut bool) { w.cuts[[2]string{from, to}] = cut }

// StoreDown makes the store answer nobody, or ends that.
func (w *World) StoreDown(down bool) { w.store.down = down }

// StoreCut makes the store unreachable for a member, or ends that.
func (w *World) StoreCut(addr string, cut bool) { w.store.cut[addr] = cut }

// Run lets time pass.
func (w *World) Run(d time.Duration) { w.RunUntil(d, func() bool { return false }) }

// RunUntil lets time pass until something is so, which it reports, or for d. It looks
// every 2 ms.
func (w *World) RunUntil(d time.Duration, done func() bool) bool {
	end, look := w.now.Add(d), w.now
	for {
		if w.now >= look {
			if look = w.now.Add(2 * time.Millisecond); done() {
				return true
			}
		}
		if len(w.queue) == 0 || w.queue[0].at > end {
			w.now = end
			return false
		}
		e := heap.Pop(&w.queue).(*event)
		w.now = max(w.now, e.at)
		if e.member == nil || e.member.life == e.life {
			e.do()
		}
	}
}

// after does something after a time, in a member's life.
func (w *World) after(d time.Duration, m *Member, do func()) {
	w.seq++
	e := &event{at: w.now.Add(d), seq: w.seq, member: m, do: do}
	if m != nil {
		e.life = m.life
	}
	heap.Push(&w.queue, e)
}

// Tell gives a member an event; a stalled one gets it later.
func (m *Member) Tell(ev apta.Event) {
	if !m.Up || m.Ended {
		return
	}
	if m.Stalled {
		m.waiting = append(m.waiting, ev)
		return
	}
	for _, e := range m.Core.Step(m.clock(), ev) {
		if m.world.OnEffect != nil {
			m.world.OnEffect(m, e)
		}
		m.do(e)
	}
	if _, tick := ev.(apta.Tick); tick && m.Core.Next() <= m.world.now {
		panic(fmt.Sprintf("at %s: %s wants to be called again at once, without end", m.world.Now(), m.ID))
	}
	m.schedule()
}

// schedule arranges the next tick.
func (m *Member) schedule() {
	next := m.Core.Next()
	if m.wakeAt > m.world.now && m.wakeAt <= next {
		return // it wakes up earlier anyway
	}
	m.wakeAt = max(next, m.world.now+1)
	at := m.wakeAt
	m.world.after(at.Since(m.world.now), m, func() {
		if m.wakeAt == at {
			m.wakeAt = 0
			m.Tell(apta.Tick{})
		}
	})
}

func (m *Member) do(e apta.Effect) {
	w := m.world
	switch e := e.(type) {
	case apta.Send:
		w.deliver(m, e)
	case apta.Renew:
		w.store.renew(m, e)
	case apta.Release:
		w.store.release(m, e.Lease)
	case apta.Execute:
		m.Tell(apta.Executed{For: e.Call, Body: append([]byte("done "), e.Body...)})
	case apta.Answered:
		m.Answers = append(m.Answers, e)
	case apta.Changed:
		m.Changes = append(m.Changes, e)
	case apta.Silenced:
		m.Silence = e.Reason
	case apta.Rejoin:
		w.after(time.Millisecond, m, func() { m.Tell(apta.Rejoined{Incarnation: m.Incarnation}) })
	case apta.Refused:
		m.Refusals = append(m.Refusals, e)
		m.Ended = m.Ended || e.Final
	case apta.Left:
		m.Ended = true
	}
}

func (w *World) deliver(m *Member, s apta.Send) {
	w.Sent[content(s.Message)]++
	if w.rand.Float64() < w.Loss || w.cuts[[2]string{m.ID, s.Addr}] {
		return
	}
	to := w.Member(s.Addr)
	if to == nil || !to.Up {
		return
	}
	if err := s.Message.Validate(); err != nil {
		panic(fmt.Sprintf("%s sends what others refuse: %v", m.ID, err))
	}
	delay := w.MinDelay + time.Duration(w.rand.Int64N(int64(w.MaxDelay-w.MinDelay)+1))
	w.after(delay, to, func() { to.Tell(apta.Received{Message: s.Message}) })
}

func content(m *wire.Message) string {
	switch {
	case m.Hello != nil:
		return "hello"
	case m.Update != nil:
		return "update"
	case m.Ack != nil:
		return "ack"
	case m.Describe != nil:
		return "describe"
	case m.Relay != nil:
		return "relay"
	}
	return "other"
}
