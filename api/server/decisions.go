package server

import (
	"bytes"
	"context"
	"io"
	"net/http"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"crier/api"
	"crier/api/decision"
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
					a.On(a.Tenant, namedIn(r, operationID))
				}
				s.note(ctx, err)
			}
		}
		if err != nil {
			s.writeProblem(w, r, s.problem(ctx, err).AsParameters())
			return
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
	a.On(c.Tenant, objectOf(r))
	return s.cfg.Trail.Begin(api.WithAct(r.Context(), a), a, changes == decision.InSQL), nil
}

// objectOf is what an act is about, as far as the path says it; the service knows better
// what it found.
func objectOf(r *http.Request) string {
	for _, kind := range []string{"account", "job", "member", "key", "tenant", "segment"} {
		if name := r.PathValue(kind); name != "" && (kind != "key" || api.ValidateKeyID(name) == nil) {
			return kind + "/" + api.Printable(name)
		}
	}
	if who, err := job.ParseRecipient(r.PathValue("recipient")); err == nil {
		return "recipient/" + who.String()
	}
	return ""
}

// named are the operations that say in their body what they are about, and of which kind
// that is.
var named = map[string]string{"create-account": "account", "create-segment": "segment", "create-tenant": "tenant", "create-key": "key", "mint-token": "recipient", "submit-job": "account"}

// namedWithin is how much is read of the body of who is denied, in bytes.
const namedWithin = 4 << 10

// namedIn is what an act is about by its body, which nobody else reads of who is denied; ""
// if that does not say it, or is long. What is to be made has no id yet: its name stands there.
func namedIn(r *http.Request, operationID string) string {
	kind := named[operationID]
	if kind == "" {
		return ""
	}
	data, err := io.ReadAll(io.LimitReader(r.Body, namedWithin))
	if operationID == "submit-job" { // its message may be long
		return printableName(kind, accountIn(data))
	}
	var body struct {
		Name      string         `json:"name"`
		Recipient *job.Recipient `json:"recipient"`
	}
	if err != nil || json.Unmarshal(data, &body) != nil {
		return ""
	}
	switch {
	case kind == "recipient" && body.Recipient != nil:
		return kind + "/" + body.Recipient.String()
	case kind != "recipient":
		return printableName(kind, body.Name)
	}
	return ""
}

// printableName is an object by its name, which may be a key that somebody took for one.
func printableName(kind, name string) string {
	if name == "" {
		return ""
	}
	return kind + "/" + api.Printable(secrets.ReplaceAllString(name, "${1}_..."))
}

// accountIn is the account in the beginning of a request for a job; "" if it is not there.
func accountIn(data []byte) (account string) {
	d := jsontext.NewDecoder(bytes.NewReader(data))
	if t, err := d.ReadToken(); err != nil || t.Kind() != '{' {
		return ""
	}
	for d.PeekKind() == '"' {
		name, err := d.ReadValue()
		if err != nil {
			return ""
		}
		field := string(name)
		value, err := d.ReadValue()
		switch {
		case err != nil:
			return ""
		case field == `"account"` && json.Unmarshal(value, &account) == nil:
			return account
		}
	}
	return ""
}

// note tells how an act ended, before it is answered. What a limit refused is not noted:
// it would come again and again.
func (s *Server) note(ctx context.Context, err error) {
	if a := api.ActOf(ctx); a.Operation != "" && job.CodeOf(err) != job.CodeLimited {
		s.cfg.Trail.End(ctx, a, err)
	}
}
