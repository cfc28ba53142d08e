package service

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"sort"

	"crier/api"
	"crier/internal/service/patience"
	"crier/job"
	"crier/state/jobs"
	"crier/state/ledger"
	"crier/state/proof"
)

// ExplainJob implements api.Proofs.
func (s *Service) ExplainJob(ctx context.Context, id job.ID, r job.Recipient) (api.Explanation, error) {
	j, pkg, err := s.jobAndPackage(ctx, id)
	if err != nil {
		return api.Explanation{}, err
	}
	if c, err := api.CallerOf(ctx); err != nil || c.Recipient != nil && *c.Recipient != r { // as one who is not in the package
		return api.Explanation{}, cmp.Or(err, job.NotFound(fmt.Sprintf("recipient %s is not in the package of job %s", r, id)))
	}
	done, err := s.prove(ctx)
	if err != nil {
		return api.Explanation{}, err
	}
	defer done()
	x, err := s.prover.Explain(ctx, id, pkg, r)
	if err != nil {
		return api.Explanation{}, err
	}
	out := api.Explanation{Job: id, Recipient: r, Outcome: x.Outcome, Reason: x.Reason, Evidence: []api.Evidence{}}
	for _, e := range x.Evidence {
		out.Evidence = append(out.Evidence, api.Evidence{Seq: e.Seq, Report: e.Report, Record: e.Ref.String(), Says: e.Says, At: e.At})
	}
	if out.Because, err = s.cfg.Why(ctx, j.Spec, x.Reason, r); err != nil {
		return api.Explanation{}, fmt.Errorf("looking why a filter of job %s dropped a recipient: %w", id, err)
	}
	return out, nil
}

// ReconcileJob implements api.Proofs.
func (s *Service) ReconcileJob(ctx context.Context, id job.ID) (api.Reconciliation, error) {
	j, pkg, err := s.jobAndPackage(ctx, id)
	if err != nil {
		return api.Reconciliation{}, err
	}
	done, err := s.prove(ctx)
	if err != nil {
		return api.Reconciliation{}, err
	}
	defer done()
	sent := j.State.AllSent() || j.State == job.JobCancelled || j.State == job.JobRecalled
	filters, err := s.cfg.Filters(ctx, j.Spec)
	if err != nil {
		return api.Reconciliation{}, fmt.Errorf("opening what the filters of job %s read: %w", id, err)
	}
	res, err := s.prover.Reconcile(ctx, id, pkg, sent, filters...)
	if err != nil {
		return api.Reconciliation{}, err
	}
	taken, err := s.proveWithdrawn(ctx, j)
	return api.Reconciliation{Job: id, State: j.State, Counts: res.Counts, Withdrawal: taken, Conserved: res.Conserved(), Violations: res.Violations}, err
}

