package local

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"crier/cmd/crier/cli"
	"crier/cmd/crier/out"
	"crier/internal/cluster"
)

const (
	// clusterVariable says where a cluster is; its file env sets it.
	clusterVariable = "CRIER_CLUSTER"
	// clusterDir is where one is if nobody says otherwise.
	clusterDir = ".cluster"
)

// Cluster is the group of commands about a cluster on this machine.
func Cluster(c *cli.CLI) *cobra.Command {
	var proxyDir string
	proxy := c.Command("proxy", "The proxy between the processes of a cluster; started by it", cobra.NoArgs, func(ctx context.Context, _ []string) error {
		return cluster.ServeProxy(ctx, proxyDir)
	})
	proxy.Hidden = true
	dirFlag(c, proxy, &proxyDir)
	return c.Group("cluster", "A whole cluster on this machine, for development and drills", clusterUp(c), clusterDown(c), clusterList(c), proxy,
		clusterAct(c, "kill", "Kill a process as a crash does", func(_ context.Context, p *cluster.Process) error { return kill(p) }),
		clusterAct(c, "pause", "Stop a process where it is", func(_ context.Context, p *cluster.Process) error { return pause(p) }),
		clusterAct(c, "continue", "Let a process that was paused go on", func(_ context.Context, p *cluster.Process) error { return goOn(p) }),
		clusterAct(c, "start", "Start a process again that is gone", func(ctx context.Context, p *cluster.Process) error {
			l := p.Life()
			if err := paused(l, p.Name); err != nil {
				return cli.Exiting(cli.ExitConflict, err)
			}
			if l != cluster.Gone {
				c.Say("%s is there already: it is %s", p.Name, l)
			}
			return p.Start(ctx)
		}))
}

func dirFlag(c *cli.CLI, cmd *cobra.Command, dir *string) {
	cmd.Flags().StringVar(dir, "dir", cmp.Or(c.Getenv(clusterVariable), clusterDir), "directory of the cluster (default: "+clusterVariable+", which DIR/env sets, else "+clusterDir+")")
	cmd.Flags().Lookup("dir").DefValue = "" // the help says it, and says the same everywhere
}

// noCluster gives the lack of a cluster its exit code.
func noCluster(err error) error {
	if errors.Is(err, cluster.ErrNone) {
		return cli.Exiting(cli.ExitNotFound, err)
	}
	return err
}

// idle says that a process is already, or is not at all, what a command would make of it.
func idle(p *cluster.Process, is string) error {
	return cli.Exiting(cli.ExitNothing, fmt.Errorf("%s %s", p.Name, is))
}

func kill(p *cluster.Process) error {
	if p.Life() == cluster.Gone {
		return idle(p, "is gone already")
	}
	return p.Kill()
}

func pause(p *cluster.Process) error {
	switch p.Life() {
	case cluster.Gone:
		return cli.Exiting(cli.ExitConflict, fmt.Errorf("%s is gone", p.Name))
	case cluster.Paused:
		return idle(p, "is paused already")
	}
	return p.Pause()
}

func goOn(p *cluster.Process) error {
	if l := p.Life(); l != cluster.Paused {
		return idle(p, "is not paused: it is "+string(l))
	}
	return p.Continue()
}

// clusterAct is a command that does something to one process.
func clusterAct(c *cli.CLI, verb, short string, do func(context.Context, *cluster.Process) error) *cobra.Command {
	var dir string
	cmd := c.Command(verb+" NAME [--dir DIR]", short, cobra.ExactArgs(1), func(ctx context.Context, args []string) error {
		k, err := cluster.Load(dir)
		if err != nil {
			return noCluster(err)
		}
		p, err := k.Process(args[0])
		if err != nil {
			return cli.Exiting(cli.ExitNotFound, err)
		}
		return do(ctx, p)
	})
	cmd.ValidArgsFunction = func(*cobra.Command, []string, string) (names []string, _ cobra.ShellCompDirective) {
		if k, err := cluster.Load(dir); err == nil {
			all, _ := k.Processes() // without them there is nothing to complete
			for _, p := range all {
				names = append(names, p.Name)
			}
		}
		return names, cobra.ShellCompDirectiveNoFileComp
	}
	dirFlag(c, cmd, &dir)
	return cmd
}

func clusterUp(c *cli.CLI) *cobra.Command {
	cfg := cluster.Config{}
	cmd := c.Command("up [--dir DIR]", "Start what is not there of a cluster: servers, and Crier processes of one role each", cobra.NoArgs,
		func(ctx context.Context, _ []string) (err error) {
			if p := cfg.Profile; p != "" && p != "standard" && p != "fast" {
				return cli.Usage("--profile %q: want standard or fast", p)
			}
			if cfg.Binary, err = os.Executable(); err != nil {
				return fmt.Errorf("finding this program: %w", err)
			}
			began := time.Now()
			k, started, err := cluster.Up(ctx, cfg)
			if ctx.Err() != nil {
				c.Say("%s", interrupted(cfg.Dir))
			}
			if err != nil {
				return err
			}
			if err := sayPaused(c, k); err != nil {
				return err
			}
			if len(started) == 0 {
				c.Say("the cluster in %s is up", k.Dir())
				return nil
			}
			c.Say("started %s in %.1f s: %s", processes(len(started)), time.Since(began).Seconds(), strings.Join(started, " "))
			c.Say("to use it: . %s/env", k.Dir())
			return nil
		})
	dirFlag(c, cmd, &cfg.Dir)
	cmd.Flags().StringVar(&cfg.Profile, "profile", "", "standard, or fast: half the time until a process that is gone is noticed (default: what it was made with; of a new cluster that of topology.yaml)")
	cmd.Flags().StringVar(&cfg.Deploy, "deploy", "", "directory with its configuration and topology.yaml (default: the one it had the last time; of a new cluster "+cluster.DefaultDeploy+")")
	return cmd
}

