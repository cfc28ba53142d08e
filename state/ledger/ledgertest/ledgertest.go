// Package ledgertest holds every ledger.Log to what its comments promise.
package ledgertest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"crier/internal/pause"
	"crier/state/ledger"
)

// patience bounds a wait for something that must happen.
const patience = 20 * time.Second

// again is the pause before a log is asked again.
const again = 5 * time.Millisecond

// Open makes an empty log of at most limit bytes that stores the subjects led.>.
// It registers its tear-down with t. It is called from parallel tests.
type Open func(t *testing.T, limit uint64) ledger.Log

// Run runs the suite.
func Run(t *testing.T, open Open) {
	for _, c := range []struct {
		name  string
		limit uint64
		run   func(t *testing.T, l ledger.Log)
	}{
		{"an append is conditional on its subject's last record", roomy, testConditional},
		{"one of many racing appends wins", roomy, testRacing},
		{"a record comes back as it went in", roomy, testRecords},
		{"there is no record where there is none", roomy, testNoRecord},
		{"caller and log own their bytes", roomy, testOwnership},
		{"an ended context ends a call", roomy, testContext},
		{"a full log refuses, and takes again after a purge", 1 << 20, testFull},
		{"usage tells the extent", roomy, testUsage},
		{"subjects are listed with their number of records", roomy, testSubjects},
		{"a purge never takes the last record", roomy, testPurge},
		{"a purge beside appends takes nothing new", roomy, testPurgeRacing},
		{"a follower gets what matches, in order, from where it starts", roomy, testReadAll},
		{"a follower gets what is appended while it follows", roomy, testFollowLive},
		{"a follower ends with its function's error", roomy, testFollowError},
		{"a follower ends with its context", roomy, testFollowContext},
		{"a follower may start beyond the end", roomy, testFollowAhead},
		{"caught up means that all stored before has been seen", roomy, testCaughtUp},
		{"caught up is said again and again", roomy, testCaughtUpAgain},
		{"the log does what a list does", roomy, testModel},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			c.run(t, open(t, c.limit))
		})
	}
}

const roomy = 256 << 20

func appendTo(t *testing.T, l ledger.Log, subject string, last uint64, data []byte) uint64 {
	t.Helper()
	seq, err := l.Append(t.Context(), subject, last, data)
	if err != nil {
		t.Fatalf("Append to %s after %d: %v", subject, last, err)
	}
	return seq
}

// fill appends n records to subjects in turn and returns all of them in order.
func fill(t *testing.T, l ledger.Log, n int, subjects ...string) []ledger.Stored {
	t.Helper()
	last := make(map[string]uint64)
	var all []ledger.Stored
	for i := range n {
		s := subjects[i%len(subjects)]
		data := fmt.Appendf(nil, "record %d of %s", i, s)
		last[s] = appendTo(t, l, s, last[s], data)
		all = append(all, ledger.Stored{Seq: last[s], Subject: s, Data: data})
	}
	return all
}

func readAll(t *testing.T, l ledger.Log, from uint64, filter string) []ledger.Stored {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	var got []ledger.Stored
	err := ledger.ReadAll(ctx, l, from, filter, func(r ledger.Stored) error {
		got = append(got, r)
		return nil
	})
	if err != nil {
		t.Fatalf("ReadAll(%d, %s): %v", from, filter, err)
	}
	return got
}

// readsLeft reads until nothing comes of what was purged: of several replicas one that is
// behind may still give that. What is left comes at once, in order, and nothing else does.
func readsLeft(t *testing.T, l ledger.Log, from uint64, filter string, left []ledger.Stored, purged map[uint64]bool) {
	t.Helper()
	for end := time.Now().Add(patience); ; {
		got := readAll(t, l, from, filter)
		n := len(got)
		got = slices.DeleteFunc(got, func(r ledger.Stored) bool { return purged[r.Seq] })
		sameRecords(t, got, left)
		if len(got) == n {
			return
		}
		if time.Now().After(end) || !pause.For(t.Context(), again) {
			t.Fatalf("%d records that are purged are still read", n-len(got))
		}
	}
}

func sameRecords(t *testing.T, got, want []ledger.Stored) {
	t.Helper()
	for i := range min(len(got), len(want)) {
		sameRecord(t, got[i], want[i])
	}
	if len(got) != len(want) {
		t.Fatalf("got %d records, want %d", len(got), len(want))
	}
}

func sameRecord(t *testing.T, got, want ledger.Stored) {
	t.Helper()
	if got.Seq != want.Seq || got.Subject != want.Subject || !bytes.Equal(got.Data, want.Data) {
		t.Fatalf("got record %d of %s (%d bytes), want %d of %s (%d bytes)",
			got.Seq, got.Subject, len(got.Data), want.Seq, want.Subject, len(want.Data))
	}
}

