package jetstream_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"crier/internal/bus/natsbus"
	"crier/internal/servers"
	"crier/state/ledger"
	"crier/state/ledger/jetstream"
	"crier/state/ledger/ledgertest"

	"github.com/nats-io/nats.go"
	natsjs "github.com/nats-io/nats.go/jetstream"
)

var discard = slog.New(slog.DiscardHandler)

// cluster starts three servers with some accounts.
func cluster(t testing.TB, accounts int) *servers.NATS {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	c, err := servers.StartNATS(ctx, servers.NATSConfig{Dir: t.TempDir(), Servers: 3, Accounts: accounts})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Kill)
	return c
}

func dialAs(t testing.TB, c *servers.NATS, user string) *nats.Conn {
	t.Helper()
	nc, err := natsbus.Connect(natsbus.Dial{URL: c.URL, Creds: natsbus.Creds{User: user, Password: servers.NATSPassword}, Name: t.Name(), Logger: discard})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(nc.Close)
	return nc
}

func openReplicated(t testing.TB, nc *nats.Conn, limit uint64, wait time.Duration) *jetstream.Log {
	t.Helper()
	l, err := jetstream.Open(t.Context(), nc, jetstream.Config{Stream: "LEDGER", Subjects: []string{"led.>"}, MaxBytes: int64(limit), Replicas: 3, Wait: wait, Logger: discard})
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// TestCluster holds three replicas to the suite and then to what is promised while
// servers die, under one load.
func TestCluster(t *testing.T) {
	c := cluster(t, 24)
	var account atomic.Int32
	t.Run("suite", func(t *testing.T) {
		ledgertest.Run(t, func(t *testing.T, limit uint64) ledger.Log {
			return openReplicated(t, dialAs(t, c, fmt.Sprintf("t%d", account.Add(1))), limit, time.Minute)
		})
	})
	t.Run("other settings are refused", func(t *testing.T) { testOtherReplicas(t, dialAs(t, c, fmt.Sprintf("t%d", account.Add(1)))) })
	w := newWorld(t, c)
	t.Run("the leader is killed", w.leaderKilled)
	t.Run("a follower is killed", w.followerKilled)
	t.Run("the leader is paused", w.leaderPaused)
	t.Run("two of three are dead", w.twoDead)
	w.finish(t)
}

func testOtherReplicas(t *testing.T, nc *nats.Conn) {
	openReplicated(t, nc, 1<<20, 5*time.Second)
	_, err := jetstream.Open(t.Context(), nc, jetstream.Config{Stream: "LEDGER", Subjects: []string{"led.>"}, MaxBytes: 1 << 20})
	if err == nil || !strings.Contains(err.Error(), "replicas is 3, not 1") {
		t.Errorf("one replica of a stream with three: %v", err)
	}
	js, err := natsjs.New(nc)
	if err != nil {
		t.Fatal(err)
	}
	want := natsjs.StreamConfig{Name: "OLD", Subjects: []string{"old.>", "crier.mark.OLD"}, MaxBytes: 1 << 20, Replicas: 3, AllowDirect: true, AllowRollup: true}
	if _, err := js.CreateStream(t.Context(), want); err != nil {
		t.Fatal(err)
	}
	_, err = jetstream.Open(t.Context(), nc, jetstream.Config{Stream: "OLD", Subjects: []string{"old.>"}, MaxBytes: 1 << 20, Replicas: 3})
	if err == nil || !strings.Contains(err.Error(), "discard is") {
		t.Errorf("a stream that discards old records: %v", err)
	}
}

const (
	writers = 4
	// appendWait bounds one append.
	appendWait = 2 * time.Second
	// faultWait bounds a wait for something that must happen; the servers' votes may take
	// most of it.
	faultWait = 90 * time.Second
)

// world is writers, readers and a follower at work.
type world struct {
	c       *servers.NATS
	look    *nats.Conn
	log     *jetstream.Log // of the follower
	stop    context.CancelFunc
	done    sync.WaitGroup
	acked   [writers]atomic.Int64 // records of each writer that are acknowledged
	doubts  atomic.Int64
	slowest atomic.Int64 // of the appends that failed, in ns
	reads   atomic.Int64
	failed  chan error

	mu       sync.Mutex
	followed map[string]int
	last     uint64
}

func newWorld(t *testing.T, c *servers.NATS) *world {
	w := &world{c: c, look: dialAs(t, c, servers.NATSUser), failed: make(chan error, 16), followed: map[string]int{}}
	w.log = openReplicated(t, w.look, 1<<30, appendWait)
	ctx, stop := context.WithCancel(t.Context())
	w.stop = stop
	run := func(fn func(context.Context) error) {
		w.done.Go(func() {
			if err := fn(ctx); err != nil && ctx.Err() == nil {
				w.failed <- err
			}
		})
	}
	for i := range writers {
		l := openReplicated(t, dialAs(t, c, servers.NATSUser), 1<<30, appendWait)
		run(func(ctx context.Context) error { return w.write(ctx, l, i) })
	}
	for range 2 {
		l := openReplicated(t, dialAs(t, c, servers.NATSUser), 1<<30, appendWait)
		run(func(ctx context.Context) error { return w.read(ctx, l) })
	}
	run(w.follow)
	t.Cleanup(func() { stop(); w.done.Wait() })
	return w
}

func subjectOfWriter(i int) string { return fmt.Sprintf("led.j.w.%d", i) }

// write appends numbered records as rule 2 says, for ever.
func (w *world) write(ctx context.Context, l ledger.Log, i int) error {
	subject, last := subjectOfWriter(i), uint64(0)
	for n := 0; ; n++ {
		text := fmt.Sprint(n)
		for {
			started := time.Now()
			seq, err := l.Append(ctx, subject, last, []byte(text))
			if err == nil {
				last = seq
				break
			}
			if ctx.Err() != nil {
				return ctx.Err()
			}
			w.doubts.Add(1)
			if took := int64(time.Since(started)); took > w.slowest.Load() {
				w.slowest.Store(took)
			}
			r, lerr := l.Last(ctx, subject)
			if lerr == nil && string(r.Data) == text {
				last = r.Seq
				break
			}
			if lerr == nil && r.Seq != last || errors.Is(lerr, ledger.ErrNoRecord) && last != 0 {
				return fmt.Errorf("after %v the last record of %s is %d %q, want %d or %q", err, subject, r.Seq, r.Data, last, text)
			}
			pause(ctx, 20*time.Millisecond)
		}
		w.acked[i].Store(int64(n + 1))
	}
}

func pause(ctx context.Context, d time.Duration) {
	select {
	case <-time.After(d):
	case <-ctx.Done():
	}
}

// read asks for the last records all the time, from another connection: none may be
// older than what was acknowledged before.
func (w *world) read(ctx context.Context, l ledger.Log) error {
	for i := 0; ctx.Err() == nil; i = (i + 1) % writers {
		acked := w.acked[i].Load()
		r, err := l.Last(ctx, subjectOfWriter(i))
		var n int64 = -1
		switch {
		case err == nil:
			if _, err := fmt.Sscan(string(r.Data), &n); err != nil {
				return err
			}
		case !errors.Is(err, ledger.ErrNoRecord):
			pause(ctx, 20*time.Millisecond)
			continue
		}
		if n+1 < acked {
			return fmt.Errorf("a stale read: the last record of writer %d is %d, %d were acknowledged", i, n, acked)
		}
		w.reads.Add(1)
		pause(ctx, 2*time.Millisecond)
	}
	return nil
}

// follow follows all and checks order, gaps and repeats.
func (w *world) follow(ctx context.Context) error {
	return w.log.Follow(ctx, 1, "led.>", func(r ledger.Stored) error {
		w.mu.Lock()
		defer w.mu.Unlock()
		if want := fmt.Sprint(w.followed[r.Subject]); r.Seq <= w.last || string(r.Data) != want {
			return fmt.Errorf("followed record %d %q of %s behind %d, want %s", r.Seq, r.Data, r.Subject, w.last, want)
		}
		w.followed[r.Subject]++
		w.last = r.Seq
		return nil
	}, nil)
}

func (w *world) check(t *testing.T) {
	t.Helper()
	select {
	case err := <-w.failed:
		t.Fatal(err)
	default:
	}
}

// goesOn waits until each writer has had more records acknowledged, and returns after
// how long the first and the last of them had.
func (w *world) goesOn(t *testing.T, more int64) (first, all time.Duration) {
	t.Helper()
	var from [writers]int64
	for i := range from {
		from[i] = w.acked[i].Load()
	}
	started := time.Now()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for {
		n := 0
		for i := range from {
			switch got := w.acked[i].Load() - from[i]; {
			case got >= more:
				n++
				fallthrough
			case got > 0 && first == 0:
				if first == 0 {
					first = time.Since(started)
				}
			}
		}
		if n == writers {
			return first, time.Since(started)
		}
		w.check(t)
		if time.Since(started) > faultWait {
			t.Fatalf("%d of %d writers go on within %s; %s", n, writers, faultWait, w.views(t.Context()))
		}
		<-tick.C
	}
}

// view is what one server says of the stream.
type view struct {
	Name    string
	Cluster struct {
		Leader string `json:"leader"`
	}
	State struct {
		Last uint64 `json:"last_seq"`
	}
}

func viewOf(ctx context.Context, n *servers.NATSNode) (view, error) {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, n.Monitor()+"/jsz?acc=CRIER&streams=1", nil)
	if err != nil {
		return view{}, err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return view{}, err
	}
	defer resp.Body.Close()
	var page struct {
		Accounts []struct {
			Streams []view `json:"stream_detail"`
		} `json:"account_details"`
	}
	if err := json.NewDecoder(resp.Body).Decode(&page); err != nil {
		return view{}, err
	}
	for _, a := range page.Accounts {
		for _, s := range a.Streams {
			if s.Name == "LEDGER" {
				return s, nil
			}
		}
	}
	return view{}, errors.New("it says nothing of the stream")
}