// prove waits for a place among the proofs; done gives it back.
func (s *Service) prove(ctx context.Context) (done func(), err error) {
	select {
	case s.proofs <- struct{}{}:
		return func() { <-s.proofs }, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

func (s *Service) jobAndPackage(ctx context.Context, id job.ID) (jobs.Job, proof.Package, error) {
	j, err := s.job(ctx, id)
	if err != nil {
		return j, nil, err
	}
	pkg, err := s.cfg.Set(ctx, j.Spec.Package)
	if err != nil {
		return j, nil, fmt.Errorf("opening the package of job %s: %w", id, err)
	}
	return j, pkg, nil
}

// TailLedger implements api.Proofs.
func (s *Service) TailLedger(ctx context.Context, req api.TailLedger, fn func(api.LedgerEntry) error) error {
	filter := req.Filter
	if filter == "" {
		filter = ledger.AllSubjects
	}
	read := func(st ledger.Stored) error { return fn(describeRecord(st)) }
	from := max(req.From, 1)
	if req.Follow {
		return s.cfg.Log.Follow(ctx, from, filter, read, nil)
	}
	return ledger.ReadAll(ctx, patience.Log{Log: s.cfg.Log, Within: s.cfg.Patience}, from, filter, read)
}

// describeRecord makes a stored record readable.
func describeRecord(st ledger.Stored) api.LedgerEntry {
	e := api.LedgerEntry{Seq: st.Seq, Subject: st.Subject, Time: st.Time, Bytes: len(st.Data)}
	if _, err := ledger.JournalOf(st.Subject); err != nil {
		e.Kind, e.Detail = describeOther(st)
		return e
	}
	e.Kind = "record"
	rec, err := ledger.ParseRecord(st.Data)
	if err != nil {
		e.Kind = "damaged"
		e.Detail, _ = json.Marshal(err.Error())
		return e
	}
	if len(rec.Entries) == 1 {
		e.Kind = ledger.KindOf(rec.Entries[0])
	}
	e.Detail = ledger.Describe(rec)
	return e
}

// describeOther names a record that is no journal's. The spec, which every
// transition carries, is shown with the first only.
func describeOther(st ledger.Stored) (kind string, detail json.RawMessage) {
	switch st.Subject {
	case ledger.FoldSubject:
		return "fold", st.Data
	case ledger.ClusterSubject:
		return "cluster", st.Data
	}
	if _, err := ledger.ParseErasure(st); err == nil {
		return "erased", st.Data
	}
	if c, err := ledger.ParseClaim(st); err == nil && c.Kind != "" {
		return "claim", st.Data
	}
	var tr struct {
		Job     job.ID          `json:"job"`
		Version uint64          `json:"version"`
		State   job.State       `json:"state"`
		Reason  string          `json:"reason,omitempty"`
		At      string          `json:"at"`
		Spec    json.RawMessage `json:"spec,omitempty"`
	}
	if err := json.Unmarshal(st.Data, &tr); err != nil {
		return "damaged", nil
	}
	if tr.Version == 1 {
		return "accepted", st.Data
	}
	tr.Spec = nil
	b, err := json.Marshal(tr)
	if err != nil {
		return "damaged", nil
	}
	return "transition", b
}

// VerifyLedger implements api.Proofs: it reads the reports and both streams from end
// to end and checks each journal's numbers, its chain of hashes, and that nothing
// follows a seal.
func (s *Service) VerifyLedger(ctx context.Context) (api.LedgerReport, error) {
	for {
		v := verifier{s: s, chains: ledger.NewChains()}
		for _, step := range []func(context.Context) error{v.reports, v.ledger, v.controls} {
			if err := step(ctx); err != nil {
				return v.rep, err
			}
		}
		folds, err := ledger.ReadFolds(ctx, patience.Log{Log: s.cfg.Log, Within: s.cfg.Patience})
		if err == nil && folds.Through() != v.folded {
			continue // folded on meanwhile: what moved may have been missed
		}
		sort.Strings(v.rep.Problems)
		v.rep.Valid = len(v.rep.Problems) == 0
		return v.rep, nil
	}
}

// verifier reads everything once and lists what is wrong.
type verifier struct {
	s      *Service
	rep    api.LedgerReport
	chains *ledger.Chains
	folded uint64 // the journals' records before this one were in reports
}

// maxProblems bounds the list.
const maxProblems = 100

func (v *verifier) wrong(format string, a ...any) {
	if len(v.rep.Problems) < maxProblems {
		v.rep.Problems = append(v.rep.Problems, fmt.Sprintf(format, a...))
	}
}

// reports checks what was folded: that no report is missing or damaged, and the
// chains of the records in them.
func (v *verifier) reports(ctx context.Context) error {
	folds, err := ledger.ReadFolds(ctx, patience.Log{Log: v.s.cfg.Log, Within: v.s.cfg.Patience})
	if errors.Is(err, ledger.ErrRecord) {
		v.wrong("folds: %v", err)
		return nil
	}
	if err != nil {
		return err
	}
	v.folded = folds.Through()
	sum := api.LedgerStream{Name: "reports"}
	for _, f := range folds.List {
		if f.Report.IsZero() {
			continue
		}
		r, c, err := v.s.cfg.Reports.Open(ctx, f.Report)
		if err != nil {
			v.wrong("records %d to %d: %v", f.From, f.Through-1, err)
			continue
		}
		n := uint64(0)
		err = r.Records(func(st ledger.Stored) error {
			if n++; sum.First == 0 {
				sum.First = st.Seq
			}
			sum.Last, sum.Bytes = st.Seq, sum.Bytes+uint64(len(st.Data))
			if problem := v.chains.Check(st); problem != "" {
				v.wrong("record %d in report %s: %s", st.Seq, f.Report, problem)
			}
			return ctx.Err()
		})
		c.Close() // only read
		if err != nil {
			v.wrong("report %s: %v", f.Report, err)
		}
		if n != f.Records {
			v.wrong("report %s has %d records, the fold says %d", f.Report, n, f.Records)
		}
		sum.Records += n
	}
	if sum.Records > 0 {
		v.rep.Streams = append(v.rep.Streams, sum)
	}
	return ctx.Err()
}

func (v *verifier) ledger(ctx context.Context) error {
	records := uint64(0)
	err := ledger.ReadAll(ctx, patience.Log{Log: v.s.cfg.Log, Within: v.s.cfg.Patience}, 1, ledger.AllSubjects, func(st ledger.Stored) error {
		records++
		if _, err := ledger.JournalOf(st.Subject); err == nil && st.Seq < v.folded {
			return nil // it was checked in its report
		}
		if problem := v.chains.Check(st); problem != "" {
			v.wrong("record %d: %s", st.Seq, problem)
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("reading the ledger: %w", err)
	}
	journals, sealed := v.chains.Journals()
	return v.stream(ctx, v.s.cfg.Log, api.LedgerStream{Name: ledger.Stream, Records: records, Journals: journals, Sealed: sealed})
}

func (v *verifier) controls(ctx context.Context) error {
	controls := uint64(0)
	err := ledger.ReadAll(ctx, patience.Log{Log: v.s.cfg.Controls, Within: v.s.cfg.Patience}, 1, ledger.AllControls, func(st ledger.Stored) error {
		controls++
		var c job.Control
		_, idErr := ledger.ControlJob(st.Subject)
		if err := errors.Join(idErr, json.Unmarshal(st.Data, &c)); err != nil {
			v.wrong("control %d: %v", st.Seq, err)
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("reading the controls: %w", err)
	}
	return v.stream(ctx, v.s.cfg.Controls, api.LedgerStream{Name: ledger.ControlStream, Records: controls})
}

// stream lists a stream with its extent.
func (v *verifier) stream(ctx context.Context, log ledger.Log, sum api.LedgerStream) error {
	u, err := log.Usage(ctx)
	if err != nil {
		return err
	}
	sum.First, sum.Last, sum.Bytes, sum.Limit = u.First, u.Last, u.Bytes, u.Limit
	v.rep.Streams = append(v.rep.Streams, sum)
	return nil
}
