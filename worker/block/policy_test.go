package block

import (
	"testing"
	"time"

	"crier/job"
	"crier/state/ledger"
)

// What takes a message back is charged nothing, whatever the policy: a recipient whose day
// is full loses the message all the same.
func TestAWithdrawalIsNotCharged(t *testing.T) {
	p := Policy{Cap: 1, AccountCap: 1}
	now := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	spec := job.Spec{ID: job.ID{1}, Account: 3, Class: job.Realtime}
	if terms, charged := p.terms(spec, now); !charged || !terms.All || terms.Account != ledger.OneAccount(3) {
		t.Errorf("a message: %+v, %v", terms, charged)
	}
	spec.Withdraws = job.ID{2}
	if terms, charged := p.terms(spec, now); charged || terms != (ledger.Terms{}) {
		t.Errorf("a withdrawal: %+v, %v", terms, charged)
	}
}
