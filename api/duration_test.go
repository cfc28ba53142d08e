package api_test

import (
	"testing"
	"time"

	"pgregory.net/rapid"

	"crier/api"
)

func TestParseDuration(t *testing.T) {
	const day = 24 * time.Hour
	for text, want := range map[string]time.Duration{
		"7d": 7 * day, "1d12h": 36 * time.Hour, "90s": 90 * time.Second, "0d5m": 5 * time.Minute, "1h30m": 90 * time.Minute, "0s": 0,
	} {
		got, err := api.ParseDuration(text)
		if err != nil || time.Duration(got) != want {
			t.Errorf("ParseDuration(%q) = %v, %v; want %v", text, time.Duration(got), err, want)
		}
	}
	for _, text := range []string{"", "d", "7", "-7d", "+7d", "-1h", "1d-1h", "7days", "1.5d", "1d1d", "1h1d", "200000d", "106751d24h", "99999999999d", " 7d", "7d "} {
		if got, err := api.ParseDuration(text); err == nil {
			t.Errorf("ParseDuration(%q) = %v; want an error", text, got)
		}
	}
}

func TestDurationRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		d := api.Duration(rapid.Int64Min(1).Draw(t, "ns"))
		text, err := d.MarshalText()
		if err != nil {
			t.Fatal(err)
		}
		var back api.Duration
		if err := back.UnmarshalText(text); err != nil || back != d {
			t.Fatalf("%d wrote %q, which reads as %d, %v", d, text, back, err)
		}
	})
}
