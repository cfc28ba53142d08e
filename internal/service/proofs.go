package service

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"sort"

	"crier/api"
	"crier/job"
	"crier/state/jobs"
	"crier/state/ledger"
	"crier/state/proof"
)

// ExplainJob implements api.Proofs.
func (s *Service) ExplainJob(ctx context.Context, id job.ID, r job.Recipient) (api.Explanation, error) {
	_, pkg, err := s.jobAndPackage(ctx, id)
	if err != nil {
		return api.Explanation{}, err
	}
	x, err := s.prover.Explain(ctx, id, pkg, r)
	if err != nil {
		return api.Explanation{}, err
	}
	out := api.Explanation{Job: id, Recipient: r, Outcome: x.Outcome, Reason: x.Reason, Evidence: []api.Evidence{}}
	for _, e := range x.Evidence {
		out.Evidence = append(out.Evidence, api.Evidence{Seq: e.Seq, Report: e.Report, Record: e.Ref.String(), Says: e.Says, At: e.At})
	}
	return out, nil
}

// ReconcileJob implements api.Proofs.
func (s *Service) ReconcileJob(ctx context.Context, id job.ID) (api.Reconciliation, error) {
	j, pkg, err := s.jobAndPackage(ctx, id)
	if err != nil {
		return api.Reconciliation{}, err
	}
	sent := j.State == job.Sent || j.State == job.Completed || j.State == job.JobCancelled
	res, err := s.prover.Reconcile(ctx, id, pkg, sent)
	return api.Reconciliation{Job: id, State: j.State, Counts: res.Counts, Conserved: res.Conserved(), Violations: res.Violations}, err
}

func (s *Service) jobAndPackage(ctx context.Context, id job.ID) (jobs.Job, proof.Package, error) {
	j, err := s.cfg.Jobs.Get(ctx, id)
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
	return ledger.ReadAll(ctx, s.cfg.Log, from, filter, read)
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
	if c, err := ledger.ParseClaim(st.Data); err == nil && c.Kind != "" {
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

// VerifyLedger implements api.Proofs: it reads both streams from end to end and
// checks each journal's numbers, its chain of hashes, and that nothing follows a seal.
func (s *Service) VerifyLedger(ctx context.Context) (api.LedgerReport, error) {
	rep := api.LedgerReport{Valid: true}
	chains := ledger.NewChains()
	records := uint64(0)
	err := ledger.ReadAll(ctx, s.cfg.Log, 1, ledger.AllSubjects, func(st ledger.Stored) error {
		records++
		if problem := chains.Check(st); problem != "" && len(rep.Problems) < 100 {
			rep.Problems = append(rep.Problems, fmt.Sprintf("record %d: %s", st.Seq, problem))
		}
		return nil
	})
	if err != nil {
		return rep, fmt.Errorf("reading the ledger: %w", err)
	}
	controls := uint64(0)
	err = ledger.ReadAll(ctx, s.cfg.Controls, 1, ledger.AllControls, func(st ledger.Stored) error {
		controls++
		var c job.Control
		_, idErr := ledger.ControlJob(st.Subject)
		if err := errors.Join(idErr, json.Unmarshal(st.Data, &c)); err != nil {
			rep.Problems = append(rep.Problems, fmt.Sprintf("control %d: %v", st.Seq, err))
		}
		return nil
	})
	if err != nil {
		return rep, fmt.Errorf("reading the controls: %w", err)
	}
	journals, sealed := chains.Journals()
	for _, x := range []struct {
		name             string
		log              ledger.Log
		records          uint64
		journals, sealed uint64
	}{{ledger.Stream, s.cfg.Log, records, journals, sealed}, {ledger.ControlStream, s.cfg.Controls, controls, 0, 0}} {
		u, err := x.log.Usage(ctx)
		if err != nil {
			return rep, err
		}
		rep.Streams = append(rep.Streams, api.LedgerStream{Name: x.name, First: u.First, Last: u.Last, Records: x.records, Bytes: u.Bytes,
			Limit: u.Limit, Journals: x.journals, Sealed: x.sealed})
	}
	sort.Strings(rep.Problems)
	rep.Valid = len(rep.Problems) == 0
	return rep, nil
}
