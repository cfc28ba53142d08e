package service

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"crier/api"
	"crier/job"
	"crier/state/ledger"
	"crier/state/proof"
	"crier/state/report"
	"crier/state/sql/access"
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
				j, err := f.RecallJob(asked(t), id, api.Recall{Reason: "a typo"})
				if err != nil || j.State != c.now || c.now == job.Recalling && name != "recalling" && !strings.Contains(j.Reason, "a typo") {
					t.Fatalf("%+v, %v", j, err)
				}
				if n := f.controlsOf(id); n != 1 {
					t.Errorf("%d controls are recorded", n)
				}
				<-f.seenControls
				f.seenControls <- id // for the second time
			}
			_, err := f.RecallJob(asked(t), id, api.Recall{Reason: "another"})
			wantError(t, "a recall for another reason", err, job.CodeConflict, "")
			if !strings.Contains(fmt.Sprint(err), "recalled already") || !strings.Contains(fmt.Sprint(err), "a typo") {
				t.Errorf("it does not say that, or why, it is recalled already: %v", err)
			}
			j, err := f.cfg.Jobs.Get(t.Context(), id)
			if err != nil || !j.Controls.Recalled || j.Controls.Reason != "a typo" || !j.IsLive() {
				t.Errorf("in force is %+v, %v", j.Controls, err)
			}
			_, err = f.CancelJob(asked(t), id)
			wantError(t, "a cancel of what is recalled", err, job.CodeConflict, "")
			if n := f.controlsOf(id); n != 1 {
				t.Errorf("%d controls are recorded", n)
			}
		})
	}
}

