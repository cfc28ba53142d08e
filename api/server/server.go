// Package server puts an api.Service on the network: HTTP, described by OpenAPI 3.1
// at /openapi.json.
//
// It guarantees: an operation under /v1 without a key that is in force, and that may do
// it, has no effect and tells nothing, but why a server cannot work at all, and one whose
// key is revoked ends within a second of the process's knowing it, unless it is a change that
// was asked for whole before; a body is refused where none is taken; each operation has a decision about who may do
// it; what changes something is told to the audit log before it is answered; a JSON body is read whole, within 2 MiB and 30 s, strictly
// (one value, valid UTF-8, no duplicate, unknown or wrongly cased names) and
// validated before the service sees it; every error is a problem of RFC 9457 with
// a code and a request id, and says nothing of the inside; a panic costs one
// request; the number of requests under way, and so their memory, is bounded.
package server

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"

	"crier/api"
	"crier/api/problem"
	"crier/api/server/about"
	"crier/api/server/gate"
	"crier/api/server/inforce"
	"crier/api/server/paced"
	"crier/job"
)

// Keys knows who may use the API.
type Keys interface {
	// Identify tells whose key it is, if it is one that is in force; else its error is
	// denied and says nothing of why. It does not wait for anything longer than a second.
	Identify(ctx context.Context, key string) (api.Caller, error)
	// Admit takes one of the requests that the caller's tenant may make now, or is
	// limited.
	Admit(c api.Caller) error
}

// Trail keeps what was changed by whom: the audit log.
type Trail interface {
	// Begin gives the context in which a change is to be made. inSQL says that the first
	// transaction in it is the change, with which the act is to be written.
	Begin(ctx context.Context, a *api.Act, inSQL bool) context.Context
	// End writes the act, unless it was written with the change; err is why it failed, or
	// nil. It returns within seconds, whatever the log's store does.
	End(ctx context.Context, a *api.Act, err error)
}

// Config is what the server needs. Service, Keys and Trail are required, unless it refuses.
type Config struct {
	// Service does the work.
	Service api.Service
	// Refuse says why a server cannot work now, for each request anew. Every operation is
	// answered with it, whatever the key is, for nothing may be known of keys then; and so
	// is GET /readyz. So anybody may read it. Nil: it can work.
	Refuse func() error
	// Keys checks the Bearer key of every operation under /v1.
	Keys Keys
	// Trail is told of every operation that changes something.
	Trail Trail
	// Connect serves GET /v1/connect, the recipients' WebSocket, and /v1/stream, their
	// events, with checks of its own. Nil: no gateway is here, which needs no key to be told.
	Connect http.Handler
	// Metrics serves GET /metrics, which needs no key and therefore must not have
	// a label for an account, a job or a recipient. Nil: there is no such path.
	Metrics http.Handler
	// Ready says why the server cannot take requests yet, for GET /readyz. Nil: it
	// always can.
	Ready func() error
	// Version stands in the OpenAPI document.
	Version string
	// MaxUpload is the largest upload in bytes. Default: 2 GiB.
	MaxUpload int64
	// Heartbeat is the time after which a silent stream gets an empty line. Default: 15 s.
	Heartbeat time.Duration
	// Log gets a line for each request at level debug, and for each internal error
	// at level error. Default: slog.Default.
	Log *slog.Logger
}

// Validate names what is missing.
func (c Config) Validate() error {
	switch {
	case c.Service == nil && c.Refuse == nil:
		return errors.New("api/server: Config.Service is needed")
	case c.Keys == nil && c.Refuse == nil:
		return errors.New("api/server: Config.Keys is needed")
	case c.Trail == nil && c.Refuse == nil:
		return errors.New("api/server: Config.Trail is needed")
	case c.MaxUpload < 0:
		return errors.New("api/server: Config.MaxUpload is negative")
	case c.Heartbeat < 0:
		return errors.New("api/server: Config.Heartbeat is negative")
	}
	return nil
}

