// Package operate is the commands for whoever runs a cluster: its members, who should
// hold what and who does, its journals and its lanes. Each group is a function that is
// given what the commands share.
package operate

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"crier/api"
	"crier/cmd/crier/cli"
	"crier/cmd/crier/out"
)

// Member is the group of commands about members.
func Member(c *cli.CLI) *cobra.Command {
	return c.Group("member", "Members: the processes of the cluster", memberList(c), memberInfo(c),
		memberOperate(c, "silence", "SILENCE", "Let a member hand over what it holds and take nothing new", api.Service.SilenceMember),
		memberOperate(c, "resume", working, "Let a silent member take work again", api.Service.ResumeMember))
}

func memberList(c *cli.CLI) *cobra.Command {
	var follow bool
	cmd := c.Command("ls [--watch]", "List the members, as the server sees them", cobra.NoArgs, func(ctx context.Context, _ []string) error {
		svc, err := c.Service()
		if err != nil {
			return err
		}
		if follow {
			return watch(ctx, c, svc)
		}
		list, err := svc.ListMembers(ctx)
		if err != nil {
			return err
		}
		return c.Print(list.Members, func(p *out.Printer) out.Grid { return memberGrid(p, list.Members) })
	})
	cmd.Flags().BoolVarP(&follow, "watch", "w", false, "go on, and show what changes")
	return cmd
}

func memberGrid(p *out.Printer, all []api.Member) out.Grid {
	g := out.Grid{Of: "members", Columns: []out.Column{{Name: "member", Flex: 2}, {Name: "state", State: true}, {Name: "for", Right: true}, {Name: "roles", Flex: 1}, {Name: "lease"}, {Name: "view", Wide: true},
		{Name: "ranges", Right: true}, {Name: "slices", Right: true}, {Name: "jobs", Right: true}, {Name: "duties", Flex: 1, Wide: true},
		{Name: "inc", Right: true, Wide: true}, {Name: "address", Flex: 1, Wide: true}, {Name: "reason", Below: true}}}
	for _, m := range all {
		g.Rows = append(g.Rows, []string{m.ID, state(m), since(p, m.Since), roles(m.Roles), out.YesNo(m.Lease), view(m),
			out.Count(m.Holds.Ranges), out.Count(m.Holds.Slices), out.Count(m.Holds.Jobs), dash(strings.Join(m.Holds.Duties, ",")),
			fmt.Sprint(m.Incarnation), dash(m.Address), whyNot(m)})
	}
	return g
}

// state is the word for a member's state in a table; one that is seen among the others and
// did not answer may be gone.
func state(m api.Member) string {
	switch {
	case m.Frozen:
		return m.State + ", frozen"
	case m.Away != nil && !m.Answered:
		return m.State + ", no answer"
	}
	return m.State
}

// whyNot is why a member does not take work, as it says itself.
func whyNot(m api.Member) string {
	if m.State == working {
		return ""
	}
	return m.Reason
}

// working is the state of a member that takes work.
const working = "WORKING"

// view says whether a member has the view of the process that answers.
func view(m api.Member) string {
	switch {
	case m.View == "":
		return "-"
	case m.Agrees:
		return "same"
	}
	return "other"
}

func since(p *out.Printer, t time.Time) string {
	if t.IsZero() {
		return "-"
	}
	return out.Span(p.Now.Sub(t))
}

func dash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}

// allRoles is how many roles there are.
const allRoles = 5

// roles lists what a member plays; its shares only if they differ.
func roles(all map[string]uint16) string {
	var names []string
	same := true
	var first uint16
	for name, n := range all {
		if len(names) == 0 {
			first = n
		}
		same = same && n == first
		names = append(names, name)
	}
	slices.Sort(names)
	if same && len(names) == allRoles {
		return "all"
	}
	if !same {
		for i, name := range names {
			names[i] = name + ":" + strconv.Itoa(int(all[name]))
		}
	}
	return dash(strings.Join(names, ","))
}

