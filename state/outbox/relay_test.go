package outbox_test

import (
	"context"
	dbsql "database/sql"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"crier/internal/bus/natsbus"
	"crier/job"
	"crier/state/events"
	"crier/state/events/eventstest"
	"crier/state/outbox"
	"crier/state/sql"
	"crier/state/sql/rows"
	"crier/state/sql/sqltest"
)

func TestMain(m *testing.M) { sqltest.Main(m) }

var quiet = slog.New(slog.DiscardHandler)

func fill(m *rows.Memory, n int) (ids []string) {
	for v := range n {
		e := eventstest.Event(1, -1, uint64(v+1))
		m.Add(e)
		ids = append(ids, e.ID())
	}
	return ids
}

func published(t *testing.T, l eventstest.Log) (ids []string) {
	t.Helper()
	all, err := eventstest.Read(t.Context(), l, events.Query{})
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range all {
		ids = append(ids, s.Event.ID())
	}
	return ids
}

func relay(t *testing.T, cfg outbox.Config) *outbox.Relay {
	t.Helper()
	cfg.Logger = quiet
	r, err := outbox.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// running runs relays until stop.
func running(ctx context.Context, relays ...*outbox.Relay) (stop func()) {
	ctx, cancel := context.WithCancel(ctx)
	var wg sync.WaitGroup
	for _, r := range relays {
		wg.Go(func() { _ = r.Run(ctx) }) // nil, by its promise
	}
	return func() { cancel(); wg.Wait() }
}

// log counts what is published, and lets tests come in between.
type log struct {
	eventstest.Log
	before, after func(job.Event) error
	calls         atomic.Int64
}

func (l *log) Publish(ctx context.Context, e job.Event) error {
	l.calls.Add(1)
	if l.before != nil {
		if err := l.before(e); err != nil {
			return err
		}
	}
	err := l.Log.Publish(ctx, e)
	if err == nil && l.after != nil {
		err = l.after(e)
	}
	return err
}

// TestOrderAndSweep carries several batches in their order, and deletes them when they
// are old, and no earlier.
func TestOrderAndSweep(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m, l := rows.NewMemory(time.Now), events.NewMemory(time.Now)
		want := fill(m, 1300)
		stop := running(t.Context(), relay(t, outbox.Config{Rows: m, Publisher: l, Owner: "a", Keep: time.Hour}))
		defer stop()
		time.Sleep(59 * time.Minute)
		if got := published(t, l); !slices.Equal(got, want) {
			t.Errorf("%d events, want %d in order", len(got), len(want))
		}
		if n, err := m.Sweep(t.Context(), -time.Minute, 1); n != 1 || err != nil {
			t.Errorf("the rows are gone before their time: %d, %v", n, err)
		}
		time.Sleep(3 * time.Minute)
		if n, err := m.Sweep(t.Context(), -time.Minute, 1000); n != 0 || err != nil {
			t.Errorf("%d old rows are left, %v", n, err)
		}
	})
}

// TestWake holds that a relay that nobody tells looks once a second at the latest, and
// one that is told looks at once.
func TestWake(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m, l := rows.NewMemory(time.Now), events.NewMemory(time.Now)
		r := relay(t, outbox.Config{Rows: m, Publisher: l, Owner: "a"})
		stop := running(t.Context(), r)
		defer stop()
		time.Sleep(time.Minute + 100*time.Millisecond) // it has become slow
		fill(m, 1)
		time.Sleep(time.Second)
		if n := len(published(t, l)); n != 1 {
			t.Errorf("%d events after a second", n)
		}
		time.Sleep(time.Minute)
		m.Add(eventstest.Event(2, -1, 1))
		r.Notify()
		r.Notify()
		synctest.Wait()
		if n := len(published(t, l)); n != 2 {
			t.Errorf("%d events at once after it was told", n)
		}
	})
}

// TestStreamGone carries on when the stream comes back, in order and each once, and
// does not spin meanwhile however often it is told.
func TestStreamGone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m, l := rows.NewMemory(time.Now), events.NewMemory(time.Now)
		counted := &log{Log: l}
		l.Fail(errors.New("no stream"))
		want := fill(m, 600)
		r := relay(t, outbox.Config{Rows: m, Publisher: counted, Owner: "a"})
		stop := running(t.Context(), r)
		defer stop()
		for range 300 {
			r.Notify()
			time.Sleep(100 * time.Millisecond)
		}
		if n := counted.calls.Load(); n < 25 || n > 35 {
			t.Errorf("it tried %d times in 30 s", n)
		}
		l.Fail(nil)
		time.Sleep(2 * time.Second)
		if got := published(t, l); !slices.Equal(got, want) {
			t.Errorf("%d events, want %d in order", len(got), len(want))
		}
	})
}

