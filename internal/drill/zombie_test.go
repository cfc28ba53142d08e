package drill

import (
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"crier/api"
	"crier/internal/cluster"
)

// A record behind a seal is stale, whoever wrote it and however often it is read on.
func TestStale(t *testing.T) {
	var j journals
	for i, c := range []struct {
		subject, kind string
		stale         int
	}{
		{"led.j.w-a.1", "open", 0}, {"led.j.w-b.1", "record", 0}, {"led.j.w-a.1", "reserve", 0}, {"led.j.w-a.1", "seal", 0}, {"led.j.w-b.1", "done", 0},
		{"led.j.w-a.2", "open", 0}, {"led.j.w-a.1", "done", 1}, {"led.j.w-b.1", "seal", 1}, {"led.j.w-b.1", "record", 2}, {"led.j.w-a.2", "reserve", 2},
	} {
		seq := uint64(10 + 3*i)
		j.take(api.LedgerEntry{Seq: seq, Subject: c.subject, Kind: c.kind})
		if j.stale != c.stale || j.next != seq+1 {
			t.Errorf("after record %d, %s of %s: %d are stale, reading goes on at %d", seq, c.kind, c.subject, j.stale, j.next)
		}
	}
}

func TestCounters(t *testing.T) {
	text := `# HELP crier_gateway_fenced_total Hand-offs.
# TYPE crier_gateway_fenced_total counter
crier_gateway_fenced_total 12
crier_gateway_fenced_total_other 7
crier_refused_appends_total{of="claim"} 4
crier_refused_appends_total{of="job"} 2
crier_refused_appends_total{of="journal"} 1e+06
`
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, text) }))
	defer s.Close()
	p := &cluster.Process{Record: cluster.Record{Name: "gateway-1", Addresses: map[string]string{cluster.AddrAPI: s.URL}}}
	for _, c := range []struct {
		names []string
		want  int
	}{{[]string{fencedHandOffs}, 12}, {[]string{refusedJournal, refusedJob}, 1_000_002}, {nil, 0}} {
		if got, err := counters(t.Context(), p, c.names); err != nil || got != c.want {
			t.Errorf("%q: %d, %v, want %d", c.names, got, err, c.want)
		}
	}
	if _, err := counters(t.Context(), p, []string{fencedHandOffs, "crier_missing_total"}); err == nil || !strings.Contains(err.Error(), "gateway-1 has 1 of") {
		t.Errorf("a counter that is not there: %v", err)
	}
}
