package arrivals

import (
	"flag"
	"maps"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"crier/job"
	"crier/presence/gateway"
	"crier/presence/handoff"
)

func init() { // before the command line, which may say otherwise
	flag.Set("rapid.checks", "300")
	flag.Set("rapid.steps", "120")
	flag.Set("rapid.nofailfile", "true")
}

const modelRange job.Range = 1

// listener is a worker: what it was told, and who is online for all that it knows.
type listener struct {
	log    *Log
	hellos *Hellos
	online map[uint32]bool
	has    bool // it is the range's home
}

// world is one gateway, two workers of which one at most is the home of a range, and
// the bus between them: in order for each sender and subscription, with gaps.
type world struct {
	t interface {
		Fatal(...any)
		Fatalf(string, ...any)
	}
	now       time.Time
	began     time.Time
	gw        *gateway.State
	inc       job.Incarnation
	conns     map[uint32]gateway.Conn // who is connected: the oracle
	next      gateway.Conn
	homes     [2]*listener
	announces [2][]gateway.Announce // on their way to each
	beats     [2][]handoff.Beat
	anews     [2][]handoff.Anew // from each
}

func newModel(t interface {
	Fatal(...any)
	Fatalf(string, ...any)
}) *world {
	w := &world{t: t, now: time.Unix(1e9, 0), inc: job.Incarnation{Gateway: "g", Start: 3}, conns: map[uint32]gateway.Conn{}}
	w.began = w.now
	var err error
	if w.gw, err = gateway.New(gateway.Config{Incarnation: w.inc}); err != nil {
		t.Fatal(err)
	}
	for i := range w.homes {
		w.homes[i] = &listener{log: NewLog(), hellos: NewHellos(), online: map[uint32]bool{}}
	}
	w.begin(0)
	return w
}

func (w *world) step(ev gateway.Event) {
	for _, e := range slices.Clone(w.gw.Step(w.now.Sub(w.began), ev)) {
		switch e := e.(type) {
		case gateway.Announce:
			for i, h := range w.homes {
				if h.has { // whom the claims call the home
					w.announces[i] = append(w.announces[i], e)
				}
			}
		case gateway.Beat:
			for i := range w.beats {
				w.beats[i] = append(w.beats[i], e.Message)
			}
		}
	}
}

// begin makes a worker the home; it knows of nobody, whatever it kept.
func (w *world) begin(i int) {
	w.forget(i)
	w.homes[i].has = true
}

func (w *world) forget(i int) {
	h := w.homes[i]
	h.log.Forget(modelRange, func() { h.hellos.Forget(modelRange); clear(h.online) })
}

func (h *listener) mine(job.Range) bool { return h.has }

// take hands a worker the next announcement, and the gateway the answer unless it is lost.
func (w *world) take(i int, answered bool) {
	if len(w.announces[i]) == 0 {
		return
	}
	a, h := w.announces[i][0], w.homes[i]
	w.announces[i] = w.announces[i][1:]
	got, err := h.log.Take(&a.Message, w.now, h.mine, func(everything bool) error {
		if everything {
			clear(h.online)
		}
		for id := range a.Message.Join.All() {
			h.online[id] = true
		}
		for id := range a.Message.Leave.All() {
			delete(h.online, id)
		}
		h.hellos.Take(&a.Message)
		return nil
	})
	if err != nil {
		w.t.Fatal(err)
	}
	if answered && got != handoff.NotHome {
		w.step(gateway.Announced{Range: a.Message.Range, Flight: a.Flight, Again: got == handoff.WantsAnew})
	}
}

func (w *world) beat(i int, arrives bool) {
	if len(w.beats[i]) == 0 {
		return
	}
	b, h := w.beats[i][0], w.homes[i]
	w.beats[i] = w.beats[i][1:]
	if !arrives {
		return
	}
	if anew, _ := h.log.Compare(&b, w.now, h.mine); len(anew) > 0 {
		w.anews[i] = append(w.anews[i], handoff.Anew{Inc: b.Inc, Ranges: anew})
	}
}

