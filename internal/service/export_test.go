package service

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"testing"

	"crier/api"
	"crier/audience"
	"crier/internal/idset"
	"crier/job"
	"crier/state/fold"
	"crier/state/ledger"
	"crier/state/report"
)

// exported reads an export in both formats, which must agree.
func (f *fixture) exported(id job.ID, standings ...job.Standing) []uint32 {
	f.t.Helper()
	var pkg, text bytes.Buffer
	f.must(f.ExportJob(asked(f.t), id, api.ExportJob{Standings: standings, Format: api.FormatPackage}, &pkg))
	f.must(f.ExportJob(asked(f.t), id, api.ExportJob{Standings: standings, Format: api.FormatIDs}, &text))
	set, err := audience.OpenReaderAt(bytes.NewReader(pkg.Bytes()), int64(pkg.Len()))
	f.must(err)
	defer set.Close()
	f.must(set.Verify(asked(f.t)))
	var got []uint32
	var lines strings.Builder
	for r := range set.Ranges() {
		ids, err := set.Range(r)
		f.must(err)
		for i := range ids.All() {
			got = append(got, i)
			fmt.Fprintln(&lines, i)
		}
	}
	if lines.String() != text.String() {
		f.t.Errorf("%v: the package has %d ids, the text %d lines", standings, len(got), strings.Count(text.String(), "\n"))
	}
	return got
}

// standings are all that there are: of the outcomes with reasons, one for each.
func standings() (all []job.Standing) {
	for _, o := range job.Outcomes() {
		for r := job.NoReason; r <= job.ReasonUnknown; r++ {
			if s := (job.Standing{Outcome: o, Reason: r}); s.Validate() == nil && (r != job.NoReason || o != job.Dropped && o != job.Failed) {
				all = append(all, s)
			}
		}
	}
	return all
}

// spanned is a set of range 3, by places in it.
func spanned(lo, hi uint64) *idset.Set {
	s := idset.New(3)
	s.AddSpan(job.Span{Lo: 3<<20 + lo, Hi: 3<<20 + hi})
	return s
}

// sendSome makes a job to recipients of two ranges, of whom some stand at each kind of
// outcome; it says who, written down apart from the code.
func (f *fixture) sendSome() (job.ID, map[string][]uint32) {
	f.t.Helper()
	_, err := f.AddFollowers(asked(f.t), "news", []job.Recipient{7<<20 + 1, 7<<20 + 65536, 8<<20 - 1})
	f.must(err)
	id := f.submitSeen(toFollowers(""))
	inc, other := job.Incarnation{Gateway: "g", Start: 1}, job.Incarnation{Gateway: "h", Start: 1}
	j := job.Journal{Worker: "w", Incarnation: 1}
	f.entries(ledger.Open{Boot: "boot"})
	f.entries(&ledger.Reserve{Job: id, Span: job.Span{Lo: 3 << 20, Hi: 3<<20 + 900}, IDs: 900, Rest: job.Parked,
		Dropped: []ledger.Drop{{Reason: job.ReasonSuppressed, Set: spanned(0, 10)}, {Reason: job.ReasonControl, Set: spanned(10, 15)}},
		Targets: ledger.Targets{Incs: []job.Incarnation{inc, other}, Sets: []*idset.Set{spanned(100, 400), spanned(400, 500)}}})
	of := job.Ref{Journal: j, N: 1}
	f.entries(&ledger.Done{Job: id, Range: 3, Of: of, Inc: inc, NotHere: spanned(100, 110), Refused: spanned(110, 120), Waiting: spanned(120, 125)})
	f.entries(&ledger.Doubt{Job: id, Range: 3, Of: of, Inc: other}, &ledger.Decide{Job: id, Range: 3, Delivered: spanned(400, 410), Parked: spanned(410, 415), Failed: spanned(415, 420)})
	f.entries(&ledger.Outcome{Job: id, Range: 3, Outcome: job.Expired, Set: spanned(500, 600)},
		&ledger.Outcome{Job: id, Range: 3, Outcome: job.Dropped, Reason: job.ReasonCollapsed, Set: spanned(600, 601)})
	want := map[string][]uint32{}
	for _, x := range []struct {
		at     string
		lo, hi uint32
	}{{"dropped:suppression", 0, 10}, {"dropped:control_group", 10, 15}, {"parked", 15, 110}, {"failed:refused", 110, 120}, {"handed_off", 120, 125}, {"delivered", 125, 410},
		{"parked", 410, 415}, {"failed:unknown", 415, 420}, {"in_doubt", 420, 500}, {"expired", 500, 600}, {"dropped:collapsed", 600, 601}, {"parked", 601, 900}, {"pending", 900, 1000}} {
		for i := x.lo; i < x.hi; i++ {
			want[x.at] = append(want[x.at], 3<<20+i)
		}
	}
	want["pending"] = append(want["pending"], 7<<20+1, 7<<20+65536, 8<<20-1)
	return id, want
}

