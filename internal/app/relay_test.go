package app_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"crier/api"
	"crier/internal/pause"
	"crier/internal/servers"
	"crier/job"
)

// mariaDB starts a database server for one test.
func mariaDB(t *testing.T) *servers.Database {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	db, err := servers.MariaDB(ctx, servers.MariaDBConfig{Dir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { db.Stop() })
	return db
}

// told collects the events that a client is told, until stop.
type told struct {
	sync.Mutex
	versions map[job.ID][]uint64
	last     map[job.ID]string // state of the highest version
	sets     []string          // ids of the events about sets
	controls []string          // what was done with jobs
	cursor   uint64
	stop     func() error
}

// tail follows the events by the API, also while the server is away.
func (x *trial) tail(ctx context.Context) *told {
	w := &told{versions: map[job.ID][]uint64{}, last: map[job.ID]string{}}
	ctx, cancel := context.WithCancel(ctx)
	ended := make(chan error, 1)
	svc := x.svc
	go func() {
		ended <- svc.TailEvents(ctx, api.TailEvents{Follow: true}, func(e api.Event) error {
			w.Lock()
			defer w.Unlock()
			if e.Cursor <= w.cursor {
				return fmt.Errorf("cursor %d after %d", e.Cursor, w.cursor)
			}
			w.cursor = e.Cursor
			switch e.Kind() {
			case job.EventOfControl:
				w.controls = append(w.controls, e.State)
				return nil
			case job.EventOfSlice:
				return nil // the latest status counts, and some may be left out
			case job.EventOfSet:
				w.sets = append(w.sets, fmt.Sprintf("%s %s %s", e.ID(), e.Set.Name, e.State))
				return nil
			}
			w.versions[e.Job] = append(w.versions[e.Job], e.Version)
			w.last[e.Job] = e.State
			return nil
		})
	}()
	w.stop = func() error {
		cancel()
		if err := <-ended; !errors.Is(err, context.Canceled) {
			return err
		}
		return nil
	}
	return w
}

// wantTold waits until a job's events have come up to the version that it has, and
// holds that each came once and in order.
func (x *trial) wantTold(ctx context.Context, w *told, id job.ID) {
	x.t.Helper()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		j, err := x.svc.GetJob(ctx, id)
		x.must(err)
		w.Lock()
		got, last := append([]uint64{}, w.versions[id]...), w.last[id]
		w.Unlock()
		for i, v := range got {
			if v != uint64(i+1) {
				x.t.Fatalf("the events of %s have versions %v", id, got)
			}
		}
		if uint64(len(got)) == j.Version && last == j.State.String() {
			return
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			x.t.Fatalf("%s is %s at version %d; its events are at %v, %s", id, j.State, j.Version, got, last)
		}
	}
}

// TestEvents submits jobs, kills the server after one and starts it again: whoever
// follows is told each version of each job once.
func TestEvents(t *testing.T) {
	t.Parallel()
	for name, args := range map[string]func(t *testing.T) []string{
		"SQLite":  func(*testing.T) []string { return nil },
		"MariaDB": func(t *testing.T) []string { return []string{"--sql-dsn", mariaDB(t).DSN} },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
			defer cancel()
			x := &trial{t: t, cfg: newTrialConfig(t, args(t)...)}
			x.restart(ctx)
			x.cli(nil, "account", "create", "told")
			_, err := x.svc.AddFollowers(ctx, "told", []job.Recipient{1, 2, 3 << 20})
			x.must(err)
			w := x.tail(ctx)
			submit := func() job.ID {
				j, err := x.svc.SubmitJob(ctx, api.SubmitJob{Account: "told", Audience: api.AudienceFollowers, Body: "x"})
				x.must(err)
				return j.Job
			}
			var all []job.ID
			for range 3 {
				all = append(all, submit())
			}
			x.wantTold(ctx, w, all[0])
			all = append(all, submit())
			x.srv.Kill() // anywhere between the ledger, SQL and the stream
			x.cfg.Listen = mustHost(t, x.srv.API)
			x.restart(ctx)
			all = append(all, submit())
			for _, id := range all {
				_, err := x.svc.WaitJob(ctx, id, api.WaitJob{For: job.Sent})
				x.must(err)
				x.wantTold(ctx, w, id)
			}
			_, err = x.svc.PauseJob(ctx, all[0]) // its state stays, but it is told
			x.must(err)
			_, err = x.svc.SetRate(ctx, all[0], 5)
			x.must(err)
			_, err = x.svc.ResumeJob(ctx, all[0])
			x.must(err)
			told := func() string {
				w.Lock()
				defer w.Unlock()
				return strings.Join(w.controls, " ")
			}
			for told() != "pause rate resume" && pause.For(ctx, 20*time.Millisecond) {
			}
			if got := told(); got != "pause rate resume" {
				t.Errorf("of controls %q is told", got)
			}
			x.must(w.stop())
			if want := []string{"followers.1/1 told added"}; !slices.Equal(w.sets, want) {
				t.Errorf("of sets %q is told, want %q", w.sets, want)
			}
		})
	}
}

