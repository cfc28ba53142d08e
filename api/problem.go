package api

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

// Codes of a problem that no *job.Error has.
const (
	CodeInternal = "internal"
	CodeMethod   = "method_not_allowed"
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
	Code      string       `json:"code" doc:"invalid, not_found, conflict, denied, too_large, unavailable, storage_full, limited, method_not_allowed or internal."`
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

// NewProblem makes a problem with a status and a code.
func NewProblem(status int, code, detail string) *Problem {
	return &Problem{Type: "about:blank", Title: http.StatusText(status), Status: status, Detail: detail, Code: code}
}

// statusOf is the table from codes to statuses.
var statusOf = map[job.Code]int{
	job.CodeInvalid:     http.StatusUnprocessableEntity,
	job.CodeNotFound:    http.StatusNotFound,
	job.CodeConflict:    http.StatusConflict,
	job.CodeDenied:      http.StatusForbidden,
	job.CodeTooLarge:    http.StatusRequestEntityTooLarge,
	job.CodeUnavailable: http.StatusServiceUnavailable,
	job.CodeFull:        http.StatusInsufficientStorage,
	job.CodeLimited:     http.StatusTooManyRequests,
}

// ProblemOf turns an error of the service into what the user may see. A
// *job.Error shows its message, never its cause; any other error shows nothing.
func ProblemOf(err error) *Problem {
	var p *Problem
	if errors.As(err, &p) {
		return p
	}
	var je *job.Error
	if errors.As(err, &je) {
		if status, known := statusOf[je.Code]; known {
			p = NewProblem(status, string(je.Code), shown(je.Message))
			p.after = je.After
			if je.Field != "" {
				p.Errors = []FieldError{fieldError(je.Field, p.Detail)}
			}
			return p
		}
	}
	if errors.Is(err, context.DeadlineExceeded) || errors.Is(err, context.Canceled) {
		return NewProblem(http.StatusServiceUnavailable, string(job.CodeUnavailable), "the server ran out of time or is stopping; try again")
	}
	return NewProblem(http.StatusInternalServerError, CodeInternal, InternalDetail)
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
func (p *Problem) Err() error {
	code := job.Code(p.Code)
	if _, known := statusOf[code]; !known {
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

// ProblemLine is the last line of a stream that failed after it had begun.
type ProblemLine struct {
	Problem *Problem `json:"problem"`
}

// ParseProblemLine tells whether a line of a stream is its failure.
func ParseProblemLine(line []byte) (*Problem, bool) {
	if !bytes.HasPrefix(line, []byte(`{"problem":`)) {
		return nil, false
	}
	var l ProblemLine
	if err := json.Unmarshal(line, &l); err != nil || l.Problem == nil {
		return NewProblem(http.StatusBadGateway, CodeInternal, "the stream ended with a problem that cannot be read"), true
	}
	return l.Problem, true
}

// Printable keeps what bad input had to say short and valid UTF-8.
func Printable(s string) string {
	const limit = 200
	if len(s) > limit {
		s = s[:limit]
	}
	return string(bytes.ToValidUTF8([]byte(s), []byte("?")))
}
