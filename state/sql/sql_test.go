package sql_test

import (
	"bytes"
	"context"
	dbsql "database/sql"
	"errors"
	"fmt"
	"iter"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"crier/audience/members"
	"crier/job"
	"crier/state/sql"
	"crier/state/sql/sqltest"
)

func open(t testing.TB, path string) *sql.DB { return openAt(t, path, time.Now) }

func openAt(t testing.TB, path string, now func() time.Time) *sql.DB {
	t.Helper()
	return openConfig(t, sql.Config{Path: path, Now: now})
}

func openConfig(t testing.TB, cfg sql.Config) *sql.DB {
	t.Helper()
	db, err := sql.Open(context.Background(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := db.Close(); err != nil {
			t.Errorf("closing: %v", err)
		}
	})
	return db
}

func store(db *sql.DB) sqltest.Store {
	return sqltest.Store{Accounts: db.Accounts, Sets: db.Sets, Packages: db.Packages, Jobs: db.Jobs, Outbox: db.Outbox,
		Segments: db.Segments, Salts: db.Salts, Of: func(tenant string) sqltest.Tenanted {
			return sqltest.Tenanted{Accounts: db.Accounts.Of(tenant), Packages: db.Packages.Of(tenant), Jobs: db.Jobs.Of(tenant)}
		}}
}

func TestMain(m *testing.M) { sqltest.Main(m) }

func TestSQLite(t *testing.T) {
	sqltest.Run(t, func(t *testing.T, clock *sqltest.Clock) sqltest.Store {
		return store(openAt(t, filepath.Join(t.TempDir(), "a ?#%41 b.db"), clock.Now))
	})
}

func TestMariaDB(t *testing.T) {
	sqltest.Run(t, func(t *testing.T, clock *sqltest.Clock) sqltest.Store {
		return store(openConfig(t, sql.Config{DSN: sqltest.MariaDB(t), Now: clock.Now}))
	})
}

func TestAccess(t *testing.T) {
	t.Run("SQLite", func(t *testing.T) {
		sqltest.RunAccess(t, func(t *testing.T, clock *sqltest.Clock) *sql.DB {
			return openAt(t, filepath.Join(t.TempDir(), "crier.db"), clock.Now)
		})
	})
	t.Run("MariaDB", func(t *testing.T) {
		sqltest.RunAccess(t, func(t *testing.T, clock *sqltest.Clock) *sql.DB {
			return openConfig(t, sql.Config{DSN: sqltest.MariaDB(t), Now: clock.Now})
		})
	})
}

func TestHooks(t *testing.T) {
	t.Run("SQLite", func(t *testing.T) {
		sqltest.RunHooks(t, func(t *testing.T, clock *sqltest.Clock) *sql.DB {
			return openAt(t, filepath.Join(t.TempDir(), "crier.db"), clock.Now)
		})
	})
	t.Run("MariaDB", func(t *testing.T) {
		sqltest.RunHooks(t, func(t *testing.T, clock *sqltest.Clock) *sql.DB {
			return openConfig(t, sql.Config{DSN: sqltest.MariaDB(t), Now: clock.Now})
		})
	})
}

func TestMemory(t *testing.T) {
	sqltest.Run(t, func(_ *testing.T, clock *sqltest.Clock) sqltest.Store {
		m := sql.NewMemory(clock.Now)
		return sqltest.Store{Accounts: m.Accounts, Sets: m.Sets, Packages: m.Packages, Jobs: m.Jobs, Outbox: m.Outbox, Segments: m.Segments, Salts: m.Salts,
			Of: func(tenant string) sqltest.Tenanted {
				return sqltest.Tenanted{Accounts: m.Accounts.Of(tenant), Packages: m.Packages.Of(tenant), Jobs: m.Jobs.Of(tenant)}
			}}
	})
}

// A salt is made in the transaction of the account, and is the same when the store is
// opened again; an account of before salts gets one that stays.
func TestSaltIsMadeWithTheAccount(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "crier.db")
	db := open(t, path)
	a, err := db.Accounts.Create(t.Context(), "news", nil)
	if err != nil {
		t.Fatal(err)
	}
	file, err := dbsql.Open("sqlite", path)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	var stored []byte
	if err := file.QueryRow(`SELECT salt FROM account_salts WHERE account = ?`, a.Number).Scan(&stored); err != nil || len(stored) != 32 {
		t.Fatalf("beside the account stand %d bytes of salt, %v", len(stored), err)
	}
	if _, err := file.Exec(`INSERT INTO accounts (number, name, created_at) VALUES (50, 'old', 1)`); err != nil {
		t.Fatal(err)
	}
	old, err := db.Salts.Of(t.Context(), 50)
	if err != nil || old.IsZero() {
		t.Errorf("the salt of an old account is %s, %v", old, err)
	}
	again := open(t, path)
	for account, want := range map[uint32]job.Digest{a.Number: job.Digest(stored), 50: old} {
		if got, err := again.Salts.Of(t.Context(), account); err != nil || got != want {
			t.Errorf("the salt of account %d is %s, %v; want %s", account, got, err, want)
		}
	}
}

