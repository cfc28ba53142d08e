package apta

import (
	"fmt"
	"hash/maphash"
	"os"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
	"unsafe"

	"crier/scheduler/apta/link"
	"crier/scheduler/apta/timing"
	"crier/scheduler/apta/wire"
)

// The explorer tries every order of a few faults in a world of two members and a
// process with the id of one of them, and looks at what must never be after every
// step. Time goes by in rounds; faults happen between them, messages arrive at once.
const (
	round      = 500 * time.Millisecond
	watchEvery = 100 * time.Millisecond
)

func exploreTimers() timing.Timers {
	t := timing.Default()
	t.Hello, t.Jitter, t.Dead = 250*time.Millisecond, 0, 500*time.Millisecond
	t.Lease, t.Renew, t.Answer, t.Margin = 3*time.Second, 500*time.Millisecond, 100*time.Millisecond, 1500*time.Millisecond
	t.Originate, t.Compute, t.Pace, t.Lazy, t.ViewHash = time.Millisecond, time.Millisecond, time.Millisecond, 100*time.Millisecond, 200*time.Millisecond
	t.Refresh, t.MaxAge, t.Redial = time.Hour, 3*time.Hour, time.Second
	return t
}

// reach is how the store answers a process.
type reach uint8

const (
	answers reach = iota
	mute          // it does what it is asked, and the answer is lost
	away          // it does nothing
)

// process is a member's process; the number is its address.
type process struct {
	core  *State // nil: it does not run
	id    string
	nonce uint64
	inc   uint32
	reach reach
	known []wire.Lease
	ended bool
	since Instant // a process of another id, and the store, have been fine for it since then
}

type storedLease struct {
	lease  wire.Lease
	lapses Instant
	since  Instant
}

// universe is the state of everything. It is cloned before each branch.
type universe struct {
	now     Instant
	procs   [3]process
	cut     [3][3]bool
	down    bool
	leases  []storedLease // by id
	watchAt Instant
	faults  int
	rejoins int      // how often a process began again
	trace   []string // what was done, for the report
	wrong   string
}

type letter struct {
	from, to int
	message  *wire.Message
}

func addr(i int) string { return fmt.Sprint(i) }

func newUniverse() *universe {
	u := &universe{now: Instant(time.Hour)}
	u.procs = [3]process{{id: "a", nonce: 11, inc: 1}, {id: "b", nonce: 12, inc: 1}, {id: "a", nonce: 13, inc: 1}}
	u.watchAt = u.now
	return u
}

func (u *universe) start(i int) {
	u.begin(i)
	u.step(i, SelfCheck{OK: true})
	u.step(i, Ledger{Answers: true})
}

// begin makes a process that was told nothing yet.
func (u *universe) begin(i int) {
	p := &u.procs[i]
	core, err := New(Config{Cluster: "x", ID: p.id, Incarnation: p.inc, Nonce: p.nonce, Home: uint64(i + 1), Addr: addr(i),
		Weights: link.Weights{link.Worker: 1}, Seeds: []string{addr(0), addr(1)}, Timers: exploreTimers()}, u.clock())
	if err != nil {
		panic(err)
	}
	p.core, p.ended, p.known = core, false, nil
}

func (u *universe) clock() Now { return Now{Mono: u.now, Wall: time.Unix(0, int64(u.now)).UTC()} }

// step gives an event to a process, and lets all that follows at once happen.
func (u *universe) step(i int, ev Event) {
	letters := u.effects(i, ev)
	for n := 0; n < len(letters); n++ {
		l := letters[n]
		if u.procs[l.to].core != nil && !u.procs[l.to].ended && !u.cut[l.from][l.to] {
			letters = append(letters, u.effects(l.to, Received{l.message})...)
		}
		if n > 5000 {
			u.fail("messages without end")
			return
		}
	}
}

