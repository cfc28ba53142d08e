package api_test

import (
	"math"
	"testing"
	"time"

	"crier/api"
	"crier/job"
)

func TestSince(t *testing.T) {
	for text, want := range map[string]api.TailEvents{"": {}, "1": {After: 1}, "18446744073709551615": {After: math.MaxUint64},
		"1h": {Within: api.Duration(time.Hour)}, "7d": {Within: api.Duration(7 * 24 * time.Hour)}} {
		got := api.TailEvents{After: 9}
		if err := got.Since(text); err != nil || got != want || got.SinceText() != text && text != "1h" || got.Validate() != nil {
			t.Errorf("%q is %+v, written %q, %v", text, got, got.SinceText(), err)
		}
	}
	for _, text := range []string{"18446744073709551616", "-1", "1x", "-1h", "0s", "yesterday", "\x00"} {
		var r api.TailEvents
		if err := r.Since(text); job.CodeOf(err) != job.CodeInvalid {
			t.Errorf("%q is %+v, %v", text, r, err)
		}
	}
	if err := (api.TailEvents{Kind: "nonsense"}).Validate(); job.CodeOf(err) != job.CodeInvalid {
		t.Errorf("an unknown kind: %v", err)
	}
	if err := (api.TailEvents{After: 1, Within: 1}).Validate(); job.CodeOf(err) != job.CodeInvalid {
		t.Errorf("two beginnings: %v", err)
	}
}
