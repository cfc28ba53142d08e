package api

import (
	"fmt"
	"strings"
	"time"

	"crier/job"
)

// Key is a key without the key itself.
type Key struct {
	ID        string         `json:"id"`
	Name      string         `json:"name"`
	Role      job.Role       `json:"role" enum:"admin,submitter,viewer,device"`
	Tenant    string         `json:"tenant"`
	Recipient *job.Recipient `json:"recipient,omitzero" doc:"Whose application has it, of a device's key."`
	CreatedAt time.Time      `json:"created_at,omitzero"`
	CreatedBy string         `json:"created_by,omitzero" doc:"Id of the key with which it was made."`
	UsedAt    time.Time      `json:"used_at,omitzero" doc:"When it was used last, as far as it was noted: uses of the last 10 s may be missing; absent: never."`
	RevokedAt time.Time      `json:"revoked_at,omitzero" doc:"Absent: it is in force."`
}

// NewKey is a key that was just made, with the key itself, which nobody can show again.
type NewKey struct {
	Key
	Secret string `json:"key" doc:"The key: keep it, it is shown this once."`
	Former bool   `json:"former,omitzero" doc:"The tenant has a secret already, with which requests are signed, too, for a day; absent: this is the only one."`
}

// KeyList is one page of keys.
type KeyList struct {
	Keys []Key  `json:"keys"`
	Next string `json:"next,omitzero" doc:"Cursor of the next page; absent on the last."`
}

// CreateKey asks for a key.
type CreateKey struct {
	Name      string         `json:"name" doc:"Who has it, or what for: 1 to 128 bytes of printable text."`
	Role      job.Role       `json:"role" enum:"admin,submitter,viewer,device" doc:"What it may be used for."`
	Tenant    string         `json:"tenant,omitzero" doc:"Absent means the tenant of the key that asks."`
	Recipient *job.Recipient `json:"recipient,omitzero" doc:"Of a device's key, whose application has it; needed then, and else not possible."`
}

// Validate names the field at fault.
func (r CreateKey) Validate() error {
	if err := ValidateName("name", r.Name); err != nil {
		return err
	}
	switch {
	case r.Role.IsZero():
		return job.Invalid("role", "a role is needed: admin, submitter, viewer or device", nil)
	case r.Tenant != "" && !job.ValidName(r.Tenant):
		return invalidTenant("tenant", r.Tenant)
	case r.Role == job.Device && r.Recipient == nil:
		return job.Invalid("recipient", "a device's key is of one recipient's application: a recipient is needed", nil)
	case r.Role != job.Device && r.Recipient != nil:
		return job.Invalid("recipient", "only a device's key has a recipient", nil)
	}
	return nil
}

func invalidTenant(field, name string) error {
	return job.Invalid(field, fmt.Sprintf("tenant %q: want 1 to 64 of a-z, A-Z, 0-9, - and _", Printable(name)), nil)
}

// Tenant owns accounts with their followers and lists, packages, jobs and keys.
type Tenant struct {
	Name      string     `json:"name"`
	CreatedAt time.Time  `json:"created_at,omitzero" doc:"Absent: it was there from the start."`
	Limits    job.Limits `json:"limits"`
	Jobs      uint64     `json:"jobs" doc:"Jobs that are under way now."`
}

// TenantList is one page of tenants.
type TenantList struct {
	Tenants []Tenant `json:"tenants"`
	Next    string   `json:"next,omitzero" doc:"Cursor of the next page; absent on the last."`
}

// CreateTenant asks for a tenant.
type CreateTenant struct {
	Name   string     `json:"name" doc:"1 to 64 of a-z, A-Z, 0-9, - and _; it stays."`
	Limits job.Limits `json:"limits,omitzero"`
}

// Validate names the field at fault.
func (r CreateTenant) Validate() error {
	if !job.ValidName(r.Name) {
		return invalidTenant("name", r.Name)
	}
	return nil
}

// SetLimits changes limits; what is absent stays. 0 is no limit.
type SetLimits struct {
	Jobs       *uint32 `json:"jobs,omitzero"`
	Recipients *uint64 `json:"recipients,omitzero"`
	Rate       *uint32 `json:"rate,omitzero"`
	Requests   *uint32 `json:"requests,omitzero"`
}