func (u *universe) effects(i int, ev Event) (letters []letter) {
	p := &u.procs[i]
	if p.core == nil || p.ended {
		return nil
	}
	for _, e := range p.core.Step(u.clock(), ev) {
		switch e := e.(type) {
		case Send:
			var to int
			if _, err := fmt.Sscan(e.Addr, &to); err == nil {
				letters = append(letters, letter{i, to, e.Message})
			}
		case Renew:
			letters = append(letters, u.effects(i, u.renew(p, e))...)
		case Release:
			u.leases = slices.DeleteFunc(u.leases, func(l storedLease) bool { return l.lease.Nonce == e.Lease.Nonce })
		case Changed:
			u.checkChange(i, e)
		case Rejoin:
			u.rejoins++
			letters = append(letters, u.effects(i, Rejoined{p.inc})...)
		case Refused:
			p.ended = p.ended || e.Final
		case Left:
			p.ended = true
		}
	}
	u.check(i)
	return letters
}

func (u *universe) lapse() {
	u.leases = slices.DeleteFunc(u.leases, func(l storedLease) bool { return u.now >= l.lapses })
}

func (u *universe) renew(p *process, e Renew) Event {
	answer := LeaseAnswer{Sent: e.Sent, For: e.For, Outcome: Renewed}
	if u.down || p.reach == away {
		answer.Outcome = Silent
		return answer
	}
	u.lapse()
	i := slices.IndexFunc(u.leases, func(l storedLease) bool { return l.lease.ID == e.Lease.ID })
	if i >= 0 && u.leases[i].lease.Nonce != e.Lease.Nonce && (u.leases[i].lease.Home != e.Lease.Home || u.leases[i].lease.Incarnation >= e.Lease.Incarnation) {
		answer.Outcome, answer.Holder = Taken, u.leases[i].lease
	} else {
		l := storedLease{e.Lease, u.now.Add(e.TTL), u.now}
		if i >= 0 {
			l.since = u.leases[i].since
			u.leases = slices.Delete(u.leases, i, i+1)
		}
		u.leases = append(u.leases, l)
	}
	if p.reach == mute {
		answer.Outcome, answer.Holder = Silent, wire.Lease{}
	}
	return answer
}

func (u *universe) watch() {
	u.lapse()
	for i := range u.procs {
		p := &u.procs[i]
		if p.core == nil || p.ended || u.down || p.reach != answers {
			continue
		}
		for _, k := range slices.Clone(p.known) {
			if !slices.ContainsFunc(u.leases, func(l storedLease) bool { return l.lease == k }) {
				p.known = slices.DeleteFunc(p.known, func(o wire.Lease) bool { return o == k })
				u.step(i, LeaseSeen{Lease: k})
			}
		}
		for _, l := range slices.Clone(u.leases) {
			if !slices.Contains(p.known, l.lease) {
				p.known = append(p.known, l.lease)
				u.step(i, LeaseSeen{Lease: l.lease, Alive: true})
			}
		}
		u.step(i, StoreAnswered{})
	}
}

// run lets time go by.
func (u *universe) run(d time.Duration) {
	for end := u.now.Add(d); u.wrong == ""; {
		next, who := u.watchAt, -1
		for i, p := range u.procs {
			if p.core != nil && !p.ended {
				if at := p.core.Next(); at < next {
					next, who = at, i
				}
			}
		}
		if next > end {
			u.now = end
			return
		}
		u.now = max(u.now, next)
		if who < 0 {
			u.watchAt = u.now.Add(watchEvery)
			u.watch()
			continue
		}
		u.step(who, Tick{})
		if c := u.procs[who].core; !u.procs[who].ended && c.Next() <= u.now {
			u.fail(fmt.Sprintf("process %d wants to be called without end", who))
		}
	}
}

func (u *universe) fail(text string) {
	if u.wrong == "" {
		u.wrong = fmt.Sprintf("%s: %s", u.now.Since(Instant(time.Hour)), text)
	}
}

// allowed is the table of apta.md, and with it that a new incarnation begins anew.
var allowed = []string{"JOINING ONLINE", "ONLINE WORKING", "WORKING ONLINE", "WORKING SILENCE", "SILENCE WORKING", "OFFLINE JOINING",
	"JOINING OFFLINE", "ONLINE OFFLINE", "WORKING OFFLINE", "SILENCE OFFLINE"}

func (u *universe) checkChange(i int, c Changed) {
	if !slices.Contains(allowed, c.From.String()+" "+c.To.String()) || c.Reason == "" {
		u.fail(fmt.Sprintf("process %d goes from %s to %s (%s)", i, c.From, c.To, c.Reason))
	}
}

