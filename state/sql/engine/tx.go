package engine

import (
	"context"
	dbsql "database/sql"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync/atomic"
	"time"
)

// ErrRaced is returned by a transaction's function that finds that another
// transaction came in between: it is run again.
var ErrRaced = errors.New("another transaction came in between")

// tries bounds how often a transaction is run.
const tries = 12

// The pauses between them grow from the first to the last.
const (
	firstPause = 5 * time.Millisecond
	lastPause  = 250 * time.Millisecond
)

// Tx runs fn in one writing transaction: all of it is durable, or none of it is. fn
// may be run several times, also after a commit whose answer was lost: it must be
// idempotent. The context that it gets ends when the time for all of it is over.
func (e *Engine) Tx(ctx context.Context, fn func(context.Context, *dbsql.Tx) error) error {
	return e.TxReadBack(ctx, func(ctx context.Context, tx *dbsql.Tx, _ bool) error { return fn(ctx, tx) })
}

// TxReadBack is Tx for what is not idempotent: fn is told whether it is unknown if a
// former run was committed, and looks.
func (e *Engine) TxReadBack(ctx context.Context, fn func(ctx context.Context, tx *dbsql.Tx, unknown bool) error) error {
	ctx, cancel := e.bound(ctx)
	defer cancel()
	unknown := false
	for try := 1; ; try++ {
		committing, err := e.run(ctx, func(ctx context.Context, tx *dbsql.Tx) error { return fn(ctx, tx, unknown) })
		if err == nil {
			return nil
		}
		if late := ctx.Err(); late != nil && !errors.Is(err, late) {
			err = errors.Join(err, late) // the driver's words for it are many
		}
		cut := e.cut(err)
		unknown = unknown || committing && cut
		if try == tries || ctx.Err() != nil || !cut && !e.again(err) && !errors.Is(err, ErrRaced) {
			return err
		}
		if pause(ctx, min(firstPause<<(try-1), lastPause)) != nil {
			return err
		}
	}
}

// TxOnce runs fn in one writing transaction and never again, for a function that
// cannot be repeated. It has as long as ctx has. An error that is not one of fn's
// may leave it unknown whether it was committed.
func (e *Engine) TxOnce(ctx context.Context, fn func(context.Context, *dbsql.Tx) error) error {
	_, err := e.run(ctx, fn)
	return err
}

// Conflicting reports whether the transaction was given up, with no effect, because
// others change the same.
func (e *Engine) Conflicting(err error) bool { return e.again(err) || errors.Is(err, ErrRaced) }

// Tx is a transaction.
type Tx = dbsql.Tx

// Addition is what a transaction does besides what it is about; see Also.
type Addition struct {
	do   func(context.Context, *Engine, *dbsql.Tx) error
	done atomic.Bool
}

// Done reports whether it was committed.
func (a *Addition) Done() bool { return a.done.Load() }

type additionKey struct{}

// Also gives a context in which the next transaction that writes does one thing more,
// last: both are durable, or neither is. do may be run several times, also after a
// commit whose answer was lost: it must be idempotent.
func Also(ctx context.Context, do func(context.Context, *Engine, *dbsql.Tx) error) (context.Context, *Addition) {
	a := &Addition{do: do}
	return context.WithValue(ctx, additionKey{}, a), a
}

// run runs fn once. committing tells that the error is that of the commit.
func (e *Engine) run(ctx context.Context, fn func(context.Context, *dbsql.Tx) error) (committing bool, err error) {
	tx, err := e.write.BeginTx(ctx, nil)
	if err != nil {
		return false, err
	}
	more, _ := ctx.Value(additionKey{}).(*Addition)
	if more != nil && more.Done() {
		more = nil
	}
	if err = fn(ctx, tx); err == nil && more != nil {
		err = more.do(ctx, e, tx)
	}
	if err != nil {
		if e := tx.Rollback(); e != nil && !errors.Is(e, dbsql.ErrTxDone) {
			err = errors.Join(err, fmt.Errorf("rolling back: %w", e))
		}
		return false, err
	}
	if err = tx.Commit(); err == nil && more != nil {
		more.done.Store(true)
	}
	return true, err
}

func (e *Engine) bound(ctx context.Context) (context.Context, context.CancelFunc) {
	if e.patience == 0 {
		return ctx, func() {}
	}
	return context.WithTimeout(ctx, e.patience)
}

// pause waits for d, more or less, so that those who ran into each other part.
func pause(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d/2 + rand.N(d))
	defer t.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-t.C:
		return nil
	}
}

// Querier is a transaction or a pool.
type Querier interface {
	QueryContext(ctx context.Context, query string, args ...any) (*dbsql.Rows, error)
	QueryRowContext(ctx context.Context, query string, args ...any) *dbsql.Row
}

// Reader gives what reads outside a transaction; each query is bounded.
func (e *Engine) Reader() Querier {
	if e.patience == 0 {
		return e.read
	}
	return reader{e.read, e.patience}
}

type reader struct {
	db       *dbsql.DB
	patience time.Duration
}

// bound bounds a query and the reading of its rows. Rows say to nobody that they were
// read, so that the context ends by its time only.
func (r reader) bound(ctx context.Context) context.Context {
	ctx, cancel := context.WithTimeout(ctx, r.patience)
	time.AfterFunc(r.patience+time.Second, cancel)
	return ctx
}

// QueryContext implements Querier.
func (r reader) QueryContext(ctx context.Context, query string, args ...any) (*dbsql.Rows, error) {
	return r.db.QueryContext(r.bound(ctx), query, args...)
}

// QueryRowContext implements Querier.
func (r reader) QueryRowContext(ctx context.Context, query string, args ...any) *dbsql.Row {
	return r.db.QueryRowContext(r.bound(ctx), query, args...)
}
