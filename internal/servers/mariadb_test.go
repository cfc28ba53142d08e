package servers_test

import (
	"bytes"
	"context"
	"database/sql"
	"os"
	"testing"
	"time"

	_ "github.com/go-sql-driver/mysql"

	"crier/internal/servers"
)

// TestMariaDB starts a server, kills it, and finds in the next one what was committed.
func TestMariaDB(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	db, err := servers.MariaDB(ctx, servers.MariaDBConfig{Dir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { db.Stop() }()
	pool, err := sql.Open("mysql", db.DSN)
	if err != nil {
		t.Fatal(err)
	}
	defer pool.Close()
	for _, q := range []string{"CREATE TABLE t (n INT)", "INSERT INTO t VALUES (7)"} {
		if _, err := pool.ExecContext(ctx, q); err != nil {
			t.Fatal(err)
		}
	}
	first := db.PID()
	db.Kill()
	if err := pool.PingContext(ctx); err == nil {
		t.Error("it answers after it was killed")
	}
	began := time.Now()
	if err := db.Start(ctx); err != nil {
		t.Fatal(err)
	}
	t.Logf("ready again after %s", time.Since(began).Round(time.Millisecond))
	var n int
	if err := pool.QueryRowContext(ctx, "SELECT n FROM t").Scan(&n); err != nil || n != 7 || db.PID() == first {
		t.Errorf("after the kill: %d, %v", n, err)
	}
	if log, err := os.ReadFile(db.Log); err != nil || !bytes.Contains(log, []byte("ready for connections")) {
		t.Errorf("its log %s has %d bytes, %v", db.Log, len(log), err)
	}
}