func (p *process) takes(now Instant) bool {
	if p.core == nil || p.ended {
		return false
	}
	st := p.core.Status()
	return st.State == link.Working && !st.Frozen && now < st.Fence
}

func (u *universe) check(i int) {
	p := &u.procs[i]
	if p.core == nil || p.ended {
		return
	}
	st := p.core.Status()
	if p.takes(u.now) {
		n := slices.IndexFunc(u.leases, func(l storedLease) bool { return l.lease.ID == p.id && u.now < l.lapses })
		if n < 0 || u.leases[n].lease.Nonce != p.nonce {
			u.fail(fmt.Sprintf("process %d takes work without the lease", i))
			return
		}
		for j := range u.procs {
			o := &u.procs[j]
			if o.core == nil || o.ended || o.id == p.id || u.now.Since(u.leases[n].since) < 2*time.Second {
				continue
			}
			if o.core.now = u.now; o.core.Lapsed(p.id, p.inc) {
				u.fail(fmt.Sprintf("process %d says that %s is lapsed, which takes work", j, p.id))
			}
		}
	}
	for j := range u.procs {
		if o := &u.procs[j]; j != i && o.id == p.id && o.inc == p.inc && o.takes(u.now) && p.takes(u.now) {
			u.fail(fmt.Sprintf("processes %d and %d with one id and incarnation are both at work", i, j))
		}
	}
	// Beyond the fence and WORKING, while the store has answered this one or somebody
	// whom it hears for longer than a lease.
	if st.State == link.Working && u.now >= st.Fence && p.since > 0 && u.now.Since(p.since) > 3*time.Second {
		u.fail(fmt.Sprintf("process %d is WORKING beyond its fence, although the store answers", i))
	}
}

// note keeps, for each process, since when the store has answered it, or somebody
// with whom it can talk.
func (u *universe) note() {
	fine := func(i int) bool {
		return !u.down && u.procs[i].reach == answers && u.procs[i].core != nil && !u.procs[i].ended
	}
	for i := range u.procs {
		ok := fine(i)
		for j := range u.procs {
			ok = ok || j != i && fine(j) && !u.cut[i][j] && !u.cut[j][i] && u.procs[j].id != u.procs[i].id
		}
		if !ok {
			u.procs[i].since = 0
		} else if u.procs[i].since == 0 {
			u.procs[i].since = u.now
		}
	}
}

// faults are what can happen between two rounds; each can be undone.
func (u *universe) choices() (list []choice) {
	add := func(name string, do func(*universe)) { list = append(list, choice{name, do}) }
	for _, c := range [][2]int{{0, 1}, {1, 0}} {
		add(fmt.Sprintf("cut %d to %d %v", c[0], c[1], !u.cut[c[0]][c[1]]), func(u *universe) { u.cut[c[0]][c[1]] = !u.cut[c[0]][c[1]] })
	}
	add(fmt.Sprintf("store down %v", !u.down), func(u *universe) { u.down = !u.down })
	for r := answers; r <= away; r++ {
		if r != u.procs[0].reach {
			add(fmt.Sprintf("store of 0 is %d", r), func(u *universe) { u.procs[0].reach = r })
		}
	}
	for _, up := range []bool{true, false} {
		add(fmt.Sprintf("ledger of 0 %v", up), func(u *universe) { u.step(0, Ledger{up}) })
	}
	add("duplicate of a starts or ends", func(u *universe) {
		if p := &u.procs[2]; p.core == nil || p.ended {
			u.start(2)
		} else {
			p.core = nil
		}
	})
	add("b crashes or starts", func(u *universe) {
		if p := &u.procs[1]; p.core == nil || p.ended {
			p.inc, p.nonce = p.inc+1, p.nonce+100
			u.start(1)
		} else {
			p.core = nil
		}
	})
	return list
}

type choice struct {
	name string
	do   func(*universe)
}

