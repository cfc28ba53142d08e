package server

import (
	"context"
	"net/http"
	"strconv"
	"strings"

	"github.com/danielgtaylor/huma/v2"

	"crier/api"
	"crier/api/decision"
	"crier/api/problem"
	"crier/api/server/gate"
	"crier/api/server/inforce"
	"crier/job"
)

// huma keeps these settings in variables of its package; this package is the
// only one that may import it.
func init() {
	huma.NewError = func(status int, msg string, errs ...error) huma.StatusError {
		return humaProblem(nil, status, msg, errs)
	}
	huma.NewErrorWithContext = func(ctx huma.Context, status int, msg string, errs ...error) huma.StatusError {
		return humaProblem(ctx, status, msg, errs)
	}
	huma.ValidateStrictCasing = true
	huma.DefaultArrayNullable = false
}

// humaProblem words what huma itself found wrong with a request: a body that
// strictBody refused, or a bad parameter.
func humaProblem(ctx huma.Context, status int, msg string, errs []error) *problem.Problem {
	code := string(job.CodeInvalid)
	if status >= http.StatusInternalServerError {
		code, msg, errs = problem.CodeInternal, problem.InternalDetail, nil
	}
	p := problem.New(status, code, msg)
	if status == http.StatusBadRequest && len(errs) == 0 { // the body is missing
		p = bodyProblem(status, msg)
	}
	for _, err := range errs {
		if found, ok := err.(*problem.Problem); ok {
			q := *found
			p = &q
			break
		}
		if d, ok := err.(huma.ErrorDetailer); ok {
			detail := d.ErrorDetail()
			where, name, _ := strings.Cut(detail.Location, ".")
			if where == "body" {
				p.Errors = append(p.Errors, problem.FieldError{Detail: detail.Message, Pointer: "#"})
			} else {
				p.Errors = append(p.Errors, problem.FieldError{Detail: detail.Message, Parameter: name})
			}
			p.Detail = name + ": " + detail.Message
		}
	}
	if ctx != nil {
		p.RequestID = requestIDOf(ctx.Context())
	}
	return p
}

// openAPI is the configuration of huma: OpenAPI 3.1 at /openapi.json, one strict
// format, no page that loads anything from elsewhere.
func openAPI(version string) huma.Config {
	return huma.Config{
		OpenAPI: &huma.OpenAPI{
			OpenAPI: "3.1.0",
			Info: &huma.Info{
				Title: "Crier", Version: version,
				Description: "Sends one message to a set of recipients: each reachable recipient once, urgent jobs first, through crashes. Where no body is described none is taken, but for white space, {} and null.",
			},
			Components: &huma.Components{
				Schemas: huma.NewMapRegistry("#/components/schemas/", huma.DefaultSchemaNamer),
				SecuritySchemes: map[string]*huma.SecurityScheme{
					"key": {Type: "http", Scheme: "bearer", Description: "A key, crk_ and 48 characters, that create-key made; or the admin key of everything, crier_ and 48 characters, which is in keys/admin.key of the server's data directory."},
				},
			},
			Security: []map[string][]string{{"key": {}}},
		},
		OpenAPIPath:                  "/openapi",
		Formats:                      map[string]huma.Format{"application/json": strictFormat, "json": strictFormat}, // "json" is what follows the + of problem+json
		DefaultFormat:                "application/json",
		RejectUnknownQueryParameters: true,
	}
}

// humaMux is the mux as huma sees it: each operation passes a gate and has its
// body read first.
type humaMux struct{ *Server }

// HandleFunc registers an operation.
func (m humaMux) HandleFunc(pattern string, h func(http.ResponseWriter, *http.Request)) {
	through := m.reads
	method, _, _ := strings.Cut(pattern, " ")
	if method != http.MethodGet {
		through = m.writes
	}
	serve := m.guarded(through, func(w http.ResponseWriter, r *http.Request) {
		if p := slurp(w, r); p != nil {
			m.writeProblem(w, r, p)
			return
		}
		if through == m.writes {
			if err := inforce.Settle(r.Context()); err != nil {
				m.writeProblem(w, r, m.problem(r.Context(), err))
				return
			}
		}
		h(w, r)
	})
	if id, ok := m.ops[pattern]; ok { // not the document
		serve = m.admits(id, serve)
	}
	m.mux.HandleFunc(pattern, serve)
}

