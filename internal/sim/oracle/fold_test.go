package oracle

import (
	"fmt"
	"strings"
	"testing"

	"crier/internal/idset"
	"crier/job"
	"crier/state/ledger"
)

var (
	theJob = job.ID{1}
	w1     = job.Journal{Worker: "w1", Incarnation: 1}
	w2     = job.Journal{Worker: "w2", Incarnation: 1}
	g1     = job.Incarnation{Gateway: "g1", Start: 1}
)

// script feeds a fold records and gives what it found wrong.
type script struct {
	f     *Fold
	seq   uint64
	next  map[job.Journal]uint64
	wrong []string
}

func newScript() *script {
	s := &script{next: map[job.Journal]uint64{}}
	s.f = New(func(inv, format string, a ...any) { s.wrong = append(s.wrong, inv+": "+fmt.Sprintf(format, a...)) })
	s.f.Package(theJob, []uint32{1, 2, 3})
	return s
}

func (s *script) claim(t ledger.Thing, by job.Journal) {
	s.f.Claim(ledger.Claim{Kind: t.Kind, ID: t.ID, Epoch: s.f.Owner(t).Epoch + 1, Journal: by})
}

func (s *script) write(j job.Journal, entries ...ledger.Entry) job.Ref {
	s.seq++
	rec := ledger.Record{Journal: j, N: s.next[j], Entries: entries}
	s.next[j]++
	s.f.Journal(ledger.Stored{Seq: s.seq, Data: rec.Bytes()})
	return job.Ref{Journal: j, N: rec.N}
}

func reserve(targets ...uint32) *ledger.Reserve {
	return &ledger.Reserve{Job: theJob, Span: job.Span{Lo: 0, Hi: 1 << job.RangeBits}, IDs: 3, Rest: job.Parked,
		Targets: ledger.Targets{Incs: []job.Incarnation{g1}, Sets: []*idset.Set{idset.Of(targets...)}}}
}

// begun is a fold in which w1 has the slice and the range, and has handed off 1 and 2.
func begun() (*script, job.Ref) {
	s := newScript()
	s.claim(ledger.SliceThing(theJob, 0), w1)
	s.claim(ledger.RangeThing(0), w1)
	return s, s.write(w1, reserve(1, 2))
}

func TestPlaces(t *testing.T) {
	s, ref := begun()
	s.write(w1, &ledger.Done{Job: theJob, Of: ref, Inc: g1, Waiting: idset.Of(2)})
	for who, want := range map[uint32]job.Outcome{1: job.Delivered, 2: job.HandedOff, 3: job.Parked} {
		if got := s.f.Place(theJob, who).Outcome; got != want {
			t.Errorf("%d is %s, want %s", who, got, want)
		}
	}
	s.write(w1, &ledger.Doubt{Job: theJob, Of: ref, Inc: g1, Final: true})
	s.write(w1, &ledger.Decide{Job: theJob, Delivered: idset.New(0), Parked: idset.Of(2), Failed: idset.New(0)})
	s.write(w1, &ledger.Outcome{Job: theJob, Outcome: job.Expired, Set: idset.Of(2, 3)})
	if n := s.f.Count(theJob); n[job.Delivered] != 1 || n[job.Expired] != 2 {
		t.Errorf("counts %v", n)
	}
	if len(s.wrong) > 0 {
		t.Errorf("found wrong: %v", s.wrong)
	}
}

func TestWhatCannotBeTrueIsFound(t *testing.T) {
	drain := &ledger.Drain{Job: theJob, Targets: ledger.Targets{Incs: []job.Incarnation{g1}, Sets: []*idset.Set{idset.Of(3)}}}
	for name, x := range map[string]struct {
		do   func(*script, job.Ref)
		want string
	}{
		"a block twice":               {func(s *script, _ job.Ref) { s.write(w1, reserve(1)) }, "I1"},
		"a drain of who is not there": {func(s *script, _ job.Ref) { s.write(w1, drain); s.write(w1, drain) }, "I1"},
		"a drain by another":          {func(s *script, _ job.Ref) { s.write(w2, drain) }, "I7"},
		"a reserve by another":        {func(s *script, _ job.Ref) { s.write(w2, reserve(1)) }, "I7"},
		"a claim on what is held":     {func(s *script, _ job.Ref) { s.claim(ledger.RangeThing(0), w2) }, "I7"},
		"behind a seal":               {func(s *script, _ job.Ref) { s.write(w1, ledger.Seal{By: w2}); s.write(w1, drain) }, "I6"},
		"a record is missing":         {func(s *script, _ job.Ref) { s.next[w1]++; s.write(w1, drain) }, "I6"},
		"an outcome of a delivered one": {func(s *script, ref job.Ref) {
			s.write(w1, &ledger.Done{Job: theJob, Of: ref, Inc: g1})
			s.write(w1, &ledger.Outcome{Job: theJob, Outcome: job.Expired, Set: idset.Of(1)})
		}, "I1"},
	} {
		t.Run(name, func(t *testing.T) {
			s, ref := begun()
			x.do(s, ref)
			if len(s.wrong) == 0 || !strings.HasPrefix(s.wrong[0], x.want+":") {
				t.Errorf("found %v, want %s", s.wrong, x.want)
			}
		})
	}
}

func TestATakerSealsFirst(t *testing.T) {
	s, _ := begun()
	s.write(w1, ledger.Seal{By: w2})
	s.claim(ledger.RangeThing(0), w2)
	s.write(w2, &ledger.Drain{Job: theJob, Targets: ledger.Targets{Incs: []job.Incarnation{g1}, Sets: []*idset.Set{idset.Of(3)}}})
	if len(s.wrong) > 0 || len(s.f.MayBeWritten(theJob, 3)) != 1 {
		t.Errorf("found wrong: %v; 3 may be written by %v", s.wrong, s.f.MayBeWritten(theJob, 3))
	}
}
