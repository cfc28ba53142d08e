package sql_test

import (
	"context"
	dbsql "database/sql"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/go-sql-driver/mysql"

	"crier/internal/servers"
	"crier/job"
	"crier/state/outbox"
	"crier/state/sql"
	"crier/state/sql/sqltest"
)

// raw is a pool of connections to the database, without anything of ours.
func raw(t testing.TB, dsn string) *dbsql.DB {
	t.Helper()
	pool, err := dbsql.Open("mysql", dsn)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { pool.Close() })
	return pool
}

func do(t testing.TB, pool *dbsql.DB, query string, args ...any) {
	t.Helper()
	if _, err := pool.Exec(query, args...); err != nil {
		t.Fatalf("%s: %v", query, err)
	}
}

// TestDSNThatDoesNotWork holds that whoever starts the server with a wrong setting
// learns within 10 s which one it is, and that the password is shown nowhere.
func TestDSNThatDoesNotWork(t *testing.T) {
	good, err := mysql.ParseDSN(sqltest.MariaDB(t))
	if err != nil {
		t.Fatal(err)
	}
	silent, err := net.Listen("tcp", "127.0.0.1:0") // takes connections and says nothing
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	closed, err := servers.Ports(1)
	if err != nil {
		t.Fatal(err)
	}
	with := func(change func(*mysql.Config)) string {
		c := good.Clone()
		c.Passwd = "pa/ss:w@rd(secret"
		change(c)
		return c.FormatDSN()
	}
	right := func(c *mysql.Config) { c.Passwd = good.Passwd }
	for name, c := range map[string]struct {
		cfg   sql.Config
		code  job.Code
		wants string
	}{
		"wrong password":    {sql.Config{DSN: with(func(*mysql.Config) {})}, job.CodeInvalid, "password"},
		"unknown user":      {sql.Config{DSN: with(func(c *mysql.Config) { c.User = "nobody" })}, job.CodeInvalid, "nobody"},
		"unknown database":  {sql.Config{DSN: with(func(c *mysql.Config) { right(c); c.DBName = "nowhere" })}, job.CodeInvalid, "nowhere"},
		"nobody listens":    {sql.Config{DSN: with(func(c *mysql.Config) { c.Addr = fmt.Sprint("127.0.0.1:", closed[0]) })}, job.CodeUnavailable, "127.0.0.1:"},
		"nobody answers":    {sql.Config{DSN: with(func(c *mysql.Config) { c.Addr = silent.Addr().String() })}, job.CodeUnavailable, silent.Addr().String()},
		"no such host":      {sql.Config{DSN: with(func(c *mysql.Config) { c.Addr = "host.invalid:3306" })}, job.CodeUnavailable, "host.invalid"},
		"no database":       {sql.Config{DSN: with(func(c *mysql.Config) { c.DBName = "" })}, job.CodeInvalid, "database"},
		"no DSN":            {sql.Config{DSN: "secret"}, job.CodeInvalid, "form"},
		"no known network":  {sql.Config{DSN: "u:pa@secret(h)/d"}, job.CodeInvalid, "form"},
		"a bad option":      {sql.Config{DSN: "u:secret@tcp(127.0.0.1:1)/d?tls=secret"}, job.CodeInvalid, ""},
		"a file as well":    {sql.Config{DSN: good.FormatDSN(), Path: "x.db"}, job.CodeInvalid, "not both"},
		"a silly long wait": {sql.Config{DSN: good.FormatDSN(), Wait: -1}, job.CodeInvalid, "wait"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			began := time.Now()
			db, err := sql.Open(t.Context(), c.cfg)
			if err == nil {
				db.Close()
				t.Fatal("it was opened")
			}
			if took := time.Since(began); took > 10*time.Second {
				t.Errorf("it took %s", took)
			}
			wantCode := job.CodeOf(err)
			text := err.Error()
			if wantCode != c.code || !strings.Contains(text, c.wants) || c.cfg.Wait == 0 && !strings.Contains(text, "sql.dsn") {
				t.Errorf("code %s: %s; want code %s and %q", wantCode, text, c.code, c.wants)
			}
			if strings.Contains(text, "secret") || strings.Contains(text, good.Passwd) {
				t.Errorf("it shows the password: %s", text)
			}
		})
	}
}