func testConditional(t *testing.T, l ledger.Log) {
	a1 := appendTo(t, l, "led.a", 0, []byte("a1"))
	b1 := appendTo(t, l, "led.b", 0, []byte("b1"))
	a2 := appendTo(t, l, "led.a", a1, []byte("a2"))
	if a1 == 0 || b1 <= a1 || a2 <= b1 {
		t.Fatalf("sequences are %d, %d, %d: they do not grow", a1, b1, a2)
	}
	for _, wrong := range []uint64{0, a1, b1, a2 + 1} {
		if _, err := l.Append(t.Context(), "led.a", wrong, []byte("x")); !errors.Is(err, ledger.ErrConflict) {
			t.Fatalf("Append after %d: %v, want ErrConflict", wrong, err)
		}
	}
	if _, err := l.Append(t.Context(), "led.c", a2, []byte("x")); !errors.Is(err, ledger.ErrConflict) {
		t.Fatalf("Append to a new subject after %d: %v, want ErrConflict", a2, err)
	}
	a3 := appendTo(t, l, "led.a", a2, []byte("a3"))
	got := readAll(t, l, 1, "led.>")
	sameRecords(t, got, []ledger.Stored{{Seq: a1, Subject: "led.a", Data: []byte("a1")}, {Seq: b1, Subject: "led.b", Data: []byte("b1")},
		{Seq: a2, Subject: "led.a", Data: []byte("a2")}, {Seq: a3, Subject: "led.a", Data: []byte("a3")}})
}

func testRacing(t *testing.T, l ledger.Log) {
	const racers, rounds = 8, 20
	last := uint64(0)
	for range rounds {
		type result struct {
			seq uint64
			err error
		}
		results := make(chan result, racers)
		expected := last
		for i := range racers {
			go func() {
				seq, err := l.Append(t.Context(), "led.claim", expected, []byte{byte(i)})
				results <- result{seq, err}
			}()
		}
		won := 0
		for range racers {
			r := <-results
			switch {
			case r.err == nil:
				won++
				last = r.seq
			case !errors.Is(r.err, ledger.ErrConflict):
				t.Fatalf("a racing append: %v", r.err)
			}
		}
		if won != 1 {
			t.Fatalf("%d of %d racing appends were stored", won, racers)
		}
	}
	if got := readAll(t, l, 1, "led.>"); len(got) != rounds {
		t.Fatalf("%d records are stored, want %d", len(got), rounds)
	}
}

func testRecords(t *testing.T, l ledger.Log) {
	before := time.Now().Add(-time.Minute)
	large := bytes.Repeat([]byte("0123456789abcdef"), (1<<20+64<<10)/16)
	var last uint64
	previous := before
	for _, data := range [][]byte{[]byte("small"), {}, {0, 255, '\r', '\n', 0}, large} {
		last = appendTo(t, l, "led.j.w_1-a.7", last, data)
		want := ledger.Stored{Seq: last, Subject: "led.j.w_1-a.7", Data: data}
		byLast, err := l.Last(t.Context(), "led.j.w_1-a.7")
		if err != nil {
			t.Fatal(err)
		}
		bySeq, err := l.Get(t.Context(), last)
		if err != nil {
			t.Fatal(err)
		}
		all := readAll(t, l, last, "led.j.w_1-a.7")
		if len(all) != 1 {
			t.Fatalf("%d records from %d on, want 1", len(all), last)
		}
		for _, got := range []ledger.Stored{byLast, bySeq, all[0]} {
			sameRecord(t, got, want)
			if got.Time.Before(previous) || got.Time.After(time.Now().Add(time.Minute)) || !got.Time.Equal(byLast.Time) {
				t.Fatalf("record %d is dated %s, elsewhere %s, the one before %s", last, got.Time, byLast.Time, previous)
			}
		}
		previous = byLast.Time
	}
}

func testNoRecord(t *testing.T, l ledger.Log) {
	if got := readAll(t, l, 1, "led.>"); len(got) != 0 {
		t.Fatalf("an empty log has %d records", len(got))
	}
	a := appendTo(t, l, "led.a", 0, []byte("a"))
	for _, seq := range []uint64{0, a + 1, 1 << 40} {
		if _, err := l.Get(t.Context(), seq); !errors.Is(err, ledger.ErrNoRecord) {
			t.Errorf("Get(%d): %v, want ErrNoRecord", seq, err)
		}
	}
	for _, s := range []string{"led.b", "led.a.b", "led"} {
		if _, err := l.Last(t.Context(), s); !errors.Is(err, ledger.ErrNoRecord) {
			t.Errorf("Last(%s): %v, want ErrNoRecord", s, err)
		}
	}
}