// entries appends a record to the journal of worker w.1, and feeds it to the index.
func (f *fixture) entries(entries ...ledger.Entry) {
	f.t.Helper()
	journal := job.Journal{Worker: "w", Incarnation: 1}
	rec := ledger.Record{Journal: journal, N: f.records, Nonce: [16]byte{byte(f.records)}, Entries: entries}
	var last uint64
	if f.records > 0 {
		st, err := f.log.Last(asked(f.t), ledger.JournalSubject(journal))
		f.must(err)
		last, rec.Prev = st.Seq, ledger.HashOf(st.Data)
	}
	f.records++
	seq, err := f.log.Append(asked(f.t), ledger.JournalSubject(journal), last, rec.Bytes())
	f.must(err)
	st, err := f.log.Get(asked(f.t), seq)
	f.must(err)
	_, err = f.cfg.Index.Apply(asked(f.t), st)
	f.must(err)
}

// checkExports holds every export of a job to who should be in it, so that together they
// are the package and nobody is in two, and to what explain says of a sample.
func (f *fixture) checkExports(id job.ID, want map[string][]uint32) (evidence []api.Evidence) {
	f.t.Helper()
	seen := map[uint32]job.Standing{}
	for _, s := range standings() {
		got := f.exported(id, s)
		if !slices.Equal(got, want[s.String()]) {
			f.t.Errorf("%s has %d recipients, want %d", s, len(got), len(want[s.String()]))
		}
		for _, i := range got {
			if was, ok := seen[i]; ok {
				f.t.Fatalf("%d is %s and %s", i, was, s)
			}
			seen[i] = s
		}
	}
	all, err := f.GetJob(asked(f.t), id)
	f.must(err)
	if uint64(len(seen)) != all.Recipients {
		f.t.Errorf("the exports have %d recipients, the package %d", len(seen), all.Recipients)
	}
	for n, i := range slices.Sorted(maps.Keys(seen)) {
		if n%17 != 0 {
			continue
		}
		x, err := f.ExplainJob(asked(f.t), id, job.Recipient(i))
		f.must(err)
		if (job.Standing{Outcome: x.Outcome, Reason: x.Reason}) != seen[i] {
			f.t.Errorf("%d is exported as %s and explained as %s %s", i, seen[i], x.Outcome, x.Reason)
		}
		evidence = append(evidence, x.Evidence...)
	}
	return evidence
}

