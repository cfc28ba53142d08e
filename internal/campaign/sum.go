package campaign

import (
	"math"
	"slices"
	"time"

	"crier/internal/drill/verdict"
)

// Distribution is times in seconds; each is one that was measured.
type Distribution struct {
	N   int     `json:"n"`
	Min float64 `json:"min"`
	P50 float64 `json:"p50"`
	P99 float64 `json:"p99"`
	Max float64 `json:"max"`
}

// distribution gives that of some times, or nil if there are none.
func distribution(times []float64) *Distribution {
	if len(times) == 0 {
		return nil
	}
	slices.Sort(times)
	rank := func(p float64) float64 { return times[max(0, int(math.Ceil(p*float64(len(times))))-1)] } // the nearest
	return &Distribution{N: len(times), Min: times[0], P50: rank(0.5), P99: rank(0.99), Max: times[len(times)-1]}
}

// Summary is the rounds of a step. Times are of those that are not void.
type Summary struct {
	Step     string        `json:"step"`
	Rounds   int           `json:"rounds"`
	Pass     int           `json:"pass"`
	Fail     int           `json:"fail"`
	Void     int           `json:"void"`    // rounds of which the second try showed nothing either
	Retried  int           `json:"retried"` // rounds of which the first try showed nothing
	Detected *Distribution `json:"detected,omitempty"`
	Resumed  *Distribution `json:"resumed,omitempty"`
	CaughtUp *Distribution `json:"caught_up,omitempty"`
	Stall    *Distribution `json:"stall,omitempty"`
	Due      int           `json:"due"` // messages, of all tries
	Lost     int           `json:"lost"`
	Twice    int           `json:"twice"`
	Stale    int           `json:"stale"`
	Refused  int           `json:"refused"` // attempts of those who lived on with what was another's
}

// Result is what a campaign came to.
type Result struct {
	Verdict     verdict.Verdict `json:"verdict"`               // fail before void before pass
	Interrupted bool            `json:"interrupted,omitempty"` // not all rounds were run: it is void at best
	Seconds     float64         `json:"seconds"`
	Steps       []Summary       `json:"steps"` // in the order in which they were first run
	Runs        []Run           `json:"runs"`
}

// sum adds up what was run.
func sum(runs []Run, took time.Duration) Result {
	res := Result{Verdict: verdict.Pass, Seconds: took.Round(time.Millisecond).Seconds(), Steps: []Summary{}, Runs: runs}
	if len(runs) == 0 {
		res.Verdict = verdict.Void
	}
	for i, r := range runs {
		if slices.ContainsFunc(runs[:i], func(x Run) bool { return x.Step == r.Step }) {
			continue
		}
		s := sumStep(r.Step, runs)
		res.Steps = append(res.Steps, s)
		switch {
		case s.Fail > 0:
			res.Verdict = verdict.Fail
		case s.Void > 0 && res.Verdict == verdict.Pass:
			res.Verdict = verdict.Void
		}
	}
	return res
}

func sumStep(step string, runs []Run) Summary {
	s := Summary{Step: step}
	times := map[**Distribution][]float64{}
	for _, r := range runs {
		if r.Step != step {
			continue
		}
		if r.Again {
			s.Retried++
			s.Void-- // it was counted at the first try
		} else {
			s.Rounds++
		}
		switch r.Verdict() {
		case verdict.Pass:
			s.Pass++
		case verdict.Fail:
			s.Fail++
		default:
			s.Void++
		}
		if r.Report == nil {
			continue
		}
		o := r.Report.Oracle
		s.Due, s.Lost, s.Twice = s.Due+o.Due, s.Lost+o.Lost, s.Twice+o.Twice
		s.Stale += r.Report.Stale
		if x := r.Report.Refused; x != nil {
			s.Refused += x.Sum()
		}
		if r.Verdict() == verdict.Void {
			continue
		}
		t := r.Report.Times
		for _, x := range []struct {
			of   **Distribution
			took *verdict.Seconds
		}{{&s.Detected, t.Detected}, {&s.Resumed, t.Resumed}, {&s.CaughtUp, t.CaughtUp}, {&s.Stall, t.Stall}} {
			if x.took != nil {
				times[x.of] = append(times[x.of], float64(*x.took))
			}
		}
	}
	for of, list := range times {
		*of = distribution(list)
	}
	return s
}
