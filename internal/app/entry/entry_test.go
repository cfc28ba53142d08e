package entry

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"crier/internal/app/datadir"
	"crier/job"
	"crier/scheduler/apta/transport"
	"crier/scheduler/apta/wire"
	"crier/state/coord"
	"crier/state/ledger"
)

// The first process of a cluster says whose the ledger is; who has other settings is
// refused by the name of the setting, whatever becomes of an answer.
func TestIdentity(t *testing.T) {
	log := ledger.NewMemory(ledger.MemoryConfig{})
	log.Inject(ledger.ClusterSubject, ledger.FaultStored)
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			if _, err := Open(t.Context(), Config{Log: log, Cluster: "a", Coordination: "nats"}); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if n, err := log.Subjects(t.Context(), ledger.ClusterSubject); err != nil || n[ledger.ClusterSubject] != 1 {
		t.Fatalf("%v records, %v", n, err)
	}
	for want, mine := range map[string]Config{"cluster.id": {Log: log, Cluster: "b", Coordination: "nats"}, "coordination.root": {Log: log, Cluster: "a", Coordination: "zookeeper /x"}} {
		_, err := Open(t.Context(), mine)
		if job.CodeOf(err) != job.CodeInvalid || !strings.Contains(err.Error(), want) {
			t.Errorf("%+v: %v, want %s refused", mine, err, want)
		}
	}
	d, err := Open(t.Context(), Config{Log: log, Cluster: "a", Coordination: "nats"})
	if err != nil {
		t.Fatal(err)
	}
	newer := d.have
	newer.Protocol = wire.Protocol + 1
	put(t, log, newer)
	if _, err := Open(t.Context(), Config{Log: log, Cluster: "a", Coordination: "nats"}); job.CodeOf(err) != job.CodeConflict || !strings.Contains(err.Error(), "newer program") {
		t.Errorf("a newer protocol: %v", err)
	}
}

// A process whose directory is lost, or an old copy, is told by whatever the ledger says of its
// starts, and goes on behind them only if it is told to.
func TestANumberThatTheLedgerKnows(t *testing.T) {
	log := ledger.NewMemory(ledger.MemoryConfig{})
	claim := func(thing ledger.Thing, by job.Journal) {
		t.Helper()
		b := ledger.Claim{Kind: thing.Kind, ID: thing.ID, Epoch: 1, Journal: by, At: time.Now()}.Bytes()
		if _, err := log.Append(t.Context(), ledger.ClaimSubject(thing), 0, b); err != nil {
			t.Fatal(err)
		}
	}
	other := job.Journal{Worker: "w-other", Incarnation: 99}
	claim(ledger.RangeThing(1), other)
	claim(ledger.RangeThing(2), job.Journal{Worker: "w-a", Incarnation: 3})
	claim(ledger.Thing{Kind: ledger.ClaimRole, ID: "recorder"}, job.Journal{Worker: "p-b", Incarnation: 4})
	claim(ledger.GatewayThing(job.Incarnation{Gateway: "g-c", Start: 5}), other)
	claim(ledger.Thing{Kind: ledger.ClaimJournal, ID: job.Journal{Worker: "w-d", Incarnation: 6}.String()}, other)
	open := func(adopt ...string) *Desk {
		d, err := Open(t.Context(), Config{Log: log, Cluster: "a", Coordination: "nats", Adopt: adopt})
		if err != nil {
			t.Fatal(err)
		}
		return d
	}
	for name, last := range map[string]uint32{"a": 3, "b": 4, "c": 5, "d": 6} {
		for start, ok := range map[uint32]bool{1: false, last: false, last + 1: true} {
			dir, n := t.TempDir(), &datadir.Node{Name: name, Starts: start}
			old := filepath.Join(dir, "accepted", "old")
			if err := errors.Join(os.Mkdir(filepath.Dir(old), 0o700), os.WriteFile(old, nil, 0o600)); err != nil {
				t.Fatal(err)
			}
			err := open().Number(t.Context(), dir, n, slog.Default())
			if n.Starts != start || ok != (err == nil) || !ok && (job.CodeOf(err) != job.CodeConflict || !strings.Contains(err.Error(), "cluster.adopt: [name]")) {
				t.Errorf("start %d of %s: %d, %v", start, name, n.Starts, err)
			}
			if err := open("name").Number(t.Context(), dir, n, slog.New(slog.DiscardHandler)); err != nil || n.Starts <= last || ok && n.Starts != start {
				t.Errorf("start %d of %s, begun anew: %d, %v", start, name, n.Starts, err)
			}
			if _, err := os.Stat(old); (err == nil) != ok {
				t.Errorf("start %d of %s: what an old copy says was accepted: %v", start, name, err)
			}
			again, err := datadir.Take(dir, name)
			if !ok && (err != nil || again.Starts != n.Starts+1) {
				t.Errorf("the start after %d of %s: %+v, %v", n.Starts, name, again, err)
			}
		}
	}
	if err := open().Number(t.Context(), t.TempDir(), &datadir.Node{Name: "new", Starts: 1}, slog.Default()); err != nil {
		t.Errorf("a process that nobody knows: %v", err)
	}
}