// guarded lets a handler work while it holds a slot of a gate.
func (s *Server) guarded(g *gate.Gate, h http.HandlerFunc) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if err := g.Enter(r.Context()); err != nil {
			s.writeProblem(w, r, s.problem(r.Context(), err))
			return
		}
		defer g.Leave()
		h(w, r)
	}
}

// operation describes one operation under /v1. status is the one of success.
type operation struct {
	id, method, path, tag, summary string
	status                         int
}

// errors lists the statuses that an operation may have besides 422 and 500. That of a path
// with another method is of the path, and so of each of its operations.
func (o operation) errors() []int {
	list := []int{http.StatusBadRequest, http.StatusUnauthorized, http.StatusForbidden, http.StatusNotFound, http.StatusTooManyRequests, http.StatusMethodNotAllowed, http.StatusConflict,
		http.StatusServiceUnavailable, http.StatusInsufficientStorage}
	if o.method != http.MethodGet { // those have no body
		list = append(list, http.StatusRequestEntityTooLarge, http.StatusUnsupportedMediaType)
	}
	return list
}

func (o operation) huma() huma.Operation {
	return huma.Operation{
		OperationID: o.id, Method: o.method, Path: o.path, Summary: o.summary, Tags: []string{o.tag},
		DefaultStatus: o.status,
		Errors:        o.errors(),
		// strictBody decodes and validates; slurp has read the body within its limits.
		SkipValidateBody: true, MaxBodyBytes: -1, BodyReadTimeout: -1,
	}
}

// reason documents the header of operations that change something.
func (o operation) reason() []*huma.Param {
	if d, _ := decision.Of(o.id); d.Changes == decision.Nothing {
		return nil
	}
	return []*huma.Param{{Name: "Crier-Reason", In: "header", Description: "Why, for the audit log: one line of at most 500 bytes.", Schema: &huma.Schema{Type: huma.TypeString}}}
}

// handle registers an operation whose input has no JSON body: a field at fault
// is a parameter.
func handle[I, O any](s *Server, o operation, fn func(context.Context, *I) (O, error)) {
	register(s, o, fn, (*problem.Problem).AsParameters)
}

// handleBody registers an operation with a JSON body: a field at fault is one of the
// body, unless the path has it.
func handleBody[I, O any](s *Server, o operation, fn func(context.Context, *I) (O, error)) {
	register(s, o, fn, func(p *problem.Problem) *problem.Problem { return p.InPath(o.path) })
}

// output is the body of an answer, with the headers that some have.
type output[O any] struct {
	Location string `header:"Location"`
	Body     O
}

// locationOf says where the object is that an operation made.
func locationOf(made any) string {
	switch x := made.(type) {
	case api.Account:
		return "/v1/accounts/" + strconv.FormatUint(uint64(x.ID), 10)
	case api.Segment:
		return segmentPath(x.Name)
	case api.Package:
		return "/v1/packages/" + x.ID.String()
	case api.Job:
		return "/v1/jobs/" + x.Job.String()
	case api.Tenant:
		return "/v1/tenants/" + x.Name
	}
	return ""
}

func register[I, O any](s *Server, o operation, fn func(context.Context, *I) (O, error), shape func(*problem.Problem) *problem.Problem) {
	s.ops[o.method+" "+o.path] = o.id
	op := o.huma()
	op.Parameters = append(op.Parameters, o.reason()...)
	huma.Register(s.doc, op, func(ctx context.Context, in *I) (*output[O], error) {
		out, err := fn(ctx, in)
		s.note(ctx, err)
		if err != nil {
			return nil, shape(s.problem(ctx, err))
		}
		answer := &output[O]{Body: out}
		if o.status == http.StatusCreated || o.status == http.StatusAccepted {
			answer.Location = locationOf(out)
		}
		return answer, nil
	})
}
