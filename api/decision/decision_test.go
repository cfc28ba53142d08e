package decision_test

import (
	"slices"
	"testing"

	"crier/api"
	"crier/api/decision"
	"crier/api/problem"
	"crier/job"
)

// The audit log may be asked for each operation that changes something, for each way in which
// one ends, and for nothing else.
func TestValidateAudit(t *testing.T) {
	for _, id := range decision.Operations() {
		d, _ := decision.Of(id)
		if err := decision.ValidateAudit(api.ListAudit{Operation: id}); (err == nil) != (d.Changes != decision.Nothing) {
			t.Errorf("%s: %v", id, err)
		}
	}
	for _, code := range problem.Codes() {
		never := code == string(job.CodeLimited) || code == problem.CodeMethod
		if slices.Contains(decision.Results(), code) == never {
			t.Errorf("the results are %v; of %s that is not right", decision.Results(), code)
		}
	}
	for _, bad := range []api.ListAudit{{Operation: "foo"}, {Result: "foo"}, {Result: "Done"}} {
		if err := decision.ValidateAudit(bad); job.CodeOf(err) != job.CodeInvalid {
			t.Errorf("%+v: %v", bad, err)
		}
	}
	if err := decision.ValidateAudit(api.ListAudit{Operation: "set-rate", Result: "denied"}); err != nil {
		t.Error(err)
	}
}