// A process that knows of no others is refused on a cluster's ledger. On one of its own it
// has an ID if it shares something, and the cluster that it becomes keeps that.
func TestAlone(t *testing.T) {
	log := ledger.NewMemory(ledger.MemoryConfig{})
	if _, err := OpenAlone(t.Context(), log, false); err != nil {
		t.Fatal(err)
	}
	if _, err := log.Last(t.Context(), ledger.ClusterSubject); !errors.Is(err, ledger.ErrNoRecord) {
		t.Errorf("it shares nothing, and the ledger has an identity: %v", err)
	}
	first, err := OpenAlone(t.Context(), log, true)
	if err != nil || len(first.have.ID) != 32 {
		t.Fatalf("%+v, %v", first, err)
	}
	again, err := OpenAlone(t.Context(), log, true)
	if err != nil || again.have.ID != first.have.ID {
		t.Errorf("%+v, %v, want the same ID", again, err)
	}
	member, err := Open(t.Context(), Config{Log: log, Cluster: "a", Coordination: "nats"})
	if err != nil || member.have.ID != first.have.ID {
		t.Errorf("%+v, %v, want the same ID", member, err)
	}
	if _, err := OpenAlone(t.Context(), log, true); job.CodeOf(err) != job.CodeInvalid || !strings.HasPrefix(err.Error(), "cluster.listen: ") {
		t.Errorf("on a cluster's ledger: %v", err)
	}
}