func testOwnership(t *testing.T, l ledger.Log) {
	data := []byte("mine")
	seq := appendTo(t, l, "led.a", 0, data)
	copy(data, "xxxx")
	for range 2 {
		got, err := l.Get(t.Context(), seq)
		if err != nil {
			t.Fatal(err)
		}
		last, err := l.Last(t.Context(), "led.a")
		if err != nil {
			t.Fatal(err)
		}
		followed := readAll(t, l, 1, "led.a")
		for _, r := range append(followed, got, last) {
			if string(r.Data) != "mine" {
				t.Fatalf("the record is %q: someone else's writing shows", r.Data)
			}
			copy(r.Data, "yyyy")
		}
	}
}

func testContext(t *testing.T, l ledger.Log) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := l.Append(ctx, "led.a", 0, nil); !errors.Is(err, context.Canceled) {
		t.Errorf("Append: %v, want Canceled", err)
	}
	if _, err := l.Last(ctx, "led.a"); !errors.Is(err, context.Canceled) {
		t.Errorf("Last: %v, want Canceled", err)
	}
	if _, err := l.Get(ctx, 1); !errors.Is(err, context.Canceled) {
		t.Errorf("Get: %v, want Canceled", err)
	}
	if _, err := l.Subjects(ctx, "led.>"); !errors.Is(err, context.Canceled) {
		t.Errorf("Subjects: %v, want Canceled", err)
	}
	if err := l.Purge(ctx, "led.a", 1); !errors.Is(err, context.Canceled) {
		t.Errorf("Purge: %v, want Canceled", err)
	}
	if _, err := l.Usage(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("Usage: %v, want Canceled", err)
	}
}

func testFull(t *testing.T, l ledger.Log) {
	data := make([]byte, 50_000)
	var last uint64
	n := 0
	for ; n < 100; n++ {
		seq, err := l.Append(t.Context(), "led.a", last, data)
		if errors.Is(err, ledger.ErrFull) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		last = seq
	}
	if n < 15 || n > 21 {
		t.Fatalf("a log of 1 MiB took %d records of 50,000 bytes", n)
	}
	u, err := l.Usage(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if u.Bytes > u.Limit || u.Limit != 1<<20 || u.Last != last {
		t.Fatalf("a full log says %+v; its last record is %d", u, last)
	}
	if err := l.Purge(t.Context(), "led.a", last-2); err != nil {
		t.Fatal(err)
	}
	if seq := appendTo(t, l, "led.a", last, data); seq != last+1 {
		t.Fatalf("the sequence after a refused append is %d, want %d", seq, last+1)
	}
}

func testUsage(t *testing.T, l ledger.Log) {
	usage := func() ledger.Usage {
		t.Helper()
		u, err := l.Usage(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		return u
	}
	if u := usage(); u.Last != 0 || u.Bytes != 0 || u.Limit != roomy {
		t.Fatalf("an empty log says %+v", u)
	}
	recs := fill(t, l, 10, "led.a", "led.b")
	full := usage()
	if full.First != 1 || full.Last != 10 || full.Bytes < 10*uint64(len(recs[0].Data)) || full.Bytes > 10_000 {
		t.Fatalf("after 10 records the log says %+v", full)
	}
	for _, s := range []string{"led.a", "led.b"} {
		if err := l.Purge(t.Context(), s, 1000); err != nil {
			t.Fatal(err)
		}
	}
	if u := usage(); u.First != 9 || u.Last != 10 || u.Bytes >= full.Bytes {
		t.Fatalf("after a purge of 8 of 10 the log says %+v", u)
	}
}

func testSubjects(t *testing.T, l ledger.Log) {
	fill(t, l, 7, "led.j.w.1", "led.j.w.2", "led.job.x")
	for filter, want := range map[string]map[string]uint64{
		"led.>":     {"led.j.w.1": 3, "led.j.w.2": 2, "led.job.x": 2},
		"led.j.>":   {"led.j.w.1": 3, "led.j.w.2": 2},
		"led.*.x":   {"led.job.x": 2},
		"led.j.w.1": {"led.j.w.1": 3},
		"led.none":  {},
	} {
		got, err := l.Subjects(t.Context(), filter)
		if err != nil {
			t.Fatal(err)
		}
		if fmt.Sprint(got) != fmt.Sprint(want) {
			t.Errorf("Subjects(%s) = %v, want %v", filter, got, want)
		}
	}
}
