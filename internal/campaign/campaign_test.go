package campaign

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"crier/internal/cluster"
	"crier/internal/drill"
	"crier/internal/drill/verdict"
)

func seconds(x float64) *verdict.Seconds {
	s := verdict.Seconds(x)
	return &s
}

// script is drills that come to what is written: pass, fail, void, or what kept them
// from being run.
type script struct {
	words []string
	seeds []uint64
	mends int
}

func (s *script) mend(context.Context) error { s.mends++; return nil }

func (s *script) run(_ context.Context, step Step, cfg drill.Config) (verdict.Report, error) {
	if s.mends != len(s.seeds)+1 {
		return verdict.Report{}, errors.New("the cluster was not made whole before")
	}
	word := s.words[len(s.seeds)]
	s.seeds = append(s.seeds, cfg.Seed)
	rep := verdict.Report{Drill: step.Drill, Verdict: verdict.Verdict(word), Times: verdict.Times{Resumed: seconds(float64(len(s.seeds)))}, Oracle: verdict.Oracle{Due: 10}}
	switch word {
	case "pass":
	case "fail":
		rep.Oracle.Lost, rep.Reasons = 1, []string{"1 messages were lost", "too late"}
	case "void":
		rep.Reasons = []string{"too few"}
	default:
		return rep, errors.New(word)
	}
	return rep, nil
}

func TestDo(t *testing.T) {
	steps := []Step{{Drill: "kill-worker", Rounds: 2}, {Drill: "pause-worker", For: 10 * time.Second}}
	for _, c := range []struct {
		words   string
		verdict verdict.Verdict
		want    []Summary // of both steps: rounds, pass, fail, void, retried
	}{
		{"pass pass pass", verdict.Pass, []Summary{{Rounds: 2, Pass: 2}, {Rounds: 1, Pass: 1}}},
		{"pass fail pass", verdict.Fail, []Summary{{Rounds: 2, Pass: 1, Fail: 1}, {Rounds: 1, Pass: 1}}},
		{"void pass pass pass", verdict.Pass, []Summary{{Rounds: 2, Pass: 2, Retried: 1}, {Rounds: 1, Pass: 1}}},
		{"void void pass pass", verdict.Void, []Summary{{Rounds: 2, Pass: 1, Void: 1, Retried: 1}, {Rounds: 1, Pass: 1}}},
		{"pass broken pass broken broken", verdict.Void, []Summary{{Rounds: 2, Pass: 2, Retried: 1}, {Rounds: 1, Void: 1, Retried: 1}}},
		{"void fail pass void void", verdict.Fail, []Summary{{Rounds: 2, Pass: 1, Fail: 1, Retried: 1}, {Rounds: 1, Void: 1, Retried: 1}}},
	} {
		s := &script{words: strings.Fields(c.words)}
		told := 0
		res, err := do(t.Context(), Config{Drill: drill.Config{Seed: 7}, Done: func(Run) { told++ }}, steps, s.mend, s.run)
		if err != nil || res.Verdict != c.verdict || told != len(s.words) || len(res.Runs) != len(s.words) {
			t.Errorf("%s: %s, %v, %d runs, %d told", c.words, res.Verdict, err, len(res.Runs), told)
		}
		for i, got := range res.Steps {
			w := c.want[i]
			if [5]int{got.Rounds, got.Pass, got.Fail, got.Void, got.Retried} != [5]int{w.Rounds, w.Pass, w.Fail, w.Void, w.Retried} {
				t.Errorf("%s: step %s is %+v, want %+v", c.words, got.Step, got, w)
			}
			if got.Lost != got.Fail || got.Step != steps[i].String() {
				t.Errorf("%s: step %s is %+v", c.words, got.Step, got)
			}
		}
		if sorted := slices.Compact(slices.Sorted(slices.Values(s.seeds))); len(sorted) != len(s.words) || sorted[0] != 7 {
			t.Errorf("%s: the seeds are %v", c.words, s.seeds)
		}
	}
}

// What was run is told, also if it is interrupted or the cluster cannot be made whole.
func TestDoEndsEarly(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	s := &script{words: []string{"pass", "pass"}}
	cfg := Config{Done: func(Run) { cancel() }}
	if res, err := do(ctx, cfg, []Step{{Drill: "a", Rounds: 2}}, s.mend, s.run); !errors.Is(err, context.Canceled) || len(res.Runs) != 1 || !res.Interrupted || res.Verdict != verdict.Void {
		t.Errorf("interrupted: %v, %+v", err, res)
	}
	ctx, cancel = context.WithCancel(t.Context())
	defer cancel()
	s = &script{words: []string{"fail", "pass"}}
	if res, err := do(ctx, cfg, []Step{{Drill: "a", Rounds: 2}}, s.mend, s.run); !errors.Is(err, context.Canceled) || !res.Interrupted || res.Verdict != verdict.Fail {
		t.Errorf("interrupted after a failure: %v, %+v", err, res)
	}
	s = &script{words: []string{"pass"}}
	ctx, cancel = context.WithCancel(t.Context())
	defer cancel()
	mended := false
	mend := func(ctx context.Context) error { // is interrupted, and goes on to its end
		cancel()
		mended = ctx.Err() == nil
		return ctx.Err()
	}
	if res, err := do(ctx, cfg, []Step{{Drill: "a"}}, mend, s.run); !errors.Is(err, context.Canceled) || !mended || !res.Interrupted || len(res.Runs) > 0 {
		t.Errorf("interrupted while the cluster is made whole: %v, %t, %+v", err, mended, res)
	}
	broken := errors.New("nats-1 does not start")
	res, err := do(t.Context(), Config{Done: func(Run) {}}, []Step{{Drill: "a"}}, func(context.Context) error { return broken }, s.run)
	if !errors.Is(err, broken) || res.Verdict != verdict.Void || res.Interrupted {
		t.Errorf("not whole: %v, %+v", err, res)
	}
}