// views is whom each server takes for the leader of the stream, and how far it has come.
func (w *world) views(ctx context.Context) string {
	var all []string
	for _, n := range w.c.Nodes {
		v, err := viewOf(ctx, n)
		all = append(all, fmt.Sprintf("%s says leader %q, last %d (%v)", n.Server, v.Cluster.Leader, v.State.Last, err))
	}
	return strings.Join(all, "; ")
}

// leader gives the stream's leader, on whom all servers agree, and the others. One that
// was paused takes itself for the leader for a while.
func (w *world) leader(t *testing.T) (leader *servers.NATSNode, others []*servers.NATSNode) {
	t.Helper()
	for end := time.Now().Add(faultWait); ; pause(t.Context(), 50*time.Millisecond) {
		leader, others = nil, nil
		agree := map[string]bool{}
		for _, n := range w.c.Nodes {
			v, err := viewOf(t.Context(), n)
			agree[v.Cluster.Leader] = true
			if err == nil && v.Cluster.Leader == n.Server {
				leader = n
			} else {
				others = append(others, n)
			}
		}
		if leader != nil && len(agree) == 1 {
			return leader, others
		}
		if time.Now().After(end) {
			t.Fatalf("no leader on whom all agree: %s", w.views(t.Context()))
		}
	}
}