// both runs a test on a new SQLite file and on a new MariaDB database.
func both(t *testing.T, test func(t *testing.T, cfg sql.Config, direct *dbsql.DB)) {
	t.Run("SQLite", func(t *testing.T) {
		path := filepath.Join(t.TempDir(), "crier.db")
		direct, err := dbsql.Open("sqlite", path)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { direct.Close() })
		test(t, sql.Config{Path: path}, direct)
	})
	t.Run("MariaDB", func(t *testing.T) {
		dsn := sqltest.MariaDB(t)
		test(t, sql.Config{DSN: dsn}, raw(t, dsn))
	})
}

// TestOpenedAtOnce opens a new database from several sides: its tables are made once.
func TestOpenedAtOnce(t *testing.T) {
	t.Parallel()
	both(t, func(t *testing.T, cfg sql.Config, direct *dbsql.DB) {
		const sides = 4
		dbs := make([]*sql.DB, sides)
		errs := make([]error, sides)
		var wg sync.WaitGroup
		for i := range sides {
			wg.Go(func() { dbs[i], errs[i] = sql.Open(context.Background(), cfg) })
		}
		wg.Wait()
		for i, db := range dbs {
			if errs[i] != nil {
				t.Errorf("side %d: %v", i, errs[i])
				continue
			}
			if _, err := db.Accounts.Create(t.Context(), fmt.Sprint("side ", i), nil); err != nil {
				t.Errorf("side %d: %v", i, err)
			}
			if err := db.Close(); err != nil {
				t.Errorf("side %d: %v", i, err)
			}
		}
		var applied, versions int
		if err := direct.QueryRow(`SELECT COUNT(*), COUNT(DISTINCT version_id) FROM goose_db_version`).Scan(&applied, &versions); err != nil || applied != versions || versions != 1+len(migrations(t)) {
			t.Errorf("%d entries for %d versions, %v; want one each for 0 and %v", applied, versions, err, migrations(t))
		}
	})
}

// migrations lists the versions that the files of both databases make, in their order.
func migrations(t *testing.T) (versions []int) {
	t.Helper()
	for _, dialect := range []string{"sqlite", "mysql"} {
		files, err := os.ReadDir("migrations/" + dialect)
		if err != nil {
			t.Fatal(err)
		}
		var found []int
		for _, f := range files {
			number, _, _ := strings.Cut(f.Name(), "_")
			n, err := strconv.Atoi(number)
			if err != nil {
				t.Fatal(err)
			}
			found = append(found, n)
		}
		if versions != nil && !slices.Equal(versions, found) {
			t.Fatalf("%s has the versions %v, the other %v", dialect, found, versions)
		}
		versions = found
	}
	return versions
}

// TestNewerTables refuses tables of a version that this program does not know.
func TestNewerTables(t *testing.T) {
	t.Parallel()
	both(t, func(t *testing.T, cfg sql.Config, direct *dbsql.DB) {
		openConfig(t, cfg)
		do(t, direct, `INSERT INTO goose_db_version (version_id, is_applied) VALUES (77, 1)`)
		db, err := sql.Open(t.Context(), cfg)
		if err == nil {
			db.Close()
		}
		newest := migrations(t)[len(migrations(t))-1]
		if job.CodeOf(err) != job.CodeConflict || !strings.Contains(err.Error(), "version 77") || !strings.Contains(err.Error(), fmt.Sprint("version ", newest)) {
			t.Errorf("tables of version 77: %v", err)
		}
	})
}

