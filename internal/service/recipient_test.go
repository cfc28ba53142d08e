package service

import (
	"context"
	"errors"
	"log/slog"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"crier/api"
	"crier/audience"
	"crier/internal/idset"
	"crier/job"
	"crier/state/fold"
	"crier/state/ledger"
	"crier/state/report"
)

// Where the caps are known, what counts is today's, against them; what was charged before
// counts no longer.
func TestRecipientCaps(t *testing.T) {
	f := newFixture(t)
	acme, house := withAcme(f), as(t, job.DefaultTenant, job.Submitter)
	const who, day = 3<<20 + 5, 20_500 // 2026-02-16
	f.entries(ledger.Open{Boot: "boot"})
	f.parkFor(house, who, day, true)
	for today, want := range map[string][]api.Used{
		"2026-02-16": {{Messages: 1, Cap: 3}, {Account: "news", AccountID: &f.news.ID, Messages: 1, Cap: 2}},
		"2026-02-17": {{Cap: 3}},
	} {
		f.cfg.Caps = func(time.Time) Caps { return Caps{Day: today, Zone: "Asia/Shanghai", All: 3, Account: 2} }
		if got, err := f.GetRecipient(house, who); err != nil || got.Day != today || got.Zone != "Asia/Shanghai" || !reflect.DeepEqual(got.Frequency, want) {
			t.Errorf("on %s it is charged on %s: %+v, %v; want %+v", today, got.Day, got.Frequency, err, want)
		}
		if got, err := f.GetRecipient(acme, who); err != nil || len(got.Frequency) != 0 {
			t.Errorf("on %s another tenant sees %+v, %v", today, got.Frequency, err)
		}
	}
}

// parkFor submits a job of a caller's account news and parks it for one recipient, who is
// charged for it; the counts are written down apart from the index.
func (f *fixture) parkFor(ctx context.Context, who job.Recipient, day uint32, charge bool) job.ID {
	f.t.Helper()
	_, err := f.AddFollowers(ctx, "news", []job.Recipient{who})
	f.must(err)
	j, err := f.SubmitJob(ctx, toFollowers(""))
	f.must(err)
	for <-f.seenJobs != j.Job {
	}
	span := job.Span{Lo: uint64(who), Hi: uint64(who) + 1}
	if charge {
		f.entries(&ledger.Charge{Job: j.Job, Span: span, IDs: 1, Terms: ledger.Terms{Day: day, All: true, Account: ledger.OneAccount(j.AccountID)}})
	}
	f.entries(&ledger.Reserve{Job: j.Job, Span: span, IDs: 1, Rest: job.Parked})
	return j.Job
}

// Each tenant sees of a recipient what is its own, and only keys of the default tenant
// where it is; who is nobody's has nothing.
func TestRecipientInfo(t *testing.T) {
	f := newFixture(t)
	acme := withAcme(f)
	house := as(t, job.DefaultTenant, job.Submitter)
	at := api.Whereabouts{Online: []api.Connected{{Gateway: "g-a", Connections: 2}}, Home: "w-a", Primary: "g-a.1", Silent: []api.Silent{{Name: "b", Why: "asleep"}}}
	asked7 := 0
	f.cfg.Whereabouts = func(_ context.Context, who job.Recipient) api.Whereabouts {
		if who == 3<<20+5 {
			asked7++
		}
		return at
	}
	const who, day = 3<<20 + 5, 20_500
	f.entries(ledger.Open{Boot: "boot"})
	f.parkFor(house, who, day-1, true) // counts no longer
	first := f.parkFor(acme, who, day, true)
	var ours []job.ID
	for i := range 53 {
		ours = append(ours, f.parkFor(house, who, day, i < 2))
	}
	f.parkFor(house, who+1, day, true)

	got, err := f.GetRecipient(house, who)
	f.must(err)
	if got.ParkedTotal != 54 || len(got.Parked) != api.MaxParkedShown || got.Parked[1].Job != ours[0] || got.Parked[0].Since.IsZero() || got.Parked[0].Account != "news" ||
		slices.ContainsFunc(got.Parked, func(w api.Waits) bool { return w.Job == first || w.Tenant != job.DefaultTenant || w.Maybe }) {
		t.Errorf("of the default tenant %d wait: %+v", got.ParkedTotal, got.Parked)
	}
	// Of all accounts 3 on the day: acme's counts, too, for the cap is of all.
	if want := []api.Used{{Messages: 3}, {Account: "news", AccountID: &f.news.ID, Messages: 2}}; !reflect.DeepEqual(got.Frequency, want) || got.Day != "2026-02-16" {
		t.Errorf("charged on %s: %+v, want %+v", got.Day, got.Frequency, want)
	}
	if len(got.Online) != 1 || got.Primary != "g-a.1" || len(got.Silent) != 1 || asked7 != 1 {
		t.Errorf("it is at %+v", got.Whereabouts)
	}

	got, err = f.GetRecipient(acme, who)
	f.must(err)
	if got.ParkedTotal != 1 || len(got.Parked) != 1 || got.Parked[0].Job != first || len(got.Frequency) != 1 || got.Frequency[0].Messages != 1 || *got.Frequency[0].AccountID == f.news.ID {
		t.Errorf("acme sees %+v", got)
	}
	if len(got.Online) != 0 || got.Home != "" || got.Primary != "" || got.Silent != nil || asked7 != 1 {
		t.Errorf("acme is told where it is: %+v", got.Whereabouts)
	}
	if got, err = f.GetRecipient(asked(t), who); err != nil || got.ParkedTotal != 55 || len(got.Frequency) != 3 {
		t.Errorf("the admin key sees %d wait, %+v, %v", got.ParkedTotal, got.Frequency, err)
	}
	if got, err = f.GetRecipient(as(t, "other", job.Viewer), who); err != nil || got.ParkedTotal != 0 || len(got.Frequency) != 0 {
		t.Errorf("another tenant sees %+v, %v", got, err)
	}
	if got, err = f.GetRecipient(house, 9<<20); err != nil || got.ParkedTotal != 0 || len(got.Frequency) != 0 || got.Day != "" {
		t.Errorf("of nobody: %+v, %v", got, err)
	}
	_, err = f.GetRecipient(t.Context(), who)
	wantError(t, "without a caller", err, job.CodeDenied, "")

	// What waits is told also after its record was folded; then only not since when.
	f.entries(&ledger.Outcome{Job: ours[0], Range: 3, Outcome: job.Expired, Set: idset.Of(who)})
	folder := fold.New(fold.Config{Log: f.log, Index: f.cfg.Index, Blobs: f.cfg.Blobs, Report: 1, Logger: slog.New(slog.DiscardHandler)})
	f.must(folder.Fold(t.Context()))
	got, err = f.GetRecipient(house, who)
	f.must(err)
	if got.ParkedTotal != 53 || got.Parked[1].Job != ours[1] || !got.Parked[0].Since.IsZero() || len(got.Frequency) != 2 || got.Frequency[0].Messages != 2 {
		t.Errorf("after an expiry and folding %d wait: %+v, %+v", got.ParkedTotal, got.Parked[:2], got.Frequency)
	}
}