// TestKilledBetweenPublishAndMark ends a relay after it has published and before it has
// marked: the next one publishes the same IDs, and the stream has each once.
func TestKilledBetweenPublishAndMark(t *testing.T) {
	for name, next := range map[string]struct {
		owner string
		after time.Duration // at which all must be carried
	}{"the same name": {"a", 100 * time.Millisecond}, "another name": {"b", 11 * time.Second}} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				m, l := rows.NewMemory(time.Now), events.NewMemory(time.Now)
				want := fill(m, 300)
				ctx, kill := context.WithCancel(t.Context())
				dies := &marking{Rows: m, mark: func() error { kill(); return context.Canceled }}
				running(ctx, relay(t, outbox.Config{Rows: dies, Publisher: l, Owner: "a"}))
				synctest.Wait()
				if got := published(t, l); len(got) != 256 || ctx.Err() == nil {
					t.Fatalf("%d events before the kill", len(got))
				}
				counted := &log{Log: l}
				stop := running(t.Context(), relay(t, outbox.Config{Rows: m, Publisher: counted, Owner: next.owner}))
				defer stop()
				time.Sleep(next.after)
				got := published(t, l)
				slices.Sort(got)
				slices.Sort(want)
				if !slices.Equal(got, want) || counted.calls.Load() != 300 {
					t.Errorf("%d events of %d after %d publishings", len(got), len(want), counted.calls.Load())
				}
			})
		})
	}
}

// marking has marks fail.
type marking struct {
	outbox.Rows
	mark func() error
}

func (m *marking) Mark(ctx context.Context, ids []uint64) error {
	if err := m.mark(); err != nil {
		return err
	}
	return m.Rows.Mark(ctx, ids)
}

// TestSlowStream takes longer for a batch than the lease: what is published is marked
// in time, so that nobody else publishes it again.
func TestSlowStream(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m, l := rows.NewMemory(time.Now), events.NewMemory(time.Now)
		fill(m, 200)
		slow := &log{Log: l, before: func(job.Event) error { time.Sleep(100 * time.Millisecond); return nil }}
		stop := running(t.Context(), relay(t, outbox.Config{Rows: m, Publisher: slow, Owner: "a"}), relay(t, outbox.Config{Rows: m, Publisher: slow, Owner: "b"}))
		defer stop()
		time.Sleep(time.Minute)
		if n := slow.calls.Load(); n != 200 || len(published(t, l)) != 200 {
			t.Errorf("%d publishings and %d events of 200 rows", n, len(published(t, l)))
		}
	})
}

// TestNoEvent passes over what the stream refuses for ever.
func TestNoEvent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m, l := rows.NewMemory(time.Now), events.NewMemory(time.Now)
		m.Add(job.Event{State: "sent"})
		want := fill(m, 1)
		stop := running(t.Context(), relay(t, outbox.Config{Rows: m, Publisher: l, Owner: "a"}))
		defer stop()
		time.Sleep(time.Second)
		if got := published(t, l); !slices.Equal(got, want) {
			t.Errorf("published %q, want %q", got, want)
		}
	})
}

func TestConfig(t *testing.T) {
	m, l := rows.NewMemory(time.Now), events.NewMemory(time.Now)
	for name, cfg := range map[string]outbox.Config{"rows": {Publisher: l, Owner: "a"}, "publisher": {Rows: m, Owner: "a"},
		"owner": {Rows: m, Publisher: l}, "lease": {Rows: m, Publisher: l, Owner: "a", Lease: -1}} {
		if _, err := outbox.New(cfg); err == nil {
			t.Errorf("a configuration without a good %s is taken", name)
		}
	}
}

// real is the outbox of a database and the stream on NATS.
func real(t *testing.T, cfg sql.Config) (*sql.DB, *events.Stream) {
	t.Helper()
	db, err := sql.Open(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { db.Close() })
	s, err := natsbus.Start(natsbus.Config{Dir: t.TempDir(), Logger: quiet})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Shutdown)
	nc, err := s.Connect("events")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(nc.Close)
	st, err := events.Open(t.Context(), nc, events.Config{MaxBytes: 8 << 20, Logger: quiet})
	if err != nil {
		t.Fatal(err)
	}
	return db, st
}

// await reads the stream until it has n events.
func await(t *testing.T, st *events.Stream, n int) []string {
	t.Helper()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for limit := time.Now().Add(30 * time.Second); ; <-tick.C {
		got := published(t, st)
		if len(got) >= n {
			return got
		}
		if time.Now().After(limit) {
			t.Fatalf("%d events after 30 s, want %d", len(got), n)
		}
	}
}

