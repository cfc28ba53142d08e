package server

import (
	"context"
	_ "embed"
	"io"
	"net/http"
	"slices"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"crier/api"
	"crier/api/problem"
	"crier/api/server/paced"
	"crier/job"
)

//go:embed docs/index.html
var docsPage []byte

//go:embed docs/docs.js
var docsScript []byte

// plainRoutes registers what huma does not serve: uploads, which are not read
// into memory, streams, the long poll and the pages without a key. It documents
// those under /v1 by hand.
func (s *Server) plainRoutes() {
	s.upload(s.importFollowers, operation{"import-followers", http.MethodPost, "/v1/followers/import", "followers",
		"Import a file of edges or ids; it may be gzipped", http.StatusOK}, api.FollowersImport{}, importFollowersQuery...)
	s.upload(s.importPackage, operation{"import-package", http.MethodPost, "/v1/packages", "packages",
		"Hand in a recipient package in its envelope (.crpk)", http.StatusCreated}, api.Package{}, importPackageQuery...)
	s.setUploads()
	s.file(s.uploads, s.exportSet, operation{"export-set", http.MethodGet, "/v1/sets/{kind}", "packages",
		"Followers, a suppression list or a segment, as it is, as a recipient package", http.StatusOK}, "application/octet-stream", exportQuery...)
	s.file(s.uploads, s.exportJob, operation{"export-job", http.MethodGet, "/v1/jobs/{job}/recipients", "jobs",
		"The recipients of a job who stand at some outcomes, as the ledger shows, as a recipient package or as ids", http.StatusOK}, "application/octet-stream", exportJobQuery...)
	s.streaming(s.watchJob, operation{"watch-job", http.MethodGet, "/v1/jobs/{job}/watch", "jobs",
		"The job after each change until it is over, a JSON object a line", http.StatusOK}, api.Job{})
	s.streaming(s.tailLedger, operation{"tail-ledger", http.MethodGet, "/v1/ledger", "ledger",
		"Records of the ledger, a JSON object a line", http.StatusOK}, api.LedgerEntry{}, tailLedgerQuery...)
	s.streaming(s.tailEvents, operation{"tail-events", http.MethodGet, "/v1/events", "events",
		"Events of jobs, slices and sets of recipients, a JSON object a line", http.StatusOK}, api.Event{}, tailEventsQuery...)
	s.file(s.files, s.backup, operation{"backup", http.MethodGet, "/v1/backup", "operations",
		"A copy of everything that was acknowledged before, as a tar file whose last part is its manifest; one at a time", http.StatusOK}, "application/x-tar")
	s.document(operation{"wait-job", http.MethodGet, "/v1/jobs/{job}/wait", "jobs",
		"Wait until a job is sent or completed, or over, at most 30 s", http.StatusOK}, "application/json", api.Job{}, waitJobQuery...)
	s.route("wait-job", "GET /v1/jobs/{job}/wait", s.guarded(s.streams, s.endable(s.answering(http.StatusOK, s.waitJob))))

	s.mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) {
		s.page(w, "text/plain; charset=utf-8", []byte("alive\n"))
	})
	s.mux.HandleFunc("GET /readyz", s.ready)
	s.mux.HandleFunc("GET /docs", func(w http.ResponseWriter, _ *http.Request) { s.page(w, "text/html; charset=utf-8", docsPage) })
	s.mux.HandleFunc("GET /docs/docs.js", func(w http.ResponseWriter, _ *http.Request) {
		s.page(w, "text/javascript; charset=utf-8", docsScript)
	})
	s.mux.Handle("GET /{$}", http.RedirectHandler("/docs", http.StatusFound))
	if s.cfg.Metrics != nil {
		s.mux.Handle("GET /metrics", s.cfg.Metrics)
	}
}

func (s *Server) page(w http.ResponseWriter, contentType string, data []byte) {
	w.Header().Set("Content-Type", contentType)
	w.Header().Set("Content-Security-Policy", "default-src 'none'; script-src 'self'; connect-src 'self'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'")
	if _, err := w.Write(data); err != nil {
		s.cfg.Log.Debug("the client did not read the page", "error", err)
	}
}

