package natsstream

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"crier/internal/bus/natsbus"
	"crier/internal/servers"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

func cluster(t *testing.T) *servers.NATS {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	c, err := servers.StartNATS(ctx, servers.NATSConfig{Dir: t.TempDir(), Servers: 3})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Kill)
	return c
}

func dialTo(t *testing.T, url string) *nats.Conn {
	t.Helper()
	nc, err := natsbus.Connect(natsbus.Dial{URL: url, Creds: natsbus.Creds{User: servers.NATSUser, Password: servers.NATSPassword}, Name: t.Name(), Logger: quiet})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(nc.Close)
	return nc
}

func replicated(t *testing.T, nc *nats.Conn, name, pattern string) *Stream {
	t.Helper()
	st, err := Open(t.Context(), nc, Config{Stream: name, Subjects: []string{pattern}, MaxBytes: 1 << 30, Replicas: 3, Wait: 2 * time.Second, Logger: quiet})
	if err != nil {
		t.Fatal(err)
	}
	return st
}

func leaderOf(t *testing.T, c *servers.NATS, nc *nats.Conn, stream string) (leader *servers.NATSNode, others []*servers.NATSNode) {
	t.Helper()
	js, err := jetstream.New(nc)
	if err != nil {
		t.Fatal(err)
	}
	st, err := js.Stream(t.Context(), stream)
	if err != nil {
		t.Fatal(err)
	}
	for _, n := range c.Nodes {
		if n.Server == st.CachedInfo().Cluster.Leader {
			leader = n
		} else {
			others = append(others, n)
		}
	}
	return leader, others
}

// stored appends until it is acknowledged.
func stored(t *testing.T, st *Stream, subject string, last uint64, text string) uint64 {
	t.Helper()
	for end := time.Now().Add(30 * time.Second); ; {
		seq, err := st.Append(t.Context(), Put{Subject: subject, Last: last, Data: []byte(text)})
		if err == nil {
			return seq
		}
		if r, lerr := st.Last(t.Context(), subject); lerr == nil && string(r.Data) == text {
			return r.Seq
		}
		if time.Now().After(end) {
			t.Fatal(err)
		}
	}
}

// TestCluster is about what only servers of a cluster do.
func TestCluster(t *testing.T) {
	c := cluster(t)
	nc := dialTo(t, c.URL)
	t.Run("more subjects than one answer has", func(t *testing.T) { testManySubjects(t, nc) })
	t.Run("racing appends are answered 10164", func(t *testing.T) { testRacingCodes(t, nc) })
	t.Run("a writer is not refused for its own haste", func(t *testing.T) { testFastWriter(t, nc) })
	t.Run("a retry after a seal is a duplicate", func(t *testing.T) { testDuplicateAfterSeal(t, nc) })
	t.Run("what is sent ahead is stored behind a seal", func(t *testing.T) { testPipelining(t, nc) })
	t.Run("a full stream has room for marks", func(t *testing.T) { testFullMarks(t, nc) })
	t.Run("a server that keeps nothing now", func(t *testing.T) { testMissing(t, c, nc) })
	t.Run("a leader who is none", func(t *testing.T) { testLeaderWhoIsNone(t, c, nc) })
}

// testManySubjects reads a stream whose last records the servers do not give in one
// answer; records come in meanwhile.
func testManySubjects(t *testing.T, nc *nats.Conn) {
	const subjects = 1500
	st := replicated(t, nc, "MANY", "many.>")
	js, err := jetstream.New(nc, jetstream.WithPublishAsyncMaxPending(256))
	if err != nil {
		t.Fatal(err)
	}
	for i := range subjects {
		if _, err := js.PublishAsync(fmt.Sprintf("many.%d", i), []byte("x")); err != nil {
			t.Fatal(err)
		}
	}
	<-js.PublishAsyncComplete()
	n := 0
	err = readToEnd(t.Context(), st, 1, "many.>", func(Record) error { n++; return nil })
	if err != nil || n != subjects {
		t.Fatalf("%d records of %d, %v", n, subjects, err)
	}
	// One more, read from the end on, where there is nothing but the mark.
	before, err := st.Last(t.Context(), "many.7")
	if err != nil {
		t.Fatal(err)
	}
	seq := stored(t, st, "many.7", before.Seq, "y")
	n = 0
	err = readToEnd(t.Context(), st, seq, "many.>", func(r Record) error {
		if n++; r.Seq != seq {
			return fmt.Errorf("record %d", r.Seq)
		}
		return nil
	})
	if err != nil || n != 1 {
		t.Fatalf("%d records from the last on, %v", n, err)
	}
	all, err := st.Subjects(t.Context(), "many.>")
	if err != nil || len(all) != subjects || all["many.7"] != 2 {
		t.Fatalf("%d subjects, %v", len(all), err)
	}
	if _, err := st.Get(t.Context(), seq+1); !errors.Is(err, ErrNoRecord) {
		t.Errorf("a mark is given as a record: %v", err)
	}
}