// paused tells how a process goes on that is paused; no other has an error.
func paused(l cluster.Life, name string) error {
	if l != cluster.Paused {
		return nil
	}
	return fmt.Errorf("%s is paused; to let it go on: crier cluster continue %s", name, name)
}

// sayPaused names what of a cluster is paused.
func sayPaused(c *cli.CLI, k *cluster.Cluster) error {
	all, err := k.Processes()
	for _, p := range all {
		if err := paused(p.Life(), p.Name); err != nil {
			c.Say("%s", err)
		}
	}
	return err
}

// interrupted says what an up that was stopped leaves.
func interrupted(dir string) string {
	k, err := cluster.Load(dir)
	if err != nil {
		return "interrupted: nothing runs" // it was not made, or not yet
	}
	all, err := k.Processes()
	if err != nil {
		return "interrupted: " + err.Error()
	}
	n := 0
	for _, p := range all {
		if p.Life() != cluster.Gone {
			n++
		}
	}
	verb := "run"
	if n == 1 {
		verb = "runs"
	}
	return fmt.Sprintf("interrupted: %s %s on; crier cluster up --dir %s goes on with what is missing, crier cluster down --dir %s ends them", processes(n), verb, dir, dir)
}

func clusterDown(c *cli.CLI) *cobra.Command {
	var dir string
	var remove bool
	cmd := c.Command("down [--dir DIR] [--remove]", "End the processes of a cluster", cobra.NoArgs, func(context.Context, []string) error {
		k, err := cluster.Load(dir)
		if errors.Is(err, cluster.ErrNone) {
			return cli.Exiting(cli.ExitNothing, err)
		}
		if err != nil {
			return err
		}
		stopped, err := k.Down()
		if err != nil {
			return err
		}
		c.Say("ended %s", processes(len(stopped)))
		if remove {
			return k.Remove()
		}
		return nil
	})
	dirFlag(c, cmd, &dir)
	cmd.Flags().BoolVar(&remove, "remove", false, "remove the directory, too")
	return cmd
}

// clusterRow is a process as ls shows it.
type clusterRow struct {
	Name      string            `json:"name"`
	Kind      cluster.Kind      `json:"kind"`
	Role      string            `json:"role,omitempty"`
	PID       int               `json:"pid"`
	State     cluster.Life      `json:"state"`
	StartedAt time.Time         `json:"started_at,omitzero"`
	Addresses map[string]string `json:"addresses"`
	Log       string            `json:"log"`
}

func clusterList(c *cli.CLI) *cobra.Command {
	var dir string
	cmd := c.Command("ls [--dir DIR]", "List the processes of a cluster", cobra.NoArgs, func(context.Context, []string) error {
		k, err := cluster.Load(dir)
		if err != nil {
			return noCluster(err)
		}
		all, err := k.Processes()
		if err != nil {
			return err
		}
		rows := make([]clusterRow, len(all))
		for i, p := range all {
			rows[i] = clusterRow{p.Name, p.Kind, p.Role, p.PID, p.Life(), p.StartedAt, p.Addresses, p.Log}
		}
		return c.Print(rows, func(p *out.Printer) out.Grid { return clusterGrid(p, rows) })
	})
	dirFlag(c, cmd, &dir)
	return cmd
}

func clusterGrid(p *out.Printer, rows []clusterRow) out.Grid {
	g := out.Grid{Of: "processes", Columns: []out.Column{{Name: "name"}, {Name: "role"}, {Name: "pid", Right: true}, {Name: "state", State: true}, {Name: "age", Right: true}, {Name: "addresses", Below: true}}}
	for _, r := range rows {
		role, pid, age := r.Role, "", ""
		if role == "" {
			role = "-"
		}
		if r.State != cluster.Gone {
			pid, age = strconv.Itoa(r.PID), out.Span(p.Now.Sub(r.StartedAt))
		}
		var where []string
		for _, what := range []string{cluster.AddrAPI, cluster.AddrMember, cluster.AddrClient, cluster.AddrProxy} {
			if a := strings.TrimPrefix(r.Addresses[what], "http://127.0.0.1"); a != "" {
				where = append(where, what+" "+strings.TrimPrefix(a, "127.0.0.1"))
			}
		}
		g.Rows = append(g.Rows, []string{r.Name, role, pid, string(r.State), age, strings.Join(where, ", ")})
	}
	return g
}

// processes words a count.
func processes(n int) string {
	if n == 1 {
		return "1 process"
	}
	return fmt.Sprintf("%d processes", n)
}
