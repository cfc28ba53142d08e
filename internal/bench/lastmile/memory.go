package lastmile

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"

	"crier/internal/proc"
)

// memory is what a server takes, in bytes.
type memory struct {
	rss   uint64 // resident, as the kernel counts
	inUse uint64 // heap and stacks, as the runtime counts: with what is garbage and not collected yet
}

func measureMemory(ctx context.Context, srv *proc.Server) (m memory, err error) {
	if m.rss, err = srv.Resident(); err != nil {
		return m, err
	}
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, srv.API+"/metrics", nil)
	if err != nil {
		return m, err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return m, fmt.Errorf("asking for the server's metrics: %w", err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		return m, fmt.Errorf("reading the server's metrics: %w", err)
	}
	m.inUse, err = inUse(string(b))
	return m, err
}

// inUse finds the runtime's figures in metrics as text.
func inUse(metrics string) (sum uint64, err error) {
	for _, name := range []string{"go_memstats_heap_inuse_bytes", "go_memstats_stack_inuse_bytes"} {
		found := false
		for line := range strings.Lines(metrics) {
			value, ok := strings.CutPrefix(line, name+" ")
			if !ok {
				continue
			}
			n, err := strconv.ParseFloat(strings.TrimSpace(value), 64)
			if err != nil {
				return 0, fmt.Errorf("reading the metric %s: %w", name, err)
			}
			sum, found = sum+uint64(n), true
		}
		if !found {
			return 0, fmt.Errorf("the server's metrics lack %s", name)
		}
	}
	return sum, nil
}

// per is by how much something grew for each of n; 0 if it shrank.
func per(after, before uint64, n int) uint64 {
	if after < before {
		return 0
	}
	return (after - before) / uint64(n)
}