func TestOpenRefusesNoPath(t *testing.T) {
	if _, err := sql.Open(t.Context(), sql.Config{}); job.CodeOf(err) != job.CodeInvalid {
		t.Error(err)
	}
}

// many yields changes of n sets of 3,000 bytes each, and calls last before the last.
func many(kind members.Kind, n int, last func()) iter.Seq2[members.Change, error] {
	return func(yield func(members.Change, error) bool) {
		for i := range n {
			if i == n-1 {
				last()
			}
			c := members.Change{Key: members.Key{Kind: kind, Owner: uint32(i)}, Adds: bytes.Repeat([]byte{7}, 3000), Cardinality: 1, MakeAccount: true}
			if !yield(c, nil) {
				return
			}
		}
	}
}

func nothing() {}

// TestKilledInATransaction kills a process with SIGKILL in the middle of an
// append that has written several megabytes, then opens what it left.
func TestKilledInATransaction(t *testing.T) {
	t.Parallel()
	const before, after = 100, 5000
	if path := os.Getenv("CRIER_SQL_TEST_VICTIM"); path != "" {
		db := open(t, path)
		if _, err := db.Sets.Append(t.Context(), many(members.KindFollowers, before, nothing)); err != nil {
			t.Fatal(err)
		}
		_, err := db.Sets.Append(t.Context(), many(members.KindSuppression, after, func() {
			if err := syscall.Kill(os.Getpid(), syscall.SIGKILL); err != nil {
				t.Error(err)
			}
			select {}
		}))
		t.Fatalf("outlived SIGKILL: %v", err)
	}
	path := filepath.Join(t.TempDir(), "crier.db")
	victim := exec.Command(os.Args[0], "-test.run=^TestKilledInATransaction$")
	victim.Env = append(os.Environ(), "CRIER_SQL_TEST_VICTIM="+path)
	out, err := victim.CombinedOutput()
	var exit *exec.ExitError
	if !errors.As(err, &exit) || exit.Sys().(syscall.WaitStatus).Signal() != syscall.SIGKILL {
		t.Fatalf("the victim was not killed: %v\n%s", err, out)
	}
	db := open(t, path)
	if n, err := db.Accounts.Count(t.Context()); n != before || err != nil {
		t.Errorf("%d accounts, %v; want the %d of the append that was answered", n, err, before)
	}
	for i := range uint32(after) {
		first, err := db.Sets.Head(t.Context(), members.Followers(i))
		second, err2 := db.Sets.Head(t.Context(), members.Suppression(i))
		if err != nil || err2 != nil || (first.Revision == 1) != (i < before) || second.Revision != 0 {
			t.Fatalf("account %d: %+v, %+v, %v, %v", i, first, second, err, err2)
		}
	}
}

// TestFullDisk fills a small file system and frees it again.
func TestFullDisk(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	if err := syscall.Mount("crier-test", dir, "tmpfs", 0, "size=2m"); err != nil {
		t.Logf("no small file system (%v): the full disk is tested where one can be mounted", err)
		return
	}
	defer func() {
		if err := syscall.Unmount(dir, syscall.MNT_DETACH); err != nil {
			t.Error(err)
		}
	}()
	ballast := filepath.Join(dir, "ballast")
	if err := os.WriteFile(ballast, make([]byte, 1<<20), 0o600); err != nil {
		t.Fatal(err)
	}
	db := open(t, filepath.Join(dir, "crier.db"))
	if _, err := db.Accounts.Create(t.Context(), "first", nil); err != nil {
		t.Fatal(err)
	}
	_, err := db.Sets.Append(t.Context(), many(members.KindFollowers, 1000, nothing))
	if job.CodeOf(err) != job.CodeFull {
		t.Fatalf("an append of 3 MB: %v", err)
	}
	if n, err := db.Accounts.Count(t.Context()); n != 1 || err != nil {
		t.Errorf("after the refusal: %d accounts, %v", n, err)
	}
	if err := os.Remove(ballast); err != nil {
		t.Fatal(err)
	}
	if n, err := db.Sets.Append(t.Context(), many(members.KindFollowers, 50, nothing)); err != nil || n != 49 {
		t.Errorf("after space was freed: %d, %v", n, err)
	}
}

func TestReopening(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "crier.db")
	for i := range 3 {
		db, err := sql.Open(t.Context(), sql.Config{Path: path})
		if err != nil {
			t.Fatal(err)
		}
		if a, err := db.Accounts.Create(t.Context(), fmt.Sprintf("name %d", i), nil); err != nil || int(a.Number) != i+1 {
			t.Errorf("account %d: %+v, %v", i, a, err)
		}
		if err := db.Close(); err != nil {
			t.Error(err)
		}
	}
}

func BenchmarkAppend(b *testing.B) {
	for b.Loop() {
		db := open(b, filepath.Join(b.TempDir(), "crier.db"))
		_, err := db.Sets.Append(b.Context(), func(yield func(members.Change, error) bool) {
			for i := range 82168 {
				c := members.Change{Key: members.Followers(uint32(i)), Adds: make([]byte, 30), Cardinality: 1, MakeAccount: true}
				if !yield(c, nil) {
					return
				}
			}
		})
		if err != nil {
			b.Fatal(err)
		}
	}
}
