package timing

import (
	"testing"
	"time"
)

// TestThrottle: the first comes at once, a burst ever slower, and after a pause it is
// as at first.
func TestThrottle(t *testing.T) {
	th := Throttle{Least: 100 * time.Millisecond, Most: 400 * time.Millisecond}
	now := Instant(time.Hour)
	for i, want := range []time.Duration{0, 100, 200, 400, 400} {
		at := th.After(now, 0)
		if got := at.Since(now); got != want*time.Millisecond {
			t.Errorf("the %dth of a burst waits %s, want %dms", i, got, want)
		}
		now = at
		th.Done(now)
	}
	now = now.Add(time.Second)
	if got := th.After(now, 50*time.Millisecond).Since(now); got != 50*time.Millisecond {
		t.Errorf("after a pause it waits %s", got)
	}
	th.Done(now)
	if got := th.After(now, 0).Since(now); got != 100*time.Millisecond {
		t.Errorf("then %s", got)
	}
}

// TestTimers: the profiles fit together, and those that do not are refused.
func TestTimers(t *testing.T) {
	for _, timers := range []Timers{Default(), Fast()} {
		if err := timers.Validate(); err != nil {
			t.Error(err)
		}
	}
	for name, spoil := range map[string]func(*Timers){
		"dead":   func(t *Timers) { t.Dead = t.Hello },
		"lease":  func(t *Timers) { t.Lease = t.Renew + t.Margin },
		"jitter": func(t *Timers) { t.Jitter = 90 },
		"age":    func(t *Timers) { t.MaxAge = t.Refresh },
	} {
		timers := Default()
		spoil(&timers)
		if timers.Validate() == nil {
			t.Errorf("%s: timers that do not fit are taken", name)
		}
	}
}

// TestVary: within the percentage, and not always the same.
func TestVary(t *testing.T) {
	r, least, most := Random(1), time.Hour, time.Duration(0)
	for range 1000 {
		d := r.Vary(time.Second, 10)
		least, most = min(least, d), max(most, d)
	}
	if least < 900*time.Millisecond || most > 1100*time.Millisecond || most-least < 150*time.Millisecond {
		t.Errorf("1 s ± 10 %% is %s to %s", least, most)
	}
}

// What has lasted counts, until it has been over for as long.
func TestLasting(t *testing.T) {
	const long = 10 * time.Second
	var l Lasting
	for _, step := range []struct {
		at           time.Duration
		is, want     bool
		whatHappened string
	}{
		{1 * time.Second, true, false, "it began"},
		{10 * time.Second, true, false, "it has not lasted"},
		{11 * time.Second, true, true, "it has lasted"},
		{12 * time.Second, false, true, "it has only just ended"},
		{13 * time.Second, true, true, "it is there again"},
		{20 * time.Second, false, true, "it ended"},
		{29 * time.Second, false, true, "it has not been over for long"},
		{30 * time.Second, false, false, "it is over"},
	} {
		l.Note(Instant(step.at), step.is)
		if got := l.Counts(Instant(step.at), long); got != step.want {
			t.Errorf("at %s, %s: it counts: %v", step.at, step.whatHappened, got)
		}
	}
}
