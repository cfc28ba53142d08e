package parked_test

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"crier/internal/idset"
	"crier/job"
	"crier/state/blob"
	"crier/state/fold"
	"crier/state/ledger"
	"crier/state/parked"
	"crier/state/parked/kv"
	"crier/state/proof"
	"crier/state/report"
)

// The naive history judges what else reads a ledger, too: proofs, and the ledger
// after it was folded.

// pkg is a job's package in the history.
type pkg struct {
	h  *history
	id job.ID
}

// Ranges implements proof.Package.
func (p pkg) Ranges() iter.Seq2[job.Range, int] {
	return func(yield func(job.Range, int) bool) {
		for _, r := range testRanges {
			if s, _ := p.Range(r); !s.IsEmpty() && !yield(r, s.Card()) {
				return
			}
		}
	}
}

// Range implements proof.Package.
func (p pkg) Range(r job.Range) (*idset.Set, error) {
	return p.h.PackageRange(context.Background(), p.id, r)
}

// Cardinality implements proof.Package.
func (p pkg) Cardinality() uint64 { return uint64(len(p.h.packages[p.id])) }

// shelf is a ledger in memory with the history's records under their numbers, its
// blobs, and the index that is fed from it.
type shelf struct {
	t     fataler
	h     *history
	log   *ledger.Memory
	last  map[string]uint64
	blobs *blob.Memory
	db    kv.Store
	index *parked.Index
}

func newShelf(t fataler, h *history) *shelf {
	s := &shelf{t: t, h: h, log: ledger.NewMemory(ledger.MemoryConfig{}), last: map[string]uint64{}, blobs: blob.NewMemory(0), db: kv.NewMemory()}
	for _, id := range testJobs {
		s.append(ledger.JobSubject(id), nil)
	}
	s.index = s.open(s.db)
	h.seq += uint64(len(testJobs))
	for i := range h.records { // the jobs come first
		h.records[i].Seq += uint64(len(testJobs))
		s.take(h.records[i])
	}
	return s
}

func (s *shelf) open(db kv.Store) *parked.Index {
	return must[*parked.Index](s.t)(parked.New(context.Background(), db, s.h, s.log))
}

func (s *shelf) append(subject string, data []byte) uint64 {
	seq, err := s.log.Append(context.Background(), subject, s.last[subject], data)
	if err != nil {
		s.t.Fatal(err)
	}
	s.last[subject] = seq
	return seq
}

// take stores a record of the history under its number, and feeds it to the index.
func (s *shelf) take(st ledger.Stored) {
	for must[ledger.Usage](s.t)(s.log.Usage(context.Background())).Last+1 < st.Seq {
		s.append("led.claim.other", nil)
	}
	if got := s.append(st.Subject, st.Data); got != st.Seq {
		s.t.Fatalf("record %d was stored as %d", st.Seq, got)
	}
	apply(s.t, s.index, st)
}

// record makes one more record. The history numbers it behind what else is stored.
func (s *shelf) record() {
	s.h.seq = max(s.h.seq, must[ledger.Usage](s.t)(s.log.Usage(context.Background())).Last)
	before := len(s.h.records)
	s.h.record()
	for _, st := range s.h.records[before:] {
		s.take(st)
	}
}

func (s *shelf) prover() *proof.Prover {
	return &proof.Prover{Log: s.log, Reports: report.NewStore(s.blobs)}
}

// checkProofs compares every proof with the history.
func (s *shelf) checkProofs() {
	ctx, t := context.Background(), s.t
	for _, id := range testJobs {
		tally := s.h.tally(id, noRange)
		want := tally.Counts(uint64(len(s.h.packages[id])))
		got, err := s.prover().Reconcile(ctx, id, pkg{s.h, id}, false)
		if err != nil || !got.Conserved() {
			t.Fatalf("reconciling %s: %v, %v", id, got.Violations, err)
		}
		equal(t, fmt.Sprint("reconciled ", id), got.Counts, want)
		if sent, err := s.prover().Reconcile(ctx, id, pkg{s.h, id}, true); err != nil || sent.Conserved() != (want.Pending == 0) {
			t.Fatalf("%d are pending of a job that is sent, conserved is %v, %v", want.Pending, sent.Conserved(), err)
		}
		for i := range s.h.packages[id] {
			if i%32 != 0 {
				continue
			}
			x, err := s.prover().Explain(ctx, id, pkg{s.h, id}, job.Recipient(i))
			if err != nil {
				t.Fatal(err)
			}
			s.checkExplained(x, s.h.people[who{id, i}])
		}
	}
}