// TestMigrationDiedHalfWay runs a migration again whose last step was not noted, as
// after a crash of a server that commits each statement.
func TestMigrationDiedHalfWay(t *testing.T) {
	t.Parallel()
	dsn := sqltest.MariaDB(t)
	direct := raw(t, dsn)
	openConfig(t, sql.Config{DSN: dsn})
	for _, q := range []string{`DELETE FROM goose_db_version WHERE version_id > 0`, `DROP TRIGGER slice_moved`, `DROP TABLE jobs`} {
		do(t, direct, q)
	}
	db := openConfig(t, sql.Config{DSN: dsn})
	if err := db.Jobs.ProjectSlices(t.Context(), []sql.Slice{{Number: 1, Version: 1}, {Number: 1, Version: 2}}); err != nil {
		t.Fatal(err)
	}
	if rows, err := db.Outbox.Take(t.Context(), outbox.Lease{Owner: "o", For: time.Second, Limit: 9}); err == nil && len(rows) != 2 {
		t.Errorf("%d events of two statuses", len(rows))
	}
}

// TestOptionsAreForced gives a DSN that asks for everything that would do harm.
func TestOptionsAreForced(t *testing.T) {
	t.Parallel()
	dsn := sqltest.MariaDB(t)
	db := openConfig(t, sql.Config{DSN: dsn + "?multiStatements=true&parseTime=false&clientFoundRows=false&readTimeout=10h&timeout=10h&charset=latin1&sql_mode=%27%27&interpolateParams=false"})
	// What the store keeps, an observer with utf8mb4 sees byte for byte.
	if _, err := db.Accounts.Create(t.Context(), "größe 𝛼", nil); err != nil {
		t.Fatal(err)
	}
	direct := raw(t, dsn)
	var name string
	if err := direct.QueryRow(`SELECT name FROM accounts`).Scan(&name); err != nil || name != "größe 𝛼" {
		t.Errorf("the name is %q, %v", name, err)
	}
	// Names that are too long are refused, not cut (strict).
	if _, err := db.Packages.Put(t.Context(), sql.Package{Name: strings.Repeat("x", 600)}); err == nil {
		t.Error("a name was cut off")
	}
	id := job.NewID(time.Now(), [10]byte{1})
	for _, version := range []uint64{5, 5, 4} { // found rows: the same again is no insert
		if err := db.Jobs.ProjectSlices(t.Context(), []sql.Slice{{Job: id, Version: version}}); err != nil {
			t.Error(err)
		}
	}
}

func specOf(i int) job.Spec {
	at := time.Date(2026, 3, 4, 5, 6, 7, 0, time.UTC)
	return job.Spec{ID: job.NewID(at, [10]byte{byte(i), byte(i >> 8)}), Account: 7, Package: job.Digest{1}, Set: job.Digest{2}, Recipients: 12,
		Body: job.Digest{3}, SubmittedAt: at, ExpiresAt: at.Add(time.Hour)}
}

func transition(sp job.Spec, version uint64) job.Transition {
	return job.Transition{Job: sp.ID, Version: version, State: job.State(version % 8), Reason: fmt.Sprint("v", version),
		At: sp.SubmittedAt.Add(time.Duration(version) * time.Second).Format(time.RFC3339Nano), Spec: sp}
}