// Server is the HTTP server of a Service: an http.Handler.
type Server struct {
	cfg Config
	mux *http.ServeMux
	ops map[string]string // from the patterns of the mux to the ids of operations; nothing else is under /v1
	doc huma.API
	// noBody has the operations that take no body, by their ids, and what is said to whoever
	// sends one.
	noBody map[string]string
	// One gate for each kind of request. 64 writes of maxRequest bytes, raw and decoded, are
	// 256 MiB at worst; uploads and streams pass through and hold a buffer each.
	reads, writes, uploads, streams, files *gate.Gate

	ended context.Context // over once EndStreams was called
	end   context.CancelFunc
}

// New builds the handler; it starts nothing.
func New(cfg Config) (*Server, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	if cfg.MaxUpload == 0 {
		cfg.MaxUpload = 2 << 30
	}
	if cfg.Heartbeat == 0 {
		cfg.Heartbeat = 15 * time.Second
	}
	if cfg.Log == nil {
		cfg.Log = slog.Default()
	}
	s := &Server{
		cfg: cfg, mux: http.NewServeMux(), ops: map[string]string{}, noBody: map[string]string{},
		reads: gate.New(256, 4096), writes: gate.New(64, 16384), uploads: gate.New(8, 64), streams: gate.New(4096, 0), files: gate.New(1, 0),
	}
	s.ended, s.end = context.WithCancel(context.Background())
	s.doc = huma.NewAPI(openAPI(cfg.Version), humago.NewAdapter(humaMux{s}, ""))
	if cfg.Refuse == nil {
		s.accountRoutes()
		s.followerRoutes()
		s.segmentRoutes()
		s.packageRoutes()
		s.jobRoutes()
		s.controlRoutes()
		s.proofRoutes()
		s.clusterRoutes()
		s.operationRoutes()
		s.accessRoutes()
	}
	s.plainRoutes()
	s.correct()
	return s, nil
}

// EndStreams ends watches, tails and long polls, now and from now on, so that
// http.Server.Shutdown need not wait for them; register it with
// RegisterOnShutdown. Their clients are told to try again. Idempotent.
func (s *Server) EndStreams() { s.end() }

// errStopping is why a stream ends that EndStreams ended.
var errStopping = errors.New("the server is stopping")

// endable makes the context of a request one that EndStreams ends.
func (s *Server) endable(h http.HandlerFunc) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		ctx, cancel := context.WithCancelCause(r.Context())
		defer cancel(nil)
		defer context.AfterFunc(s.ended, func() { cancel(errStopping) })()
		h(w, r.WithContext(ctx))
	}
}

// ServeHTTP answers one request.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if s.cfg.Connect != nil && isConnect(r.URL.Path) {
		s.cfg.Connect.ServeHTTP(w, r) // nothing is wrapped: connections live long and are many
		return
	}
	if r.ContentLength != 0 {
		paced.Hurry(w, bodyTimeout) // net/http reads what no operation has read, and would wait for it
	}
	id := requestID(r)
	r = r.WithContext(context.WithValue(r.Context(), requestIDKey{}, id))
	w.Header().Set("X-Request-Id", id)
	w.Header().Set("X-Content-Type-Options", "nosniff")
	sw := &statusWriter{ResponseWriter: w}
	start := time.Now()
	defer func() {
		s.recovered(sw, r, recover())
		s.cfg.Log.Debug("request", "id", id, "method", r.Method, "path", about.Loggable(r.URL.Path), "status", sw.status, "took", time.Since(start))
	}()
	s.dispatch(sw, r)
}

// isConnect reports whether a path is the gateway's.
func isConnect(path string) bool {
	return path == "/v1/connect" || path == "/v1/stream" || path == "/v1/stream/ack"
}

