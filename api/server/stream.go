package server

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"sync"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"crier/api"
	"crier/api/wire"
	"crier/job"
)

// lineTimeout is how long a client may take to read one line of a stream.
const lineTimeout = 30 * time.Second

// uploadTimeout is how long an upload may stand still.
const uploadTimeout = time.Minute

// capped is an upload: it fails once more than its limit was read, and when
// nothing came for uploadTimeout.
type capped struct {
	r    io.Reader
	left int64
	w    http.ResponseWriter
}

// Read gives too_large as its error beyond the limit, and unavailable if the
// upload breaks off, so that the service need not know about HTTP.
func (c *capped) Read(b []byte) (int, error) {
	if c.left < 0 {
		return 0, &job.Error{Code: job.CodeTooLarge, Message: "the upload is over the server's limit"}
	}
	if int64(len(b)) > c.left+1 {
		b = b[:c.left+1]
	}
	hurry(c.w, uploadTimeout)
	n, err := c.r.Read(b)
	if err == io.EOF {
		hurry(c.w, 0)
	}
	c.left -= int64(n)
	if c.left < 0 {
		return n - 1, &job.Error{Code: job.CodeTooLarge, Message: "the upload is over the server's limit"}
	}
	if err != nil && err != io.EOF {
		err = &job.Error{Code: job.CodeUnavailable, Message: "the upload broke off; nothing was kept", Err: err}
	}
	return n, err
}

// lines writes a stream of JSON objects, one a line. The status is sent with the
// first line. A stream that is silent gets an empty line now and then, by which
// both sides learn whether the other one is alive.
type lines struct {
	mu struct {
		sync.Mutex
		w       http.ResponseWriter
		control *http.ResponseController
		started bool
		err     error
	}
}

func newLines(w http.ResponseWriter) *lines {
	l := &lines{}
	l.mu.w, l.mu.control = w, http.NewResponseController(w)
	return l
}

// send writes one line; v nil is an empty one.
func (l *lines) send(v any) error {
	line := []byte("\n")
	if v != nil {
		data, err := wire.Marshal(v)
		if err != nil {
			return err
		}
		line = append(data, '\n')
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.mu.err != nil {
		return l.mu.err
	}
	if !l.mu.started {
		l.mu.started = true
		l.mu.w.Header().Set("Content-Type", "application/x-ndjson")
		l.mu.w.Header().Set("Cache-Control", "no-store")
		l.mu.w.WriteHeader(http.StatusOK)
	}
	// A writer without deadlines, as tests have, is used without them.
	_ = l.mu.control.SetWriteDeadline(time.Now().Add(lineTimeout))
	_, err := l.mu.w.Write(line)
	if err == nil {
		err = l.mu.control.Flush()
	}
	if err != nil {
		l.mu.err = errors.Join(errGone, err)
	}
	return l.mu.err
}

// begun reports whether the status was sent.
func (l *lines) begun() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.mu.started
}

// beat sends an empty line at every interval until ctx ends.
func (l *lines) beat(ctx context.Context, interval time.Duration) {
	tick := time.NewTicker(interval)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			if l.send(nil) != nil {
				return
			}
		}
	}
}

// streaming registers an operation whose answer is a stream of lines.
func (s *Server) streaming(do func(*http.Request, func(any) error) error, o operation, line any, query ...param) {
	s.document(o, "application/x-ndjson", line, query...)
	s.route(o.id, o.method+" "+o.path, s.guarded(s.streams, s.endable(func(w http.ResponseWriter, r *http.Request) {
		if err := knownQuery(r, query); err != nil {
			s.writeProblem(w, r, s.problem(r.Context(), err).AsParameters())
			return
		}
		s.stream(w, r, do)
	})))
}

func (s *Server) stream(w http.ResponseWriter, r *http.Request, do func(*http.Request, func(any) error) error) {
	out := newLines(w)
	ctx, cancel := context.WithCancel(r.Context())
	beating := make(chan struct{})
	go func() {
		defer close(beating)
		out.beat(ctx, s.cfg.Heartbeat)
	}()
	stop := func() { cancel(); <-beating }
	defer stop() // also when do panics
	err := do(r, out.send)
	stop()
	// The connection may serve other requests after this one.
	_ = http.NewResponseController(w).SetWriteDeadline(time.Time{})
	switch {
	case errors.Is(err, errGone) || r.Context().Err() != nil && context.Cause(r.Context()) != errStopping:
	case err != nil && out.begun():
		if err := out.send(api.ProblemLine{Problem: s.problem(r.Context(), err)}); err != nil {
			s.cfg.Log.Debug("the client did not read the problem", "error", err)
		}
	case err != nil:
		s.writeProblem(w, r, s.problem(r.Context(), err).AsParameters())
	case !out.begun():
		w.Header().Set("Content-Type", "application/x-ndjson")
		w.WriteHeader(http.StatusOK)
	}
}

