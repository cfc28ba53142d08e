package server

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/url"
	"strconv"

	"github.com/danielgtaylor/huma/v2"

	"crier/api"
	"crier/api/problem"
	"crier/api/server/about"
	"crier/api/server/gate"
	"crier/api/server/paced"
	"crier/job"
)

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
	out := paced.NewLines(w)
	ctx, cancel := context.WithCancel(r.Context())
	beating := make(chan struct{})
	go func() {
		defer close(beating)
		out.Beat(ctx, s.cfg.Heartbeat)
	}()
	stop := func() { cancel(); <-beating }
	defer stop() // also when do panics
	err := do(r, func(v any) error {
		if over := context.Cause(r.Context()); over != nil {
			return over
		}
		return out.Send(v)
	})
	stop()
	out.End()
	switch {
	case errors.Is(err, paced.ErrGone) || context.Cause(r.Context()) == context.Canceled: // the client is gone
	case err != nil && out.Begun():
		if err := out.Send(problem.Line{Problem: s.problem(r.Context(), err)}); err != nil {
			s.cfg.Log.Debug("the client did not read the problem", "error", err)
		}
	case err != nil:
		s.writeProblem(w, r, s.problem(r.Context(), err).AsParameters())
	case !out.Begun():
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

// file registers an operation whose answer is a file of unknown size, that at most as many
// get at a time as a gate lets in.
func (s *Server) file(g *gate.Gate, do func(*http.Request, io.Writer) error, o operation, contentType string, query ...param) {
	s.document(o, contentType, "", query...).Responses[strconv.Itoa(o.status)].Content[contentType].Schema = &huma.Schema{Type: huma.TypeString, Format: "binary"}
	s.route(o.id, o.method+" "+o.path, s.guarded(g, s.endable(func(w http.ResponseWriter, r *http.Request) {
		if err := knownQuery(r, query); err != nil {
			s.writeProblem(w, r, s.problem(r.Context(), err).AsParameters())
			return
		}
		out := paced.NewFile(r.Context(), w, contentType)
		err := do(r, out)
		s.note(r.Context(), err)
		out.End(err == nil)
		switch {
		case err == nil:
		case !out.Begun():
			s.writeProblem(w, r, s.problem(r.Context(), err).AsParameters())
		default:
			if !errors.Is(err, paced.ErrGone) && r.Context().Err() == nil {
				s.cfg.Log.Error("an answer broke off", "id", requestIDOf(r.Context()), "path", about.Loggable(r.URL.Path), "error", err)
			}
			panic(http.ErrAbortHandler) // or a part would be taken for the whole
		}
	})))
}

func (s *Server) backup(r *http.Request, w io.Writer) error {
	api.ActOf(r.Context()).On(job.DefaultTenant, "data")
	return s.cfg.Service.Backup(r.Context(), w)
}

// exportSet gives followers, a suppression list or a segment.
func (s *Server) exportSet(r *http.Request, w io.Writer) error {
	req := api.ExportSet{Kind: r.PathValue("kind"), Of: r.URL.Query().Get("of")}
	if err := req.Validate(); err != nil {
		return err
	}
	return s.cfg.Service.ExportSet(r.Context(), req, w)
}

// exportJob gives who of a job stands at some outcomes.
func (s *Server) exportJob(r *http.Request, w io.Writer) error {
	standings, err := api.ParseStandings(r.URL.Query().Get("outcome"))
	if err != nil {
		return err
	}
	req := api.ExportJob{Standings: standings, Format: r.URL.Query().Get("format")}
	if err := req.Validate(); err != nil {
		return err
	}
	id, err := api.ParseJobID(r.PathValue("job"))
	if err != nil {
		return err
	}
	return s.cfg.Service.ExportJob(r.Context(), id, req, w)
}