// publish sends a record with headers and gives the server's answer.
func publish(t *testing.T, nc *nats.Conn, subject, text string, headers ...string) (ack struct {
	outcome
	Seq       uint64 `json:"seq"`
	Duplicate bool   `json:"duplicate"`
}) {
	t.Helper()
	m := nats.NewMsg(subject)
	m.Data = []byte(text)
	for i := 0; i < len(headers); i += 2 {
		m.Header.Set(headers[i], headers[i+1])
	}
	r, err := nc.RequestMsg(m, 10*time.Second)
	if err == nil {
		err = json.Unmarshal(r.Data, &ack)
	}
	if err != nil {
		t.Error(err)
	}
	return ack
}

const (
	expectLast = "Nats-Expected-Last-Subject-Sequence"
	messageID  = "Nats-Msg-Id"
)

// testRacingCodes has appends race: one is stored, and of the others some learn that
// another is under way (10164), some that it is there (10071).
func testRacingCodes(t *testing.T, nc *nats.Conn) {
	replicated(t, nc, "RACE", "race.>")
	const racers, rounds = 8, 40
	codes := map[int]int{}
	last := uint64(0)
	for range rounds {
		var mu sync.Mutex
		var wg sync.WaitGroup
		won := 0
		expected := fmt.Sprint(last)
		for i := range racers {
			wg.Go(func() {
				ack := publish(t, nc, "race.a", fmt.Sprint(i), expectLast, expected)
				mu.Lock()
				defer mu.Unlock()
				if ack.Failure != nil {
					codes[ack.Failure.ErrCode]++
				} else {
					won++
					last = ack.Seq
				}
			})
		}
		wg.Wait()
		if won != 1 {
			t.Fatalf("%d of %d racing appends were stored", won, racers)
		}
	}
	if codes[codeWrongLastRacing] == 0 || codes[codeWrongLast]+codes[codeWrongLastRacing] != rounds*(racers-1) {
		t.Fatalf("the losers were answered %v, want %d and %d only", codes, codeWrongLast, codeWrongLastRacing)
	}
	ack := publish(t, nc, "race.a", "a retry", expectLast, fmt.Sprint(last-1))
	if ack.Failure == nil || ack.Failure.ErrCode != codeWrongLast {
		t.Fatalf("a retry of what is stored is answered %+v, want %d", ack, codeWrongLast)
	}
}

// testDuplicateAfterSeal retries a stored record under its id when a seal is behind
// it: the server answers as if all were well. Appends have no ids for this reason.
func testDuplicateAfterSeal(t *testing.T, nc *nats.Conn) {
	st := replicated(t, nc, "DUP", "dup.>")
	open := stored(t, st, "dup.j", 0, "open")
	first := publish(t, nc, "dup.j", "record", expectLast, fmt.Sprint(open), messageID, "nonce")
	if first.Failure != nil {
		t.Fatal(first.Failure)
	}
	seal := stored(t, st, "dup.j", first.Seq, "seal")
	late := publish(t, nc, "dup.j", "record", expectLast, fmt.Sprint(open), messageID, "nonce")
	if late.Failure != nil || !late.Duplicate || late.Seq != first.Seq {
		t.Fatalf("a late retry is answered %+v, want a duplicate of %d", late, first.Seq)
	}
	if r, err := st.Last(t.Context(), "dup.j"); err != nil || r.Seq != seal {
		t.Fatalf("the last record is %d, %v; want the seal %d", r.Seq, err, seal)
	}
}

// testPipelining has an owner send n and n + 1 with the sequence that n should get,
// while a seal lands as n.
func testPipelining(t *testing.T, nc *nats.Conn) {
	st := replicated(t, nc, "PIPE", "pipe.>")
	open := stored(t, st, "pipe.j", 0, "open")
	seal := stored(t, st, "pipe.j", open, "seal")
	var n, next atomic.Pointer[apiError]
	var wg sync.WaitGroup
	wg.Go(func() { n.Store(publish(t, nc, "pipe.j", "n", expectLast, fmt.Sprint(open)).Failure) })
	wg.Go(func() { next.Store(publish(t, nc, "pipe.j", "n + 1", expectLast, fmt.Sprint(seal)).Failure) })
	wg.Wait()
	if n.Load() == nil || next.Load() != nil {
		t.Fatalf("n is answered %v, n + 1 %v; want an error and none", n.Load(), next.Load())
	}
	if r, err := st.Last(t.Context(), "pipe.j"); err != nil || string(r.Data) != "n + 1" {
		t.Fatalf("the last record is %q, %v", r.Data, err)
	}
}