func (w *world) anew(i int, arrives bool) {
	if len(w.anews[i]) == 0 {
		return
	}
	a := w.anews[i][0]
	w.anews[i] = w.anews[i][1:]
	if arrives {
		w.step(gateway.Anew{Ranges: a.Ranges})
	}
}

func (w *world) pass(d time.Duration) {
	w.now = w.now.Add(d)
	w.step(gateway.Tick{})
	for _, h := range w.homes {
		h.log.Silent(w.now, false, func(inc job.Incarnation) {
			h.hellos.Gone(inc)
			clear(h.online)
		})
	}
}

func (w *world) connect(id uint32) {
	if w.conns[id] == 0 {
		w.next++
		w.conns[id] = w.next
		w.step(gateway.Connected{Conn: w.next, Recipient: job.Recipient(id), Client: uint64(id) + 1, Speaks: true})
	}
}

func (w *world) disconnect(id uint32) {
	if conn := w.conns[id]; conn != 0 {
		delete(w.conns, id)
		w.step(gateway.Disconnected{Conn: conn})
	}
}

func TestPresenceFollowsWhoIsConnected(t *testing.T) {
	moves, gaps := 0, 0
	rapid.Check(t, func(t *rapid.T) {
		w := newModel(t)
		who := func(t *rapid.T) uint32 {
			return uint32(modelRange.Lo()) + uint32(rapid.IntRange(0, 5).Draw(t, "recipient"))*100
		}
		which := func(t *rapid.T) int { return rapid.IntRange(0, 1).Draw(t, "worker") }
		t.Repeat(map[string]func(*rapid.T){
			"connect":    func(t *rapid.T) { w.connect(who(t)) },
			"disconnect": func(t *rapid.T) { w.disconnect(who(t)) },
			"time": func(t *rapid.T) {
				w.pass(time.Duration(rapid.SampledFrom([]int{5, 20, 100, 300, 1000}).Draw(t, "ms")) * time.Millisecond)
			},
			"announcement": func(t *rapid.T) { w.take(which(t), rapid.IntRange(0, 3).Draw(t, "answer is lost") > 0) },
			"beat":         func(t *rapid.T) { w.beat(which(t), rapid.IntRange(0, 3).Draw(t, "is lost") > 0) },
			"anew":         func(t *rapid.T) { w.anew(which(t), rapid.IntRange(0, 3).Draw(t, "is lost") > 0) },
			"gap": func(t *rapid.T) {
				i := which(t)
				if len(w.announces[i]) > 0 {
					gaps++
				}
				w.announces[i], w.anews[i] = nil, nil
			},
			"requests are lost for long": func(t *rapid.T) { // and beats are not
				for range rapid.IntRange(1, 4).Draw(t, "seconds") {
					w.pass(time.Second)
					for i := range w.homes {
						w.announces[i] = nil
						w.beat(i, true)
						w.anew(i, true)
					}
				}
			},
			"move": func(t *rapid.T) {
				from := which(t)
				if !w.homes[from].has {
					return
				}
				w.homes[from].has = false
				if rapid.Bool().Draw(t, "forgets at once") {
					w.forget(from)
				}
				if rapid.Bool().Draw(t, "and takes it again") {
					w.begin(from)
				} else {
					w.begin(1 - from)
					moves++
				}
			},
			"starts anew": func(t *rapid.T) { // with the presence of before
				i := which(t)
				w.homes[i].log, w.homes[i].hellos = NewLog(), NewHellos()
				if w.homes[i].has {
					w.begin(i)
				}
			},
		})
		w.settle()
	})
	if moves == 0 || gaps == 0 {
		t.Errorf("%d moves, %d gaps: too few to mean anything", moves, gaps)
	}
}

