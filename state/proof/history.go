package proof

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"

	"crier/job"
	"crier/state/ledger"
	"crier/state/report"
)

// Reports opens the reports into which the ledger was folded; report.Store has it.
type Reports interface {
	Open(ctx context.Context, digest job.Digest) (*report.Report, io.Closer, error)
}

// history is everything that the ledger and its reports say of one job. That of several is read
// at once; then each is a view of the same.
type history struct {
	id      job.ID
	only    *job.Range // of which the tails are kept; nil: all
	reports []opened
	tails   map[job.ID]map[job.Range][]unread // what is not folded, of each job
	voids   ledger.Voids
	closers []io.Closer
}

type opened struct {
	*report.Report
	digest job.Digest
}

// unread is an entry of the tail, not decoded yet.
type unread struct {
	place report.Entry // without the entry
	bytes []byte
}

// errFolded says that the ledger was folded on while it was read.
var errFolded = errors.New("the ledger was folded meanwhile")

// read gathers what is known of a job, or of one range of it, and of more jobs, which view shows. What
// was folded while the tail was read may be missing in it; then all is read again.
func (p *Prover) read(ctx context.Context, id job.ID, only *job.Range, more ...job.ID) (*history, error) {
	for {
		h, err := p.readOnce(ctx, id, only, more)
		if !errors.Is(err, errFolded) || ctx.Err() != nil {
			return h, err
		}
	}
}

func (p *Prover) readOnce(ctx context.Context, id job.ID, only *job.Range, more []job.ID) (_ *history, err error) {
	h := &history{id: id, only: only, tails: map[job.ID]map[job.Range][]unread{}}
	first := uint64(math.MaxUint64)
	for _, id := range append([]job.ID{id}, more...) {
		h.tails[id] = map[job.Range][]unread{}
		seq, err := firstOf(ctx, p.Log, id)
		if err != nil {
			return nil, err
		}
		first = min(first, seq)
	}
	folds, err := ledger.ReadFolds(ctx, p.Log)
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			h.close()
		}
	}()
	for _, f := range folds.List {
		if f.Report.IsZero() || f.Through <= first {
			continue // nothing before the first acceptance is about any of the jobs
		}
		if err := h.open(ctx, p.Reports, f.Report); err != nil {
			return nil, err
		}
	}
	err = ledger.ReadAll(ctx, p.Log, max(first, folds.Through()), ledger.AllJournals, h.take)
	if err != nil {
		return nil, fmt.Errorf("reading the ledger: %w", err)
	}
	switch st, err := p.Log.Last(ctx, ledger.FoldSubject); {
	case errors.Is(err, ledger.ErrNoRecord) && folds.Last == 0:
	case err != nil:
		return nil, fmt.Errorf("looking what was folded: %w", err)
	case st.Seq != folds.Last:
		return nil, errFolded
	}
	return h, nil
}

func (h *history) open(ctx context.Context, reports Reports, digest job.Digest) error {
	r, c, err := reports.Open(ctx, digest)
	if err != nil {
		return err
	}
	h.closers = append(h.closers, c)
	h.reports = append(h.reports, opened{r, digest})
	return r.Voids(func(e report.Entry) error {
		h.voids.Note(e.Seq, e.Ref, e.Entry)
		return nil
	})
}

// view is the history of another job that was read at once; it is closed with the first.
func (h *history) view(id job.ID) *history {
	v := *h
	v.id = id
	return &v
}

// take keeps what a record of the tail says of the jobs.
func (h *history) take(st ledger.Stored) error {
	rec, entries, err := ledger.SplitRecord(st.Data)
	if err != nil {
		return fmt.Errorf("record %d: %w", st.Seq, err)
	}
	for i, b := range entries {
		t, err := ledger.TopicOf(b)
		if err != nil {
			return fmt.Errorf("entry %d of record %d: %w", i, st.Seq, err)
		}
		place := report.Entry{Seq: st.Seq, Ref: job.Ref{Journal: rec.Journal, N: rec.N, Entry: uint16(i)}, Time: st.Time}
		if t.Voids {
			e, err := ledger.ParseEntry(b)
			if err != nil {
				return fmt.Errorf("entry %d of record %d: %w", i, st.Seq, err)
			}
			h.voids.Note(place.Seq, place.Ref, e)
		} else if tail := h.tails[t.Job]; tail != nil && !t.Job.IsZero() && (h.only == nil || *h.only == t.Range) {
			tail[t.Range] = append(tail[t.Range], unread{place, append([]byte(nil), b...)})
		}
	}
	return nil
}

// entries calls fn for each entry about a range that counts (rule 3), in the order
// of the ledger, with the digest of the report it stands in, or zero.
func (h *history) entries(ctx context.Context, r job.Range, fn func(report.Entry, job.Digest) error) error {
	for _, x := range h.reports {
		err := x.Entries(h.id, r, func(e report.Entry) error {
			if h.voids.Has(e.Seq, e.Ref) {
				return nil
			}
			return errors.Join(fn(e, x.digest), ctx.Err())
		})
		if err != nil {
			return fmt.Errorf("report %s: %w", x.digest, err)
		}
	}
	for _, u := range h.tails[h.id][r] {
		e, err := ledger.ParseEntry(u.bytes)
		if err != nil {
			return fmt.Errorf("entry %d of record %d: %w", u.place.Ref.Entry, u.place.Seq, err)
		}
		if h.voids.Has(u.place.Seq, u.place.Ref) {
			continue
		}
		u.place.Entry = e
		if err := errors.Join(fn(u.place, job.Digest{}), ctx.Err()); err != nil {
			return err
		}
	}
	return nil
}

// ranges lists every range that has entries about the job.
func (h *history) ranges() (map[job.Range]bool, error) {
	out := map[job.Range]bool{}
	for r := range h.tails[h.id] {
		out[r] = true
	}
	for _, x := range h.reports {
		rs, err := x.Ranges(h.id)
		if err != nil {
			return nil, fmt.Errorf("report %s: %w", x.digest, err)
		}
		for _, r := range rs {
			out[r] = true
		}
	}
	return out, nil
}

func (h *history) close() {
	for _, c := range h.closers {
		c.Close() // only read
	}
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
