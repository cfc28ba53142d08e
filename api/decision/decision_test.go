package decision_test

import (
	"slices"
	"testing"

	"crier/api"
	"crier/api/decision"
	"crier/api/problem"
)

// The audit log may be asked for each operation that changes something, and for no other;
// and for each way in which one ends.
func TestAuditedOperations(t *testing.T) {
	var changing []string
	for _, id := range decision.Operations() {
		if d, _ := decision.Of(id); d.Changes != decision.Nothing {
			changing = append(changing, id)
		}
	}
	if got := api.AuditedOperations(); !slices.Equal(got, changing) {
		t.Errorf("the audit log is asked for\n%v\nand these change something\n%v", got, changing)
	}
	for _, code := range problem.Codes() {
		if code != "limited" && code != "method_not_allowed" && !slices.Contains(api.AuditResults(), code) {
			t.Errorf("nobody may ask for the result %s", code)
		}
	}
}