// checkStanding exports each standing of each job: each holds whom the history has there,
// so that all of them are disjoint, and the package together.
func (s *shelf) checkStanding() {
	for _, id := range testJobs {
		n := 0
		for _, o := range job.Outcomes() {
			for reason := job.NoReason; reason <= job.ReasonUnknown; reason++ {
				one := job.Standing{Outcome: o, Reason: reason}
				if one.Validate() != nil {
					continue // or nobody is counted who stands there
				}
				var got, want []uint32
				err := s.prover().Standing(context.Background(), id, pkg{s.h, id}, func(x job.Standing) bool { return x == one },
					func(set *idset.Set) error { got = append(got, ids(set)...); return nil })
				if err != nil {
					s.t.Fatal(err)
				}
				for _, r := range testRanges {
					want = append(want, s.h.members(id, r, func(x *status) bool {
						return x == nil && o == job.Pending && reason == job.NoReason || x != nil && x.outcome == o && x.reason == reason
					})...)
				}
				equal(s.t, fmt.Sprint(one, " of ", id), got, want)
				n += len(got)
			}
		}
		if n != len(s.h.packages[id]) {
			s.t.Fatalf("the exports of %s have %d recipients, the package %d", id, n, len(s.h.packages[id]))
		}
	}
}

// checkExplained asks that the outcome is right and that each evidence stands where
// it says.
func (s *shelf) checkExplained(x proof.Explanation, want *status) {
	outcome, reason := job.Pending, job.NoReason
	if want != nil {
		outcome, reason = want.outcome, want.reason
	}
	if x.Outcome != outcome || x.Reason != reason || len(x.Evidence) == 0 && want != nil {
		s.t.Fatalf("explained as %s by %v, want %s", x.Outcome, x.Evidence, outcome)
	}
	for _, e := range x.Evidence {
		var data []byte
		for _, st := range s.h.records {
			if st.Seq == e.Seq {
				data = st.Data
			}
		}
		rec, err := ledger.ParseRecord(data)
		if err != nil || rec.Journal != e.Ref.Journal || rec.N != e.Ref.N || int(e.Ref.Entry) >= len(rec.Entries) {
			s.t.Fatalf("evidence %+v is not in the history: %v", e, err)
		}
		if _, err := s.log.Get(context.Background(), e.Seq); err != nil && e.Report.IsZero() {
			s.t.Fatalf("evidence %+v is not in the ledger: %v", e, err)
		}
		if !e.Report.IsZero() && s.blobs.Verify(context.Background(), e.Report) != nil {
			s.t.Fatalf("evidence %+v is in no report", e)
		}
	}
}