func (w *world) restart(t *testing.T, n *servers.NATSNode) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), faultWait)
	defer cancel()
	if err := n.Restart(ctx); err != nil {
		t.Fatal(err)
	}
}

func (w *world) leaderKilled(t *testing.T) {
	w.goesOn(t, 50)
	leader, _ := w.leader(t)
	leader.Kill()
	first, all := w.goesOn(t, 20)
	t.Logf("the first append is acknowledged %s after the kill of the leader, appends of all writers after %s", first, all)
	w.restart(t, leader)
	w.goesOn(t, 50)
}

func (w *world) followerKilled(t *testing.T) {
	_, others := w.leader(t)
	others[0].Kill()
	first, all := w.goesOn(t, 20)
	t.Logf("the first append is acknowledged %s after the kill of a follower, appends of all writers after %s", first, all)
	w.restart(t, others[0])
	w.goesOn(t, 50)
}

func (w *world) leaderPaused(t *testing.T) {
	leader, _ := w.leader(t)
	if err := leader.Signal(syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	first, all := w.goesOn(t, 20)
	t.Logf("the first append is acknowledged %s after the leader was paused, appends of all writers after %s", first, all)
	reads := w.reads.Load()
	if err := leader.Signal(syscall.SIGCONT); err != nil { // it takes itself for the leader
		t.Fatal(err)
	}
	w.goesOn(t, 200)
	t.Logf("%d reads beside the one who was leader", w.reads.Load()-reads)
}

// twoDead leaves the leader alone, and brings one back before it gives up. Were the
// leader among the dead, the two would have to vote, which took 0.5 s to 35 s.
func (w *world) twoDead(t *testing.T) {
	_, others := w.leader(t)
	w.slowest.Store(0)
	others[0].Kill()
	others[1].Kill()
	pause(t.Context(), 20*time.Millisecond) // what was acknowledged by then may be told yet
	var before [writers]int64
	for i := range before {
		before[i] = w.acked[i].Load()
	}
	doubts := w.doubts.Load()
	pause(t.Context(), 2*appendWait)
	for i := range before {
		if w.acked[i].Load() != before[i] {
			t.Errorf("writer %d had something acknowledged by one server of three", i)
		}
	}
	if w.doubts.Load() < doubts+writers {
		t.Errorf("%d appends failed; each writer should know that it cannot write", w.doubts.Load()-doubts)
	}
	if slowest := time.Duration(w.slowest.Load()); slowest > appendWait+time.Second {
		t.Errorf("an append failed after %s, its bound is %s", slowest, appendWait)
	}
	w.restart(t, others[0])
	first, all := w.goesOn(t, 20)
	t.Logf("the first append is acknowledged %s after one of two dead servers is back, appends of all writers after %s", first, all)
	w.restart(t, others[1])
	w.goesOn(t, 50)
}

// finish stops the writers and reads everything from the start.
func (w *world) finish(t *testing.T) {
	w.check(t)
	w.stop()
	w.done.Wait()
	w.check(t)
	l := openReplicated(t, dialAs(t, w.c, servers.NATSUser), 1<<30, 10*time.Second)
	got := map[string]int{}
	err := ledger.ReadAll(t.Context(), l, 1, "led.>", func(r ledger.Stored) error {
		if string(r.Data) != fmt.Sprint(got[r.Subject]) {
			return fmt.Errorf("record %d of %s is %q, want %d", r.Seq, r.Subject, r.Data, got[r.Subject])
		}
		got[r.Subject]++
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	total := 0
	for i := range writers {
		// One append may have been under way.
		acked, stored := int(w.acked[i].Load()), got[subjectOfWriter(i)]
		if stored < acked || stored > acked+1 {
			t.Errorf("%d records of writer %d are stored, %d were acknowledged", stored, i, acked)
		}
		total += stored
	}
	if w.doubts.Load() == 0 {
		t.Error("no append was in doubt")
	}
	t.Logf("%d records, %d appends in doubt, %d reads", total, w.doubts.Load(), w.reads.Load())
}
