package webhook

import (
	"testing"
	"time"

	"crier/job"
)

var start = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)

// TestDay fails until a delivery is given up, and looks at the pauses.
func TestDay(t *testing.T) {
	for _, chance := range []float64{0, 0.5, 1} {
		now, first := start, time.Time{}
		var pauses []time.Duration
		for attempts := uint32(0); ; attempts++ {
			v := Decide(attempts, first, Answer{Status: 500}, now, chance)
			if !v.First.Equal(start) {
				t.Fatalf("attempt %d has its first at %s", attempts, v.First)
			}
			first = v.First
			if v.Outcome == job.DeliveryGivenUp {
				if n := int(attempts) + 1; now.Sub(start) != Patience || n < 10 || n > 25 {
					t.Errorf("chance %v: given up after %d attempts and %s", chance, n, now.Sub(start))
				}
				break
			}
			if v.Outcome != job.DeliveryOpen || !v.Due.After(now) || v.Due.Sub(start) > Patience {
				t.Fatalf("attempt %d: %+v", attempts, v)
			}
			pauses, now = append(pauses, v.Due.Sub(now)), v.Due
		}
		scale := 0.75 + chance/2
		for i, want := range []time.Duration{5 * time.Second, 15 * time.Second, 45 * time.Second, 135 * time.Second, 405 * time.Second, 1215 * time.Second, 3645 * time.Second, 3 * time.Hour, 3 * time.Hour} {
			if got := pauses[i]; got != time.Duration(float64(want)*scale) {
				t.Errorf("chance %v: pause %d is %s", chance, i, got)
			}
		}
	}
}

func TestDecide(t *testing.T) {
	later := start.Add(time.Hour)
	for name, c := range map[string]struct {
		a       Answer
		now     time.Time
		outcome string
		due     time.Time
	}{
		"200":                      {Answer{Status: 200}, later, job.DeliveryDelivered, time.Time{}},
		"204 at the last moment":   {Answer{Status: 204}, start.Add(Patience), job.DeliveryDelivered, time.Time{}},
		"410":                      {Answer{Status: 410}, later, job.DeliveryGone, time.Time{}},
		"302":                      {Answer{Status: 302}, later, job.DeliveryOpen, later.Add(15 * time.Second)},
		"404":                      {Answer{Status: 404}, later, job.DeliveryOpen, later.Add(15 * time.Second)},
		"no answer":                {Answer{Error: "x"}, later, job.DeliveryOpen, later.Add(15 * time.Second)},
		"429, a long time":         {Answer{Status: 429, RetryAfter: 2 * time.Hour}, later, job.DeliveryOpen, later.Add(2 * time.Hour)},
		"503, a short time":        {Answer{Status: 503, RetryAfter: time.Second}, later, job.DeliveryOpen, later.Add(15 * time.Second)},
		"429, longer than a day":   {Answer{Status: 429, RetryAfter: 100 * time.Hour}, later, job.DeliveryOpen, start.Add(Patience)},
		"500 when the day is over": {Answer{Status: 500}, start.Add(Patience), job.DeliveryGivenUp, time.Time{}},
	} {
		v := Decide(1, start, c.a, c.now, 0.5)
		if v.Outcome != c.outcome || !v.Due.Equal(c.due) || v.Answer != c.a || !v.First.Equal(start) {
			t.Errorf("%s: %+v, want %s due %s", name, v, c.outcome, c.due)
		}
	}
}

func TestRetryAfter(t *testing.T) {
	for text, want := range map[string]time.Duration{"": 0, "120": 2 * time.Minute, "-1": 0, "x": 0, "99999999999999999999": 0,
		"Fri, 02 Jan 2026 03:05:05 GMT": time.Minute, "Fri, 02 Jan 2026 03:03:05 GMT": 0} {
		if got := retryAfter(text, start); got != want {
			t.Errorf("%q is %s, want %s", text, got, want)
		}
	}
}
