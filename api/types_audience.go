package api

import (
	"fmt"
	"time"
	"unicode"
	"unicode/utf8"

	"crier/job"
)

// MaxIDs is the most recipient ids that one request may carry; more are imported.
const MaxIDs = 100_000

// MaxName is the longest name of a package, in bytes, and MaxAccountName that of an
// account.
const (
	MaxName        = 128
	MaxAccountName = 100
)

// MaxPage is the most items that one page of a list may hold.
const MaxPage = 500

// Page asks for a part of a list.
type Page struct {
	// Limit is the most items wanted, 1 to MaxPage; 0 means 50.
	Limit int
	// Cursor is the Next of the page before; empty is the first page.
	Cursor string
}

// Validate refuses a limit out of its bounds.
func (p Page) Validate() error {
	if p.Limit < 0 || p.Limit > MaxPage {
		return job.Invalid("limit", fmt.Sprintf("limit %d is not between 1 and %d", p.Limit, MaxPage), nil)
	}
	if len(p.Cursor) > 256 {
		return job.Invalid("cursor", "a cursor has at most 256 bytes; use the next of the page before", nil)
	}
	return nil
}

// Size is the limit with its default filled in.
func (p Page) Size() int {
	if p.Limit == 0 {
		return 50
	}
	return p.Limit
}

// CreateAccount asks for a new account.
type CreateAccount struct {
	// Name is unique: 1 to 100 bytes of printable text without a slash.
	Name string `json:"name" doc:"Unique name: 1 to 100 bytes of printable text without a slash."`
	// Tenant is who owns it.
	Tenant string `json:"tenant,omitzero" doc:"Who owns it; absent means the tenant of the key that asks. Another one is for the admin key of the data directory."`
}

// Validate refuses a name that cannot stand in a URL or on a terminal.
func (r CreateAccount) Validate() error {
	if r.Tenant != "" && !job.ValidName(r.Tenant) {
		return invalidTenant("tenant", r.Tenant)
	}
	if len(r.Name) > MaxAccountName {
		return job.Invalid("name", fmt.Sprintf("an account's name has at most %d bytes, this one has %d", MaxAccountName, len(r.Name)), nil)
	}
	return ValidateName("name", r.Name)
}

// ValidateName holds the rules for all names; field says whose name it is.
func ValidateName(field, name string) error {
	switch {
	case name == "":
		return job.Invalid(field, "a name is needed", nil)
	case len(name) > MaxName:
		return job.Invalid(field, fmt.Sprintf("a name has at most %d bytes, this one has %d", MaxName, len(name)), nil)
	case name == "." || name == "..":
		return job.Invalid(field, fmt.Sprintf("%q cannot be a name", name), nil)
	case name[0] == ' ' || name[len(name)-1] == ' ':
		return job.Invalid(field, "a name does not start or end with a space", nil)
	}
	for i := 0; i < len(name); {
		r, size := utf8.DecodeRuneInString(name[i:])
		if r == utf8.RuneError && size == 1 || r == '/' || !unicode.IsPrint(r) {
			return job.Invalid(field, fmt.Sprintf("a name has printable characters only and no slash; byte %d is none", i+1), nil)
		}
		i += size
	}
	return nil
}

// Account is a sender.
type Account struct {
	ID        uint32    `json:"id" doc:"Number of the account."`
	Name      string    `json:"name"`
	Tenant    string    `json:"tenant" doc:"Who owns it."`
	Followers uint64    `json:"followers" doc:"How many recipients follow it."`
	Revision  uint64    `json:"revision" doc:"Revision of its followers; each change adds one."`
	CreatedAt time.Time `json:"created_at"`
}

// AccountList is one page of accounts.
type AccountList struct {
	Accounts []Account `json:"accounts"`
	Next     string    `json:"next,omitzero" doc:"Cursor of the next page; absent on the last."`
}

// IDs carries recipient ids.
type IDs struct {
	IDs []job.Recipient `json:"ids" doc:"Recipient ids, 0 to 4294967295, in any order; at most 100,000."`
}

// Validate refuses none and too many ids.
func (r IDs) Validate() error { return validateIDs(r.IDs) }

func validateIDs(ids []job.Recipient) error {
	switch {
	case len(ids) == 0:
		return job.Invalid("ids", "at least one recipient id is needed", nil)
	case len(ids) > MaxIDs:
		return &job.Error{Code: job.CodeTooLarge, Field: "ids",
			Message: fmt.Sprintf("%d ids are more than %d in one request; import a file instead", len(ids), MaxIDs)}
	}
	return nil
}

// FollowersChange says what adding or removing followers did.
type FollowersChange struct {
	Account   string `json:"account" doc:"Name of the account."`
	AccountID uint32 `json:"account_id"`
	Changed   uint64 `json:"changed" doc:"How many ids were added or removed."`
	Unchanged uint64 `json:"unchanged" doc:"How many were so already, or repeated."`
	Followers uint64 `json:"followers" doc:"How many follow it now."`
	Revision  uint64 `json:"revision"`
}

