// Package problem is the form in which errors of the API travel, and the catalogue of
// their codes.
//
// It guarantees that a *job.Error keeps its code, message and field on its way through a
// Problem, while any other error shows nothing of the inside; and that every code which a
// Problem may have is in the catalogue, with its status, what it means and what to do.
package problem

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/go-json-experiment/json"

	"crier/job"
)

// InternalDetail is all that a user learns of an internal error.
const InternalDetail = "internal error; the server's log has it under this request id"

// retryAfter is what a refusal for want of resources asks a client to wait, in
// seconds.
const retryAfter = 1

// Problem is an error as it travels: application/problem+json of RFC 9457.
type Problem struct {
	Type      string       `json:"type" doc:"Always about:blank; code tells the kinds apart."`
	Title     string       `json:"title" doc:"The status in words."`
	Status    int          `json:"status"`
	Detail    string       `json:"detail" doc:"What happened, and what to do."`
	Code      string       `json:"code" doc:"Which kind of error it is."`
	RequestID string       `json:"request_id" doc:"Names the request in the server's log."`
	Errors    []FieldError `json:"errors,omitzero" doc:"The fields at fault."`

	after time.Duration // for Retry-After; 0: as the status calls for
}

// FieldError says what is wrong with one field of a request.
type FieldError struct {
	Detail    string `json:"detail"`
	Pointer   string `json:"pointer,omitzero" doc:"Where in the body, as a JSON pointer in a URI fragment."`
	Parameter string `json:"parameter,omitzero" doc:"Which parameter of the path, the query or the header."`
}

// Error is the detail.
func (p *Problem) Error() string { return p.Detail }

// GetStatus is the HTTP status.
func (p *Problem) GetStatus() int { return p.Status }

// GetHeaders adds what the status calls for.
func (p *Problem) GetHeaders() http.Header {
	h := http.Header{}
	switch p.Status {
	case http.StatusServiceUnavailable, http.StatusInsufficientStorage, http.StatusTooManyRequests:
		h.Set("Retry-After", strconv.FormatInt(max(retryAfter, int64((p.after+time.Second-1)/time.Second)), 10))
	case http.StatusUnauthorized:
		h.Set("WWW-Authenticate", `Bearer realm="crier"`)
	}
	return h
}

// ContentType is the media type of a problem, whatever was negotiated.
func (p *Problem) ContentType(string) string { return "application/problem+json" }

// New makes a problem with a status and a code.
func New(status int, code, detail string) *Problem {
	return &Problem{Type: "about:blank", Title: http.StatusText(status), Status: status, Detail: detail, Code: code}
}

// Of turns an error of the service into what the user may see. A
// *job.Error shows its message, never its cause; any other error shows nothing.
func Of(err error) *Problem {
	var p *Problem
	if errors.As(err, &p) {
		return p
	}
	var je *job.Error
	if errors.As(err, &je) {
		if kind, known := Lookup(string(je.Code)); known && kind.isOfService() {
			p = New(kind.Status, kind.Code, shown(je.Message))
			p.after = je.After
			if je.Field != "" {
				p.Errors = []FieldError{fieldError(je.Field, p.Detail)}
			}
			return p
		}
	}
	if errors.Is(err, context.DeadlineExceeded) || errors.Is(err, context.Canceled) {
		return New(http.StatusServiceUnavailable, string(job.CodeUnavailable), "the server ran out of time or is stopping; try again")
	}
	return New(http.StatusInternalServerError, CodeInternal, InternalDetail)
}

// shown makes a message one that can stand in a log and on a terminal, whatever it
// repeats of bad input.
func shown(message string) string {
	const most = 1000
	if len(message) > most {
		message = message[:most] + "…"
	}
	return strings.Map(func(r rune) rune {
		if unicode.IsPrint(r) {
			return r
		}
		return utf8.RuneError
	}, strings.ToValidUTF8(message, string(utf8.RuneError)))
}

// fieldError points at a field of the body, by its name or by a JSON pointer, or
// at a header if the name is that of one.
func fieldError(field, detail string) FieldError {
	switch {
	case strings.HasPrefix(field, "/"):
		return FieldError{Detail: detail, Pointer: "#" + field}
	case field[0] >= 'A' && field[0] <= 'Z':
		return FieldError{Detail: detail, Parameter: field}
	}
	return FieldError{Detail: detail, Pointer: "#/" + field}
}

// InPath marks those fields as parameters that are in the path of the operation.
func (p *Problem) InPath(path string) *Problem {
	for i, e := range p.Errors {
		if name, ok := strings.CutPrefix(e.Pointer, "#/"); ok && strings.Contains(path, "{"+name+"}") {
			p.Errors[i] = FieldError{Detail: e.Detail, Parameter: name}
		}
	}
	return p
}

// AsParameters marks the fields as parameters: for operations without a JSON body.
func (p *Problem) AsParameters() *Problem {
	for i, e := range p.Errors {
		if e.Pointer != "" {
			p.Errors[i] = FieldError{Detail: e.Detail, Parameter: strings.TrimPrefix(e.Pointer, "#/")}
		}
	}
	return p
}

// Err turns a problem back into the error that the service returned.
func (p *Problem) Err() error { return &answer{code: p.Code, err: p.err()} }

// answer is an error that a server answered with. It reads as what it is of.
type answer struct {
	code string
	err  error
}

func (a *answer) Error() string { return a.err.Error() }
func (a *answer) Unwrap() error { return a.err }

// CodeFrom gives the code of the catalogue with which a server answered; "" if an error is
// of no answer.
func CodeFrom(err error) string {
	var a *answer
	if !errors.As(err, &a) {
		return ""
	}
	if _, known := Lookup(a.code); !known {
		return ""
	}
	return a.code
}

func (p *Problem) err() error {
	code := job.Code(p.Code)
	if kind, known := Lookup(p.Code); !known || !kind.isOfService() {
		if p.Status < 400 || p.Status > 499 {
			return fmt.Errorf("server: %s (status %d, request %s)", p.Detail, p.Status, p.RequestID)
		}
		code = job.CodeInvalid
	}
	e := &job.Error{Code: code, Message: p.Detail}
	if len(p.Errors) > 0 {
		e.Field = p.Errors[0].Parameter
		if ptr := p.Errors[0].Pointer; ptr != "" {
			e.Field = strings.TrimPrefix(ptr, "#")
			if name := e.Field[1:]; !strings.ContainsAny(name, "/~") {
				e.Field = name
			}
		}
	}
	return e
}

// Line is the last line of a stream that failed after it had begun.
type Line struct {
	Problem *Problem `json:"problem"`
}

// ParseLine tells whether a line of a stream is its failure.
func ParseLine(line []byte) (*Problem, bool) {
	if !bytes.HasPrefix(line, []byte(`{"problem":`)) {
		return nil, false
	}
	var l Line
	if err := json.Unmarshal(line, &l); err != nil || l.Problem == nil {
		return New(http.StatusBadGateway, CodeInternal, "the stream ended with a problem that cannot be read"), true
	}
	return l.Problem, true
}
