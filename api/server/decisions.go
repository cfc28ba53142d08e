package server

import (
	"context"
	"net/http"

	"crier/api"
	"crier/api/decision"
	"crier/api/problem"
	"crier/api/server/about"
	"crier/api/server/inforce"
	"crier/job"
)

// admits wraps what serves an operation: it tells who asks, refuses whom it is not for
// and what is over the tenant's limit, and has an act written of what changes something.
func (s *Server) admits(operationID string, h http.HandlerFunc) http.HandlerFunc {
	d, known := decision.Of(operationID)
	if !known {
		panic("api/server: nobody has decided who may " + operationID)
	}
	return func(w http.ResponseWriter, r *http.Request) {
		ctx := r.Context()
		c, err := api.CallerOf(ctx)
		if err == nil {
			err = s.cfg.Keys.Admit(c)
		}
		if err == nil && d.Changes != decision.Nothing {
			ctx, err = s.begin(r, c, operationID, d.Changes)
		}
		if err == nil {
			err = d.Allows(c, operationID)
			if err != nil {
				if a := api.ActOf(ctx); a.Object == "" {
					a.On(a.Tenant, about.Body(r, operationID))
				}
				s.note(ctx, err)
			}
		}
		if err != nil {
			s.writeProblem(w, r, s.problem(ctx, err).AsParameters())
			return
		}
		if refusal, without := s.noBody[operationID]; without {
			if p := bodyless(w, r, refusal); p != nil {
				s.writeProblem(w, r, p)
				return
			}
		}
		h(w, r.WithContext(ctx))
	}
}

// route serves an operation that huma does not serve, by a key that may do it. What is
// under /v1 and was not registered here or by huma is served to nobody.
func (s *Server) route(operationID, pattern string, h http.HandlerFunc) {
	s.ops[pattern] = operationID
	s.mux.HandleFunc(pattern, s.admits(operationID, h))
}

// begin gives the context in which an act is done.
func (s *Server) begin(r *http.Request, c api.Caller, operationID string, changes decision.Effect) (context.Context, error) {
	a := &api.Act{Caller: c, Operation: operationID, Reason: r.Header.Get("Crier-Reason"), Request: requestIDOf(r.Context())}
	if err := job.ValidReason(a.Reason); err != nil {
		return r.Context(), err
	}
	a.On(c.Tenant, about.Path(r))
	return s.cfg.Trail.Begin(api.WithAct(r.Context(), a), a, changes == decision.InSQL), nil
}

// note tells how an act ended, before it is answered. What a limit refused is not noted:
// it would come again and again.
func (s *Server) note(ctx context.Context, err error) {
	if why := inforce.Why(ctx); err != nil && why != nil {
		err = problem.Of(why).Err()
	}
	if a := api.ActOf(ctx); a.Operation != "" && job.CodeOf(err) != job.CodeLimited {
		s.cfg.Trail.End(ctx, a, err)
	}
}
