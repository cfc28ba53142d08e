package drill

import (
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"crier/internal/cluster"
)

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
