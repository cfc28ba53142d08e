package job

import (
	"fmt"
	"strings"
	"unicode/utf8"
)

// DefaultTenant is there from the start, and is of those who run the cluster. What was
// made before there were tenants is its.
const DefaultTenant = "default"

// BootstrapKey is the id of the admin key of the data directory, which is admin of
// everything.
const BootstrapKey = "bootstrap"

// RestoreKey stands for the restore of a backup where a record names the key of who asked.
const RestoreKey = "restore"

// Role is what a key may be used for, within its tenant.
type Role uint8

// The roles. Which operation takes which is a table in api/server.
const (
	Viewer    Role = iota + 1 // sees the tenant's accounts, packages and jobs
	Submitter                 // and sends: followers, packages, jobs and their controls
	Admin                     // and makes accounts and keys, and reads the audit log
	Device                    // of one recipient's application; it sees that recipient's outcomes
)

var roleNames = map[Role]string{Viewer: "viewer", Submitter: "submitter", Admin: "admin", Device: "device"}

// Roles lists the names of the roles.
func Roles() []string { return []string{"admin", "submitter", "viewer", "device"} }

// ParseRole reads what String writes.
func ParseRole(s string) (Role, error) {
	for r, name := range roleNames {
		if s == name {
			return r, nil
		}
	}
	return 0, fmt.Errorf("role %q: want one of %s", s, strings.Join(Roles(), ", "))
}

// String is the word used in the API and the CLI.
func (r Role) String() string {
	if name, ok := roleNames[r]; ok {
		return name
	}
	return fmt.Sprintf("role(%d)", uint8(r))
}

// IsZero reports whether the role is unset.
func (r Role) IsZero() bool { return r == 0 }

// MarshalText writes what String writes.
func (r Role) MarshalText() ([]byte, error) { return []byte(r.String()), nil }

// UnmarshalText reads what MarshalText writes.
func (r *Role) UnmarshalText(b []byte) (err error) {
	*r, err = ParseRole(string(b))
	return err
}

// Limits bound what a tenant may do; 0 is no limit.
type Limits struct {
	Jobs       uint32 `json:"jobs" doc:"Jobs under way: accepted, and not yet sent nor over. 0 is no limit."`
	Recipients uint64 `json:"recipients" doc:"Recipients of one job. 0 is no limit."`
	Rate       uint32 `json:"rate" doc:"Recipients handed to gateways a second, of one job; a job that asks for no rate gets this one. 0 is no limit."`
	Requests   uint32 `json:"requests" doc:"Requests a second, of all keys of the tenant, at each API process. 0 is no limit."`
}

// ValidReason refuses a reason that cannot travel in a header or stand in a line.
func ValidReason(s string) error {
	if len(s) > MaxReason {
		return Invalid("Crier-Reason", fmt.Sprintf("a reason has at most %d bytes, this one has %d", MaxReason, len(s)), nil)
	}
	if !utf8.ValidString(s) {
		return Invalid("Crier-Reason", "a reason is UTF-8", nil)
	}
	for i := range len(s) {
		if s[i] < ' ' || s[i] == 0x7f {
			return Invalid("Crier-Reason", fmt.Sprintf("a reason is one line of text; byte %d is no part of one", i+1), nil)
		}
	}
	return nil
}

// MaxReason is the longest reason, in bytes.
const MaxReason = 500
