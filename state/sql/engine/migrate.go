package engine

import (
	"context"
	dbsql "database/sql"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"time"

	"github.com/pressly/goose/v3"
	"github.com/pressly/goose/v3/lock"
	"golang.org/x/sys/unix"

	"crier/job"
)

// lockWithin bounds the wait for another process that migrates.
const lockWithin = 2 * time.Minute

// migrate applies what migrations the database lacks, one process at a time, and
// refuses a database that has more than this program knows.
func (e *Engine) migrate(ctx context.Context, cfg Config) error {
	dir, err := fs.Sub(cfg.Migrations, e.folder)
	if err != nil {
		return err
	}
	db, dialect, locker := e.write, goose.DialectSQLite3, lock.SessionLocker(&fileLock{path: cfg.Path + ".migrating"})
	if cfg.DSN != "" {
		my, err := parseDSN(cfg.DSN, cfg.Wait)
		if err != nil {
			return err
		}
		my.ReadTimeout = migrateWait
		if db, err = poolOf(my, cfg.Wait); err != nil {
			return err
		}
		defer db.Close()
		dialect, locker = goose.DialectMySQL, namedLock("crier migrates "+my.DBName)
	}
	p, err := goose.NewProvider(dialect, db, dir, goose.WithSessionLocker(locker))
	if err != nil {
		return err
	}
	if _, err := p.Up(ctx); err != nil {
		if mysqlCode(err) == myBinlogTrust {
			return fmt.Errorf("migrating: with a binary log the server lets only administrators make triggers; set log_bin_trust_function_creators=1 on it: %w", err)
		}
		return fmt.Errorf("migrating: %w", err)
	}
	have, err := p.GetDBVersion(ctx)
	if err != nil {
		return fmt.Errorf("reading the version of the tables: %w", err)
	}
	sources := p.ListSources()
	if known := sources[len(sources)-1].Version; have > known {
		return job.Conflict(fmt.Sprintf("the SQL store %s has tables of version %d, and this program knows them up to version %d; run the newer one", e.Name, have, known))
	}
	return nil
}

// fileLock lets one process at a time migrate an SQLite file. The lock is the
// kernel's and ends with the process.
type fileLock struct {
	path string
	held *os.File
}

// SessionLock implements lock.SessionLocker.
func (l *fileLock) SessionLock(ctx context.Context, _ *dbsql.Conn) error {
	f, err := os.OpenFile(l.path, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return err
	}
	err = until(ctx, func(context.Context) (bool, error) {
		err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		if errors.Is(err, unix.EWOULDBLOCK) || errors.Is(err, unix.EINTR) {
			return false, nil
		}
		return err == nil, err
	})
	if err != nil {
		return errors.Join(err, f.Close())
	}
	l.held = f
	return nil
}

// SessionUnlock implements lock.SessionLocker.
func (l *fileLock) SessionUnlock(context.Context, *dbsql.Conn) error { return l.held.Close() }

// namedLock lets one process at a time migrate a MySQL database. The lock is the
// connection's and ends with it, so that nothing is left of a process that died.
type namedLock string

// SessionLock implements lock.SessionLocker.
func (l namedLock) SessionLock(ctx context.Context, conn *dbsql.Conn) error {
	return until(ctx, func(ctx context.Context) (bool, error) {
		var got dbsql.NullInt64
		err := conn.QueryRowContext(ctx, `SELECT GET_LOCK(SHA1(?), 1)`, string(l)).Scan(&got)
		return got.Int64 == 1, err
	})
}

// SessionUnlock implements lock.SessionLocker.
func (l namedLock) SessionUnlock(ctx context.Context, conn *dbsql.Conn) error {
	var freed dbsql.NullInt64
	return conn.QueryRowContext(ctx, `SELECT RELEASE_LOCK(SHA1(?))`, string(l)).Scan(&freed)
}

// until asks until the answer is yes.
func until(ctx context.Context, ask func(context.Context) (bool, error)) error {
	ctx, cancel := context.WithTimeout(ctx, lockWithin)
	defer cancel()
	for {
		yes, err := ask(ctx)
		if yes || err != nil {
			return err
		}
		if pause(ctx, 20*time.Millisecond) != nil {
			return job.Conflict(fmt.Sprintf("another process has been changing the tables of the SQL store for %s; look at what it does", lockWithin))
		}
	}
}