func (s *Server) ready(w http.ResponseWriter, r *http.Request) {
	var err error
	says := "the server is not ready yet"
	switch {
	case s.cfg.Refuse != nil:
		err = s.cfg.Refuse()
		says = "the server is not ready: " + problem.Of(err).Detail
	case s.cfg.Ready != nil:
		err = s.cfg.Ready()
	}
	if err != nil {
		s.cfg.Log.Debug("not ready", "error", err)
		s.writeProblem(w, r, problem.New(http.StatusServiceUnavailable, string(job.CodeUnavailable), says))
		return
	}
	s.page(w, "text/plain; charset=utf-8", []byte("ready\n"))
}

// upload registers an operation whose body is a file.
func (s *Server) upload(do func(*http.Request) (any, error), o operation, answer any, query ...param) {
	s.document(o, "application/json", answer, query...).RequestBody = &huma.RequestBody{
		Required: true,
		Content:  map[string]*huma.MediaType{"application/octet-stream": {Schema: &huma.Schema{Type: huma.TypeString, Format: "binary"}}},
	}
	s.route(o.id, o.method+" "+o.path, s.guarded(s.uploads, func(w http.ResponseWriter, r *http.Request) {
		r.Body = io.NopCloser(paced.NewUpload(r.Context(), w, r.Body, s.cfg.MaxUpload))
		defer context.AfterFunc(r.Context(), func() { paced.Hurry(w, time.Nanosecond) })() // what stands still ends, too
		s.answering(o.status, func(r *http.Request) (any, error) {
			if err := knownQuery(r, query); err != nil {
				return nil, err
			}
			return do(r)
		})(w, r)
	}))
}

// answering writes what do returns as JSON, or its error as a problem.
func (s *Server) answering(status int, do func(*http.Request) (any, error)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		out, err := do(r)
		s.note(r.Context(), err)
		if err != nil {
			s.writeProblem(w, r, s.problem(r.Context(), err).AsParameters())
			return
		}
		if where := locationOf(out); where != "" && status == http.StatusCreated {
			w.Header().Set("Location", where)
		}
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(status)
		if err := strictFormat.Marshal(w, out); err != nil {
			s.cfg.Log.Debug("the client did not read the answer", "id", requestIDOf(r.Context()), "error", err)
		}
	}
}

// knownQuery refuses parameters that the operation does not have.
func knownQuery(r *http.Request, known []param) error {
	for k := range r.URL.Query() {
		if !slices.ContainsFunc(known, func(p param) bool { return p.name == k }) {
			return job.Invalid(api.Printable(k), "unknown query parameter", nil)
		}
	}
	return nil
}

func (s *Server) importFollowers(r *http.Request) (any, error) {
	q := r.URL.Query()
	skip, err := skipQuery(r)
	if err != nil {
		return nil, err
	}
	req := api.ImportFollowers{Format: q.Get("format"), Account: q.Get("account"), Skip: skip}
	if err := req.Validate(); err != nil {
		return nil, err
	}
	return s.cfg.Service.ImportFollowers(r.Context(), req, r.Body)
}

func (s *Server) importPackage(r *http.Request) (any, error) {
	req := api.ImportPackage{Account: r.URL.Query().Get("account"), Name: r.URL.Query().Get("name")}
	if err := req.Validate(); err != nil {
		return nil, err
	}
	return s.cfg.Service.ImportPackage(r.Context(), req, r.Body)
}

// waitJob is the long poll: it answers at the latest after api.MaxWait, so that no
// proxy and no client takes the silence for a dead server.
func (s *Server) waitJob(r *http.Request) (any, error) {
	if err := knownQuery(r, waitJobQuery); err != nil {
		return nil, err
	}
	req := api.WaitJob{For: job.Sent, Timeout: api.MaxWait}
	if text := r.URL.Query().Get("for"); text != "" {
		if err := req.For.UnmarshalText([]byte(text)); err != nil {
			return nil, job.Invalid("for", "want sent or completed", nil)
		}
	}
	if text := r.URL.Query().Get("timeout"); text != "" {
		d, err := api.ParseDuration(text)
		if err != nil || d <= 0 {
			return nil, job.Invalid("timeout", "want a length of time such as 10s, at most 30s", nil)
		}
		req.Timeout = min(time.Duration(d), api.MaxWait)
	}
	if err := req.Validate(); err != nil {
		return nil, err
	}
	return withJob(r.Context(), r.PathValue("job"), func(ctx context.Context, id job.ID) (any, error) {
		return s.cfg.Service.WaitJob(ctx, id, req)
	})
}