// TestDeadlocksAreRepeated lets recorders change the same two jobs in both orders.
func TestDeadlocksAreRepeated(t *testing.T) {
	dsn := sqltest.MariaDB(t)
	db := openConfig(t, sql.Config{DSN: dsn})
	direct := raw(t, dsn)
	deadlocks := func() (n int) {
		var name string
		if err := direct.QueryRow(`SHOW GLOBAL STATUS LIKE 'Innodb_deadlocks'`).Scan(&name, &n); err != nil {
			t.Fatal(err)
		}
		return n
	}
	before := deadlocks()
	a, b := specOf(1), specOf(2)
	rounds := 0
	for deadlocks() == before {
		if rounds++; rounds > 500 {
			t.Fatal("there was no deadlock in 500 rounds")
		}
		v := uint64(rounds)
		var wg sync.WaitGroup
		for i := range 4 {
			wg.Go(func() {
				ts := []job.Transition{transition(a, v), transition(b, v)}
				if i%2 == 1 {
					ts[0], ts[1] = ts[1], ts[0]
				}
				if err := db.Jobs.Project(context.Background(), sql.Projection{Recorder: fmt.Sprint("r", i), Through: v, Transitions: ts}); err != nil {
					t.Errorf("round %d: %v", v, err)
				}
			})
		}
		wg.Wait()
	}
	t.Logf("a deadlock in round %d", rounds)
	for _, sp := range []job.Spec{a, b} {
		if j, err := db.Jobs.Get(t.Context(), sp.ID); err != nil || j.Version != uint64(rounds) {
			t.Errorf("version %d, %v; want %d", j.Version, err, rounds)
		}
	}
}

// TestLocksAreWaitedForABoundedTime holds a row: the server's patience ends first, or,
// with less of ours, ours; either way the call says that it may be tried again.
func TestLocksAreWaitedForABoundedTime(t *testing.T) {
	for _, wait := range []time.Duration{time.Second, 200 * time.Millisecond} {
		t.Run(wait.String(), func(t *testing.T) {
			t.Parallel()
			dsn := sqltest.MariaDB(t)
			openConfig(t, sql.Config{DSN: dsn}) // makes the tables in everyday's time
			db := openConfig(t, sql.Config{DSN: dsn, Wait: wait})
			sp := specOf(1)
			project := func(db *sql.DB, v uint64) error {
				return db.Jobs.Project(t.Context(), sql.Projection{Recorder: "r", Through: v, Transitions: []job.Transition{transition(sp, v)}})
			}
			patient := openConfig(t, sql.Config{DSN: dsn})
			if err := project(patient, 1); err != nil {
				t.Fatal(err)
			}
			holder, err := raw(t, dsn).Begin()
			if err != nil {
				t.Fatal(err)
			}
			if _, err := holder.Exec(`SELECT * FROM jobs FOR UPDATE`); err != nil {
				t.Fatal(err)
			}
			began := time.Now()
			if err := project(db, 2); job.CodeOf(err) != job.CodeUnavailable || time.Since(began) > 2*wait+time.Second {
				t.Errorf("a row that others hold: %v after %s", err, time.Since(began))
			}
			if err := holder.Rollback(); err != nil {
				t.Fatal(err)
			}
			if err := project(patient, 2); err != nil {
				t.Errorf("after they let go: %v", err)
			}
		})
	}
}

// TestFullDiskOfMariaDB fills the file system of a server and frees it again. The
// server has no binary log, for with one it would wait for space itself.
func TestFullDiskOfMariaDB(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	if err := syscall.Mount("crier-test", dir, "tmpfs", 0, "size=180m"); err != nil {
		t.Logf("no small file system (%v): the full disk is tested where one can be mounted", err)
		return
	}
	defer func() {
		if err := syscall.Unmount(dir, syscall.MNT_DETACH); err != nil {
			t.Error(err)
		}
	}()
	server, err := servers.MariaDB(t.Context(), servers.MariaDBConfig{Dir: dir, Args: []string{"--skip-log-bin", "--innodb-log-file-size=16M"}})
	if err != nil {
		t.Fatal(err)
	}
	defer server.Stop()
	db := openConfig(t, sql.Config{DSN: server.DSN})
	var fs syscall.Statfs_t
	if err := syscall.Statfs(dir, &fs); err != nil {
		t.Fatal(err)
	}
	ballast := filepath.Join(dir, "ballast")
	if err := os.WriteFile(ballast, make([]byte, int64(fs.Bavail)*fs.Bsize-8<<20), 0o600); err != nil {
		t.Fatal(err)
	}
	_, err = db.Sets.Append(t.Context(), many(0, 6000, nothing))
	if job.CodeOf(err) != job.CodeFull {
		t.Errorf("18 MB where 8 are free: %v", err)
	}
	if n, err := db.Accounts.Count(t.Context()); n != 0 || err != nil {
		t.Errorf("after the refusal: %d accounts, %v", n, err)
	}
	if err := os.Remove(ballast); err != nil {
		t.Fatal(err)
	}
	if n, err := db.Sets.Append(t.Context(), many(0, 50, nothing)); err != nil || n != 50 {
		t.Errorf("after space was freed: %d, %v", n, err)
	}
}

