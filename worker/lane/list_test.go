package lane

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"crier/internal/idset"
	"crier/internal/work"
	"crier/job"
	"crier/state/ledger"
)

// The list tells each phase of a block, since when, and what it is about.
func TestListFollowsABlock(t *testing.T) {
	now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	s := New(2)
	want := func(what string, lanes ...work.Lane) {
		t.Helper()
		if diff := cmp.Diff(lanes, s.List()); diff != "" {
			t.Errorf("%s (-want +got):\n%s", what, diff)
		}
	}
	idle := work.Lane{Phase: "idle"}
	want("at the start", idle, idle)
	s.Step(now, CaughtUp{})
	whole, block := job.Span{Lo: 0, Hi: 1 << 16}, job.Span{Lo: 0, Hi: 640}
	s.Step(now, Assign{Slice: Slice{Job: job.ID{1}, Number: 7, Expires: now.Add(time.Hour), Todo: []job.Span{whole}}})
	want("a block was asked for", work.Lane{Phase: "preparing", Job: job.ID{1}, Slice: 7, Span: whole, Since: now}, idle)
	res := &ledger.Reserve{Job: job.ID{1}, Span: block, Targets: ledger.Targets{Incs: []job.Incarnation{{Gateway: "g", Start: 1}}, Sets: []*idset.Set{idset.Of(1, 2, 3)}}}
	s.Step(now.Add(time.Second), Prepared{Lane: 0, Took: block, Reserve: res})
	rest := work.Lane{Phase: "preparing", Job: job.ID{1}, Slice: 7, Span: job.Span{Lo: 640, Hi: 1 << 16}, Since: now.Add(time.Second)}
	want("it is to be reserved", work.Lane{Phase: "reserving", Job: job.ID{1}, Slice: 7, Span: block, Targets: 3, Since: now.Add(time.Second)}, rest)
	ref := job.Ref{Journal: job.Journal{Worker: "w", Incarnation: 1}, N: 1}
	s.Step(now.Add(2*time.Second), Reserved{Lane: 0, Ref: ref})
	want("it is handed over", work.Lane{Phase: "handing", Job: job.ID{1}, Slice: 7, Span: block, Targets: 3, Since: now.Add(2 * time.Second)}, rest)
	s.Step(now.Add(3*time.Second), Handled{Ref: ref})
	want("it is through", idle, rest)
}
