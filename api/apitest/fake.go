// Package apitest is an api.Service in memory, for tests of the server, the
// client and the command line.
//
// It keeps accounts, followers, suppression lists, segments and packages, and moves jobs
// through a fixed life (see Life) instead of sending anything. It answers the
// same to the same calls; its clock is given. A package is opaque to it: its id is
// the SHA-256 of the bytes handed in and its cardinality their number.
package apitest

import (
	"context"
	"fmt"
	"sync"
	"time"

	"crier/api"
	"crier/job"
)

// Fake is the service. Set its fields before the first call.
type Fake struct {
	// Now is the clock. Default: a clock that stands still at 2026-01-02 03:04:05 UTC.
	Now func() time.Time
	// Fail is asked at the start of each method, by its name; an error of it is the
	// method's. It may panic. Nil: nothing fails.
	Fail func(method string) error
	// Manual leaves jobs where they are until Advance; otherwise whoever waits for a
	// job or watches it moves it on.
	Manual bool
	// Pack makes the envelope of a package that is exported. Nil: its ids as text.
	Pack func(name string, ids []job.Recipient) ([]byte, error)

	mu struct {
		sync.Mutex
		accounts   []api.Account
		followers  map[uint32]map[job.Recipient]bool
		suppressed map[string]map[job.Recipient]bool // by the account's name, "" is the global list
		revisions  map[string]uint64                 // of suppression lists
		segments   []*segment
		packages   []api.Package
		jobs       []*record
		keys       []api.Key
		tenants    []api.Tenant
		acts       []api.AuditEntry
		entries    []api.LedgerEntry
		cluster    *Cluster      // nil until it is asked for
		changed    chan struct{} // closed and replaced at each change of a job
	}
}

var _ api.Service = (*Fake)(nil)

type record struct {
	job  api.Job
	step int // place in Life
	req  api.SubmitJob
}

// New makes an empty service.
func New() *Fake {
	f := &Fake{Now: func() time.Time { return time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC) }}
	f.mu.followers = map[uint32]map[job.Recipient]bool{}
	f.mu.suppressed = map[string]map[job.Recipient]bool{}
	f.mu.revisions = map[string]uint64{}
	f.mu.changed = make(chan struct{})
	f.mu.tenants = []api.Tenant{{Name: job.DefaultTenant}}
	return f
}

// enter starts a method.
func (f *Fake) enter(method string) error {
	if f.Fail == nil {
		return nil
	}
	return f.Fail(method)
}

// find gives an account by its name, else by its id.
func (f *Fake) findLocked(ref string) (*api.Account, error) {
	for i := range f.mu.accounts {
		if f.mu.accounts[i].Name == ref {
			return &f.mu.accounts[i], nil
		}
	}
	for i := range f.mu.accounts {
		if fmt.Sprint(f.mu.accounts[i].ID) == ref {
			return &f.mu.accounts[i], nil
		}
	}
	return nil, &job.Error{Code: job.CodeNotFound, Field: "account", Message: fmt.Sprintf("there is no account %q", ref)}
}

func (f *Fake) createLocked(name string) *api.Account {
	a := api.Account{ID: uint32(len(f.mu.accounts) + 1), Name: name, Tenant: job.DefaultTenant, CreatedAt: f.Now()}
	f.mu.accounts = append(f.mu.accounts, a)
	f.mu.followers[a.ID] = map[job.Recipient]bool{}
	return &f.mu.accounts[len(f.mu.accounts)-1]
}

// CreateAccount implements api.Service.
func (f *Fake) CreateAccount(_ context.Context, req api.CreateAccount) (api.Account, error) {
	if err := f.enter("CreateAccount"); err != nil {
		return api.Account{}, err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, a := range f.mu.accounts {
		if a.Name == req.Name {
			return api.Account{}, job.Conflict(fmt.Sprintf("the account %q exists already", req.Name))
		}
	}
	return *f.createLocked(req.Name), nil
}

// ListAccounts implements api.Service.
func (f *Fake) ListAccounts(_ context.Context, page api.Page) (api.AccountList, error) {
	if err := f.enter("ListAccounts"); err != nil {
		return api.AccountList{}, err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	items, next, err := cut(f.mu.accounts, page)
	return api.AccountList{Accounts: items, Next: next}, err
}

// GetAccount implements api.Service.
func (f *Fake) GetAccount(_ context.Context, account string) (api.Account, error) {
	if err := f.enter("GetAccount"); err != nil {
		return api.Account{}, err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	a, err := f.findLocked(account)
	if err != nil {
		return api.Account{}, err
	}
	return *a, nil
}

// cut gives a page of a list; the cursor is the number of items before it.
func cut[T any](all []T, page api.Page) ([]T, string, error) {
	start := 0
	if page.Cursor != "" {
		if _, err := fmt.Sscanf(page.Cursor, "after-%d", &start); err != nil || start < 0 || start > len(all) {
			return nil, "", job.Invalid("cursor", "this cursor is not one of ours", nil)
		}
	}
	end := min(start+page.Size(), len(all))
	next := ""
	if end < len(all) {
		next = fmt.Sprintf("after-%d", end)
	}
	return append([]T{}, all[start:end]...), next, nil
}

func newestFirst[T any](all []T) []T {
	out := make([]T, 0, len(all))
	for i := len(all) - 1; i >= 0; i-- {
		out = append(out, all[i])
	}
	return out
}
