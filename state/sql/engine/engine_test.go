package engine_test

import (
	"context"
	dbsql "database/sql"
	"errors"
	"path/filepath"
	"runtime"
	"testing"
	"testing/fstest"

	"crier/state/sql/engine"
)

func open(t *testing.T) *engine.Engine {
	t.Helper()
	e, err := engine.Open(t.Context(), engine.Config{Path: filepath.Join(t.TempDir(), "x.db"), Migrations: fstest.MapFS{
		"sqlite/00001_t.sql": {Data: []byte("-- +goose Up\nCREATE TABLE t (n INTEGER PRIMARY KEY);\n")}}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := e.Close(); err != nil {
			t.Error(err)
		}
	})
	return e
}

// TestCutOffWhileReading ends the time for a query, or for the transaction that it is
// in, in the middle of its rows: the error says that it is this.
func TestCutOffWhileReading(t *testing.T) {
	e := open(t)
	read := func(ctx context.Context, q engine.Querier, cut func()) error {
		_, err := engine.Collect(ctx, q, func(r engine.Scanner) (n int, err error) {
			cut()
			for ; err == nil; err = r.Scan(&n) {
				runtime.Gosched() // until the rows are closed
			}
			return n, err
		}, `WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT i FROM n`)
		return err
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	if err := read(ctx, e.Reader(), cancel); !errors.Is(err, context.Canceled) {
		t.Errorf("a query: %v; want context.Canceled", err)
	}
	ctx, cancel = context.WithCancel(t.Context())
	defer cancel()
	// The statement has a longer time than the transaction.
	err := e.Tx(ctx, func(_ context.Context, tx *dbsql.Tx) error { return read(t.Context(), tx, cancel) })
	if !errors.Is(err, context.Canceled) {
		t.Errorf("a transaction: %v; want context.Canceled", err)
	}
}

// TestRunsAgain runs a transaction again for as long as others come in between, and
// not for ever; what a former run did is undone.
func TestRunsAgain(t *testing.T) {
	e := open(t)
	runs := 0
	err := e.Tx(t.Context(), func(ctx context.Context, tx *dbsql.Tx) error {
		runs++
		if _, err := tx.Exec(`INSERT INTO t VALUES (?)`, runs); err != nil {
			return err
		}
		if runs < 4 {
			return engine.ErrRaced
		}
		return nil
	})
	all, err2 := engine.Collect(t.Context(), e.Reader(), func(r engine.Scanner) (n int, err error) { return n, r.Scan(&n) }, `SELECT n FROM t`)
	if err != nil || err2 != nil || len(all) != 1 || all[0] != 4 {
		t.Errorf("after %d runs the table has %v, %v, %v", runs, all, err, err2)
	}
	runs = 0
	err = e.Tx(t.Context(), func(context.Context, *dbsql.Tx) error { runs++; return engine.ErrRaced })
	if !errors.Is(err, engine.ErrRaced) || runs < 2 || runs > 100 {
		t.Errorf("%d runs, %v", runs, err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := e.Tx(ctx, func(context.Context, *dbsql.Tx) error { return engine.ErrRaced }); !errors.Is(err, context.Canceled) {
		t.Errorf("when the time is over: %v", err)
	}
	runs = 0
	broken := errors.New("broken")
	if err := e.Tx(t.Context(), func(context.Context, *dbsql.Tx) error { runs++; return broken }); !errors.Is(err, broken) || runs != 1 {
		t.Errorf("another error: %d runs, %v", runs, err)
	}
	runs = 0
	err = e.TxOnce(t.Context(), func(context.Context, *dbsql.Tx) error { runs++; return engine.ErrRaced })
	if !e.Conflicting(err) || runs != 1 {
		t.Errorf("once: %d runs, %v", runs, err)
	}
}