// Validate refuses a change of nothing.
func (r SetLimits) Validate() error {
	if r == (SetLimits{}) {
		return job.Invalid("jobs", "no limit is given: want some of jobs, recipients, rate and requests", nil)
	}
	return nil
}

// Apply makes the change.
func (r SetLimits) Apply(l *job.Limits) {
	set(&l.Jobs, r.Jobs)
	set(&l.Recipients, r.Recipients)
	set(&l.Rate, r.Rate)
	set(&l.Requests, r.Requests)
}

func set[T any](to, from *T) {
	if from != nil {
		*to = *from
	}
}

// WebhookSecret is a secret that was just made, which nobody can show again.
type WebhookSecret struct {
	Tenant string `json:"tenant"`
	Secret string `json:"secret" doc:"As Standard Webhooks has it: keep it, it is shown this once."`
	Former bool   `json:"former,omitzero" doc:"The tenant has a secret already, with which requests are signed, too, for a day; absent: this is the only one."`
}

// ListAudit asks for acts. Empty filters match all.
type ListAudit struct {
	Page
	Tenant, Key, Operation, Object, Result string
	// Within, if not 0, asks for what was done within that time until now.
	Within Duration
}

// Validate refuses a bad page and filters that cannot match.
func (r ListAudit) Validate() error {
	for _, f := range []struct{ name, value string }{{"tenant", r.Tenant}, {"key", r.Key}, {"operation", r.Operation}, {"object", r.Object}, {"result", r.Result}} {
		if len(f.value) > 300 {
			return job.Invalid(f.name, f.name+" has at most 300 bytes", nil)
		}
	}
	if r.Within < 0 {
		return job.Invalid("since", "since is a length of time such as 1h", nil)
	}
	return r.Page.Validate()
}

// AuditEntry is an act: a request that changed something, or was to.
type AuditEntry struct {
	Seq       uint64    `json:"seq"`
	At        time.Time `json:"at"`
	Tenant    string    `json:"tenant" doc:"Whose object it was."`
	Key       string    `json:"key" doc:"Id of the key with which it was done."`
	KeyName   string    `json:"key_name,omitzero"`
	Operation string    `json:"operation"`
	Object    string    `json:"object" doc:"Such as account/news, suppression/account/news or job/job_..."`
	Detail    string    `json:"detail,omitzero" doc:"What it was changed to, of set-rate and resolve-job."`
	Result    string    `json:"result" doc:"done, or the code of the error."`
	Reason    string    `json:"reason,omitzero" doc:"That was given with the header Crier-Reason."`
	Request   string    `json:"request,omitzero" doc:"Id of the request, by which the server's log has it; absent if the act was read from the ledger."`
}

// AuditList is one page of acts.
type AuditList struct {
	Acts []AuditEntry `json:"acts"`
	Next string       `json:"next,omitzero" doc:"Cursor of the next page; absent on the last."`
}

const (
	keyIDPrefix = "key_"
	keyIDChars  = 26
)

// NewKeyID makes the id of a key, which sorts by time.
func NewKeyID(at time.Time, random [10]byte) string {
	return keyIDPrefix + strings.TrimPrefix(job.NewID(at, random).String(), "job_")
}

// ValidateKeyID says that there is no such key, if text cannot be an id. It does not
// repeat the text, which may be a key.
func ValidateKeyID(text string) error {
	id, ok := strings.CutPrefix(text, keyIDPrefix)
	if !ok || len(id) != keyIDChars || !job.ValidName(id) {
		return NoKey()
	}
	return nil
}

// NoKey says that there is no key by an id.
func NoKey() error {
	return job.NotFound("there is no such key; an id is key_ and 26 characters, and \"crier key ls\" lists them")
}

// NoTenant says that there is no tenant by a name, or none that the caller sees.
func NoTenant(name string) error {
	return &job.Error{Code: job.CodeNotFound, Field: "tenant", Message: fmt.Sprintf("there is no tenant %q", Printable(name))}
}