// dispatch refuses what no operation should see, and finds the operation.
func (s *Server) dispatch(w *statusWriter, r *http.Request) {
	if p := wellFormed(r); p != nil {
		s.writeProblem(w, r, p)
		return
	}
	if isConnect(r.URL.Path) { // whoever has a token is not to get another one, but to ask elsewhere
		s.writeProblem(w, r, problem.New(http.StatusNotFound, string(job.CodeNotFound), "no gateway is here: this process does not have the role gateway"))
		return
	}
	if strings.HasPrefix(r.URL.Path, "/v1/") {
		c, p := s.authorize(r)
		if p != nil {
			s.writeProblem(w, r, p)
			return
		}
		r = r.WithContext(api.WithCaller(r.Context(), c))
	}
	handler, pattern := s.mux.Handler(r)
	if pattern == "" {
		s.noSuchPath(w, r, handler)
		return
	}
	id, known := s.ops[pattern]
	if !known && strings.HasPrefix(r.URL.Path, "/v1/") {
		s.writeProblem(w, r, s.problem(r.Context(), errors.New("nobody has decided who may "+pattern)))
		return
	}
	if known {
		asked := r
		ctx, stop := inforce.Watch(r.Context(), func(ctx context.Context) error { return s.still(asked.WithContext(ctx), id) })
		defer stop()
		r = r.WithContext(ctx)
	}
	s.mux.ServeHTTP(w, r)
}

// noSuchPath answers 404, or 405 if the path exists with another method; which
// of them the mux tells by its own answer.
func (s *Server) noSuchPath(w *statusWriter, r *http.Request, muxAnswer http.Handler) {
	probe := &discard{header: http.Header{}}
	muxAnswer.ServeHTTP(probe, r)
	if probe.status == http.StatusMethodNotAllowed {
		w.Header().Set("Allow", probe.header.Get("Allow"))
		s.writeProblem(w, r, problem.New(http.StatusMethodNotAllowed, problem.CodeMethod,
			"this path does not take "+r.Method+"; it takes "+probe.header.Get("Allow")))
		return
	}
	s.writeProblem(w, r, problem.New(http.StatusNotFound, "not_found", "there is no such path; GET /openapi.json lists them"))
}

// recovered turns a panic into a problem, or cuts the connection if the answer
// is already under way, so that the client does not take a part for the whole.
func (s *Server) recovered(w *statusWriter, r *http.Request, v any) {
	if v == nil {
		return
	}
	if v == http.ErrAbortHandler {
		panic(v)
	}
	s.cfg.Log.Error("panic in a request", "id", requestIDOf(r.Context()), "method", r.Method, "path", about.Loggable(r.URL.Path),
		"panic", v, "stack", stack())
	if w.status != 0 {
		panic(http.ErrAbortHandler)
	}
	s.writeProblem(w, r, problem.Of(errors.New("panic")))
}

// problem makes the answer to an error and logs it if it is internal. Whose key is not in
// force any more is told just that.
func (s *Server) problem(ctx context.Context, err error) *problem.Problem {
	if why := inforce.Why(ctx); why != nil {
		err = why
	}
	p := *problem.Of(err)
	p.RequestID = requestIDOf(ctx)
	switch {
	case p.Status < http.StatusInternalServerError:
	case context.Cause(ctx) == context.Canceled && (p.Status == http.StatusServiceUnavailable || errors.Is(err, context.Canceled)): // the caller hung up
		s.cfg.Log.Debug("the caller hung up", "id", p.RequestID, "error", err)
	default:
		s.cfg.Log.Error("request failed", "id", p.RequestID, "status", p.Status, "error", err)
	}
	return &p
}

// writeProblem writes a problem outside huma.
func (s *Server) writeProblem(w http.ResponseWriter, r *http.Request, p *problem.Problem) {
	q := *p
	q.RequestID = requestIDOf(r.Context())
	for k, v := range q.GetHeaders() {
		w.Header()[k] = v
	}
	w.Header().Set("Content-Type", q.ContentType(""))
	w.WriteHeader(q.Status)
	if err := strictFormat.Marshal(w, &q); err != nil {
		s.cfg.Log.Debug("the client did not read the problem", "id", q.RequestID, "error", err)
	}
}