func TestWhatCannotBeRecalled(t *testing.T) {
	f := newFixture(t)
	_, err := f.RecallJob(asked(t), job.ID{1}, api.Recall{Reason: "a typo"})
	wantError(t, "a recall of no job", err, job.CodeNotFound, "")
	id := f.submitSeen(toFollowers(""))
	_, err = f.RecallJob(asked(t), id, api.Recall{Reason: "a\nb"})
	wantError(t, "a reason of two lines", err, job.CodeInvalid, "reason")
	_, err = f.RecallJob(asked(t), id, api.Recall{})
	wantError(t, "no reason", err, job.CodeInvalid, "reason")

	// A withdrawal cannot be recalled, but is shown with what it withdraws.
	f.move(id, job.Recalling)
	j, err := f.cfg.Jobs.Get(t.Context(), id)
	f.must(err)
	spec := j.Spec
	spec.ID, spec.Withdraws, spec.Body, spec.BodyBytes, spec.Nonce = job.WithdrawalID(id), id, job.Digest{}, 0, job.Digest{7}
	f.must(spec.Validate())
	_, _, err = f.cfg.Jobs.Accept(t.Context(), spec)
	f.must(err)
	_, err = f.RecallJob(asked(t), spec.ID, api.Recall{Reason: "a typo"})
	wantError(t, "a recall of a withdrawal", err, job.CodeConflict, "")
	w, err := f.GetJob(asked(t), spec.ID)
	if err != nil || w.Withdraws != id || w.Withdrawal != (api.Withdrawal{}) {
		t.Errorf("the withdrawal: %+v, %v", w, err)
	}
	of, err := f.GetJob(asked(t), id)
	if err != nil || of.Withdrawal != (api.Withdrawal{Withdrawal: spec.ID, Withdrawing: spec.Recipients}) {
		t.Errorf("the recalled job: %+v, %v", of, err)
	}
	rec, err := f.ReconcileJob(asked(t), id)
	if err != nil || rec.Withdrawal != (api.Withdrawal{Withdrawal: spec.ID, Withdrawing: spec.Recipients}) {
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
	_, err = f.RecallJob(asked(t), gone, api.Recall{Reason: "a typo"})
	wantError(t, "a recall of what is gone", err, job.CodeConflict, "")
	if !strings.Contains(err.Error(), "gone") || f.controlsOf(gone) != 0 {
		t.Errorf("%v; %d controls", err, f.controlsOf(gone))
	}
	// One that is under way is stopped all the same.
	going := f.submitSeen(toFollowers(""))
	if _, err := f.RecallJob(asked(t), going, api.Recall{Reason: "a typo"}); err != nil {
		t.Error(err)
	}
}

// A recall is for the tenant's keys: to another's the job is not there, recalled or not,
// and neither is its withdrawal. The audit log has one act, the one that the ledger tells,
// with the reason that was given for the recall.
func TestARecallIsItsTenants(t *testing.T) {
	f := newFixture(t)
	acme, other := withAcme(f), as(t, "other", job.Admin)
	j, err := f.SubmitJob(acme, toFollowers(""))
	f.must(err)
	f.waitFor(j.Job)
	foreign := func(id job.ID) {
		t.Helper()
		for what, do := range map[string]func(job.ID) error{
			"recall": func(id job.ID) error { _, err := f.RecallJob(other, id, api.Recall{Reason: "a typo"}); return err },
			"cancel": func(id job.ID) error { _, err := f.CancelJob(other, id); return err },
			"get":    func(id job.ID) error { _, err := f.GetJob(other, id); return err },
		} {
			is, none := do(id), do(job.ID{15: 1})
			if job.CodeOf(is) != job.CodeNotFound || strings.ReplaceAll(is.Error(), id.String(), "") != strings.ReplaceAll(none.Error(), job.ID{15: 1}.String(), "") {
				t.Errorf("%s of another's: %v, and of none: %v", what, is, none)
			}
		}
	}
	foreign(j.Job)
	if n := f.controlsOf(j.Job); n != 0 {
		t.Fatalf("another tenant wrote %d controls", n)
	}
	reasons := map[job.ID]string{j.Job: "a typo"} // of the recall itself, before the header's
	without, err := f.SubmitJob(acme, toFollowers(""))
	f.must(err)
	f.waitFor(without.Job)
	reasons[without.Job] = "because of a typo"
	acts := map[string]access.Act{}
	for id, why := range reasons {
		got := f.trail(acme, "recall-job", false, func(ctx context.Context) error {
			_, err := f.RecallJob(ctx, id, api.Recall{Reason: why})
			return err
		})
		if len(got) != 1 || got[0].Tenant != "acme" || got[0].Key != "key_of_acme" || got[0].Object != "job/"+id.String() || got[0].Result != access.Done || got[0].Reason != why {
			t.Fatalf("the audit log has %+v", got)
		}
		acts[got[0].ID] = got[0]
	}
	told := 0
	f.must(ledger.ReadAll(t.Context(), f.controls, 1, ledger.AllControls, func(st ledger.Stored) error {
		id, err := ledger.ControlJob(st.Subject)
		f.must(err)
		var c job.Control
		f.must(json.Unmarshal(st.Data, &c))
		told++
		want, has := access.Controlled(job.Spec{ID: id, Tenant: "acme"}, c, st.Seq), acts[access.Controlled(job.Spec{}, c, st.Seq).ID]
		if has.Reason != want.Reason || has.Operation != want.Operation || !has.At.Equal(want.At) || has.Key != want.Key || has.Object != want.Object || has.Tenant != want.Tenant {
			t.Errorf("the ledger tells %+v, the audit log has %+v", want, has)
		}
		return nil
	}))
	if told != 2 {
		t.Errorf("the ledger has %d controls", told)
	}
	foreign(j.Job)
	f.move(j.Job, job.Recalling)
	recalled, err := f.cfg.Jobs.Get(t.Context(), j.Job)
	f.must(err)
	spec := recalled.Spec
	spec.ID, spec.Withdraws, spec.Body, spec.BodyBytes, spec.Nonce, spec.SubmittedBy = job.WithdrawalID(j.Job), j.Job, job.Digest{}, 0, job.Digest{7}, ""
	_, _, err = f.cfg.Jobs.Accept(t.Context(), spec)
	f.must(err)
	f.waitFor(spec.ID)
	if w, err := f.GetJob(acme, spec.ID); err != nil || w.Tenant != "acme" || w.Withdraws != j.Job {
		t.Errorf("the withdrawal: %+v, %v", w, err)
	}
	foreign(spec.ID)
}

// Who keeps a message that was taken back is told apart from who has not been asked yet.
func TestWhoRefusesAWithdrawal(t *testing.T) {
	n := job.Counts{Package: 9, Delivered: 3, Parked: 1, HandedOff: 1, Failed: 4}
	n.Fail(job.ReasonRefused, 3)
	n.Fail(job.ReasonUnknown, 1)
	want := api.Withdrawal{Withdrawal: job.ID{15: 1}, Withdrawn: 3, Withdrawing: 2, Refused: 3}
	if got := withdrawalOf(job.Spec{ID: job.ID{15: 1}}, n); got != want {
		t.Errorf("%+v, want %+v", got, want)
	}
}