// settle ends the faults: three beats later the home knows who is connected.
func (w *world) settle() {
	for range 3*20 + 4 {
		w.pass(50 * time.Millisecond)
		for i := range w.homes {
			for len(w.announces[i]) > 0 {
				w.take(i, true)
			}
			for len(w.beats[i]) > 0 {
				w.beat(i, true)
			}
			for len(w.anews[i]) > 0 {
				w.anew(i, true)
			}
		}
	}
	for i, h := range w.homes {
		if !h.has {
			continue
		}
		want := slices.Sorted(maps.Keys(w.conns))
		if got := slices.Sorted(maps.Keys(h.online)); !slices.Equal(got, want) {
			w.t.Fatalf("worker %d takes %v for online, connected are %v", i, got, want)
		}
		for _, id := range want {
			if n := len(h.hellos.kept[modelRange][job.Recipient(id)]); n != 1 {
				w.t.Fatalf("worker %d keeps %d hellos of %d", i, n, id)
			}
		}
	}
}

// A new home takes longer for each announcement than for some beats. It is told everything,
// once: asked for it again and again, the gateway would tell faster than the home listens.
func TestAHomeThatIsSlowIsToldOnce(t *testing.T) {
	const slow = 3500 * time.Millisecond
	for _, people := range []uint32{6, 70_000} { // in one announcement, and in three
		w := newModel(t)
		for i := range people {
			w.connect(uint32(modelRange.Lo()) + i)
		}
		w.settle()
		w.begin(0)
		rounds, free := map[uint64]bool{}, w.now
		for end := w.now.Add(time.Minute); w.now.Before(end); {
			w.pass(250 * time.Millisecond)
			for len(w.beats[0]) > 0 {
				w.beat(0, true)
			}
			for len(w.anews[0]) > 0 {
				w.anew(0, true)
			}
			for len(w.announces[0]) > 0 && !w.now.Before(free) {
				before := w.homes[0].log.last[arrivalKey{w.inc, modelRange}]
				w.take(0, true)
				if after := w.homes[0].log.last[arrivalKey{w.inc, modelRange}]; after != before {
					rounds[after.round], free = true, w.now.Add(slow)
				}
			}
		}
		if len(rounds) != 1 || len(w.homes[0].online) != int(people) || len(w.announces[0]) > 0 {
			t.Errorf("%d people: told everything %d times in a minute, %d are online, and %d announcements wait", people, len(rounds), len(w.homes[0].online), len(w.announces[0]))
		}
	}
}

// A gateway announces, and ends before its first beat: it is found silent all the same.
func TestAGatewayThatNeverBeatIsFoundSilent(t *testing.T) {
	l, now := NewLog(), time.Unix(1e9, 0)
	inc := job.Incarnation{Gateway: "g", Start: 1}
	ann := handoff.Announce{Inc: inc, Round: 1, Seq: 1, Range: modelRange}
	all := func(job.Range) bool { return true }
	if got, err := l.Take(&ann, now, all, func(bool) error { return nil }); err != nil || got != handoff.TakenIn {
		t.Fatal(got, err)
	}
	nothing := func(job.Incarnation) {}
	if gone := l.Silent(now.Add(goneAfter-1), false, nothing); len(gone) != 0 {
		t.Fatalf("%v are silent too soon", gone)
	}
	if gone := l.Silent(now.Add(goneAfter), false, nothing); !slices.Equal(gone, []job.Incarnation{inc}) {
		t.Fatalf("%v are silent, want %s", gone, inc)
	}
}

// What one who is not the home hears changes nothing, and is said.
func TestAnAnnouncementToWhoIsNotTheHome(t *testing.T) {
	l := NewLog()
	ann := handoff.Announce{Inc: job.Incarnation{Gateway: "g", Start: 1}, Round: 1, Seq: 1, Range: modelRange}
	got, err := l.Take(&ann, time.Now(), func(job.Range) bool { return false }, func(bool) error { t.Fatal("it is applied"); return nil })
	if err != nil || got != handoff.NotHome || len(l.last)+len(l.heard) != 0 {
		t.Fatal(got, err)
	}
}