func memberInfo(c *cli.CLI) *cobra.Command {
	return onMember(c, c.Command("info ID", "Show a member", cobra.ExactArgs(1), func(ctx context.Context, args []string) error {
		svc, err := c.Service()
		if err != nil {
			return err
		}
		m, err := svc.GetMember(ctx, args[0])
		if err != nil {
			return err
		}
		return c.Print(m, func(p *out.Printer) out.Grid { return memberFields(p, m) })
	}))
}

func onMember(c *cli.CLI, cmd *cobra.Command) *cobra.Command {
	cmd.ValidArgsFunction = c.CompleteMembers
	return cmd
}

func memberFields(p *out.Printer, m api.Member) out.Grid {
	id := m.ID
	if m.Self {
		id += " (it answers)"
	}
	rows := [][]string{{"member", id}, {"state", state(m)}, {"since", p.Ago(m.Since)}}
	if m.Reason != "" {
		rows = append(rows, []string{"reason", m.Reason})
	}
	away := "not reached"
	if m.Away != nil {
		away = out.Many(uint64(*m.Away), "link") + " away"
	}
	told := "yes"
	if !m.Answered {
		told = "no: what only it knows is missing"
	}
	sees := view(m)
	if m.View != "" {
		sees = m.View + ", " + sees
	}
	if m.DiffersFor > 0 {
		sees += " for " + out.Span(time.Duration(m.DiffersFor))
	}
	return out.Grid{States: []string{"state"}, Rows: append(rows, []string{"answered", told}, []string{"roles", roles(m.Roles)}, []string{"incarnation", fmt.Sprint(m.Incarnation)},
		[]string{"address", dash(m.Address)}, []string{"distance", away}, []string{"neighbours", dash(strings.Join(m.Neighbours, ", "))},
		[]string{"lease", map[bool]string{true: "live", false: "not live"}[m.Lease]}, []string{"view", sees}, []string{"frozen", out.YesNo(m.Frozen)},
		[]string{"ranges", out.Count(m.Holds.Ranges)}, []string{"slices", out.Count(m.Holds.Slices)}, []string{"jobs", out.Count(m.Holds.Jobs)},
		[]string{"journals", out.Count(m.Holds.Journals)}, []string{"duties", dash(strings.Join(m.Holds.Duties, ", "))})}
}

// memberOperate is a command that asks a member to change its state to another, and shows
// it when it has done so.
func memberOperate(c *cli.CLI, verb, state, short string, do func(api.Service, context.Context, string, api.Operate) (api.Member, error)) *cobra.Command {
	var req api.Operate
	cmd := onMember(c, c.Command(verb+" ID [--reason TEXT]", short, cobra.ExactArgs(1), func(ctx context.Context, args []string) error {
		if err := req.Validate(); err != nil {
			return err
		}
		svc, err := c.Service()
		if err != nil {
			return err
		}
		m, err := do(svc, ctx, args[0], req)
		if err != nil {
			return err
		}
		done := func(m api.Member) bool {
			return m.State == state && (state == working || strings.HasSuffix(m.Reason, req.Reason)) // one that was silent before has the new reason
		}
		if m, err = obeyed(ctx, svc, m, done); err != nil {
			return err
		}
		if m.State != state {
			c.Say("asked; it is still %s", m.State)
		}
		return c.Print(m, func(p *out.Printer) out.Grid { return memberFields(p, m) })
	}))
	cmd.Flags().StringVar(&req.Reason, "reason", "", "why, for the log and for others who look")
	return cmd
}

const (
	obeysWithin = 5 * time.Second // a member is asked by way of the coordination store
	obeyedEvery = 100 * time.Millisecond
)

// obeyed waits for a member to have done what it was asked for, for obeysWithin at most, and
// gives it as it was seen last. Who does not answer meanwhile is asked again.
func obeyed(ctx context.Context, svc api.Service, m api.Member, done func(api.Member) bool) (api.Member, error) {
	limit := time.NewTimer(obeysWithin)
	defer limit.Stop()
	t := time.NewTicker(obeyedEvery)
	defer t.Stop()
	for !done(m) {
		select {
		case <-ctx.Done():
			return m, ctx.Err()
		case <-limit.C:
			return m, nil
		case <-t.C:
		}
		if is, err := svc.GetMember(ctx, m.ID); err == nil {
			m = is
		}
	}
	return m, nil
}
