// Package proof shows from the ledger what became of a job: Reconcile proves the
// law of conservation by set algebra, and Explain gives one recipient's outcome
// with the records that say so.
//
// It reads the ledger, the reports into which it was folded, the package, and the lists of
// filters that the job recorded, and nothing else: no index, no counter, no projection. Memory is one range's sets and
// what the part of the ledger that is not folded says of the job.
package proof

import (
	"context"
	"fmt"
	"iter"
	"slices"
	"time"

	"crier/internal/idset"
	"crier/job"
	"crier/state/ledger"
	"crier/state/report"
)

// Package is a job's recipients.
type Package interface {
	Ranges() iter.Seq2[job.Range, int]
	Range(r job.Range) (*idset.Set, error)
	Cardinality() uint64
}

// Prover proves from a ledger and its reports. It is safe for concurrent use.
type Prover struct {
	Log     ledger.Log
	Reports Reports
}

// Result is what Reconcile found.
type Result struct {
	Counts     job.Counts
	Violations []string // at most 20 a range; empty if all is well
}

// Conserved reports whether the law holds: the outcome sets are disjoint subsets
// of the package and all of it, and every done lies inside its reserve.
func (r Result) Conserved() bool { return len(r.Violations) == 0 }

// Filter is a filter whose list the job recorded, so that it can be asked again: Refuse
// gives who of a set it drops, as a set of its caller's.
type Filter interface {
	Reason() job.Reason
	Refuse(ctx context.Context, keep *idset.Set) (*idset.Set, error)
}

// Reconcile computes the outcome of every recipient of a job, range by range. If
// sent is true, a recipient whose block has no reserve is a violation. So is one whom a
// filter dropped and would not drop again, and one who passed it and would not again.
func (p *Prover) Reconcile(ctx context.Context, id job.ID, pkg Package, sent bool, filters ...Filter) (Result, error) {
	res := Result{Counts: job.Counts{Dropped: map[job.Reason]uint64{}}}
	h, err := p.read(ctx, id, nil)
	if err != nil {
		return res, err
	}
	defer h.close()
	stray, err := h.ranges()
	if err != nil {
		return res, err
	}
	for r := range pkg.Ranges() {
		f, err := h.fold(ctx, pkg, r, nil)
		if err != nil {
			return res, err
		}
		f.check(&res.Counts)
		if err := f.refilter(ctx, filters); err != nil {
			f.release()
			return res, err
		}
		res.Violations = append(res.Violations, f.violations...)
		f.release()
		delete(stray, r)
	}
	for r := range stray {
		res.Violations = append(res.Violations, fmt.Sprintf("range %s: the ledger has entries, the package has nobody there", r))
	}
	slices.Sort(res.Violations)
	if n := pkg.Cardinality(); res.Counts.Package != n {
		res.Violations = append(res.Violations, fmt.Sprintf("the ranges hold %d recipients, the package says %d", res.Counts.Package, n))
	}
	if sent && res.Counts.Pending > 0 {
		res.Violations = append(res.Violations, fmt.Sprintf("%d recipients are pending although the job is sent", res.Counts.Pending))
	}
	return res, ctx.Err()
}

// fold replays one range; see is called after each entry.
func (h *history) fold(ctx context.Context, pkg Package, r job.Range, see func(*fold, report.Entry, job.Digest)) (*fold, error) {
	ids, err := pkg.Range(r)
	if err != nil {
		return nil, fmt.Errorf("reading the package: %w", err)
	}
	f := newFold(r, ids)
	err = h.entries(ctx, r, func(e report.Entry, in job.Digest) error {
		f.apply(e.Ref, e.Entry)
		if see != nil {
			see(f, e, in)
		}
		return nil
	})
	if err != nil {
		f.release()
		return nil, err
	}
	return f, nil
}

// Evidence is one record that moved a recipient.
type Evidence struct {
	Seq    uint64
	Report job.Digest // in which the record stands; zero while it is in the ledger
	Ref    job.Ref
	Says   string
	At     time.Time
}

// Explanation is one recipient's outcome and what shows it.
type Explanation struct {
	Outcome  job.Outcome
	Reason   job.Reason
	Evidence []Evidence
}

// Explain gives the outcome of one recipient of a job with every record of the
// ledger that changed where it stood.
func (p *Prover) Explain(ctx context.Context, id job.ID, pkg Package, who job.Recipient) (Explanation, error) {
	var x Explanation
	ids, err := pkg.Range(who.Range())
	if err != nil {
		return x, fmt.Errorf("reading the package: %w", err)
	}
	if !ids.Has(uint32(who)) {
		return x, job.NotFound(fmt.Sprintf("recipient %s is not in the package of %s", who, id))
	}
	ids.Release()
	r := who.Range()
	h, err := p.read(ctx, id, &r)
	if err != nil {
		return x, err
	}
	defer h.close()
	var last ending
	f, err := h.fold(ctx, pkg, r, func(f *fold, e report.Entry, in job.Digest) {
		now := f.where(who)
		if now == last && !mentions(e.Entry, who) {
			return
		}
		last = now
		x.Evidence = append(x.Evidence, Evidence{e.Seq, in, e.Ref, says(e.Entry, who, now), e.Time})
	})
	if err != nil {
		return x, err
	}
	defer f.release()
	now := f.where(who)
	x.Outcome, x.Reason = now.outcome, now.reason
	return x, nil
}

// mentions reports whether an entry names the recipient although its place may show no
// change: a charge, and a drain of one that was handed off before.
func mentions(e ledger.Entry, who job.Recipient) bool {
	switch e := e.(type) {
	case *ledger.Charge:
		return e.Span.Has(who)
	case *ledger.Drain:
		return slices.ContainsFunc(e.Targets.Sets, func(s *idset.Set) bool { return s.Has(uint32(who)) })
	}
	return false
}

// says puts in words what an entry did to a recipient.
func says(e ledger.Entry, who job.Recipient, now ending) string {
	what := now.outcome.String()
	if now.reason != job.NoReason {
		what += " (" + now.reason.String() + ")"
	}
	switch e := e.(type) {
	case *ledger.Charge:
		for _, d := range e.Dropped {
			if d.Set.Has(uint32(who)) {
				return fmt.Sprintf("charge of block %s%s: refused (%s)", e.Span, against(e.Terms), d.Reason)
			}
		}
		return fmt.Sprintf("charged%s with block %s: %s", against(e.Terms), e.Span, what)
	case *ledger.Reserve:
		return fmt.Sprintf("block %s reserved: %s", e.Span, what)
	case *ledger.Drain:
		return "drained after a login: " + what
	case *ledger.Done:
		if e.Unacked != nil && e.Unacked.Has(uint32(who)) && now.outcome == job.Parked {
			what += ", for it was not acknowledged; it may have been shown"
		}
		return fmt.Sprintf("gateway %s reported on %s: %s", e.Inc, e.Of, what)
	case *ledger.Doubt:
		return fmt.Sprintf("gateway %s could not say: %s", e.Inc, what)
	case *ledger.Decide:
		return "doubt decided: " + what
	}
	return what
}

// against says what a charge counts against: the caps of a day, the key of what is sent
// once, or both.
func against(t ledger.Terms) string {
	words := ""
	if t.All || t.Account != 0 {
		words = " for " + time.Unix(int64(t.Day)*24*60*60, 0).UTC().Format(time.DateOnly)
	}
	if t.Once != (job.OnceKey{}) {
		words += " as sent once"
	}
	return words
}
