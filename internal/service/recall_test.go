package service

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"
	"time"

	"crier/api"
	"crier/job"
	"crier/state/ledger"
	"crier/state/proof"
	"crier/state/report"
)

// A recall is one record, also of a job that is over, which goes on at once; given again
// it changes nothing.
func TestRecall(t *testing.T) {
	for name, c := range map[string]struct {
		before []job.State
		now    job.State
	}{
		"submitted": {nil, job.Submitted},
		"sent":      {toSent, job.Sent},
		"completed": {append(slices.Clone(toSent), job.Completed), job.Recalling},
		"cancelled": {[]job.State{job.Cancelling, job.JobCancelled}, job.Recalling},
		"failed":    {[]job.State{job.JobFailed}, job.Recalling},
		"recalling": {[]job.State{job.Recalling}, job.Recalling},
	} {
		t.Run(name, func(t *testing.T) {
			f := newFixture(t)
			id := f.submitSeen(toFollowers(""))
			f.move(id, c.before...)
			for range 2 {
				j, err := f.RecallJob(t.Context(), id, api.Recall{Reason: "a typo"})
				if err != nil || j.State != c.now || c.now == job.Recalling && name != "recalling" && !strings.Contains(j.Reason, "a typo") {
					t.Fatalf("%+v, %v", j, err)
				}
				if n := f.controlsOf(id); n != 1 {
					t.Errorf("%d controls are recorded", n)
				}
				<-f.seenControls
				f.seenControls <- id // for the second time
			}
			j, err := f.cfg.Jobs.Get(t.Context(), id)
			if err != nil || !j.Controls.Recalled || j.Controls.Reason != "a typo" || !j.IsLive() {
				t.Errorf("in force is %+v, %v", j.Controls, err)
			}
			_, err = f.CancelJob(t.Context(), id)
			wantError(t, "a cancel of what is recalled", err, job.CodeConflict, "")
			if n := f.controlsOf(id); n != 1 {
				t.Errorf("%d controls are recorded", n)
			}
		})
	}
}

func TestWhatCannotBeRecalled(t *testing.T) {
	f := newFixture(t)
	_, err := f.RecallJob(t.Context(), job.ID{1}, api.Recall{})
	wantError(t, "a recall of no job", err, job.CodeNotFound, "")
	id := f.submitSeen(toFollowers(""))
	_, err = f.RecallJob(t.Context(), id, api.Recall{Reason: "a\nb"})
	wantError(t, "a reason of two lines", err, job.CodeInvalid, "reason")

	// A withdrawal cannot be recalled, but is shown with what it withdraws.
	f.move(id, job.Recalling)
	j, err := f.cfg.Jobs.Get(t.Context(), id)
	f.must(err)
	spec := j.Spec
	spec.ID, spec.Withdraws, spec.Body, spec.BodyBytes, spec.Nonce = job.WithdrawalID(id), id, job.Digest{}, 0, job.Digest{7}
	f.must(spec.Validate())
	_, _, err = f.cfg.Jobs.Accept(t.Context(), spec)
	f.must(err)
	_, err = f.RecallJob(t.Context(), spec.ID, api.Recall{})
	wantError(t, "a recall of a withdrawal", err, job.CodeConflict, "")
	w, err := f.GetJob(t.Context(), spec.ID)
	if err != nil || w.Withdraws != id || w.Withdrawal != (api.Withdrawal{}) {
		t.Errorf("the withdrawal: %+v, %v", w, err)
	}
	of, err := f.GetJob(t.Context(), id)
	if err != nil || of.Withdrawal != (api.Withdrawal{Withdrawal: spec.ID}) {
		t.Errorf("the recalled job: %+v, %v", of, err)
	}
	rec, err := f.ReconcileJob(t.Context(), id)
	if err != nil || rec.Withdrawal != (api.Withdrawal{Withdrawal: spec.ID}) {
		t.Errorf("reconciled %+v, %v", rec, err)
	}

	// A job that is over and whose records are gone: nobody knows who has its message.
	gone := f.submitSeen(toFollowers(""))
	f.move(gone, append(slices.Clone(toSent), job.Completed)...)
	u, err := f.log.Usage(t.Context())
	f.must(err)
	b, err := json.Marshal(ledger.Fold{From: 1, Through: u.Last + 1, Report: job.Digest{9}, Records: 5, At: time.Now()})
	f.must(err)
	_, err = f.log.Append(t.Context(), ledger.FoldSubject, 0, b)
	f.must(err)
	f.prover = &proof.Prover{Log: f.log, Reports: report.NewStore(f.cfg.Blobs)}
	_, err = f.RecallJob(t.Context(), gone, api.Recall{})
	wantError(t, "a recall of what is gone", err, job.CodeConflict, "")
	if !strings.Contains(err.Error(), "gone") || f.controlsOf(gone) != 0 {
		t.Errorf("%v; %d controls", err, f.controlsOf(gone))
	}
	// One that is under way is stopped all the same.
	going := f.submitSeen(toFollowers(""))
	if _, err := f.RecallJob(t.Context(), going, api.Recall{}); err != nil {
		t.Error(err)
	}
}