// TestExplore goes through all orders of up to two faults, or as many as
// CRIER_FAULTS says, within twelve rounds, from a cold start and from a cluster at
// work.
func TestExplore(t *testing.T) {
	faults := 2
	if s := os.Getenv("CRIER_FAULTS"); s != "" {
		n, err := strconv.Atoi(s)
		if err != nil {
			t.Fatalf("CRIER_FAULTS %q is no number", s)
		}
		faults = n
	}
	for _, warm := range []bool{true, false} {
		u := newUniverse()
		u.start(0)
		u.start(1)
		if warm {
			u.run(8 * time.Second)
			if !u.procs[0].takes(u.now) || !u.procs[1].takes(u.now) {
				t.Fatalf("two members are not at work after 8 s: %+v, %+v", u.procs[0].core.Status(), u.procs[1].core.Status())
			}
		}
		explore(t, u, 12, faults)
	}
}

func explore(t *testing.T, first *universe, rounds, faults int) {
	type key struct {
		sum  uint64
		left int
	}
	seen, level, states, leaves := map[key]bool{}, []*universe{first}, 0, 0
	for r := range rounds {
		var next []*universe
		for _, u := range level {
			branches := []choice{{"", func(*universe) {}}}
			if u.faults < faults {
				branches = append(branches, u.choices()...)
			}
			for _, c := range branches {
				n := clone(u)
				if c.name != "" {
					n.faults++
					n.trace = append(slices.Clone(n.trace), fmt.Sprintf("round %d: %s", r, c.name))
				}
				c.do(n)
				n.note()
				n.run(round)
				states++
				if n.wrong != "" {
					t.Fatalf("%s\nafter: %s", n.wrong, strings.Join(n.trace, "; "))
				}
				if k := (key{sum(n), n.faults}); !seen[k] {
					seen[k] = true
					next = append(next, n)
				}
			}
		}
		level = next
	}
	for i, u := range level {
		if i%97 == 0 {
			leaves++
			comesBack(t, u)
		}
	}
	t.Logf("%d steps of a round, %d different states, %d ends of which %d were healed and came back", states, len(seen), len(level), leaves)
}

// comesBack ends all faults and waits until the two members are at work again.
func comesBack(t *testing.T, u *universe) {
	t.Helper()
	u = clone(u)
	u.cut, u.down, u.procs[2].core = [3][3]bool{}, false, nil
	for i := range u.procs[:2] {
		p := &u.procs[i]
		p.reach = answers
		if p.core == nil || p.ended {
			p.inc, p.nonce = p.inc+1, p.nonce+100
			u.start(i)
		}
		u.step(i, Ledger{true})
	}
	u.note()
	u.run(20 * time.Second)
	a, b := u.procs[0].core, u.procs[1].core
	if u.wrong != "" || !u.procs[0].takes(u.now) || !u.procs[1].takes(u.now) || a.View().Hash != b.View().Hash || len(a.View().Takers(link.Worker)) != 2 {
		t.Fatalf("20 s after all faults ended: %s\n%+v\n%+v\nafter: %s", u.wrong, a.Status(), b.Status(), strings.Join(u.trace, "; "))
	}
}

// clone copies a universe. What does not change is shared.
func clone(u *universe) *universe {
	n := &universe{}
	copyValue(reflect.ValueOf(n).Elem(), reflect.ValueOf(u).Elem(), map[unsafe.Pointer]reflect.Value{})
	return n
}

var shared = []reflect.Type{reflect.TypeFor[*link.Record](), reflect.TypeFor[*link.View](), reflect.TypeFor[time.Time](), reflect.TypeFor[string]()}