func TestDistribution(t *testing.T) {
	var twenty, many []float64
	for i := range 20 {
		twenty = append(twenty, float64(20-i))
	}
	for i := range 200 {
		many = append(many, float64(i+1))
	}
	for _, c := range []struct {
		of   []float64
		want *Distribution
	}{
		{nil, nil}, {[]float64{3}, &Distribution{1, 3, 3, 3, 3}}, {[]float64{4, 2}, &Distribution{2, 2, 2, 4, 4}},
		{twenty, &Distribution{20, 1, 10, 20, 20}}, {many, &Distribution{200, 1, 100, 198, 200}},
	} {
		if diff := cmp.Diff(c.want, distribution(c.of)); diff != "" {
			t.Errorf("of %d (-want +got):\n%s", len(c.of), diff)
		}
	}
}

// Times of a void drill are no times; its losses are losses.
func TestSumLeavesOutVoidTimes(t *testing.T) {
	rep := func(v verdict.Verdict, resumed float64) *verdict.Report {
		return &verdict.Report{Verdict: v, Times: verdict.Times{Resumed: seconds(resumed)}, Oracle: verdict.Oracle{Due: 5, Twice: 1}, Stale: 2, Refused: &verdict.Refused{Appends: 1, HandOffs: 3}}
	}
	res := sum([]Run{{Step: "a", Round: 1, Report: rep(verdict.Void, 90)}, {Step: "a", Round: 1, Again: true, Report: rep(verdict.Pass, 4)},
		{Step: "a", Round: 2, Report: rep(verdict.Fail, 6)}}, time.Second)
	want := Summary{Step: "a", Rounds: 2, Pass: 1, Fail: 1, Retried: 1, Resumed: &Distribution{2, 4, 4, 6, 6}, Due: 15, Twice: 3, Stale: 6, Refused: 12}
	if diff := cmp.Diff([]Summary{want}, res.Steps); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestPairs(t *testing.T) {
	processes := []cluster.Record{{Name: "worker-1", Kind: cluster.Crier, Role: "worker"}, {Name: "worker-2", Kind: cluster.Crier, Role: "worker"},
		{Name: "nats-1", Kind: cluster.NATS}, {Name: "mariadb", Kind: cluster.MariaDB}}
	flows := []cluster.Flow{{From: "worker-1", To: "nats-1", Bytes: 9}, {From: "nats-1", To: "worker-2", Bytes: 1}, {From: "worker-2", To: "nats-1", Bytes: 9},
		{From: "worker-2", To: "worker-1", Bytes: 4}, {From: "worker-1", To: "mariadb"}, {From: "worker-1", To: "stranger", Bytes: 1}}
	want := [][2]string{{"nats", "worker"}, {"worker", "nats"}, {"worker", "worker"}}
	if diff := cmp.Diff(want, pairs(processes, flows)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// Every drill has its forms, where the cluster has enough processes for it.
func TestForms(t *testing.T) {
	small := cluster.Topology{ZooKeeper: 1, MariaDB: 1, NATS: 1, Scheduler: 1, Worker: 1, Gateway: 1, API: 1, Relay: 1}
	large := cluster.Topology{ZooKeeper: 3, MariaDB: 1, NATS: 3, Scheduler: 2, Worker: 2, Gateway: 2, API: 2, Relay: 2}
	left := 0
	for _, d := range drill.All() {
		if len(forms(d.Name)) == 0 && d.Name != drill.CutPair {
			t.Errorf("%s has no form", d.Name)
		}
		for _, s := range forms(d.Name) {
			if s.Rounds < 1 || s.Drill != d.Name {
				t.Errorf("%s has the form %+v", d.Name, s)
			}
		}
		if !fits(d.Name, large) {
			t.Errorf("%s does not fit", d.Name)
		}
		if !fits(d.Name, small) {
			left++
		}
	}
	if left != 10 {
		t.Errorf("%d drills do not fit one process of each kind", left)
	}
	if got := (Step{Drill: drill.CutPair, From: "worker", To: "nats", For: 90 * time.Second}).String(); got != "cut-pair worker,nats 90s" {
		t.Errorf("the name of a step is %q", got)
	}
}
