package problem_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	"crier/api/problem"
	"crier/api/wire"
	"crier/job"
)

// An error keeps its code, message and field through a problem; its cause never shows.
func TestProblemKeepsErrors(t *testing.T) {
	cause := errors.New("the secret cause")
	statuses := map[job.Code]int{job.CodeInvalid: 422, job.CodeNotFound: 404, job.CodeConflict: 409, job.CodeDenied: 403,
		job.CodeTooLarge: 413, job.CodeUnavailable: 503, job.CodeFull: 507, job.CodeLimited: 429}
	for code, status := range statuses {
		for _, field := range []string{"", "ttl", "/ids/3", "Idempotency-Key"} {
			in := &job.Error{Code: code, Message: "no such thing", Field: field, Err: cause}
			p := problem.Of(fmt.Errorf("while working: %w", in))
			if p.Status != status || p.Code != string(code) {
				t.Errorf("%s: problem has status %d and code %s; want %d", code, p.Status, p.Code, status)
			}
			text, err := wire.Marshal(p)
			if err != nil || strings.Contains(string(text), "secret") || strings.Contains(string(text), "while working") {
				t.Errorf("%s: the problem shows the inside: %s, %v", code, text, err)
			}
			var out *job.Error
			if !errors.As(p.Err(), &out) || out.Code != code || out.Message != in.Message || out.Field != field {
				t.Errorf("%s, field %q: came back as %#v", code, field, p.Err())
			}
		}
	}
}

func TestProblemOfInternalErrors(t *testing.T) {
	p := problem.Of(errors.New("password is hunter2"))
	if p.Status != 500 || strings.Contains(p.Detail, "hunter2") {
		t.Errorf("internal error shows as %d %q", p.Status, p.Detail)
	}
	if job.CodeOf(p.Err()) != "" {
		t.Errorf("an internal error came back with code %q", job.CodeOf(p.Err()))
	}
	if p := problem.Of(context.DeadlineExceeded); p.Status != 503 {
		t.Errorf("running out of time has status %d; want 503", p.Status)
	}
	if p := problem.Of(&job.Error{Code: "made_up", Message: "x"}); p.Status != 500 {
		t.Errorf("an unknown code has status %d; want 500", p.Status)
	}
}

// What a message repeats of the input can stand on a terminal, and is short.
func TestProblemsCanBeShown(t *testing.T) {
	p := problem.Of(job.Invalid("name", "there is no \x1b[31m\x00\nname\xff "+strings.Repeat("é", 100_000), nil))
	if want := "there is no \ufffd[31m\ufffd\ufffdname\ufffd éé"; !strings.HasPrefix(p.Detail, want) || len(p.Detail) > 1100 || !strings.HasSuffix(p.Detail, "é…") && !strings.HasSuffix(p.Detail, "\ufffd…") {
		t.Errorf("%d bytes: %.100q", len(p.Detail), p.Detail)
	}
	if p.Errors[0].Detail != p.Detail {
		t.Errorf("the field's detail is another one: %.100q", p.Errors[0].Detail)
	}
}

// A field that is in the path of the operation is a parameter, also where others are in
// the body.
func TestProblemInPath(t *testing.T) {
	for path, want := range map[string]problem.FieldError{
		"/v1/accounts/{account}/followers/add": {Detail: "no", Parameter: "account"},
		"/v1/suppression/add":                  {Detail: "no", Pointer: "#/account"},
	} {
		p := problem.Of(job.Invalid("account", "no", nil)).InPath(path)
		if len(p.Errors) != 1 || p.Errors[0] != want {
			t.Errorf("%s: %+v, want %+v", path, p.Errors, want)
		}
	}
}
