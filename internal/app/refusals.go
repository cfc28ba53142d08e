package app

import (
	"context"
	"errors"
	"strings"
	"sync/atomic"

	"crier/state/ledger"
)

// refusals counts the conditional appends of this process that the ledger refused,
// because another had written to the subject first, over all the lives of its parts. Of a
// journal that other is, but for retries, who sealed it: its owner was taken over from and
// did not know.
type refusals struct{ journal, claim, job atomic.Uint64 }

// counted is a ledger whose refusals are counted.
type counted struct {
	ledger.Log
	of *refusals
}

// Append implements ledger.Log.
func (c counted) Append(ctx context.Context, subject string, last uint64, data []byte) (uint64, error) {
	seq, err := c.Log.Append(ctx, subject, last, data)
	if errors.Is(err, ledger.ErrConflict) {
		c.of.counter(subject).Add(1)
	}
	return seq, err
}

// counter is that of a subject's kind; what is neither a journal nor a claim is about a
// job.
func (r *refusals) counter(subject string) *atomic.Uint64 {
	switch {
	case strings.HasPrefix(subject, strings.TrimSuffix(ledger.AllJournals, ">")):
		return &r.journal
	case strings.HasPrefix(subject, strings.TrimSuffix(ledger.AllClaims, ">")):
		return &r.claim
	}
	return &r.job
}
