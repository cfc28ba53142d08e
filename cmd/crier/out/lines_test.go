package out_test

import (
	"testing"
	"time"

	"crier/api"
	"crier/cmd/crier/out"
	"crier/job"
)

func TestEventLine(t *testing.T) {
	n := uint32(4095)
	e := api.NewEvent(12, job.Event{Version: 3, State: "sending", Reason: "a\x1b[31mb", At: time.Date(2026, 1, 2, 3, 4, 5, 678e6, time.FixedZone("", 3600)), Job: job.ID{}, Slice: &n})
	want := "      12  2026-01-02T02:04:05.678Z  sending      job_00000000000000000000000000 slice 4095  version 3  " + out.Clean(e.Reason)
	if got := out.EventLine(e); got != want {
		t.Errorf("%q, want %q", got, want)
	}
	e = api.NewEvent(13, job.Event{Set: &job.SetChange{Kind: "segment", Name: "vip\x1b[31m", Number: 4, Recipients: 12345, Changed: 1}, Version: 3, State: "removed", At: e.At})
	want = "      13  2026-01-02T02:04:05.678Z  removed      segment " + out.Clean(e.Set.Name) + "  revision 3: 1, 12,345 in all"
	if got := out.EventLine(e); got != want {
		t.Errorf("%q, want %q", got, want)
	}
}
