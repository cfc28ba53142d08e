package lease

import (
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"crier/job"
)

var g1, g2 = job.Incarnation{Gateway: "g", Start: 1}, job.Incarnation{Gateway: "g", Start: 2}

// observe lets time pass in steps for an observer to which the store answers, and gives
// when an incarnation was first called over; 0 is never.
func observe(w *Watch, from *time.Time, d time.Duration, answers bool, silent ...job.Incarnation) time.Duration {
	const step = 500 * time.Millisecond
	for passed := step; passed <= d; passed += step {
		*from = from.Add(step)
		if answers {
			w.Answered(*from)
		}
		if len(w.Look(*from, silent)) > 0 {
			return passed
		}
	}
	return 0
}

func TestWhoIsCalledOver(t *testing.T) {
	const first = TTL + 500*time.Millisecond // the look at which it begins to count is none
	for _, c := range []struct {
		name string
		run  func(w *Watch, now *time.Time) time.Duration
		want time.Duration
	}{
		{"one without a lease that is silent", func(w *Watch, now *time.Time) time.Duration {
			return observe(w, now, time.Minute, true, g1)
		}, first},
		{"one that holds its lease", func(w *Watch, now *time.Time) time.Duration {
			w.Held(g1)
			return observe(w, now, time.Minute, true, g1)
		}, 0},
		{"one whose next start has the lease", func(w *Watch, now *time.Time) time.Duration {
			w.Held(g2)
			return observe(w, now, time.Minute, true, g1)
		}, first},
		{"one whose former start has the lease", func(w *Watch, now *time.Time) time.Duration {
			w.Held(g1)
			return observe(w, now, time.Minute, true, g2)
		}, 0},
		{"the store answers nobody", func(w *Watch, now *time.Time) time.Duration {
			w.Lapsed("g")
			return observe(w, now, time.Minute, false, g1)
		}, 0},
		{"the store was silent in between", func(w *Watch, now *time.Time) time.Duration {
			observe(w, now, TTL-time.Second, true, g1)
			observe(w, now, 4*time.Second, false, g1)
			return observe(w, now, time.Minute, true, g1)
		}, first},
		{"the observer was paused", func(w *Watch, now *time.Time) time.Duration {
			observe(w, now, TTL-time.Second, true, g1)
			*now = now.Add(time.Hour)
			return observe(w, now, time.Minute, true, g1)
		}, first},
		{"a renewal came late", func(w *Watch, now *time.Time) time.Duration {
			observe(w, now, TTL-time.Second, true, g1)
			w.Held(g1)
			observe(w, now, time.Second, true, g1)
			w.Lapsed("g")
			return observe(w, now, time.Minute, true, g1)
		}, first},
		{"it was heard in between", func(w *Watch, now *time.Time) time.Duration {
			observe(w, now, TTL-time.Second, true, g1)
			observe(w, now, time.Second, true)
			return observe(w, now, time.Minute, true, g1)
		}, first},
	} {
		t.Run(c.name, func(t *testing.T) {
			now := time.Unix(1000, 0)
			if got := c.run(NewWatch(), &now); got != c.want {
				t.Errorf("called over after %v, want %v", got, c.want)
			}
		})
	}
}

// TestWhatIsCountedAsOverTakesNothing has a gateway and observers whose clocks run at
// speeds of their own, who are paused, and whose questions and answers are late or lost.
// The oracle is the time of neither: no hand-off is taken when it counts as over.
func TestWhatIsCountedAsOverTakesNothing(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		speed := rapid.Float64Range(0.85, 1.15)
		gw, obs := speed.Draw(t, "the gateway's clock"), speed.Draw(t, "the observer's clock")
		at := func(real time.Duration, speed float64) time.Duration { return time.Duration(float64(real) * speed) }
		var l Licence
		said, counts := time.Duration(-1), time.Duration(-1) // in the ledger; for the observer
		type answer struct {
			sent, asked, back time.Duration // by the gateway's clock, and when the ledger was read and the answer came
		}
		var way []answer
		const step = 250 * time.Millisecond
		for now := time.Duration(0); now < 40*time.Second; now += step {
			if said < 0 && now > 5*time.Second && rapid.IntRange(0, 20).Draw(t, "said") == 0 {
				said = now
			}
			if counts < 0 && said >= 0 && at(now-said, obs) >= Grace {
				counts = now
			}
			if rapid.IntRange(0, 2).Draw(t, "asks") == 0 {
				asked := now + time.Duration(rapid.IntRange(0, 8).Draw(t, "to"))*step
				back := asked + time.Duration(rapid.IntRange(0, 40).Draw(t, "fro"))*step
				way = append(way, answer{at(now, gw), asked, back})
			}
			way = slices.DeleteFunc(way, func(a answer) bool {
				if a.back > now {
					return false
				}
				if said < 0 || a.asked < said {
					l.Confirmed(a.sent)
				}
				return true
			})
			if l.May(at(now, gw)) && counts >= 0 {
				t.Fatalf("a hand-off is taken at %v; over was said at %v and counts from %v", now, said, counts)
			}
		}
	})
}

func TestALicenceEndsByItself(t *testing.T) {
	var l Licence
	if l.May(0) {
		t.Error("it was never confirmed")
	}
	l.Confirmed(time.Second)
	l.Confirmed(0) // an earlier question, answered late
	if !l.May(time.Second+Term-1) || l.May(time.Second+Term) {
		t.Error("it does not last for Term after the question")
	}
}