func (s *Server) watchJob(r *http.Request, send func(any) error) error {
	id, err := api.ParseJobID(r.PathValue("job"))
	if err != nil {
		return err
	}
	return s.cfg.Service.WatchJob(r.Context(), id, func(j api.Job) error { return send(j) })
}

func (s *Server) tailLedger(r *http.Request, send func(any) error) error {
	q := r.URL.Query()
	req := api.TailLedger{Filter: q.Get("filter")}
	if text := q.Get("from"); text != "" {
		n, err := strconv.ParseUint(text, 10, 64)
		if err != nil {
			return job.Invalid("from", "want a sequence of the ledger", nil)
		}
		req.From = n
	}
	if err := followQuery(q, &req.Follow); err != nil {
		return err
	}
	if err := req.Validate(); err != nil {
		return err
	}
	return s.cfg.Service.TailLedger(r.Context(), req, func(e api.LedgerEntry) error { return send(e) })
}

func followQuery(q url.Values, follow *bool) (err error) {
	if text := q.Get("follow"); text != "" {
		if *follow, err = strconv.ParseBool(text); err != nil {
			return job.Invalid("follow", "want true or false", nil)
		}
	}
	return nil
}

func (s *Server) tailEvents(r *http.Request, send func(any) error) error {
	q := r.URL.Query()
	req := api.TailEvents{Kind: q.Get("kind")}
	if err := req.Since(q.Get("since")); err != nil {
		return err
	}
	if text := q.Get("job"); text != "" {
		var err error
		if req.Job, err = api.ParseJobID(text); err != nil {
			return err
		}
	}
	if err := followQuery(q, &req.Follow); err != nil {
		return err
	}
	return s.cfg.Service.TailEvents(r.Context(), req, func(e api.Event) error { return send(e) })
}

// file registers an operation whose answer is a file of unknown size.
func (s *Server) file(do func(context.Context, io.Writer) error, o operation, contentType string) {
	s.document(o, contentType, "").Responses[strconv.Itoa(o.status)].Content[contentType].Schema = &huma.Schema{Type: huma.TypeString, Format: "binary"}
	s.route(o.id, o.method+" "+o.path, s.guarded(s.files, s.endable(func(w http.ResponseWriter, r *http.Request) {
		if err := knownQuery(r, nil); err != nil {
			s.writeProblem(w, r, s.problem(r.Context(), err).AsParameters())
			return
		}
		out := &timed{w: w, control: http.NewResponseController(w), contentType: contentType}
		err := do(r.Context(), out)
		// The connection may serve other requests after this one.
		_ = out.control.SetWriteDeadline(time.Time{})
		switch {
		case err != nil && out.begun:
			// Its client must not take a part for the whole.
			s.cfg.Log.Error("an answer broke off", "id", requestIDOf(r.Context()), "path", r.URL.Path, "error", err)
			panic(http.ErrAbortHandler)
		case err != nil:
			s.writeProblem(w, r, s.problem(r.Context(), err).AsParameters())
		}
	})))
}

// timed is an answer that may stand still for lineTimeout only. Its status is sent with
// the first bytes.
type timed struct {
	w           http.ResponseWriter
	control     *http.ResponseController
	contentType string
	begun       bool
}

// Write implements io.Writer.
func (t *timed) Write(b []byte) (int, error) {
	if len(b) == 0 {
		return 0, nil
	}
	if !t.begun {
		t.begun = true
		t.w.Header().Set("Content-Type", t.contentType)
		t.w.Header().Set("Cache-Control", "no-store")
		t.w.WriteHeader(http.StatusOK)
	}
	// A writer without deadlines, as tests have, is used without them.
	_ = t.control.SetWriteDeadline(time.Now().Add(lineTimeout))
	return t.w.Write(b)
}

func (s *Server) backup(ctx context.Context, w io.Writer) error { return s.cfg.Service.Backup(ctx, w) }
