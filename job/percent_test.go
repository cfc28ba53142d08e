package job_test

import (
	"fmt"
	"math"
	"testing"

	"pgregory.net/rapid"

	"crier/job"
)

func TestPercent(t *testing.T) {
	for text, want := range map[string]job.Percent{"0": 0, "0.5": 5_000, "5%": 50_000, "33.3333": 333_333, "0.0001": 1, "100": 1_000_000,
		"100.0000%": 1_000_000, "007": 70_000, "12.50": 125_000} {
		if got, err := job.ParsePercent(text); got != want || err != nil {
			t.Errorf("%q: %d, %v; want %d", text, got, err, want)
		}
	}
	for _, text := range []string{"", "%", ".", ".5", "5.", "-1", "+1", "1e1", "0.00001", "100.0001", "101", "0x1", "5 %", " 5", "1.2.3", "NaN", "99999999999999999999"} {
		if got, err := job.ParsePercent(text); err == nil {
			t.Errorf("%q is read as %s", text, got)
		}
	}
	for _, f := range []float64{-0.5, 100.0001, 0.00001, math.NaN(), math.Inf(1), 1e300, 33.33333} {
		if got, err := job.PercentOf(f); err == nil {
			t.Errorf("%v is taken as %s", f, got)
		}
	}
	if job.Percent(1_000_001).Validate() == nil || job.Everybody.Validate() != nil {
		t.Error("what is more than everybody is not told from everybody")
	}
}

// Whatever is written is read back, and a number of at most four decimals is that share.
func TestPercentRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		p := job.Percent(rapid.Uint32Range(0, 1_000_000).Draw(t, "share"))
		var back job.Percent
		b, err := p.MarshalText()
		if err != nil || back.UnmarshalText(b) != nil || back != p {
			t.Fatalf("%d is written %q and read as %d", p, b, back)
		}
		var f float64
		if _, err := fmt.Sscan(fmt.Sprintf("%d.%04d", p/10_000, p%10_000), &f); err != nil {
			t.Fatal(err)
		}
		if got, err := job.PercentOf(f); got != p || err != nil {
			t.Fatalf("%v is %d, %v; want %d", f, got, err, p)
		}
	})
}
