package drill

import (
	"bufio"
	"context"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"

	"crier/api"
	"crier/internal/cluster"
	"crier/internal/drill/verdict"
)

// The counters, as /metrics writes them.
const (
	refusedJournal = `crier_refused_appends_total{of="journal"}`
	refusedJob     = `crier_refused_appends_total{of="job"}`
	fencedHandOffs = "crier_gateway_fenced_total"
)

// refusals reads the counters of the victim and of all gateways.
func (r *run) refusals(ctx context.Context) (x verdict.Refused, err error) {
	victims, err := r.victims()
	if err != nil {
		return x, err
	}
	gateways, err := r.cluster.Role("gateway")
	if err != nil {
		return x, err
	}
	for _, s := range []struct {
		of    []*cluster.Process
		into  *int
		names []string
	}{{victims, &x.Appends, []string{refusedJournal, refusedJob}}, {gateways, &x.HandOffs, []string{fencedHandOffs}}} {
		for _, p := range s.of {
			n, err := counters(ctx, p, s.names)
			if err != nil {
				return x, err
			}
			*s.into += n
		}
	}
	return x, nil
}

// counters adds up counters of a process. Those of a process must be there.
func counters(ctx context.Context, p *cluster.Process, names []string) (sum int, err error) {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, p.Addresses[cluster.AddrAPI]+"/metrics", nil)
	if err != nil {
		return 0, fmt.Errorf("asking %s for its counters: %w", p.Name, err)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return 0, fmt.Errorf("asking %s for its counters: %w", p.Name, err)
	}
	defer resp.Body.Close()
	found := 0
	lines := bufio.NewScanner(resp.Body)
	for lines.Scan() {
		for _, name := range names {
			value, ok := strings.CutPrefix(lines.Text(), name+" ")
			if !ok {
				continue
			}
			n, err := strconv.ParseFloat(value, 64)
			if err != nil {
				return 0, fmt.Errorf("reading %s of %s: %w", name, p.Name, err)
			}
			found, sum = found+1, sum+int(n)
		}
	}
	if err := lines.Err(); err != nil {
		return 0, fmt.Errorf("reading the counters of %s: %w", p.Name, err)
	}
	if found != len(names) {
		return 0, fmt.Errorf("%s has %d of the counters %s", p.Name, found, strings.Join(names, ", "))
	}
	return sum, nil
}

// effects looks what of superseded holders had an effect, and what was refused.
func (r *run) effects(ctx context.Context) error {
	err := r.api.do(ctx, func(ctx context.Context, svc api.Service) error {
		if r.journals.Next == 0 { // what was before the first job is no matter of this drill
			first := func(e api.LedgerEntry) error {
				r.journals.Next = max(r.journals.Next, e.Seq)
				return nil
			}
			if err := svc.TailLedger(ctx, api.TailLedger{Filter: "led.job." + r.jobs[0].String()}, first); err != nil {
				return err
			}
		}
		return r.journals.Read(ctx, svc)
	})
	if err != nil {
		return fmt.Errorf("reading the journals: %w", err)
	}
	r.report.Stale = r.journals.Stale
	if !r.drill.zombie || !r.report.Fault.Bit {
		return nil
	}
	now, err := r.refusals(ctx)
	if err != nil {
		return err
	}
	r.report.Refused = &verdict.Refused{Appends: now.Appends - r.before.Appends, HandOffs: now.HandOffs - r.before.HandOffs}
	return nil
}