func copyValue(to, from reflect.Value, done map[unsafe.Pointer]reflect.Value) {
	if to.CanAddr() && !to.CanSet() {
		to = reflect.NewAt(to.Type(), unsafe.Pointer(to.UnsafeAddr())).Elem()
	}
	if from.CanAddr() {
		from = reflect.NewAt(from.Type(), unsafe.Pointer(from.UnsafeAddr())).Elem()
	}
	if slices.Contains(shared, from.Type()) {
		to.Set(from)
		return
	}
	switch from.Kind() {
	case reflect.Pointer:
		if from.IsNil() {
			return
		}
		if have, ok := done[from.UnsafePointer()]; ok {
			to.Set(have)
			return
		}
		n := reflect.New(from.Type().Elem())
		done[from.UnsafePointer()] = n
		copyValue(n.Elem(), from.Elem(), done)
		to.Set(n)
	case reflect.Struct:
		for i := range from.NumField() {
			copyValue(to.Field(i), from.Field(i), done)
		}
	case reflect.Slice:
		if from.IsNil() {
			return
		}
		n := reflect.MakeSlice(from.Type(), from.Len(), from.Len())
		for i := range from.Len() {
			copyValue(n.Index(i), from.Index(i), done)
		}
		to.Set(n)
	case reflect.Array:
		for i := range from.Len() {
			copyValue(to.Index(i), from.Index(i), done)
		}
	case reflect.Map:
		if from.IsNil() {
			return
		}
		n := reflect.MakeMapWithSize(from.Type(), from.Len())
		for _, k := range from.MapKeys() {
			v := reflect.New(from.Type().Elem()).Elem()
			copyValue(v, from.MapIndex(k), done)
			n.SetMapIndex(k, v)
		}
		to.Set(n)
	default:
		to.Set(from)
	}
}

// sum stands for what a universe will do: moments count by how long ago they were,
// and not at all when they were long ago; numbers of records by how far they are
// behind the newest.
func sum(u *universe) uint64 {
	s := &summer{now: u.now, newest: map[string]uint64{}}
	s.h.SetSeed(seed)
	for i := range u.procs {
		if c := u.procs[i].core; c != nil {
			for _, h := range c.db.Headers() {
				s.newest[h.ID] = max(s.newest[h.ID], h.Seq)
			}
			s.newest[u.procs[i].id] = max(s.newest[u.procs[i].id], c.own.seq)
		}
	}
	s.add(reflect.ValueOf(u).Elem(), "")
	return s.h.Sum64()
}

var seed = maphash.MakeSeed()

type summer struct {
	h      maphash.Hash
	now    Instant
	newest map[string]uint64
	id     string
}

var skipped = []string{"universe.trace", "universe.faults", "universe.rejoins", "universe.now", "State.cfg", "State.t", "State.wall", "State.now", "State.out", "State.random",
	"State.nextReq", "State.reason", "origin.at", "origin.links", "entry.at", "DB.digest", "DB.byKey", "Record.Age", "Book.t", "State.since", "universe.watchAt"}

func (s *summer) add(v reflect.Value, owner string) {
	switch {
	case v.Type() == reflect.TypeFor[Instant]():
		ago := s.now.Since(Instant(v.Int()))
		if v.Int() == 0 || ago > 8*time.Second {
			ago = 8 * time.Second
		}
		maphash.WriteComparable(&s.h, max(ago, -8*time.Second))
		return
	case v.Type() == reflect.TypeFor[link.Header]():
		s.id = v.FieldByName("ID").String()
	case v.Type() == reflect.TypeFor[State]():
		s.id = v.FieldByName("cfg").FieldByName("ID").String()
	}
	switch v.Kind() {
	case reflect.Struct:
		for i := range v.NumField() {
			name := v.Type().Name() + "." + v.Type().Field(i).Name
			switch {
			case slices.Contains(skipped, name):
			case name == "Version.Seq" || name == "origin.seq":
				maphash.WriteComparable(&s.h, s.newest[s.id]-v.Field(i).Uint())
			default:
				s.add(v.Field(i), name)
			}
		}
	case reflect.Pointer:
		maphash.WriteComparable(&s.h, v.IsNil())
		if !v.IsNil() {
			s.add(v.Elem(), owner)
		}
	case reflect.Slice, reflect.Array:
		maphash.WriteComparable(&s.h, v.Len())
		for i := range v.Len() {
			s.add(v.Index(i), owner)
		}
	case reflect.String:
		s.h.WriteString(v.String())
		s.h.WriteByte(0)
	case reflect.Bool:
		maphash.WriteComparable(&s.h, v.Bool())
	case reflect.Int, reflect.Int64:
		maphash.WriteComparable(&s.h, v.Int())
	case reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		maphash.WriteComparable(&s.h, v.Uint())
	default:
		panic("not summed: " + owner + " " + v.Type().String())
	}
}
