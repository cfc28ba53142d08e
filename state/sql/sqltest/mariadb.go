package sqltest

import (
	"context"
	dbsql "database/sql"
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"crier/internal/servers"
)

// shared is the one database server of a test program, started when it is first
// needed; each test gets a database of its own.
var shared struct {
	once sync.Once
	db   *servers.Database
	dir  string
	err  error
	n    atomic.Int64
}

// startWithin bounds the start of the server.
const startWithin = time.Minute

func start() {
	ctx, cancel := context.WithTimeout(context.Background(), startWithin)
	defer cancel()
	if shared.dir, shared.err = os.MkdirTemp("", "crier-mariadb-"); shared.err == nil {
		shared.db, shared.err = servers.MariaDB(ctx, servers.MariaDBConfig{Dir: shared.dir})
	}
}

// MariaDB gives the DSN of a new, empty database. The package's TestMain is Main.
func MariaDB(t testing.TB) string {
	t.Helper()
	shared.once.Do(start)
	if shared.err != nil {
		t.Fatal(shared.err)
	}
	name := fmt.Sprintf("test_%d", shared.n.Add(1))
	pool, err := dbsql.Open("mysql", shared.db.DSN)
	if err != nil {
		t.Fatal(err)
	}
	defer pool.Close()
	if _, err := pool.Exec("CREATE DATABASE " + name); err != nil {
		t.Fatal(err)
	}
	return strings.TrimSuffix(shared.db.DSN, "crier") + name
}

// Main is the TestMain of a package whose tests use MariaDB: it ends the server.
func Main(m *testing.M) {
	code := m.Run()
	if shared.db != nil {
		shared.db.Stop()
	}
	if shared.dir != "" {
		if err := os.RemoveAll(shared.dir); err != nil {
			code = max(code, 1)
			fmt.Fprintln(os.Stderr, errors.Join(errors.New("removing the database"), err))
		}
	}
	os.Exit(code)
}
