package server

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"strings"

	"crier/api"
	"crier/job"
)

// scope is whose keys an operation is for.
type scope uint8

const (
	anyTenant scope = iota // what it is about belongs to the key's tenant
	house                  // of the default tenant only: it is about what all share
	operator               // the admin key of the data directory only
)

// effect is what an operation changes, and so where its act is written.
type effect uint8

const (
	nothing   effect = iota
	inSQL            // the act is written in the transaction of the change
	inLedger         // the ledger's record says who did it; the act is a copy
	elsewhere        // the act is written by itself, before the answer
)

// decision is who may do what. The admin key of the data directory may do everything.
type decision struct {
	roles   []job.Role
	of      scope
	changes effect
}

var (
	anybody = []job.Role{job.Viewer, job.Submitter, job.Admin, job.Device}
	viewers = []job.Role{job.Viewer, job.Submitter, job.Admin}
	senders = []job.Role{job.Submitter, job.Admin}
	admins  = []job.Role{job.Admin}
)

// decisions is who may do each operation. A device's key sees only its own recipient;
// recipients connect with tokens, at the gateway, and not with keys.
var decisions = map[string]decision{
	"get-self":          {anybody, anyTenant, nothing},
	"list-accounts":     {viewers, anyTenant, nothing},
	"get-account":       {viewers, anyTenant, nothing},
	"create-account":    {admins, anyTenant, inSQL},
	"add-followers":     {senders, anyTenant, inSQL},
	"remove-followers":  {senders, anyTenant, inSQL},
	"import-followers":  {senders, anyTenant, inSQL},
	"get-suppression":   {viewers, anyTenant, nothing},
	"add-suppressed":    {senders, anyTenant, inSQL},
	"remove-suppressed": {admins, anyTenant, inSQL}, // somebody did not want to get anything
	"list-suppression":  {viewers, anyTenant, nothing},
	"import-suppressed": {senders, anyTenant, inSQL},
	// Segments belong to the default tenant.
	"list-segments":       {viewers, house, nothing},
	"get-segment":         {viewers, house, nothing},
	"create-segment":      {admins, house, inSQL},
	"archive-segment":     {admins, house, inSQL},
	"restore-segment":     {admins, house, inSQL},
	"add-to-segment":      {senders, house, inSQL},
	"remove-from-segment": {senders, house, inSQL},
	"import-segment":      {senders, house, inSQL},
	"export-set":          {senders, anyTenant, nothing},
	"list-packages":       {viewers, anyTenant, nothing},
	"get-package":         {viewers, anyTenant, nothing},
	"import-package":      {senders, anyTenant, inSQL},
	"list-jobs":           {viewers, anyTenant, nothing},
	"get-job":             {viewers, anyTenant, nothing},
	"watch-job":           {viewers, anyTenant, nothing},
	"wait-job":            {viewers, anyTenant, nothing},
	"explain-job":         {anybody, anyTenant, nothing},
	"reconcile-job":       {viewers, anyTenant, nothing},
	"tail-events":         {viewers, anyTenant, nothing},
	"submit-job":          {senders, anyTenant, inLedger},
	"pause-job":           {senders, anyTenant, inLedger},
	"resume-job":          {senders, anyTenant, inLedger},
	"cancel-job":          {senders, anyTenant, inLedger},
	"set-rate":            {senders, anyTenant, inLedger},
	"resolve-job":         {senders, anyTenant, inLedger},
	"create-key":          {admins, anyTenant, inSQL},
	"list-keys":           {admins, anyTenant, nothing},
	"revoke-key":          {admins, anyTenant, inSQL},
	"get-tenant":          {viewers, anyTenant, nothing},
	"list-audit":          {admins, anyTenant, nothing},
	"list-tenants":        {admins, operator, nothing},
	"create-tenant":       {admins, operator, inSQL},
	"set-limits":          {admins, operator, inSQL},
	// All tenants share the recipients: a token is a right to read what all of them send.
	"mint-token":     {admins, house, elsewhere},
	"status":         {viewers, house, nothing},
	"list-members":   {viewers, house, nothing},
	"get-member":     {viewers, house, nothing},
	"list-journals":  {viewers, house, nothing},
	"silence-member": {admins, house, elsewhere},
	"resume-member":  {admins, house, elsewhere},
	// These name jobs of all tenants.
	"get-ring":      {admins, operator, nothing},
	"list-lanes":    {admins, operator, nothing},
	"tail-ledger":   {admins, operator, nothing},
	"verify-ledger": {admins, operator, nothing},
}

// allows refuses a caller what is not for it.
func (d decision) allows(c api.Caller, operationID string) error {
	switch {
	case c.IsOperator():
		return nil
	case d.of == operator:
		return denied("%s is for the admin key of the data directory only", operationID)
	case d.of == house && c.Tenant != job.DefaultTenant:
		return denied("%s is for keys of the tenant %s only", operationID, job.DefaultTenant)
	case !slices.Contains(d.roles, c.Role):
		var names []string
		for _, r := range d.roles {
			names = append(names, r.String())
		}
		return denied("%s is not for the role %s; it takes a key of the role %s", operationID, c.Role, strings.Join(names, " or "))
	}
	return nil
}

func denied(format string, a ...any) error {
	return &job.Error{Code: job.CodeDenied, Message: fmt.Sprintf(format, a...)}
}

// admits wraps what serves an operation: it tells who asks, refuses whom it is not for
// and what is over the tenant's limit, and has an act written of what changes something.
func (s *Server) admits(operationID string, h http.HandlerFunc) http.HandlerFunc {
	d, known := decisions[operationID]
	if !known {
		panic("api/server: nobody has decided who may " + operationID)
	}
	return func(w http.ResponseWriter, r *http.Request) {
		ctx := r.Context()
		c, err := api.CallerOf(ctx)
		if err == nil {
			err = s.cfg.Keys.Admit(c)
		}
		if err == nil && d.changes != nothing {
			ctx, err = s.begin(r, c, operationID, d.changes)
		}
		if err == nil {
			err = d.allows(c, operationID)
			if err != nil {
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
func (s *Server) begin(r *http.Request, c api.Caller, operationID string, changes effect) (context.Context, error) {
	a := &api.Act{Caller: c, Operation: operationID, Reason: r.Header.Get("Crier-Reason"), Request: requestIDOf(r.Context())}
	if err := job.ValidReason(a.Reason); err != nil {
		return r.Context(), err
	}
	a.On(c.Tenant, objectOf(r))
	return s.cfg.Trail.Begin(api.WithAct(r.Context(), a), a, changes == inSQL), nil
}

// objectOf is what an act is about, as far as the path says it; the service knows better
// what it found.
func objectOf(r *http.Request) string {
	for _, kind := range []string{"account", "job", "member", "key", "tenant", "segment"} {
		if name := r.PathValue(kind); name != "" && (kind != "key" || api.ValidateKeyID(name) == nil) {
			return kind + "/" + api.Printable(name)
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
