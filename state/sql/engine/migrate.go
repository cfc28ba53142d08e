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
	"golang.org/x/sys/unix"

	"crier/job"
)

// lockWithin bounds the wait for another process that migrates.
const lockWithin = 2 * time.Minute

// migrate applies what migrations the database lacks, one process at a time, and
// refuses a database that has more than this program knows. Goose's own locks do not
// do: it looks for what is missing before it takes them, and trips over a table of
// versions that another process is about to fill.
func (e *Engine) migrate(ctx context.Context, cfg Config) (err error) {
	dir, err := fs.Sub(cfg.Migrations, e.folder)
	if err != nil {
		return err
	}
	if cfg.DSN == "" {
		lock, err := lockFile(ctx, cfg.Path+".migrating")
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, lock.Close()) }()
		return e.up(ctx, goose.DialectSQLite3, e.write, dir)
	}
	my, err := parseDSN(cfg.DSN, cfg.Wait)
	if err != nil {
		return err
	}
	my.ReadTimeout = migrateWait
	db, err := poolOf(my, cfg.Wait)
	if err != nil {
		return err
	}
	defer db.Close()
	lock, err := lockName(ctx, db, "crier migrates "+my.DBName)
	if err != nil {
		return err
	}
	defer lock.Close()
	return e.up(ctx, goose.DialectMySQL, db, dir)
}

// up migrates, under a lock.
func (e *Engine) up(ctx context.Context, dialect goose.Dialect, db *dbsql.DB, dir fs.FS) error {
	p, err := goose.NewProvider(dialect, db, dir)
	if err != nil {
		return err
	}
	sources := p.ListSources()
	known := sources[len(sources)-1].Version
	have, err := p.GetDBVersion(ctx)
	if err != nil {
		return fmt.Errorf("reading the version of the tables: %w", err)
	}
	if have > known {
		setting := ""
		if dialect == goose.DialectMySQL {
			setting = "sql.dsn: "
		}
		return job.Conflict(fmt.Sprintf("%sthe SQL store %s has tables of version %d, and this program knows them up to version %d; run the newer one", setting, e.Name, have, known))
	}
	_, err = p.Up(ctx)
	if mysqlCode(err) == myBinlogTrust {
		return fmt.Errorf("migrating: with a binary log the server lets only administrators make triggers; set log_bin_trust_function_creators=1 on it: %w", err)
	}
	if err != nil {
		return fmt.Errorf("migrating: %w", err)
	}
	return nil
}

// lockFile lets one process at a time migrate an SQLite file. The lock is the
// kernel's and ends with the process.
func lockFile(ctx context.Context, path string) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	err = until(ctx, func(context.Context) (bool, error) {
		err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		if errors.Is(err, unix.EWOULDBLOCK) || errors.Is(err, unix.EINTR) {
			return false, nil
		}
		return err == nil, err
	})
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

// lockName lets one process at a time migrate a MySQL database. The lock is the
// connection's and ends when its pool closes, so that nothing is left of a process that died.
func lockName(ctx context.Context, db *dbsql.DB, name string) (*dbsql.Conn, error) {
	conn, err := db.Conn(ctx)
	if err != nil {
		return nil, err
	}
	err = until(ctx, func(ctx context.Context) (bool, error) {
		var got dbsql.NullInt64
		err := conn.QueryRowContext(ctx, `SELECT GET_LOCK(SHA1(?), 1)`, name).Scan(&got)
		return got.Int64 == 1, err
	})
	if err != nil {
		return nil, errors.Join(err, conn.Close())
	}
	return conn, nil
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
