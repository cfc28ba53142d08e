// Package proof shows from the ledger what became of a job: Reconcile proves the
// law of conservation by set algebra, and Explain gives one recipient's outcome
// with the records that say so.
//
// It reads the ledger and the package and nothing else: no index, no counter, no
// projection. Memory is one range's sets and a list of record numbers.
package proof

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"slices"
	"time"

	"crier/internal/idset"
	"crier/job"
	"crier/state/ledger"
)

// Package is a job's recipients.
type Package interface {
	Ranges() iter.Seq2[job.Range, int]
	Range(r job.Range) (*idset.Set, error)
	Cardinality() uint64
}

// place is where an entry about the job stands.
type place struct {
	seq   uint64
	ref   job.Ref
	entry int
}

// history is the places of all entries about one job, by range, in the order of
// the ledger.
type history struct {
	log    ledger.Log
	id     job.ID
	ranges map[job.Range][]place
	cache  map[uint64]ledger.Record
	times  map[uint64]time.Time
	recent []uint64
}

// cacheRecords is how many parsed records are kept; the entries of neighbouring
// ranges tend to stand in the same ones.
const cacheRecords = 8

// read goes over the ledger once and notes where it speaks of the job. What
// follows a seal, and a reserve after its slice's release, does not count (rule 3).
func read(ctx context.Context, log ledger.Log, id job.ID) (*history, error) {
	h := &history{log: log, id: id, ranges: map[job.Range][]place{}, cache: map[uint64]ledger.Record{}, times: map[uint64]time.Time{}}
	first, err := firstOf(ctx, log, id)
	if err != nil {
		return nil, err
	}
	sealed := map[job.Journal]bool{}
	released := map[string]bool{}
	err = ledger.ReadAll(ctx, log, first, ledger.AllJournals, func(st ledger.Stored) error {
		rec, err := ledger.ParseRecord(st.Data)
		if err != nil {
			return fmt.Errorf("record %d: %w", st.Seq, err)
		}
		for i, e := range rec.Entries {
			if sealed[rec.Journal] {
				break
			}
			if s, ok := e.(ledger.Seal); ok {
				_, sealed[rec.Journal] = s, true
			}
			if rel, ok := e.(ledger.Release); ok {
				released[fmt.Sprint(rec.Journal, rel.Job, rel.Slice)] = true
			}
			r, of, ok := subject(e)
			if res, isReserve := e.(*ledger.Reserve); isReserve && released[fmt.Sprint(rec.Journal, res.Job, res.Slice)] {
				ok = false
			}
			if ok && of == id {
				h.ranges[r] = append(h.ranges[r], place{st.Seq, job.Ref{Journal: rec.Journal, N: rec.N, Entry: uint16(i)}, i})
			}
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("reading the ledger: %w", err)
	}
	return h, nil
}

// firstOf is the sequence of the job's acceptance: nothing before it is about it.
func firstOf(ctx context.Context, log ledger.Log, id job.ID) (uint64, error) {
	found := errors.New("found")
	var seq uint64
	err := ledger.ReadAll(ctx, log, 1, ledger.JobSubject(id), func(st ledger.Stored) error {
		seq = st.Seq
		return found
	})
	switch {
	case errors.Is(err, found):
		return seq, nil
	case err != nil:
		return 0, fmt.Errorf("looking for job %s in the ledger: %w", id, err)
	}
	return 0, job.NotFound(fmt.Sprintf("there is no job %s", id))
}

// subject is the range and the job that an entry is about.
func subject(e ledger.Entry) (job.Range, job.ID, bool) {
	switch e := e.(type) {
	case *ledger.Reserve:
		return e.Range(), e.Job, true
	case *ledger.Drain:
		return e.Range, e.Job, true
	case *ledger.Done:
		return e.Range, e.Job, true
	case *ledger.Doubt:
		return e.Range, e.Job, true
	case *ledger.Decide:
		return e.Range, e.Job, true
	case *ledger.Outcome:
		return e.Range, e.Job, true
	}
	return 0, job.ID{}, false
}

func (h *history) entry(ctx context.Context, p place) (ledger.Entry, time.Time, error) {
	rec, ok := h.cache[p.seq]
	if !ok {
		st, err := h.log.Get(ctx, p.seq)
		if err != nil {
			return nil, time.Time{}, fmt.Errorf("reading record %d: %w", p.seq, err)
		}
		if rec, err = ledger.ParseRecord(st.Data); err != nil {
			return nil, time.Time{}, fmt.Errorf("record %d: %w", p.seq, err)
		}
		if len(h.recent) == cacheRecords {
			delete(h.cache, h.recent[0])
			delete(h.times, h.recent[0])
			h.recent = h.recent[1:]
		}
		h.cache[p.seq], h.times[p.seq] = rec, st.Time
		h.recent = append(h.recent, p.seq)
	}
	return rec.Entries[p.entry], h.times[p.seq], nil
}

// Result is what Reconcile found.
type Result struct {
	Counts     job.Counts
	Violations []string // at most 20 a range; empty if all is well
}

// Conserved reports whether the law holds: the outcome sets are disjoint subsets
// of the package and all of it, and every done lies inside its reserve.
func (r Result) Conserved() bool { return len(r.Violations) == 0 }

// Reconcile computes the outcome of every recipient of a job, range by range. If
// sent is true, a recipient whose block has no reserve is a violation.
func Reconcile(ctx context.Context, log ledger.Log, id job.ID, pkg Package, sent bool) (Result, error) {
	res := Result{Counts: job.Counts{Dropped: map[job.Reason]uint64{}}}
	h, err := read(ctx, log, id)
	if err != nil {
		return res, err
	}
	for r := range pkg.Ranges() {
		f, err := h.fold(ctx, pkg, r, nil)
		if err != nil {
			return res, err
		}
		f.check(&res.Counts)
		res.Violations = append(res.Violations, f.violations...)
		f.release()
		delete(h.ranges, r)
	}
	for r := range h.ranges {
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
func (h *history) fold(ctx context.Context, pkg Package, r job.Range, see func(*fold, place, ledger.Entry, time.Time)) (*fold, error) {
	ids, err := pkg.Range(r)
	if err != nil {
		return nil, fmt.Errorf("reading the package: %w", err)
	}
	f := newFold(r, ids)
	for _, p := range h.ranges[r] {
		e, when, err := h.entry(ctx, p)
		if err != nil {
			return nil, err
		}
		f.apply(p.ref, e)
		if see != nil {
			see(f, p, e, when)
		}
	}
	return f, nil
}

// Evidence is one record that moved a recipient.
type Evidence struct {
	Seq  uint64
	Ref  job.Ref
	Says string
	At   time.Time
}

// Explanation is one recipient's outcome and what shows it.
type Explanation struct {
	Outcome  job.Outcome
	Reason   job.Reason
	Evidence []Evidence
}

// Explain gives the outcome of one recipient of a job with every record of the
// ledger that changed where it stood.
func Explain(ctx context.Context, log ledger.Log, id job.ID, pkg Package, who job.Recipient) (Explanation, error) {
	var x Explanation
	ids, err := pkg.Range(who.Range())
	if err != nil {
		return x, fmt.Errorf("reading the package: %w", err)
	}
	if !ids.Has(uint32(who)) {
		return x, job.NotFound(fmt.Sprintf("recipient %s is not in the package of %s", who, id))
	}
	ids.Release()
	h, err := read(ctx, log, id)
	if err != nil {
		return x, err
	}
	var last ending
	f, err := h.fold(ctx, pkg, who.Range(), func(f *fold, p place, e ledger.Entry, when time.Time) {
		now := f.where(who)
		if now == last && !mentions(e, who) {
			return
		}
		last = now
		x.Evidence = append(x.Evidence, Evidence{p.seq, p.ref, says(e, now), when})
	})
	if err != nil {
		return x, err
	}
	defer f.release()
	now := f.where(who)
	x.Outcome, x.Reason = now.outcome, now.reason
	return x, nil
}

// mentions reports whether a drain names the recipient: it may have been handed
// off before, so that its place alone shows no change.
func mentions(e ledger.Entry, who job.Recipient) bool {
	d, ok := e.(*ledger.Drain)
	return ok && slices.ContainsFunc(d.Targets.Sets, func(s *idset.Set) bool { return s.Has(uint32(who)) })
}

// says puts in words what an entry did to a recipient.
func says(e ledger.Entry, now ending) string {
	what := now.outcome.String()
	if now.reason != job.NoReason {
		what += " (" + now.reason.String() + ")"
	}
	switch e := e.(type) {
	case *ledger.Reserve:
		return fmt.Sprintf("block %s reserved: %s", e.Span, what)
	case *ledger.Drain:
		return "drained after a login: " + what
	case *ledger.Done:
		return fmt.Sprintf("gateway %s reported on %s: %s", e.Inc, e.Of, what)
	case *ledger.Doubt:
		return fmt.Sprintf("gateway %s could not say: %s", e.Inc, what)
	case *ledger.Decide:
		return "doubt decided: " + what
	}
	return what
}