func spec(i int) job.Spec {
	at := time.Date(2026, 3, 4, 5, 6, 7, 0, time.UTC)
	return job.Spec{ID: job.NewID(at, [10]byte{byte(i), byte(i >> 8)}), Account: 7, SubmittedAt: at, ExpiresAt: at.Add(time.Hour)}
}

func project(t *testing.T, db *sql.DB, i int, version uint64) string {
	t.Helper()
	sp := spec(i)
	tr := job.Transition{Job: sp.ID, Version: version, State: job.Sending, At: sp.SubmittedAt.Format(time.RFC3339Nano), Spec: sp}
	if err := db.Jobs.Project(t.Context(), sql.Projection{Recorder: "r", Transitions: []job.Transition{tr}}); err != nil {
		t.Fatal(err)
	}
	return job.Event{Job: sp.ID, Version: version}.ID()
}

// TestTwoRelaysWhileProjecting runs two relays on a real database and a real stream
// while jobs are projected, and ends and replaces one of them again and again.
func TestTwoRelaysWhileProjecting(t *testing.T) {
	for name, open := range map[string]func(t *testing.T) sql.Config{
		"SQLite":  func(t *testing.T) sql.Config { return sql.Config{Path: filepath.Join(t.TempDir(), "crier.db")} },
		"MariaDB": func(t *testing.T) sql.Config { return sql.Config{DSN: sqltest.MariaDB(t)} },
	} {
		t.Run(name, func(t *testing.T) {
			const jobs, versions = 40, 5
			db, st := real(t, open(t))
			counted := &log{Log: st}
			stopFirst := running(t.Context(), relay(t, outbox.Config{Rows: db.Outbox, Publisher: counted, Owner: "first", Batch: 16}))
			defer stopFirst()
			var want []string
			for v := uint64(1); v <= versions; v++ {
				second := relay(t, outbox.Config{Rows: db.Outbox, Publisher: counted, Owner: "second", Batch: 16, Lease: time.Second})
				stop := running(t.Context(), second)
				for i := range jobs {
					want = append(want, project(t, db, i, v))
					second.Notify()
				}
				stop() // wherever it is
			}
			got := await(t, st, len(want))
			slices.Sort(got)
			slices.Sort(want)
			if !slices.Equal(got, want) {
				t.Errorf("%d events, want %d", len(got), len(want))
			}
			if n := counted.calls.Load(); n > int64(len(want)+versions*16) {
				t.Errorf("%d publishings of %d events: the relays do the same work", n, len(want))
			}
		})
	}
}

// TestLowerIDCommittedLater has a transaction take its row's id early and commit late:
// its event comes all the same.
func TestLowerIDCommittedLater(t *testing.T) {
	dsn := sqltest.MariaDB(t)
	db, st := real(t, sql.Config{DSN: dsn})
	direct, err := dbsql.Open("mysql", dsn)
	if err != nil {
		t.Fatal(err)
	}
	defer direct.Close()
	insert := func(q interface {
		Exec(string, ...any) (dbsql.Result, error)
	}, i int) string {
		id := spec(i).ID
		_, err := q.Exec(`INSERT INTO jobs (id, version, account, state, ended, reason, spec, submitted_at, state_at, counts, counts_as_of)
			VALUES (?, 1, 7, 'sending', 0, '', '{}', 1, 1, '{}', 0)`, id.String())
		if err != nil {
			t.Fatal(err)
		}
		return job.Event{Job: id, Version: 1}.ID()
	}
	late, err := direct.Begin()
	if err != nil {
		t.Fatal(err)
	}
	first := insert(late, 1)
	second := insert(direct, 2)
	stop := running(t.Context(), relay(t, outbox.Config{Rows: db.Outbox, Publisher: st, Owner: "a"}))
	defer stop()
	if got := await(t, st, 1); !slices.Equal(got, []string{second}) {
		t.Fatalf("before the late commit: %q, want %q", got, second)
	}
	if err := late.Commit(); err != nil {
		t.Fatal(err)
	}
	if got := await(t, st, 2); !slices.Equal(got, []string{second, first}) {
		t.Errorf("after the late commit: %q, want %q, %q", got, second, first)
	}
	var ids string
	if err := direct.QueryRow(`SELECT GROUP_CONCAT(job ORDER BY id) FROM outbox`).Scan(&ids); err != nil || ids != fmt.Sprint(spec(1).ID, ",", spec(2).ID) {
		t.Errorf("the late one has the higher id: %s, %v", ids, err)
	}
}
