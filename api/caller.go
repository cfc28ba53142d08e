package api

import (
	"context"
	"time"

	"crier/job"
)

// Caller is who makes a request: a key in force.
type Caller struct {
	Key       string // its id
	Name      string
	Role      job.Role
	Tenant    string
	Recipient *job.Recipient // of a device's key; else nil
}

// IsOperator reports whether it is the admin key of the data directory, which sees and
// may do everything.
func (c Caller) IsOperator() bool { return c.Key == job.BootstrapKey }

// Sees reports whether what belongs to a tenant is there for the caller.
func (c Caller) Sees(tenant string) bool { return c.IsOperator() || tenant != "" && c.Tenant == tenant }

// Scope is the tenant to which lists are kept; "" is all of them.
func (c Caller) Scope() string {
	if c.IsOperator() {
		return ""
	}
	return c.Tenant
}

// Operator is the caller with the admin key of the data directory.
func Operator() Caller {
	return Caller{Key: job.BootstrapKey, Name: job.BootstrapKey, Role: job.Admin, Tenant: job.DefaultTenant}
}

type callerKey struct{}

// WithCaller gives a context in which a caller asks.
func WithCaller(ctx context.Context, c Caller) context.Context {
	return context.WithValue(ctx, callerKey{}, c)
}

// CallerOf is who asks; without a caller in the context, an error.
func CallerOf(ctx context.Context) (Caller, error) {
	c, ok := ctx.Value(callerKey{}).(Caller)
	if !ok || c.Key == "" || c.Tenant == "" {
		return Caller{}, &job.Error{Code: job.CodeDenied, Message: "it is not known who asks"}
	}
	return c, nil
}

// Act is a request that changes something, on its way to the audit log. The service says
// what it is about when it knows.
type Act struct {
	ID        string // random, unless what is written elsewhere has one
	At        time.Time
	Caller    Caller
	Operation string
	Tenant    string // whose object it is
	Object    string // such as account/5 or job/job_...
	Reason    string // that was given
	Detail    string // what the object was changed to, such as a rate
	Request   string // id of the request
}

type actKey struct{}

// WithAct gives a context in which an act is done.
func WithAct(ctx context.Context, a *Act) context.Context {
	return context.WithValue(ctx, actKey{}, a)
}

// ActOf is the act that is being done; outside one it is one that nobody reads.
func ActOf(ctx context.Context) *Act {
	if a, ok := ctx.Value(actKey{}).(*Act); ok {
		return a
	}
	return &Act{}
}

// Forget says that nothing was to be changed after all, such as by a repeat.
func (a *Act) Forget() { a.Operation = "" }

// On says whose object an act is about, and which; to be called before the change.
func (a *Act) On(tenant, object string) { a.Tenant, a.Object = tenant, object }
