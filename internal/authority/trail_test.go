package authority_test

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"path/filepath"
	"strings"
	"testing"

	"crier/api"
	"crier/internal/authority"
	"crier/job"
	"crier/state/sql"
	"crier/state/sql/access"
)

// trailOver gives a trail over a new store, and what it says to its log.
func trailOver(t *testing.T) (*sql.DB, *authority.Trail, *bytes.Buffer) {
	t.Helper()
	db, err := sql.Open(t.Context(), sql.Config{Path: filepath.Join(t.TempDir(), "crier.db")})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { db.Close() })
	log := &bytes.Buffer{}
	return db, &authority.Trail{Store: db.Access, Logger: slog.New(slog.NewTextHandler(log, nil))}, log
}

func results(t *testing.T, db *sql.DB) (out []string) {
	t.Helper()
	list, err := db.Access.List(t.Context(), access.Filter{Limit: 100})
	if err != nil {
		t.Fatal(err)
	}
	for _, a := range list {
		out = append(out, a.Operation+" "+a.Object+" "+a.Tenant+" "+a.Result)
	}
	return out
}

// begin begins an act of the operator about an account of acme.
func begin(t *testing.T, tr *authority.Trail, inSQL bool) (context.Context, *api.Act) {
	t.Helper()
	a := &api.Act{Caller: api.Operator(), Operation: "create-account"}
	ctx := tr.Begin(api.WithAct(t.Context(), a), a, inSQL)
	a.On("acme", "account/news")
	return ctx, a
}

func TestAnActIsWrittenWithItsChange(t *testing.T) {
	db, tr, _ := trailOver(t)
	ctx, a := begin(t, tr, true)
	if _, err := db.Accounts.Create(ctx, "news", nil); err != nil {
		t.Fatal(err)
	}
	want := "create-account account/news acme done"
	if got := results(t, db); len(got) != 1 || got[0] != want {
		t.Errorf("before the end the log has %q", got)
	}
	tr.End(ctx, a, errors.New("what came after the change failed"))
	if got := results(t, db); len(got) != 1 || got[0] != want {
		t.Errorf("after the end the log has %q", got)
	}
}

func TestAnActWithoutAChangeIsWrittenAtItsEnd(t *testing.T) {
	db, tr, _ := trailOver(t)
	for err, want := range map[error]string{nil: "done", job.Conflict("x"): "conflict", errors.New("x"): "internal", context.Canceled: "internal"} {
		for _, inSQL := range []bool{true, false} {
			ctx, a := begin(t, tr, inSQL)
			ctx, cancel := context.WithCancel(ctx)
			cancel() // the client is gone
			tr.End(ctx, a, err)
			tr.End(ctx, a, nil) // the first counts
			got := results(t, db)
			if got[0] != "create-account account/news acme "+want {
				t.Errorf("%v: the log has %q", err, got[0])
			}
		}
	}
	if got := results(t, db); len(got) != 8 {
		t.Errorf("the log has %q", got)
	}
}

// What cannot be written is told to the log, without holding the answer up.
func TestAnActThatCannotBeWritten(t *testing.T) {
	db, tr, log := trailOver(t)
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	ctx, a := begin(t, tr, false)
	a.Reason = "a reason"
	tr.End(ctx, a, nil)
	for _, want := range []string{"operation=create-account", "object=account/news", "tenant=acme", "key=bootstrap", "result=done", `reason="a reason"`, a.ID} {
		if !strings.Contains(log.String(), want) {
			t.Errorf("the log has no %s: %s", want, log)
		}
	}
	log.Reset()
	ctx, a = begin(t, tr, false)
	a.On("default", "recipient/271828")
	tr.End(ctx, a, nil)
	if text := log.String(); !strings.Contains(text, "object=recipient/_ ") || strings.Contains(text, "271828") {
		t.Errorf("the log names a recipient: %s", text)
	}
}