// A process alone leaves directories as they are, and takes none of a cluster's.
func TestDirectoriesAlone(t *testing.T) {
	own, clusters := t.TempDir(), t.TempDir()
	if err := os.WriteFile(filepath.Join(clusters, markFile), []byte("0123\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, shares := range []bool{false, true} {
		d, err := OpenAlone(t.Context(), ledger.NewMemory(ledger.MemoryConfig{}), shares)
		if err != nil {
			t.Fatal(err)
		}
		if err := d.Dir(t.Context(), "blobs", own); err != nil {
			t.Error(err)
		}
		if err := d.Dir(t.Context(), "blobs", clusters); job.CodeOf(err) != job.CodeInvalid || !strings.HasPrefix(err.Error(), "blobs: ") {
			t.Errorf("a cluster's: %v", err)
		}
	}
	if left, err := os.ReadDir(own); err != nil || len(left) > 0 {
		t.Errorf("it left %v, %v", left, err)
	}
}

// refusing is a ledger that answers each append at once with an error.
type refusing struct {
	ledger.Log
	err   error
	tries int
	end   func()
}

func (r *refusing) Append(context.Context, string, uint64, []byte) (uint64, error) {
	if r.tries++; r.tries == 1000 {
		r.end()
	}
	return 0, r.err
}

// A ledger that takes no identity is not asked again and again without a pause, and the
// process hears why.
func TestIdentityThatTheLedgerDoesNotTake(t *testing.T) {
	for _, c := range []struct {
		err   error
		tries int // at most
	}{{ledger.ErrFull, 1}, {errors.New("no permission"), 50}} {
		synctest.Test(t, func(t *testing.T) {
			ctx, end := context.WithCancel(t.Context())
			log := &refusing{Log: ledger.NewMemory(ledger.MemoryConfig{}), err: c.err, end: end}
			_, err := Open(ctx, Config{Log: log, Cluster: "a", Coordination: "nats"})
			if !errors.Is(err, c.err) || log.tries > c.tries {
				t.Errorf("%v: %v after %d tries", c.err, err, log.tries)
			}
		})
	}
}

// put plants an identity.
func put(t *testing.T, log ledger.Log, i Identity) {
	t.Helper()
	st, err := log.Last(t.Context(), ledger.ClusterSubject)
	if err != nil {
		t.Fatal(err)
	}
	b, err := json.Marshal(i)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := log.Append(t.Context(), ledger.ClusterSubject, st.Seq, b); err != nil {
		t.Fatal(err)
	}
}

// A ledger from before there were marks is given an ID once, and keeps it.
func TestIdentityWithoutAMark(t *testing.T) {
	log := ledger.NewMemory(ledger.MemoryConfig{})
	if _, err := log.Append(t.Context(), ledger.ClusterSubject, 0, []byte(`{"cluster":"a","coordination":"nats","at":"2026-01-01T00:00:00Z"}`)); err != nil {
		t.Fatal(err)
	}
	var ids []string
	for range 2 {
		d, err := Open(t.Context(), Config{Log: log, Cluster: "a", Coordination: "nats"})
		if err != nil {
			t.Fatal(err)
		}
		ids = append(ids, d.have.ID)
	}
	if len(ids[0]) != 32 || ids[0] != ids[1] {
		t.Errorf("it is %q", ids)
	}
}

// What members share is marked by the first and asked for by all others; another
// cluster's is never taken, one that was lost only if it is said so.
func TestDirectories(t *testing.T) {
	log := ledger.NewMemory(ledger.MemoryConfig{})
	shared, other, foreign := t.TempDir(), t.TempDir(), t.TempDir()
	if err := os.WriteFile(filepath.Join(foreign, markFile), []byte("0123\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	enter := func(dir string, adopt ...string) error {
		d, err := Open(t.Context(), Config{Log: log, Cluster: "a", Coordination: "nats", Adopt: adopt})
		if err != nil {
			t.Fatal(err)
		}
		return d.Dir(t.Context(), "blobs", dir)
	}
	if err := enter(foreign); err == nil {
		t.Error("the first takes another cluster's")
	}
	for range 2 {
		if err := enter(shared); err != nil {
			t.Fatal(err)
		}
	}
	for _, dir := range []string{other, filepath.Join(other, "none"), foreign} {
		if err := enter(dir); job.CodeOf(err) != job.CodeInvalid || !strings.HasPrefix(err.Error(), "blobs: ") {
			t.Errorf("%s: %v", dir, err)
		}
	}
	if left, err := os.ReadDir(other); err != nil || len(left) > 0 {
		t.Errorf("who was refused left %v, %v", left, err)
	}
	if err := enter(foreign, "blobs"); err == nil {
		t.Error("another cluster's is adopted")
	}
	if err := enter(other, "keys"); err == nil {
		t.Error("it is taken although something else is adopted")
	}
	if err := enter(other, "blobs"); err != nil {
		t.Errorf("what was lost is not begun anew: %v", err)
	}
	if err := enter(other); err != nil {
		t.Errorf("what was begun anew is not taken: %v", err)
	}
}

// Two clusters that begin at the same moment on one directory look at it before either has
// marked it: one has it, and the other is refused.
func TestADirectoryIsOneClusters(t *testing.T) {
	for range 20 {
		dir := filepath.Join(t.TempDir(), "shared")
		var desks []*Desk
		for range 4 { // clusters, with two processes each
			log := ledger.NewMemory(ledger.MemoryConfig{})
			for range 2 {
				d, err := Open(t.Context(), Config{Log: log, Cluster: "a", Coordination: "nats"})
				if err != nil {
					t.Fatal(err)
				}
				desks = append(desks, d)
			}
		}
		errs := make([]error, len(desks))
		var wg sync.WaitGroup
		for i, d := range desks {
			wg.Go(func() { errs[i] = d.Dir(t.Context(), "blobs", dir) })
		}
		wg.Wait()
		b, err := os.ReadFile(filepath.Join(dir, markFile))
		if err != nil {
			t.Fatal(err)
		}
		for i, d := range desks {
			if mine := strings.TrimSpace(string(b)) == d.have.ID; mine != (errs[i] == nil) || errs[i] != nil && job.CodeOf(errs[i]) != job.CodeInvalid {
				t.Fatalf("the mark is its own: %v; %v", mine, errs[i])
			}
		}
	}
}

func TestClash(t *testing.T) {
	mine := wire.Lease{Identity: wire.Identity{ID: "m", Incarnation: 2, Nonce: 7, Home: 9}, Profile: "standard", Protocol: 1}
	of := func(id string, change func(*wire.Lease)) wire.Lease {
		l := wire.Lease{Identity: wire.Identity{ID: id, Incarnation: 1, Nonce: 8, Home: 8}, Addr: "host:1", Profile: "standard", Protocol: 1}
		if change != nil {
			change(&l)
		}
		return l
	}
	for _, c := range []struct {
		name  string
		other wire.Lease
		want  string // "": no clash
	}{
		{"another", of("n", nil), ""},
		{"an older program's", of("n", func(l *wire.Lease) { l.Profile, l.Protocol = "", 0 }), ""},
		{"another profile", of("n", func(l *wire.Lease) { l.Profile = "fast" }), "cluster.profile: "},
		{"another protocol", of("n", func(l *wire.Lease) { l.Protocol = 2 }), "cluster.id: "},
		{"the name", of("m", nil), "name: "},
		{"the former start", of("m", func(l *wire.Lease) { l.Home = 9 }), ""},
		{"a later start", of("m", func(l *wire.Lease) { l.Home, l.Incarnation = 9, 3 }), "name: "},
	} {
		if err := clash(mine, c.other); (err == nil) != (c.want == "") || err != nil && !strings.HasPrefix(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", c.name, err, c.want)
		}
	}
}

// Who knows of no others is refused beside a live process, and one without cluster.listen
// refuses members.
func TestAloneOrNot(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := coord.NewMemory(time.Now)
		lease := func(id string) {
			e, err := store.Get(t.Context(), "members/"+id) // 0 if there is none
			if err != nil && !errors.Is(err, coord.ErrNotFound) {
				t.Error(err)
			}
			if _, err := store.Lease(t.Context(), "members/"+id, []byte(`{"roles":["api"]}`), e.Version, 5*time.Second); err != nil {
				t.Error(err)
			}
		}
		lease("me")
		if err := Sole(t.Context(), store, "me", 9*time.Second); err != nil {
			t.Errorf("beside a former start of its own: %v", err)
		}
		lease("dead")
		if err := Sole(t.Context(), store, "me", 9*time.Second); err != nil {
			t.Errorf("beside a dead process: %v", err)
		}
		lease("other")
		time.AfterFunc(time.Second, func() { lease("other") })
		if err := Sole(t.Context(), store, "me", 9*time.Second); job.CodeOf(err) != job.CodeConflict || !strings.HasPrefix(err.Error(), "cluster.listen: process other") {
			t.Errorf("beside another: %v", err)
		}
		time.AfterFunc(time.Second, func() { lease("other") })
		mine := wire.Lease{Identity: wire.Identity{ID: "me", Incarnation: 1, Nonce: 7}}
		if err := Clear(t.Context(), store, mine, 9*time.Second); job.CodeOf(err) != job.CodeConflict || !strings.HasPrefix(err.Error(), "nats.servers: process other") {
			t.Errorf("a member beside one that is alone: %v", err)
		}
	})
}

