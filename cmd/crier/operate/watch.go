package operate

import (
	"context"
	"fmt"
	"strings"
	"time"

	"crier/api"
	"crier/cmd/crier/cli"
	"crier/cmd/crier/out"
	"crier/job"
)

// watchEvery is how often the members are looked at.
const watchEvery = 500 * time.Millisecond

// watch shows the members until ctx ends: on a terminal the table again and again, else
// a line, or a value, for each that is new or has changed. A server that goes away is
// waited for.
func watch(ctx context.Context, c *cli.CLI, svc api.Service) error {
	if c.Output == string(out.JSON) || c.Output == string(out.YAML) {
		return cli.Usage("-o %s is one value and cannot follow; use -o jsonl", c.Output)
	}
	show := changes(c)
	if _, terminal := cli.TerminalWidth(c.Out); terminal && c.Output == string(out.Table) {
		show = func(all []api.Member) error {
			const home = "\x1b[H\x1b[2J" // the cursor to the corner, the screen empty (ECMA-48)
			if _, err := fmt.Fprint(c.Out, home); err != nil {
				return err
			}
			return c.Print(all, func(p *out.Printer) out.Grid { return memberGrid(p, all) })
		}
	}
	t := time.NewTicker(watchEvery)
	defer t.Stop()
	for away := false; ; {
		list, err := svc.ListMembers(ctx)
		switch {
		case err == nil:
			away = false
			if err := show(list.Members); err != nil {
				return err
			}
		case job.CodeOf(err) == job.CodeUnavailable && ctx.Err() == nil:
			if !away {
				c.Say("%s; it is waited for", err)
			}
			away = true
		default:
			return err
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-t.C:
		}
	}
}

// changes shows what is different from the call before.
func changes(c *cli.CLI) func([]api.Member) error {
	last := map[string]api.Member{}
	return func(all []api.Member) error {
		next := make(map[string]api.Member, len(all))
		for _, m := range all {
			next[m.ID] = m
			was, known := last[m.ID]
			if known && summary(was) == summary(m) {
				continue
			}
			if err := change(c, was, m); err != nil {
				return err
			}
		}
		for id, m := range last {
			if _, still := next[id]; !still && c.Output == string(out.Table) {
				if err := c.Line(fmt.Sprintf("%s  %s  %s -> gone", c.Now().UTC().Format(time.TimeOnly), out.Clean(id), m.State)); err != nil {
					return err
				}
			}
		}
		last = next
		return nil
	}
}

func change(c *cli.CLI, was, is api.Member) error {
	if c.Output != string(out.Table) {
		return c.Print(is, nil)
	}
	text := summary(is)
	if before := summary(was); was.ID != "" && was.State != is.State {
		text = was.State + " -> " + text
	} else if was.ID != "" {
		text += " (was " + before + ")"
	}
	if is.Reason != "" && was.State != is.State {
		text += ": " + is.Reason
	}
	return c.Line(fmt.Sprintf("%s  %s  %s", c.Now().UTC().Format(time.TimeOnly), out.Clean(is.ID), out.Clean(text)))
}

// summary is what of a member is worth a line when it changes.
func summary(m api.Member) string {
	parts := []string{state(m), fmt.Sprintf("incarnation %d", m.Incarnation)}
	if !m.Lease {
		parts = append(parts, "no lease")
	}
	if view(m) == "other" {
		parts = append(parts, "another view")
	}
	return strings.Join(parts, ", ")
}
