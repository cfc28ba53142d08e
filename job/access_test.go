package job

import (
	"encoding/json"
	"strings"
	"testing"
)

func TestRolesAreReadAsTheyAreWritten(t *testing.T) {
	for _, name := range Roles() {
		r, err := ParseRole(name)
		if err != nil || r.String() != name || r.IsZero() {
			t.Errorf("%s is read as %s, %v", name, r, err)
		}
	}
	for _, bad := range []string{"", "Admin", "root", "role(1)"} {
		if r, err := ParseRole(bad); err == nil {
			t.Errorf("%q is read as %s", bad, r)
		}
	}
}

// A record from before there were tenants is the default tenant's, and one without a
// tenant is written as it was then.
func TestASpecFromBeforeTenants(t *testing.T) {
	var s Spec
	if err := json.Unmarshal([]byte(`{"id":"job_00000000000000000000000001","account":7}`), &s); err != nil || s.TenantOf() != DefaultTenant {
		t.Errorf("an old record is of %q, %v", s.TenantOf(), err)
	}
	b, err := json.Marshal(s)
	if err != nil || strings.Contains(string(b), "tenant") || strings.Contains(string(b), "submitted_by") {
		t.Errorf("it is written as %s, %v", b, err)
	}
	s.Tenant = "acme"
	if s.TenantOf() != "acme" {
		t.Errorf("acme's job is of %q", s.TenantOf())
	}
}

func TestReasons(t *testing.T) {
	for _, good := range []string{"", "a new kernel", "für alle"} {
		if err := ValidReason(good); err != nil {
			t.Errorf("%q: %v", good, err)
		}
	}
	for _, bad := range []string{"a\nb", "\x1b[2J", strings.Repeat("x", MaxReason+1)} {
		if err := ValidReason(bad); CodeOf(err) != CodeInvalid {
			t.Errorf("%q: %v", bad, err)
		}
	}
}