// Exports and explanations of a job are the same after its records were folded into
// reports and purged, and then say in which report the evidence is.
func TestExportsBeforeAndAfterFolding(t *testing.T) {
	f := newFixture(t)
	f.cfg.Reports = report.NewStore(f.cfg.Blobs)
	f.prover.Reports = f.cfg.Reports
	id, want := f.sendSome()
	before := f.checkExports(id, want)
	if got := f.exported(id, job.Standing{Outcome: job.Failed}, job.Standing{Outcome: job.Expired}); len(got) != 115 {
		t.Errorf("failed and expired are %d, want 10 + 5 + 100", len(got))
	}
	if got := f.exported(id, job.Standing{Outcome: job.Dropped}); len(got) != 16 {
		t.Errorf("dropped are %d, want 10 + 5 + 1", len(got))
	}
	folder := fold.New(fold.Config{Log: f.log, Index: f.cfg.Index, Blobs: f.cfg.Blobs, Report: 1, Logger: slog.New(slog.DiscardHandler)})
	f.must(folder.Fold(context.Background()))
	after := f.checkExports(id, want)
	if len(before) == 0 || len(after) != len(before) {
		t.Fatalf("%d pieces of evidence before, %d after", len(before), len(after))
	}
	gone := 0
	for i, e := range after {
		if _, err := f.log.Get(asked(t), e.Seq); err != nil {
			gone++
		}
		if e.Report.IsZero() {
			t.Errorf("evidence %d is in no report: %+v", i, e)
		}
		if e.Report = (job.Digest{}); e.At.Equal(before[i].At) {
			e.At = before[i].At
		}
		if e != before[i] {
			t.Errorf("evidence %d was %+v, is %+v", i, before[i], e)
		}
	}
	if gone == 0 {
		t.Error("nothing was purged, so that nothing is shown")
	}
	f.entries(&ledger.Outcome{Job: id, Range: 3, Outcome: job.Expired, Set: spanned(601, 900)}) // behind the reports
	want["parked"] = slices.DeleteFunc(want["parked"], func(i uint32) bool { return i >= 3<<20+601 && i < 3<<20+900 })
	for i := uint32(601); i < 900; i++ {
		want["expired"] = append(want["expired"], 3<<20+i)
	}
	f.checkExports(id, want)
}

func TestExportsRefuse(t *testing.T) {
	f := newFixture(t)
	id, _ := f.sendSome()
	delivered := []job.Standing{{Outcome: job.Delivered}}
	other := api.WithCaller(t.Context(), api.Caller{Key: "key_x", Tenant: "other", Role: job.Admin})
	for _, c := range []struct {
		what  string
		ctx   context.Context
		id    job.ID
		req   api.ExportJob
		code  job.Code
		field string
	}{
		{"of nobody", asked(t), id, api.ExportJob{}, job.CodeInvalid, "outcome"},
		{"of what cannot be", asked(t), id, api.ExportJob{Standings: []job.Standing{{Outcome: job.Delivered, Reason: job.ReasonTries}}}, job.CodeInvalid, "outcome"},
		{"twice", asked(t), id, api.ExportJob{Standings: append(delivered, delivered...)}, job.CodeInvalid, "outcome"},
		{"in another format", asked(t), id, api.ExportJob{Standings: delivered, Format: "csv"}, job.CodeInvalid, "format"},
		{"of no job", asked(t), job.ID{9}, api.ExportJob{Standings: delivered}, job.CodeNotFound, ""},
		{"of another tenant's", other, id, api.ExportJob{Standings: delivered}, job.CodeNotFound, ""},
	} {
		var b bytes.Buffer
		wantError(t, c.what, f.ExportJob(c.ctx, c.id, c.req, &b), c.code, c.field)
		if b.Len() > 0 {
			t.Errorf("%s: %d bytes were written", c.what, b.Len())
		}
	}
	f.must(f.ExportJob(asked(t), id, api.ExportJob{Standings: delivered}, io.Discard))
	files := f.files()
	f.entries(&ledger.Done{Job: id, Range: 3, Of: job.Ref{Journal: job.Journal{Worker: "w", Incarnation: 7}}, Inc: job.Incarnation{Gateway: "g", Start: 1}})
	var b bytes.Buffer
	wantError(t, "of a job that is not conserved", f.ExportJob(asked(t), id, api.ExportJob{Standings: delivered}, &b), job.CodeConflict, "")
	if b.Len() > 0 || len(f.files()) != len(files) {
		t.Errorf("%d bytes were written, %d files are there, before %d", b.Len(), len(f.files()), len(files))
	}
}

// A name that would be too long for a file gives way to the job's.
func TestExportsHaveNames(t *testing.T) {
	id := job.ID{1}
	if got, want := exportName(id, api.ExportJob{Standings: []job.Standing{{Outcome: job.Dropped, Reason: job.ReasonRelation}, {Outcome: job.Failed}}}), id.String()+"-dropped-relation-failed"; got != want {
		t.Errorf("%s, want %s", got, want)
	}
	if got := exportName(id, api.ExportJob{Standings: standings()}); audience.ValidateName(got) != nil || got != id.String() {
		t.Errorf("of everything: %s", got)
	}
}