// TestDatabaseDown kills the database while a job is sent: sending goes on, and when
// the database is back it catches up.
func TestDatabaseDown(t *testing.T) {
	t.Parallel()
	const recipients = 20
	ctx, cancel := context.WithTimeout(context.Background(), 90*time.Second)
	defer cancel()
	db := mariaDB(t)
	x := &trial{t: t, cfg: newTrialConfig(t, "--sql-dsn", db.DSN)}
	x.restart(ctx)
	x.cli(nil, "account", "create", "steady")
	var who []job.Recipient
	for i := range job.Recipient(recipients) {
		who = append(who, i)
	}
	_, err := x.svc.AddFollowers(ctx, "steady", who)
	x.must(err)
	var got atomic.Int64
	var listeners sync.WaitGroup
	for _, r := range who {
		token, err := x.svc.MintToken(ctx, api.MintToken{Recipient: &r})
		x.must(err)
		listeners.Go(func() {
			if bodies := x.listen(ctx, token.Token, 1); len(bodies) == 1 && bodies[0] == "steady" {
				got.Add(1)
			}
		})
	}
	await := func(what string, is func() bool) {
		tick := time.NewTicker(20 * time.Millisecond)
		defer tick.Stop()
		for !is() {
			select {
			case <-tick.C:
			case <-ctx.Done():
				t.Fatalf("waiting until %s; %d have the message", what, got.Load())
			}
		}
	}
	await("all are online", func() bool { st, err := x.svc.Status(ctx); x.must(err); return st.Online == recipients })
	w := x.tail(ctx)
	j, err := x.svc.SubmitJob(ctx, api.SubmitJob{Account: "steady", Audience: api.AudienceFollowers, Body: "steady", Rate: 4})
	x.must(err)
	await("some have the message", func() bool { return got.Load() > 1 })
	db.Kill()
	if n := got.Load(); n > recipients*3/4 {
		t.Fatalf("void: %d of %d had the message when the database was killed", n, recipients)
	}
	if _, err := x.svc.GetAccount(ctx, "steady"); job.CodeOf(err) != job.CodeUnavailable {
		t.Errorf("asking for an account without a database: %v", err)
	}
	listeners.Wait()
	if got.Load() != recipients {
		t.Errorf("%d of %d got the message while the database was down", got.Load(), recipients)
	}
	x.must(db.Start(ctx))
	back := time.Now()
	await("the database answers", func() bool { _, err := x.svc.GetAccount(ctx, "steady"); return err == nil })
	_, err = x.svc.WaitJob(ctx, j.Job, api.WaitJob{For: job.Sent})
	x.must(err)
	x.wantTold(ctx, w, j.Job)
	if took := time.Since(back); took > 60*time.Second {
		t.Errorf("it took %s to catch up", took)
	}
	x.must(w.stop())
}
