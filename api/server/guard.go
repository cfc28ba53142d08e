package server

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/hex"
	"io"
	"mime"
	"net/http"
	"net/url"
	"path"
	"regexp"
	"runtime/debug"
	"strings"
	"time"
	"unicode/utf8"

	"crier/api"
	"crier/api/decision"
	"crier/api/problem"
	"crier/api/server/paced"
	"crier/job"
)

// maxRequest is the largest JSON body in bytes: a message of job.MaxBody bytes
// whose every byte needs an escape of six, and MaxIDs ids, both fit.
const maxRequest = 2 << 20

// bodyTimeout is how long a client may take to send a JSON body.
const bodyTimeout = 30 * time.Second

type requestIDKey struct{}

// requestID takes the client's X-Request-Id if it is harmless, or makes one.
func requestID(r *http.Request) string {
	id := r.Header.Get("X-Request-Id")
	if id != "" && len(id) <= 64 && strings.Trim(id, "-._ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789") == "" {
		return id
	}
	var b [12]byte
	_, _ = rand.Read(b[:]) // never returns an error
	return "req_" + hex.EncodeToString(b[:])
}

// requestIDOf gives the id of the request that a context belongs to.
func requestIDOf(ctx context.Context) string {
	id, _ := ctx.Value(requestIDKey{}).(string)
	return id
}

// wellFormed refuses paths and queries that are not canonical or not UTF-8, so
// that nothing behind it can be led astray or has to answer with broken text.
func wellFormed(r *http.Request) *problem.Problem {
	p := r.URL.Path
	if !utf8.ValidString(p) {
		return problem.New(http.StatusBadRequest, string(job.CodeInvalid), "the path is not UTF-8")
	}
	if p == "" || p != "/" && path.Clean(p) != strings.TrimSuffix(p, "/") {
		return problem.New(http.StatusNotFound, string(job.CodeNotFound), "the path is not in its shortest form")
	}
	q, err := url.ParseQuery(r.URL.RawQuery)
	if err != nil {
		return problem.New(http.StatusBadRequest, string(job.CodeInvalid), "the query is malformed")
	}
	for k, vs := range q {
		if len(vs) > 1 {
			return problem.New(http.StatusBadRequest, string(job.CodeInvalid), "a parameter of the query is given twice")
		}
		if !utf8.ValidString(k) || !utf8.ValidString(vs[0]) {
			return problem.New(http.StatusBadRequest, string(job.CodeInvalid), "the query is not UTF-8")
		}
	}
	return nil
}

// authorize tells whose key a request has, if it is in force and the server can work.
func (s *Server) authorize(r *http.Request) (api.Caller, *problem.Problem) {
	scheme, key, _ := strings.Cut(r.Header.Get("Authorization"), " ")
	if !strings.EqualFold(scheme, "Bearer") || key == "" {
		return api.Caller{}, problem.New(http.StatusUnauthorized, string(job.CodeDenied),
			"a key is needed: Authorization: Bearer crk_...")
	}
	if s.cfg.Refuse != nil {
		return api.Caller{}, problem.Of(s.cfg.Refuse())
	}
	c, err := s.cfg.Keys.Identify(r.Context(), key)
	if err != nil {
		return api.Caller{}, problem.New(http.StatusUnauthorized, string(job.CodeDenied), "this is not a valid key")
	}
	return c, nil
}

// still refuses a request under way what a new one would be refused, and what would be of
// another tenant.
func (s *Server) still(r *http.Request, operationID string) error {
	c, p := s.authorize(r)
	if p != nil {
		return p
	}
	was, err := api.CallerOf(r.Context())
	if err == nil && c.Tenant != was.Tenant {
		err = &job.Error{Code: job.CodeDenied, Message: "the key is of another tenant now"}
	}
	if err != nil {
		return err
	}
	d, _ := decision.Of(operationID)
	return d.Allows(c, operationID)
}

// slurp reads a JSON body whole, within its limits of size and time, and puts it
// back for huma to decode. A request without a body passes.
func slurp(w http.ResponseWriter, r *http.Request) *problem.Problem {
	paced.Hurry(w, bodyTimeout)
	data, err := io.ReadAll(io.LimitReader(r.Body, maxRequest+1))
	if err == nil && len(data) <= maxRequest {
		paced.Hurry(w, 0)
	}
	switch {
	case len(data) > maxRequest:
		w.Header().Set("Connection", "close")
		return problem.New(http.StatusRequestEntityTooLarge, string(job.CodeTooLarge), "the body is over 2 MiB")
	case err != nil:
		w.Header().Set("Connection", "close")
		return problem.New(http.StatusBadRequest, string(job.CodeInvalid), "the body broke off")
	case len(data) > 0 && !isJSON(r.Header.Get("Content-Type")):
		return problem.New(http.StatusUnsupportedMediaType, string(job.CodeInvalid), "the body must be application/json")
	}
	r.Body = io.NopCloser(bytes.NewReader(data))
	return nil
}

// mostNothing is how much is read of a body that should not be there, in bytes.
const mostNothing = 4 << 10

// nothing is all that such a body may be: some clients send one always.
var nothing = regexp.MustCompile(`^[ \t\r\n]*(\{[ \t\r\n]*\}|null)?[ \t\r\n]*$`)

// bodyless refuses a body of a request whose operation takes none, by saying so. What is
// nothing is read, for its bound of time must not end a stream.
func bodyless(w http.ResponseWriter, r *http.Request, refusal string) *problem.Problem {
	if r.ContentLength == 0 {
		return nil
	}
	data, err := io.ReadAll(io.LimitReader(r.Body, mostNothing+1))
	switch {
	case err != nil:
		w.Header().Set("Connection", "close")
		return problem.New(http.StatusBadRequest, string(job.CodeInvalid), "the body broke off")
	case len(data) > mostNothing || !nothing.Match(data):
		return bodyProblem(http.StatusBadRequest, refusal)
	}
	paced.Hurry(w, 0)
	r.Body = http.NoBody
	return nil
}

func isJSON(contentType string) bool {
	if contentType == "" {
		return true
	}
	kind, _, err := mime.ParseMediaType(contentType)
	return err == nil && kind == "application/json"
}

// statusWriter remembers the status that was sent, 0 if none was.
type statusWriter struct {
	http.ResponseWriter
	status int
}

// WriteHeader remembers the status.
func (w *statusWriter) WriteHeader(status int) {
	if w.status == 0 {
		w.status = status
	}
	w.ResponseWriter.WriteHeader(status)
}

// Write sends 200 if no status was sent yet.
func (w *statusWriter) Write(b []byte) (int, error) {
	if w.status == 0 {
		w.status = http.StatusOK
	}
	return w.ResponseWriter.Write(b)
}

// Unwrap lets http.ResponseController reach the connection.
func (w *statusWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }

// discard is a response that nobody gets; it keeps the status and the header.
type discard struct {
	header http.Header
	status int
}

func (d *discard) Header() http.Header         { return d.header }
func (d *discard) Write(b []byte) (int, error) { return len(b), nil }
func (d *discard) WriteHeader(status int)      { d.status = status }

func stack() string { return string(debug.Stack()) }