// checkRestored asks that an index from the last checkpoint and the ledger equals
// the one that was fed all along.
func (s *shelf) checkRestored() {
	ctx, t := context.Background(), s.t
	db := kv.NewMemory()
	if last, ok := must[ledger.Folds](t)(ledger.ReadFolds(ctx, s.log)).Checkpoint(); ok {
		h := must[*blob.Handle](t)(s.blobs.Open(ctx, last.Checkpoint))
		if err := parked.Restore(db, io.NewSectionReader(h, 0, h.Size())); err != nil {
			t.Fatal(err)
		}
		if mark, err := parked.Watermark(db); err != nil || mark != last.Through {
			t.Fatalf("a restored index is at %d, %v; the checkpoint is at %d", mark, err, last.Through)
		}
	}
	x := s.open(db)
	err := ledger.ReadAll(ctx, s.log, x.Watermark(), ledger.AllSubjects, func(st ledger.Stored) error {
		if !ledger.IsJournal(st.Subject) && !ledger.IsErasure(st.Subject) {
			return nil
		}
		_, err := x.Apply(ctx, st)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	if dump(t, x) != dump(t, s.index) {
		t.Fatal("an index from a checkpoint and the ledger is not equal")
	}
	check(t, x, s.h)
}

// faultyBlobs fails now and then, before or after it has stored.
type faultyBlobs struct {
	*blob.Memory
	fail func() bool
}

var errBlobs = errors.New("no blob today")

// Put implements fold.Blobs.
func (b *faultyBlobs) Put(ctx context.Context, r io.Reader) (job.Digest, int64, error) {
	if b.fail() {
		return job.Digest{}, 0, errBlobs
	}
	d, n, err := b.Memory.Put(ctx, r)
	if b.fail() {
		return job.Digest{}, 0, errBlobs
	}
	return d, n, err
}

// Delete implements fold.Blobs.
func (b *faultyBlobs) Delete(ctx context.Context, d job.Digest) error {
	if b.fail() {
		return errBlobs
	}
	return b.Memory.Delete(ctx, d)
}

// checkSeen compares who may have seen each job's message with the history: as long as
// somebody is open, nobody can say.
func (s *shelf) checkSeen() {
	for _, id := range testJobs {
		var got, want []uint32
		open := false
		for _, r := range testRanges {
			if !open {
				want = append(want, s.h.members(id, r, func(*status) bool { return true })...)
			}
			open = open || len(s.h.members(id, r, func(s *status) bool {
				return s != nil && (s.outcome == job.HandedOff || s.outcome == job.InDoubt)
			})) > 0
			if open {
				want = slices.DeleteFunc(want, func(i uint32) bool { return job.Recipient(i).Range() >= r })
			}
		}
		want = slices.DeleteFunc(want, func(i uint32) bool { return !s.h.seen[who{id, i}] })
		err := s.prover().MayHaveSeen(context.Background(), id, func(set *idset.Set) error {
			got = append(got, ids(set)...)
			return nil
		})
		if open != errors.Is(err, proof.ErrOpen) || !open && err != nil {
			s.t.Fatalf("somebody is open: %v; %v", open, err)
		}
		equal(s.t, fmt.Sprint("who may have seen ", id), got, want)
	}
}

func TestProofsAgainstANaiveModel(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		h := newHistory(rapid.Uint64().Draw(t, "seed"))
		s := newShelf(t, h)
		for range rapid.IntRange(0, 60).Draw(t, "records") {
			s.record()
		}
		s.checkProofs()
		s.checkStanding()
		s.checkSeen()
		before := len(h.records)
		h.close()
		for _, st := range h.records[before:] {
			s.take(st)
		}
		s.checkProofs()
		s.checkSeen()
	})
}

// TestFoldingChangesNothing folds at random moments, with faults in the ledger and
// the blobs, and small reports: proofs, evidence and the restored index stay what
// the history says, and a fault costs nothing but another try.
func TestFoldingChangesNothing(t *testing.T) {
	folded, failed, purged := 0, 0, 0
	rapid.Check(t, func(t *rapid.T) {
		h := newHistory(rapid.Uint64().Draw(t, "seed"))
		s := newShelf(t, h)
		faulty := rapid.Bool().Draw(t, "faulty")
		blobs := &faultyBlobs{s.blobs, func() bool { return faulty && h.rng.IntN(6) == 0 }}
		f := fold.New(fold.Config{Log: s.log, Index: s.index, Blobs: blobs, Logger: slog.New(slog.DiscardHandler),
			Report: uint64(rapid.IntRange(1, 20000).Draw(t, "report"))})
		for range rapid.IntRange(1, 6).Draw(t, "folds") {
			for range rapid.IntRange(0, 25).Draw(t, "records") {
				s.record()
			}
			if faulty && h.rng.IntN(3) == 0 {
				s.log.Inject(ledger.FoldSubject, []ledger.Fault{ledger.FaultStored, ledger.FaultLost, ledger.FaultFull}[h.rng.IntN(3)])
			}
			if err := f.Fold(context.Background()); err == nil {
				folded++
			} else if faulty {
				failed++
			} else {
				t.Fatal(err)
			}
			s.checkProofs()
			s.checkStanding()
			s.checkRestored()
			purged += s.checkPurged()
		}
	})
	if folded < 20 || failed < 5 || purged == 0 {
		t.Fatalf("%d foldings, %d failed, %d records purged: too few to mean anything", folded, failed, purged)
	}
}

// checkPurged asks that the last record of each journal is there, and what open
// reserves need; it counts the records that are gone.
func (s *shelf) checkPurged() (gone int) {
	ctx := context.Background()
	last := map[string]uint64{}
	for _, st := range s.h.records {
		last[st.Subject] = max(last[st.Subject], st.Seq)
		if _, err := s.log.Get(ctx, st.Seq); err != nil {
			gone++
		}
	}
	for subject, seq := range last {
		if st, err := s.log.Last(ctx, subject); err != nil || st.Seq != seq {
			s.t.Fatalf("the last record of %s is %d, want %d: %v", subject, st.Seq, seq, err)
		}
	}
	for _, o := range s.open(s.db).OpenReserves(func(job.Journal) bool { return true }) {
		if len(ids(o.Set)) == 0 {
			s.t.Fatalf("open reserve %s is empty", o.Ref)
		}
	}
	return gone
}