// testMissing pauses a server that keeps a stream: it is told to be missing, and no more
// when it is back.
func testMissing(t *testing.T, c *servers.NATS, nc *nats.Conn) {
	st := replicated(t, nc, "KEPT", "kept.>")
	last := stored(t, st, "kept.a", 0, "first")
	look := time.NewTicker(100 * time.Millisecond)
	defer look.Stop()
	until := func(what string, missing int, name string) {
		t.Helper()
		for end := time.Now().Add(time.Minute); ; <-look.C {
			info, err := st.Info(t.Context())
			if err == nil && info.Replicas == 3 && len(info.Missing) == missing && strings.HasPrefix(strings.Join(info.Missing, ""), name) {
				return
			}
			if time.Now().After(end) {
				t.Fatalf("%s: %+v, %v", what, info, err)
			}
		}
	}
	until("all are there", 0, "")
	_, others := leaderOf(t, c, nc, "KEPT")
	if err := others[0].Signal(syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	until("one is paused", 1, others[0].Server+" ")
	last = stored(t, st, "kept.a", last, "without it")
	if err := others[0].Signal(syscall.SIGCONT); err != nil {
		t.Fatal(err)
	}
	until("it is back", 0, "")
	stored(t, st, "kept.a", last, "with it")
}

// testFullMarks fills a stream and asks for its last record.
func testFullMarks(t *testing.T, nc *nats.Conn) {
	st, err := Open(t.Context(), nc, Config{Stream: "FULL", Subjects: []string{"full.>"}, MaxBytes: 1 << 20, Replicas: 3, Logger: quiet})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := st.Last(t.Context(), "full.a"); !errors.Is(err, ErrNoRecord) {
		t.Fatal(err)
	}
	last := uint64(0)
	for size := 1 << 16; size > 0; {
		seq, err := st.Append(t.Context(), Put{Subject: "full.a", Last: last, Data: make([]byte, size)})
		switch {
		case err == nil:
			last = seq
		case errors.Is(err, ErrFull):
			size /= 2
		default:
			t.Fatal(err)
		}
	}
	for range 3 {
		if r, err := st.Last(t.Context(), "full.a"); err != nil || r.Seq != last {
			t.Fatalf("the last record of a full stream is %d, %v; want %d", r.Seq, err, last)
		}
	}
}

// testLeaderWhoIsNone pauses the leader until another has stored records, and asks
// the old one as it wakes up: it takes itself for the leader, and often answers so.
// Last must not believe it.
func testLeaderWhoIsNone(t *testing.T, c *servers.NATS, nc *nats.Conn) {
	st := replicated(t, nc, "WHO", "who.>")
	first := stored(t, st, "who.a", 0, "first")
	leader, others := leaderOf(t, c, nc, "WHO")
	if err := leader.Signal(syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	away := replicated(t, dialTo(t, others[0].URL+","+others[1].URL), "WHO", "who.>")
	second := stored(t, away, "who.a", first, "second")
	const askers = 4
	var believed, old atomic.Int32
	var wg sync.WaitGroup
	for i := range 2 * askers {
		wg.Go(func() {
			nc, err := nats.Connect(leader.URL, nats.UserInfo(servers.NATSUser, servers.NATSPassword), nats.Timeout(30*time.Second))
			if err != nil {
				t.Error(err)
				return
			}
			defer nc.Close()
			s := *st
			s.nc = nc
			if i%2 == 0 {
				if r, err := s.fromLeader(t.Context(), getRequest{LastFor: "who.a"}); err == nil && r.Seq != second {
					old.Add(1)
				}
				return
			}
			r, err := s.Last(t.Context(), "who.a")
			if err == nil && r.Seq != second || errors.Is(err, ErrNoRecord) {
				t.Errorf("Last gives %d %q, %v; %d was acknowledged before", r.Seq, r.Data, err, second)
			}
			if err == nil {
				believed.Add(1)
			}
		})
	}
	t.Logf("letting %d in", 2*askers)
	<-time.After(200 * time.Millisecond) // until they wait to be let in
	if err := leader.Signal(syscall.SIGCONT); err != nil {
		t.Fatal(err)
	}
	wg.Wait()
	t.Logf("who was leader gave the old record %d times of %d, Last the new one %d times", old.Load(), askers, believed.Load())
}

// testFastWriter has one writer append as fast as it can: the server refuses some with
// 10164 though nobody else writes, and Append does not tell.
func testFastWriter(t *testing.T, nc *nats.Conn) {
	st := replicated(t, nc, "FAST", "fast.>")
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			last := uint64(0)
			for n := range 200 {
				seq, err := st.Append(t.Context(), Put{Subject: fmt.Sprintf("fast.%d", i), Last: last, Data: []byte("x")})
				if err != nil {
					t.Errorf("append %d behind its own: %v", n, err)
					return
				}
				last = seq
			}
		})
	}
	wg.Wait()
}
