package ledger

import (
	"context"
	"errors"
	"strings"
	"sync/atomic"
)

// Refusals counts the conditional appends that a ledger refused, because another had
// written to the subject first. Of a journal that other is, but for retries, who sealed it:
// its owner was taken over from and did not know. The zero value counts from 0.
type Refusals struct{ Journal, Claim, Job atomic.Uint64 }

// Counted is the same ledger, whose refusals are counted.
func (r *Refusals) Counted(log Log) Log { return counted{log, r} }

type counted struct {
	Log
	of *Refusals
}

// Append implements Log.
func (c counted) Append(ctx context.Context, subject string, last uint64, data []byte) (uint64, error) {
	seq, err := c.Log.Append(ctx, subject, last, data)
	if errors.Is(err, ErrConflict) {
		c.of.counter(subject).Add(1)
	}
	return seq, err
}

// counter is that of a subject's kind; what is neither a journal nor a claim is about a
// job.
func (r *Refusals) counter(subject string) *atomic.Uint64 {
	switch {
	case strings.HasPrefix(subject, strings.TrimSuffix(AllJournals, ">")):
		return &r.Journal
	case strings.HasPrefix(subject, strings.TrimSuffix(AllClaims, ">")):
		return &r.Claim
	}
	return &r.Job
}
