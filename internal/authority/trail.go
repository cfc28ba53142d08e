package authority

import (
	"cmp"
	"context"
	"crypto/rand"
	"log/slog"
	"strings"
	"time"

	"crier/api"
	"crier/api/problem"
	"crier/job"
	"crier/state/sql/access"
	"crier/state/sql/engine"
)

// writeWithin bounds the writing of an act that is written by itself.
const writeWithin = time.Second

// Acts is the store of the audit log.
type Acts interface {
	// Record writes an act; one that is there stays as it is.
	Record(ctx context.Context, a access.Act) error
}

// Trail writes the audit log. An act whose change is in SQL is written in the transaction
// of the change. Any other is written before it is answered; if the store does not take
// it, it is in this process's log instead. Of what the ledger records, the audit log is
// completed from there.
type Trail struct {
	Store  Acts
	Logger *slog.Logger
}

// written is how an act is to be written with its change.
type written struct{ with *engine.Addition }

type writtenKey struct{}

// Begin implements the server's port.
func (t *Trail) Begin(ctx context.Context, a *api.Act, inSQL bool) context.Context {
	a.At = time.Now().UTC().Round(0)
	var random [10]byte
	rand.Read(random[:]) // never fails
	a.ID = "act_" + strings.TrimPrefix(job.NewID(a.At, random).String(), "job_")
	if !inSQL {
		return ctx
	}
	ctx, with := engine.Also(ctx, func(ctx context.Context, e *engine.Engine, tx *engine.Tx) error {
		return access.Insert(ctx, e, tx, row(a, access.Done))
	})
	return context.WithValue(ctx, writtenKey{}, written{with})
}

// row is an act as it is stored.
func row(a *api.Act, result string) access.Act {
	return access.Act{ID: a.ID, At: a.At, Tenant: cmp.Or(a.Tenant, a.Caller.Tenant), Key: a.Caller.Key, KeyName: a.Caller.Name, Operation: a.Operation,
		Object: a.Object, Result: result, Reason: a.Reason, Request: a.Request, Detail: a.Detail}
}

// End implements the server's port.
func (t *Trail) End(ctx context.Context, a *api.Act, err error) {
	if w, ok := ctx.Value(writtenKey{}).(written); ok && w.with.Done() {
		return
	}
	result := access.Done
	if err != nil {
		result = cmp.Or(string(job.CodeOf(err)), problem.CodeInternal)
	}
	// Not in the act's context: the client may be gone, and the change was not made in it.
	writing, cancel := context.WithTimeout(context.Background(), writeWithin)
	defer cancel()
	r := row(a, result)
	if failed := t.Store.Record(writing, r); failed != nil {
		if strings.HasPrefix(r.Object, "recipient/") {
			r.Object = "recipient/_" // numbers of recipients are in no log; the ledger has who was erased
		}
		t.Logger.Warn("an act is not in the audit log", "act", r.ID, "at", r.At, "key", r.Key, "name", r.KeyName, "operation", r.Operation, "tenant", r.Tenant,
			"object", r.Object, "detail", r.Detail, "result", r.Result, "reason", r.Reason, "request", r.Request, "error", failed)
	}
}