// A live process's lease is told from a dead one's by its renewals.
func TestClear(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := coord.NewMemory(time.Now)
		mine := wire.Lease{Identity: wire.Identity{ID: "m", Incarnation: 1, Nonce: 7, Home: 9}}
		value, err := json.Marshal(wire.Lease{Identity: wire.Identity{ID: "m", Incarnation: 1, Nonce: 8, Home: 8}, Addr: "host:1"})
		if err != nil {
			t.Fatal(err)
		}
		v, err := store.Lease(t.Context(), "members/m", value, 0, 5*time.Second)
		if err != nil {
			t.Fatal(err)
		}
		began := time.Now()
		if err := Clear(t.Context(), store, mine, 9*time.Second); err != nil {
			t.Errorf("a dead process's lease: %v", err)
		}
		if took := time.Since(began); took < 5*time.Second {
			t.Errorf("it waited %s", took)
		}
		if v, err = store.Lease(t.Context(), "members/m", value, 0, 5*time.Second); err != nil {
			t.Fatal(err)
		}
		time.AfterFunc(time.Second, func() { _, _ = store.Lease(t.Context(), "members/m", value, v, 5*time.Second) })
		began = time.Now()
		if err := Clear(t.Context(), store, mine, 9*time.Second); job.CodeOf(err) != job.CodeConflict {
			t.Errorf("a live process's lease: %v", err)
		}
		if took := time.Since(began); took > 2*time.Second {
			t.Errorf("it took %s", took)
		}
	})
}

