package drill

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"crier/api"
	"crier/job"
)

// claim is who may act on something, as the ledger says.
type claim struct {
	Kind    string      `json:"kind"` // slice, job, range, role
	ID      string      `json:"id"`
	Epoch   uint64      `json:"epoch"`
	Journal job.Journal `json:"journal"`
	at      time.Time
}

// process is the name of the process that made the claim: parts of it have a letter
// before it.
func (c claim) process() string {
	_, name, _ := strings.Cut(c.Journal.Worker, "-")
	return name
}

// job is the job that a claim on a job or a slice is about.
func (c claim) job() string {
	if c.Kind == "slice" {
		id, _, _ := strings.Cut(c.ID, "-")
		return id
	}
	return c.ID
}

// claims is the ledger's claims of a kind so far, in order.
type claims struct {
	kind string
	all  []claim
	next uint64 // sequence to read from
}

// read reads on.
func (c *claims) read(ctx context.Context, svc api.Service) error {
	return svc.TailLedger(ctx, api.TailLedger{From: c.next, Filter: "led.claim." + c.kind + ".>"}, func(e api.LedgerEntry) error {
		x := claim{at: e.Time}
		if err := json.Unmarshal(e.Detail, &x); err != nil {
			return fmt.Errorf("reading claim %d: %w", e.Seq, err)
		}
		c.all, c.next = append(c.all, x), e.Seq+1
		return nil
	})
}

// held is what a process held of a kind at a moment, of these jobs; it is the claims by
// what they are about.
func held(all []claim, process, kind string, at time.Time, jobs map[string]bool) map[string]claim {
	last := map[string]claim{}
	for _, c := range all {
		if c.Kind == kind && !c.at.After(at) && jobs[c.job()] {
			last[c.ID] = c
		}
	}
	for id, c := range last {
		if c.process() != process {
			delete(last, id)
		}
	}
	return last
}

// taken is when another process first claimed each of what one held.
func taken(all []claim, was map[string]claim) map[string]time.Time {
	at := map[string]time.Time{}
	for _, c := range all {
		old, ok := was[c.ID]
		if !ok || c.Kind != old.Kind || c.Epoch <= old.Epoch || c.Journal.IsZero() || c.process() == old.process() {
			continue
		}
		if _, ok := at[c.ID]; !ok {
			at[c.ID] = c.at
		}
	}
	return at
}

// busiest is who of some processes holds most of a kind, "" if nobody holds any.
func busiest(all []claim, processes []string, kind string, at time.Time, jobs map[string]bool) string {
	best, most := "", 0
	for _, p := range processes {
		if n := len(held(all, p, kind, at, jobs)); n > most {
			best, most = p, n
		}
	}
	return best
}

// apis is the API processes of a cluster: what one does not answer another is asked.
type apis struct {
	list []api.Service
	at   int
}

// askEvery is between rounds of asking.
const askEvery = 100 * time.Millisecond

// do asks one process after the other until one answers, or ctx ends. What is asked is
// idempotent.
func (a *apis) do(ctx context.Context, ask func(context.Context, api.Service) error) error {
	var last error
	for tries := 0; ; tries++ {
		once, cancel := context.WithTimeout(ctx, 10*time.Second)
		err := ask(once, a.list[a.at])
		cancel()
		var known *job.Error
		if err == nil || errors.As(err, &known) && known.Code != job.CodeUnavailable {
			return err
		}
		last = err
		a.at = (a.at + 1) % len(a.list)
		if tries%len(a.list) < len(a.list)-1 {
			continue
		}
		select {
		case <-ctx.Done():
			return errors.Join(ctx.Err(), last)
		case <-time.After(askEvery):
		}
	}
}