// TestServerKilledAndStopped kills the server, and stops it for a while, under a
// stream of projections. Every call must return within its bound, no reader may see
// a version go back, and in the end everything is there once.
func TestServerKilledAndStopped(t *testing.T) {
	const wait = 500 * time.Millisecond
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute) // it is started four times
	defer cancel()
	server, err := servers.MariaDB(ctx, servers.MariaDBConfig{Dir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { server.Stop() }()
	db := openConfig(t, sql.Config{DSN: server.DSN, Wait: wait})
	w := &weather{db: db, t: t, bound: 2*wait + 1500*time.Millisecond}
	const jobs = 4
	var work sync.WaitGroup
	for i := range jobs {
		work.Go(func() { w.project(specOf(i)) })
		work.Go(func() { w.read(specOf(i)) })
	}
	for i := range 5 {
		w.await(50) // projections since the last fault: the server is under load
		failed := w.failed.Load()
		if i%2 == 0 {
			server.Kill()
			if err := server.Start(ctx); err != nil {
				t.Fatal(err)
			}
		} else {
			for _, s := range []syscall.Signal{syscall.SIGSTOP, syscall.SIGCONT} {
				if err := server.Signal(s); err != nil {
					t.Fatal(err)
				}
				if s == syscall.SIGSTOP {
					for tick := time.NewTicker(10 * time.Millisecond); w.failed.Load() < failed+2; <-tick.C {
						if ctx.Err() != nil {
							t.Fatal("no call fails while the server is stopped")
						}
					}
				}
			}
		}
	}
	w.await(50)
	w.stop.Store(true)
	work.Wait()
	t.Logf("%d projections, %d calls failed, the longest took %s", w.done.Load(), w.failed.Load(), time.Duration(w.longest.Load()).Round(time.Millisecond))
	w.db = openConfig(t, sql.Config{DSN: server.DSN}) // with the patience of everyday
	w.settle(jobs)
}

// weather is a stream of projections and of reads while a server has its troubles.
type weather struct {
	t       *testing.T
	db      *sql.DB
	bound   time.Duration
	stop    atomic.Bool
	done    atomic.Int64 // projections
	failed  atomic.Int64 // calls
	longest atomic.Int64 // of a call, in nanoseconds
}

// call holds a call to its bound.
func (w *weather) call(what string, fn func() error) error {
	began := time.Now()
	err := fn()
	took := time.Since(began)
	for old := w.longest.Load(); int64(took) > old && !w.longest.CompareAndSwap(old, int64(took)); old = w.longest.Load() {
	}
	if took > w.bound {
		w.t.Errorf("%s took %s: %v", what, took, err)
	}
	if err != nil {
		w.failed.Add(1)
		if job.CodeOf(err) != job.CodeUnavailable {
			w.t.Errorf("%s: %v; want code unavailable", what, err)
		}
	}
	return err
}

// project is a recorder: after an error it goes on behind its watermark.
func (w *weather) project(sp job.Spec) {
	rng := rand.New(rand.NewPCG(uint64(sp.ID[15]), 1))
	name := sp.ID.String()
	for !w.stop.Load() {
		var mark uint64
		if w.call("reading the watermark", func() (err error) { mark, err = w.db.Jobs.Watermark(context.Background(), name); return err }) != nil {
			continue
		}
		for err := error(nil); err == nil && !w.stop.Load(); {
			p := sql.Projection{Recorder: name, Through: mark + 1 + rng.Uint64N(3)}
			for v := mark + 1; v <= p.Through; v++ {
				p.Transitions = append(p.Transitions, transition(sp, v))
			}
			slice := sql.Slice{Job: sp.ID, Number: 1, Version: p.Through, State: job.SliceState(p.Through % 10), Since: sp.SubmittedAt}
			err = w.call("projecting", func() error { return w.db.Jobs.Project(context.Background(), p) })
			if err == nil {
				err = w.call("projecting a slice", func() error { return w.db.Jobs.ProjectSlices(context.Background(), []sql.Slice{slice}) })
			}
			if err == nil {
				mark = p.Through
				w.done.Add(1)
			}
		}
	}
}

// read looks whether something goes back.
func (w *weather) read(sp job.Spec) {
	var version, slice uint64
	for !w.stop.Load() {
		var j sql.Job
		var all []sql.Slice
		err := w.call("reading", func() (err error) {
			j, err = w.db.Jobs.Get(context.Background(), sp.ID)
			if job.CodeOf(err) == job.CodeNotFound && version == 0 {
				err = nil
			}
			return err
		})
		if err == nil {
			err = w.call("listing slices", func() (err error) { all, err = w.db.Jobs.Slices(context.Background(), sp.ID, 0, 9); return err })
		}
		if err != nil {
			continue
		}
		if j.Version < version || len(all) > 0 && all[0].Version < slice {
			w.t.Errorf("%s went back from version %d to %d, or its slice from %d in %+v", sp.ID, version, j.Version, slice, all)
		}
		if version = j.Version; len(all) > 0 {
			slice = all[0].Version
		}
	}
}

// await waits for n projections.
func (w *weather) await(n int64) {
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	limit := time.Now().Add(30 * time.Second)
	for from := w.done.Load(); w.done.Load() < from+n; <-tick.C {
		if time.Now().After(limit) {
			w.t.Fatalf("%d projections in 30 s, want %d", w.done.Load()-from, n)
		}
	}
}

// settle holds that each version of each job has its event, once, and is the job's
// state in the end.
func (w *weather) settle(jobs int) {
	seen := map[string]int{}
	for {
		rows, err := w.db.Outbox.Take(context.Background(), outbox.Lease{Owner: "o", For: time.Minute, Limit: 1000})
		if err != nil {
			w.t.Fatal(err)
		}
		if len(rows) == 0 {
			break
		}
		var ids []uint64
		for _, r := range rows {
			ids = append(ids, r.ID)
			seen[r.Event.ID()]++
		}
		if err := w.db.Outbox.Mark(context.Background(), ids); err != nil {
			w.t.Fatal(err)
		}
	}
	var errs []error
	for i := range jobs {
		sp := specOf(i)
		mark, err := w.db.Jobs.Watermark(context.Background(), sp.ID.String())
		j, err2 := w.db.Jobs.Get(context.Background(), sp.ID)
		if err != nil || err2 != nil || j.Version != mark || j.Reason != fmt.Sprint("v", mark) {
			errs = append(errs, fmt.Errorf("%s is at version %d (%q), its watermark at %d: %w", sp.ID, j.Version, j.Reason, mark, errors.Join(err, err2)))
		}
		for v := uint64(1); v <= mark; v++ {
			if n := seen[job.Event{Job: sp.ID, Version: v}.ID()]; n != 1 {
				errs = append(errs, fmt.Errorf("version %d of %s has %d events", v, sp.ID, n))
			}
		}
	}
	for id, n := range seen {
		if n != 1 {
			errs = append(errs, fmt.Errorf("%s is told %d times", id, n))
		}
	}
	if err := errors.Join(errs...); err != nil {
		w.t.Error(err)
	}
}