func TestClock(t *testing.T) {
	const off = 10 * time.Minute
	at := func(offs ...time.Duration) (s []sample) {
		for i, o := range offs {
			s = append(s, sample{string(rune('a' + i)), o, 10 * time.Millisecond})
		}
		return s
	}
	for _, c := range []struct {
		samples []sample
		want    string
	}{
		{nil, ""},
		{at(0, time.Minute, -time.Minute), ""},
		{at(off, off, off), "ahead of that of a and that of b and that of c"},
		{at(-off, -off, -off), "behind that of a"},
		{at(off), "ahead of"},
		{at(off, 0), ""},       // one of two: which is wrong?
		{at(off, -off, 0), ""}, // they do not agree
		{at(0, off, off), "10m0s ahead of that of b and that of c"},
		{[]sample{{"slow", 3 * time.Minute, 2 * time.Minute}}, ""}, // it may be the way
	} {
		err := wrong(c.samples)
		if (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
			t.Errorf("%v: %v, want %q", c.samples, err, c.want)
		}
	}
	quiet := slog.New(slog.DiscardHandler)
	if err := CheckClock(t.Context(), nil, quiet); err != nil {
		t.Error(err)
	}
}

// Who is taken by one member is no stranger; whom those that answer turn away is one, if
// they live; and silence says nothing.
func TestReach(t *testing.T) {
	away, silent := fmt.Errorf("calling: %w", transport.ErrTurnedAway), errors.New("nobody answers")
	for _, c := range []struct {
		name    string
		answers map[string]error // by address
		then    string           // what becomes of their leases: "" is renewed, "lapses", "restarts"
		refused bool
	}{
		{name: "nobody is there"},
		{name: "all take it", answers: map[string]error{"a": nil, "b": nil}},
		{name: "one takes it", answers: map[string]error{"a": away, "b": nil}},
		{name: "nobody answers", answers: map[string]error{"a": silent, "b": silent}},
		{name: "whoever answers turns it away", answers: map[string]error{"a": away, "b": silent}, refused: true},
		{name: "only itself, from before", answers: map[string]error{"m": away}},
		{name: "the first are dead", answers: map[string]error{"a": silent, "b": silent, "c": silent, "m": silent, "z": away}, refused: true},
		{name: "the first are dead, and one takes it", answers: map[string]error{"a": silent, "b": silent, "c": silent, "x": away, "y": away, "z": nil}},
		{name: "enough turn it away", answers: map[string]error{"a": away, "b": away, "c": away, "d": errors.New("asked")}, refused: true},
		{name: "a proxy stands before the dead", answers: map[string]error{"a": away, "b": away}, then: "lapses"},
		{name: "who was dead is back", answers: map[string]error{"a": away}, then: "restarts"},
	} {
		synctest.Test(t, func(t *testing.T) {
			store := coord.NewMemory(time.Now)
			var mu sync.Mutex // timers run beside each other
			versions, back := map[string]coord.Version{}, false
			lease := func(addr string, nonce uint64) {
				mu.Lock()
				defer mu.Unlock()
				back = nonce > 1
				value, err := json.Marshal(wire.Lease{Identity: wire.Identity{ID: addr, Incarnation: 1, Nonce: nonce}, Addr: addr})
				if err == nil {
					versions[addr], err = store.Lease(t.Context(), "members/"+addr, value, versions[addr], 5*time.Second)
				}
				if err != nil {
					t.Error(err)
				}
			}
			for addr := range c.answers {
				lease(addr, 1)
				switch c.then {
				case "":
					time.AfterFunc(2*time.Second, func() { lease(addr, 1) })
				case "restarts":
					time.AfterFunc(time.Second, func() { lease(addr, 2) })
					time.AfterFunc(3*time.Second, func() { lease(addr, 2) })
				}
			}
			err := Reach(t.Context(), store, "m", 9*time.Second, func(_ context.Context, addr string) error {
				if addr == "d" {
					t.Errorf("%s: one more is asked", c.name)
				}
				mu.Lock()
				defer mu.Unlock()
				if back {
					return nil
				}
				return c.answers[addr]
			})
			if (err != nil) != c.refused || err != nil && (job.CodeOf(err) != job.CodeInvalid || !strings.Contains(err.Error(), "cluster.tls.ca")) {
				t.Errorf("%s: %v", c.name, err)
			}
			time.Sleep(5 * time.Second) // the timers are over
		})
	}
}
