// Package support is the command that packs what whoever helps with a server needs to see.
//
// It guarantees that a server which does not answer costs the parts that only it has, and
// that what is packed has no message, no recipient and no secret in it.
package support

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"crier/api/wire"
	"crier/cmd/crier/cli"
	"crier/cmd/crier/out"
	"crier/internal/bundle"
	"crier/job"
)

// about stands in the help of the command.
const about = `.

It has the version and the settings without their secrets; what the server says
of itself (status, check, members, rings, journals, lanes, late jobs, the last
jobs, metrics); what the data directory takes of its disk; the end of the
server's log, if that is a file. manifest.json tells of each part, and why one
is missing. What does not come within --within is left out, so that a server
that does not answer leaves what is on this machine. Of a cluster, make one on
each machine.

The settings are those that the server left in its data directory when it became
ready, and those that "crier serve" would have here and now.

No bundle has messages, packages, ids of recipients, keys, tokens or passwords.
A log may tell more than it should: look through it before you hand it on. The
rest is what the key may see, so use an admin key.`

// never is what no bundle has.
var never = []string{"messages", "recipient packages and ids of recipients", "idempotency and collapse keys, and where webhooks go", "keys, tokens, passwords and the values of variables"}

// options are what the command was told.
type options struct {
	out, config, log string
	jobs             int
	within           time.Duration
}

// mostJobs bounds how many jobs are told of.
const mostJobs = 5000

// Command is the group of commands for whoever is to be helped.
func Command(c *cli.CLI, version string) *cobra.Command {
	return c.Group("support", "What whoever helps with a server needs", bundleCommand(c, version))
}

func bundleCommand(c *cli.CLI, version string) *cobra.Command {
	var o options
	cmd := c.Command("bundle [--out FILE] [--log FILE] [--config FILE] [--jobs N]", "Pack what tells of a server's trouble into one file, without secrets", cobra.NoArgs, func(ctx context.Context, _ []string) error {
		if err := o.validate(); err != nil {
			return err
		}
		now := c.Now().UTC()
		dir := "crier-support-" + now.Format("20060102T150405Z")
		if o.out == "" {
			o.out = dir + ".tar.gz"
		}
		src := look(c, version, o)
		b, err := bundle.Collect(ctx, bundle.Config{Within: o.within, AtOnce: atOnce, Scrub: bundle.NewScrubber(src.secrets), Marshal: pretty},
			bundle.Manifest{Made: now, Version: version, Server: src.server, Data: src.data, Never: never}, src.parts())
		if err != nil {
			return err
		}
		m := made{Bundle: o.out, Manifest: b.Manifest}
		if m.Size, err = store(b, dir, o.out); err != nil {
			return err
		}
		return show(c, m)
	})
	cmd.Long = cmd.Short + about
	f := cmd.Flags()
	f.StringVar(&o.out, "out", "", "file to write (default: crier-support-TIME.tar.gz here); it must not be there")
	f.StringVar(&o.log, "log", "", "file with the server's log, of which the last 2,000 lines are taken (default: where its standard error went, if that is a file)")
	f.StringVar(&o.config, "config", "", "the server's configuration file (default: CRIER_CONFIG)")
	f.IntVar(&o.jobs, "jobs", 100, "how many of the last jobs are told of, 0 to 5000")
	f.DurationVar(&o.within, "within", 10*time.Second, "how long one part may take")
	return cmd
}

func (o options) validate() error {
	switch {
	case o.jobs < 0 || o.jobs > mostJobs:
		return cli.Usage("--jobs %d: want 0 to %d", o.jobs, mostJobs)
	case o.within <= 0:
		return cli.Usage("--within %s: want more than 0s", o.within)
	case o.out == "":
		return nil
	}
	if _, err := os.Lstat(o.out); err == nil {
		return there(o.out)
	}
	if st, err := os.Stat(filepath.Dir(o.out)); err != nil || !st.IsDir() {
		return cli.Usage("--out %s: there is no directory %s", o.out, filepath.Dir(o.out))
	}
	return nil
}

func there(name string) error {
	return job.Conflict(name + " is there already; remove it, or name another file with --out")
}

// atOnce is how many parts are got at a time: few, for the server may be in trouble.
const atOnce = 4

// store writes a bundle to a file, which appears whole or not at all, takes the place of
// no other, and is nobody else's. It gives its length.
func store(b *bundle.Bundle, dir, name string) (size int64, err error) {
	f, err := os.CreateTemp(filepath.Dir(name), ".crier-support-*.tmp") // 0600
	if err != nil {
		return 0, fmt.Errorf("writing %s: %w; name another file with --out", name, err)
	}
	defer func() { err = errors.Join(err, os.Remove(f.Name())) }()
	if err := errors.Join(b.Write(f, dir), f.Sync()); err != nil {
		return 0, fmt.Errorf("writing %s: %w", name, errors.Join(err, f.Close()))
	}
	st, err := f.Stat()
	if err := errors.Join(err, f.Close()); err != nil {
		return 0, fmt.Errorf("writing %s: %w", name, err)
	}
	switch err := os.Link(f.Name(), name); {
	case errors.Is(err, fs.ErrExist):
		return 0, there(name)
	case err != nil:
		return 0, fmt.Errorf("writing %s: %w", name, err)
	}
	return st.Size(), nil
}

// made is a bundle that is written.
type made struct {
	Bundle string `json:"bundle"`
	Size   int64  `json:"size"`
	bundle.Manifest
}

func show(c *cli.CLI, m made) error {
	missing := 0
	for _, p := range m.Parts {
		if p.State == bundle.Failed || p.State == bundle.Partial {
			missing++
		}
	}
	if missing > 0 {
		defer c.Say("%s could not be got wholly; the manifest says why", out.Many(uint64(missing), "part"))
	}
	if c.Output != string(out.Table) {
		return c.Print(m, nil)
	}
	if err := c.Print(m, func(*out.Printer) out.Grid {
		return out.Grid{Rows: [][]string{{"bundle", m.Bundle}, {"size", out.Bytes(uint64(m.Size))}, {"server", m.Server}, {"data", m.Data}}}
	}); err != nil {
		return err
	}
	return c.Section(func(*out.Printer) out.Grid { return grid(m.Manifest) })
}

func grid(m bundle.Manifest) out.Grid {
	g := out.Grid{Columns: []out.Column{{Name: "part"}, {Name: "state", State: true}, {Name: "size", Right: true}, {Name: "what", Flex: 1, Wide: true}, {Name: "why", Flex: 1, Wrap: true}}}
	for _, p := range m.Parts {
		size := "-"
		if p.State == bundle.Whole || p.State == bundle.Partial {
			size = out.Bytes(uint64(p.Bytes))
		}
		g.Rows = append(g.Rows, []string{p.File, string(p.State), size, p.About, p.Why})
	}
	return g
}

// pretty writes a value as the API does, for people to read.
func pretty(v any) ([]byte, error) {
	data, err := wire.Marshal(v)
	if err != nil {
		return nil, err
	}
	return indented(data)
}