// TestFoldLeavesNoBlobBehind counts the blobs: one checkpoint and the reports.
func TestFoldLeavesNoBlobBehind(t *testing.T) {
	h := newHistory(3)
	s := newShelf(t, h)
	f := fold.New(fold.Config{Log: s.log, Index: s.index, Blobs: s.blobs, Report: 3000, Logger: slog.New(slog.DiscardHandler)})
	for range 4 {
		for range 20 {
			s.record()
		}
		for range 2 { // the second has nothing to fold
			if err := f.Fold(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
	}
	named := map[job.Digest]bool{}
	folds := must[ledger.Folds](t)(ledger.ReadFolds(t.Context(), s.log))
	for _, x := range folds.List {
		if !x.Report.IsZero() {
			named[x.Report] = true
		}
	}
	if len(named) < 5 {
		t.Fatalf("only %d reports", len(named))
	}
	last, _ := folds.Checkpoint()
	named[last.Checkpoint] = true
	var have []job.Digest
	for info, err := range s.blobs.List(t.Context()) {
		if err != nil {
			t.Fatal(err)
		}
		have = append(have, info.Digest)
	}
	byBytes := func(a, b job.Digest) int { return cmp.Compare(a.String(), b.String()) }
	if want := slices.SortedFunc(maps.Keys(named), byBytes); !slices.Equal(have, want) {
		t.Fatalf("%d blobs are there, %d are named", len(have), len(want))
	}
}

// TestCheckpointRefusesOtherBytes cuts, lengthens and changes a checkpoint.
func TestCheckpointRefusesOtherBytes(t *testing.T) {
	h := newHistory(4)
	for range 30 {
		h.record()
	}
	x := newIndex(t, kv.NewMemory(), h)
	apply(t, x, h.records...)
	var b bytes.Buffer
	if _, err := x.WriteCheckpoint(&b); err != nil {
		t.Fatal(err)
	}
	whole := b.Bytes()
	for _, bad := range [][]byte{nil, whole[:2], whole[:len(whole)/2], whole[:len(whole)-1], append(slices.Clone(whole), 0), append([]byte{'X'}, whole[1:]...)} {
		db := kv.NewMemory()
		if err := parked.Restore(db, bytes.NewReader(bad)); !errors.Is(err, parked.ErrCheckpoint) {
			t.Errorf("%d of %d bytes: %v, want ErrCheckpoint", len(bad), len(whole), err)
		}
		if mark, err := parked.Watermark(db); err != nil || mark != 0 {
			t.Errorf("an index restored from %d of %d bytes has watermark %d, %v", len(bad), len(whole), mark, err)
		}
	}
	older := append([]byte{whole[0], whole[1], whole[2] - 1}, whole[3:]...)
	if err := parked.Restore(kv.NewMemory(), bytes.NewReader(older)); !errors.Is(err, parked.ErrCheckpoint) || !strings.Contains(err.Error(), "start the version of crier that wrote it") {
		t.Errorf("a checkpoint of another version: %v", err)
	}
	db := kv.NewMemory()
	if err := parked.Restore(db, bytes.NewReader(whole)); err != nil || dump(t, newIndex(t, db, h)) != dump(t, x) {
		t.Fatalf("the whole checkpoint is not the index: %v", err)
	}
	if left, err := parked.IsLeftOver(db); err != nil || left {
		t.Errorf("an index that is restored counts as left over: %v", err)
	}
	if left, err := parked.IsLeftOver(kv.NewMemory()); err != nil || left {
		t.Errorf("an empty store counts as left over: %v", err)
	}
	other := kv.NewMemory() // as a version with other rows would leave it: its mark is not ours
	err := db.Scan(nil, nil, func(k, v []byte) error {
		if bytes.Equal(k, []byte{0xff, 0xff, 'W'}) {
			k = []byte{0xff, 0xff, 'w'}
		}
		var b kv.Batch
		b.Put(k, v)
		return other.Write(&b)
	})
	mark, markErr := parked.Watermark(other)
	left, leftErr := parked.IsLeftOver(other)
	if err := errors.Join(err, markErr, leftErr); err != nil || mark != 0 || !left {
		t.Errorf("an index of another version has watermark %d, left over: %v, %v", mark, left, err)
	}
}