// Of the jobs that have it in their package a recipient is told the last 10, each tenant of its
// own, with what became of it, as explain says, also when that is folded; one whose package
// cannot be read, and all if the ledger cannot, are listed with the reason.
func TestRecentJobs(t *testing.T) {
	f := newFixture(t)
	acme, house := withAcme(f), as(t, job.DefaultTenant, job.Submitter)
	const who = job.Recipient(3<<20 + 5)
	f.entries(ledger.Open{Boot: "boot"})
	theirs := f.parkFor(acme, who, 0, false)
	var ours []job.ID
	for n := range 12 {
		if n == 11 { // so that the last has another package
			_, err := f.AddFollowers(house, "news", []job.Recipient{9 << 19})
			f.must(err)
		}
		ours = append(ours, f.parkFor(house, who, 0, false))
	}
	_, err := f.RemoveFollowers(house, "news", []job.Recipient{who})
	f.must(err)
	f.submitSeen(toFollowers("")) // without it
	f.entries(&ledger.Outcome{Job: ours[11], Range: 3, Outcome: job.Dropped, Reason: job.SuppressedParked, Set: idset.Of(uint32(who))})
	f.move(ours[11], job.Packed)
	f.project()
	check := func(when string) {
		t.Helper()
		got, err := f.GetRecipient(house, who)
		f.must(err)
		if len(got.Recent) != api.MaxRecent {
			t.Fatalf("%s %d jobs are told", when, len(got.Recent))
		}
		for n, r := range got.Recent {
			id := ours[11-n]
			want, err := f.ExplainJob(house, id, who)
			f.must(err)
			if r.Job != id || r.Account != "news" || r.Tenant != job.DefaultTenant || r.Submitted.IsZero() || r.Unknown != "" || *r.Outcome != want.Outcome || r.Reason != want.Reason {
				t.Errorf("%s job %d is %+v, want %s as %s (%s)", when, n, r, id, want.Outcome, want.Reason)
			}
		}
		if r := got.Recent[0]; *r.Outcome != job.Dropped || r.Reason != job.SuppressedParked || r.State != job.Packed || *got.Recent[1].Outcome != job.Parked {
			t.Errorf("%s the last two are %+v", when, got.Recent[:2])
		}
	}
	check("in the ledger")
	f.prover.Reports = report.NewStore(f.cfg.Blobs)
	folder := fold.New(fold.Config{Log: f.log, Index: f.cfg.Index, Blobs: f.cfg.Blobs, Report: 1, Logger: slog.New(slog.DiscardHandler)})
	f.must(folder.Fold(t.Context()))
	check("folded")
	if got, err := f.GetRecipient(acme, who); err != nil || len(got.Recent) != 1 || got.Recent[0].Job != theirs {
		t.Errorf("acme is told %+v, %v", got.Recent, err)
	}
	if got, err := f.GetRecipient(house, 9<<20); err != nil || len(got.Recent) != 0 {
		t.Errorf("of nobody is told %+v, %v", got.Recent, err)
	}

	j, err := f.cfg.Jobs.Get(asked(t), ours[11])
	f.must(err)
	set := f.cfg.Set
	f.cfg.Set = func(ctx context.Context, d job.Digest) (*audience.Set, error) {
		if d == j.Spec.Package {
			return nil, errors.New("no such blob")
		}
		return set(ctx, d)
	}
	got, err := f.GetRecipient(house, who)
	f.must(err)
	if r := got.Recent[0]; len(got.Recent) != api.MaxRecent || r.Outcome != nil || r.Unknown == "" || *got.Recent[1].Outcome != job.Parked || got.Recent[1].Unknown != "" {
		t.Errorf("without a package %+v", got.Recent[:2])
	}
	f.cfg.Set = set
	f.prover.Log = dumb{f.log}
	f.cfg.Patience = 50 * time.Millisecond
	got, err = f.GetRecipient(house, who)
	f.must(err)
	if r := got.Recent[9]; len(got.Recent) != api.MaxRecent || r.Outcome != nil || !strings.Contains(r.Unknown, "ledger") {
		t.Errorf("without the ledger %+v", got.Recent)
	}
}