// The formats of a file of followers.
const (
	FormatEdges = "edges" // "src dst" a line: src follows dst, the account is named by dst
	FormatIDs   = "ids"   // recipient ids, one a line or separated by commas
)

// ImportFollowers describes a file of followers. The file may be gzipped.
type ImportFollowers struct {
	// Format is FormatEdges or FormatIDs.
	Format string
	// Account is the account that the ids follow. With edges it may be empty, and
	// limits the import to the edges that lead to it if it is not.
	Account string
	// Skip is the number of lines to leave out at the start of the file.
	Skip int
}

// Validate refuses an unknown format and ids without an account.
func (r ImportFollowers) Validate() error {
	switch {
	case r.Format != FormatEdges && r.Format != FormatIDs:
		return job.Invalid("format", fmt.Sprintf("format %q: want edges or ids", r.Format), nil)
	case r.Format == FormatIDs && r.Account == "":
		return job.Invalid("account", "ids need the account that they follow", nil)
	case r.Skip < 0:
		return job.Invalid("skip", fmt.Sprintf("cannot skip %d lines", r.Skip), nil)
	}
	return nil
}

// FollowersImport says what an import did: read = self_loops + other_accounts +
// repeated + already + added.
type FollowersImport struct {
	Read            uint64 `json:"read" doc:"Edges or ids in the file."`
	SelfLoops       uint64 `json:"self_loops" doc:"Edges from an account to itself, ignored."`
	OtherAccounts   uint64 `json:"other_accounts" doc:"Edges to another account than the one asked for, ignored."`
	Repeated        uint64 `json:"repeated" doc:"Stood in the file before."`
	Already         uint64 `json:"already" doc:"Followed before."`
	Added           uint64 `json:"added" doc:"Followers that are new."`
	AccountsCreated uint64 `json:"accounts_created" doc:"Accounts that did not exist before."`
	AccountsTouched uint64 `json:"accounts_touched" doc:"Accounts whose followers changed."`
}

// SuppressionChange names a list and the ids to put on it or take off it.
type SuppressionChange struct {
	// Account is the account whose list it is; empty is the global list.
	Account string          `json:"account,omitzero" doc:"Name or id of the account; absent means the global list."`
	IDs     []job.Recipient `json:"ids" doc:"Recipient ids, at most 100,000."`
}

// Validate refuses none and too many ids.
func (r SuppressionChange) Validate() error { return validateIDs(r.IDs) }

// SuppressionList describes a suppression list.
type SuppressionList struct {
	Account   string  `json:"account,omitzero" doc:"Name of the account; absent for the global list."`
	AccountID *uint32 `json:"account_id,omitzero" doc:"Absent for the global list."`
	Entries   uint64  `json:"entries" doc:"How many recipients are on it."`
	Changed   uint64  `json:"changed" doc:"How many this request put on it or took off it."`
	Revision  uint64  `json:"revision" doc:"Each change adds one."`
}

// SuppressionLists is one page of suppression lists.
type SuppressionLists struct {
	Lists []SuppressionList `json:"lists"`
	Next  string            `json:"next,omitzero" doc:"Cursor of the next page; absent on the last."`
}

// ImportPackage says whose package comes in.
type ImportPackage struct {
	// Account is the account that will send to it.
	Account string
	// Name is what the package is called; empty means the name in its envelope.
	Name string
}

// Validate refuses a missing account and a bad name.
func (r ImportPackage) Validate() error {
	if r.Account == "" {
		return job.Invalid("account", "a package needs the account that will send to it", nil)
	}
	if r.Name == "" {
		return nil
	}
	return ValidateName("name", r.Name)
}

// Package describes a recipient package that was handed in.
type Package struct {
	// ID is the SHA-256 of the canonical set: its ids in ascending order, each as
	// four bytes, the lowest first.
	ID          job.Digest `json:"id" doc:"What a job names it by: the SHA-256 of its canonical set."`
	Name        string     `json:"name"`
	Account     string     `json:"account"`
	AccountID   uint32     `json:"account_id"`
	Cardinality uint64     `json:"cardinality"`
	Min         uint32     `json:"min"`
	Max         uint32     `json:"max"`
	Repeated    uint64     `json:"repeated" doc:"Ids that stood in the source more than once."`
	Bytes       uint64     `json:"bytes" doc:"Size in its envelope."`
	SHA256      job.Digest `json:"sha256" doc:"SHA-256 of the canonical set."`
	Blob        job.Digest `json:"blob" doc:"SHA-256 of the envelope's bytes."`
	CreatedAt   time.Time  `json:"created_at"`
}

// PackageList is one page of packages.
type PackageList struct {
	Packages []Package `json:"packages"`
	Next     string    `json:"next,omitzero" doc:"Cursor of the next page; absent on the last."`
}
