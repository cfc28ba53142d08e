package operate

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"crier/api"
	"crier/cmd/crier/cli"
	"crier/cmd/crier/out"
	"crier/job"
)

// Status is the command about the server.
func Status(c *cli.CLI) *cobra.Command {
	return c.Command("status", "One screen about the server", cobra.NoArgs, func(ctx context.Context, _ []string) error {
		svc, err := c.Service()
		if err != nil {
			return err
		}
		s, err := svc.Status(ctx)
		if err != nil {
			return err
		}
		return c.Print(s, func(p *out.Printer) out.Grid { return statusFields(p, s) })
	})
}

func statusFields(p *out.Printer, s api.Status) out.Grid {
	health := "healthy"
	if !s.Healthy {
		health = "not healthy"
	}
	rows := [][]string{{"server", health}, {"since", p.Ago(s.Since)}}
	for _, x := range s.Problems {
		rows = append(rows, []string{"problem", x})
	}
	rows = append(rows, []string{"version", s.Version}, []string{"started", p.Ago(s.StartedAt)}, []string{"roles", strings.Join(s.Roles, ", ")},
		[]string{"online", out.Many(s.Online, "recipient") + ", " + out.Many(s.Sockets, "socket")}, []string{"jobs", jobsByState(s.Jobs)})
	if s.Overstayed > 0 {
		rows = append(rows, []string{"overstayed", out.Many(s.Overstayed, "job") + "; see crier job ls --stuck"})
	}
	for _, x := range s.Silent {
		rows = append(rows, []string{"not counted", fmt.Sprintf("member %s: %s", x.Name, x.Why)})
	}
	if w := s.Oldest; w != nil {
		rows = append(rows, []string{"oldest waiting", fmt.Sprintf("%s, %s for %s", w.Job, w.State, out.Span(p.Now.Sub(w.Since)))})
		if w.WaitingOn != "" {
			rows = append(rows, []string{"it waits on", w.WaitingOn})
		}
	}
	if s.IndexLag != nil {
		rows = append(rows, []string{"index behind", out.Span(time.Duration(*s.IndexLag) * time.Millisecond)})
	}
	for _, x := range s.Stores {
		size := out.Bytes(x.Bytes)
		if x.Limit > 0 {
			size += fmt.Sprintf(" of %s (%s)", out.Bytes(x.Limit), out.Percent(x.Bytes, x.Limit))
		}
		if len(x.Missing) > 0 {
			size += fmt.Sprintf(", kept by %d of %d servers: %s", x.Replicas-len(x.Missing), x.Replicas, strings.Join(x.Missing, ", "))
		}
		rows = append(rows, []string{x.Name, size})
	}
	for _, d := range shownDisks(s.Disks) {
		text := fmt.Sprintf("%.1f%% of %s", d.Percent, out.Bytes(d.Size))
		if d.Level != "ok" {
			text += ", " + d.Level
		}
		name := "disk of " + strings.Join(d.Of, ", ")
		if len(s.Disks) > 1 {
			text += ", of member " + d.Member
		}
		rows = append(rows, []string{name, text})
	}
	return out.Grid{Rows: rows, States: []string{"server"}}
}

// shownDisks are those that one screen has room for: those that fill up, and the fullest.
func shownDisks(all []api.Disk) []api.Disk {
	const few = 3
	if len(all) <= few {
		return all
	}
	all = slices.SortedStableFunc(slices.Values(all), func(a, b api.Disk) int { return cmp.Compare(b.Percent, a.Percent) })
	n := 1
	for n < len(all) && all[n].Level != "ok" {
		n++
	}
	return all[:n]
}

// jobsByState lists the states that jobs are in, in the order of a job's life.
func jobsByState(jobs map[job.State]uint64) string {
	var parts []string
	for s := job.Submitted; s <= job.FailedOver; s++ {
		if n := jobs[s]; n > 0 {
			parts = append(parts, fmt.Sprintf("%s %s", out.Count(n), s))
		}
	}
	if len(parts) == 0 {
		return "none"
	}
	return strings.Join(parts, ", ")
}
