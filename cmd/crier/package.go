package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"crier/api"
	"crier/audience"
	"crier/audience/source"
	"crier/cmd/crier/cli"
	"crier/cmd/crier/out"
	"crier/job"
)

func (c *commands) packageCommand() *cobra.Command {
	return c.Group("package", "Recipient packages", c.packageBuild(), c.packageInfo(), c.packageDiff(), c.packageImport(), c.packageList())
}

func (c *commands) packageBuild() *cobra.Command {
	var cfg source.Config
	var from, dir string
	cmd := c.Command("build --from FORMAT [--name N] [--column C] [--dsn DSN] [--and FILE] [--minus FILE] [--force] FILE|URL|QUERY|KEY|SEGMENT|ACCOUNT... --out DIR",
		"Build a package of each file, zip member or Redis set, of a SQL query, or of each segment or account's followers, which alone need a server; - is standard input", cobra.MinimumNArgs(1),
		func(ctx context.Context, args []string) error {
			cfg.From, cfg.Files, cfg.Stdin, cfg.Fetch = source.Format(from), args, c.In, c.fetch
			if cfg.DSN == "" && (cfg.From == source.FormatSQL || cfg.From == source.FormatRedis) {
				cfg.DSN = os.Getenv("CRIER_DSN")
			}
			if err := cfg.Validate(); err != nil {
				return err
			}
			cfg.Unchanged = func(path string) { c.Say("%s is unchanged", path) }
			infos, err := source.Build(ctx, cfg, dir)
			if job.CodeOf(err) == job.CodeInvalid || job.CodeOf(err) == job.CodeTooLarge {
				err = cli.Exiting(cli.ExitError, err) // what is in a file is no matter of usage
			}
			if err != nil {
				return err
			}
			return c.Print(infos, func(*out.Printer) out.Grid { return packageGrid(infos) })
		})
	f := cmd.Flags()
	f.StringVar(&from, "from", "", "format of the files, or where the ids are: "+source.FormatNames())
	f.StringVar(&cfg.DSN, "dsn", "", "database: sqlite:PATH, mysql:user:password@tcp(host:3306)/database, redis://user:password@host:6379/0 (default: CRIER_DSN, which no list of processes shows)")
	f.StringVar(&cfg.Name, "name", "", "name of the package, if there is one only (default: the file's, without its last extension)")
	f.StringVar(&cfg.Column, "column", "", "column of a CSV file or of a query: its name, or its number from 1")
	f.Var(step{&cfg.Steps, false}, "and", "package file; recipients who are not in it are left out; --and and --minus may be repeated and are applied in order")
	f.Var(step{&cfg.Steps, true}, "minus", "package file; recipients who are in it are left out")
	f.StringVar(&dir, "out", "", "directory for NAME.crpk")
	f.BoolVar(&cfg.Force, "force", false, "replace other packages of the same names")
	_ = cmd.RegisterFlagCompletionFunc("from", cobra.FixedCompletions(strings.Split(source.FormatNames(), ", "), cobra.ShellCompDirectiveNoFileComp)) // the flag is there
	_ = cmd.MarkFlagRequired("from")
	_ = cmd.MarkFlagRequired("out")
	return cmd
}

// step is a flag that adds a step of set algebra; two flags share one list.
type step struct {
	list  *[]audience.Operand
	minus bool
}

// Set implements pflag.Value.
func (s step) Set(path string) error {
	*s.list = append(*s.list, audience.Operand{Minus: s.minus, Path: path})
	return nil
}

// String implements pflag.Value.
func (s step) String() string { return "" }

// Type implements pflag.Value.
func (s step) Type() string { return "file" }

func packageGrid(infos []audience.Info) out.Grid {
	g := out.Grid{Of: "packages", Columns: []out.Column{{Name: "name", Flex: 1}, {Name: "ids", Right: true}, {Name: "min", Right: true, Wide: true},
		{Name: "max", Right: true, Wide: true}, {Name: "repeated", Right: true}, {Name: "size", Right: true}, {Name: "sha256", Below: true}}}
	for _, i := range infos {
		g.Rows = append(g.Rows, []string{i.Name, out.Count(i.Cardinality), out.Some(i.Cardinality, i.Min), out.Some(i.Cardinality, i.Max),
			out.Count(i.Repeated), out.Bytes(i.Bytes), i.SHA256.String()})
	}
	return g
}

func (c *commands) packageInfo() *cobra.Command {
	return c.Command("info FILE|ID", "Show a package: a file, checked whole, or one that was handed in", cobra.ExactArgs(1),
		func(ctx context.Context, args []string) error {
			if id, err := job.ParseDigest(args[0]); err == nil {
				svc, err := c.Service()
				if err != nil {
					return err
				}
				p, err := svc.GetPackage(ctx, id)
				if err != nil {
					return err
				}
				return c.Print(p, packageFields(p))
			}
			info, err := audience.Inspect(ctx, args[0])
			if errors.Is(err, fs.ErrNotExist) || job.CodeOf(err) == job.CodeNotFound {
				return job.NotFound(fmt.Sprintf("there is no file %s, and it is no id of a package either, which has 64 hexadecimal characters", args[0]))
			}
			if err != nil {
				return badPackage(args[0], err)
			}
			return c.Print(info, func(*out.Printer) out.Grid { return infoFields(info) })
		})
}

// badPackage words what is wrong with the file of a package.
func badPackage(name string, err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return job.NotFound("there is no file " + name)
	}
	return refused(name, err)
}

func infoFields(i audience.Info) out.Grid {
	return out.Grid{Rows: [][]string{{"name", i.Name}, {"ids", out.Exact(i.Cardinality)}, {"min", out.Some(i.Cardinality, i.Min)}, {"max", out.Some(i.Cardinality, i.Max)},
		{"repeated", out.Exact(i.Repeated)}, {"size", out.Bytes(i.Bytes)}, {"sha256", i.SHA256.String()}}}
}

func packageFields(x api.Package) func(*out.Printer) out.Grid {
	return func(p *out.Printer) out.Grid {
		g := infoFields(audience.Info{Name: x.Name, Cardinality: x.Cardinality, Min: x.Min, Max: x.Max, Repeated: x.Repeated, Bytes: x.Bytes, SHA256: x.SHA256})
		g.Rows[len(g.Rows)-1] = []string{"id", x.ID.String()} // which is its SHA-256
		g.Rows = append(g.Rows, []string{"account", x.Account}, []string{"created", p.Ago(x.CreatedAt)})
		return g
	}
}

func (c *commands) packageDiff() *cobra.Command {
	return c.Command("diff FILE FILE", "Count the ids that two packages share and do not share", cobra.ExactArgs(2),
		func(ctx context.Context, args []string) error {
			for _, name := range args {
				if _, err := os.Stat(name); err != nil {
					return badPackage(name, err)
				}
			}
			d, err := audience.DiffFiles(ctx, args[0], args[1], nil)
			if err != nil {
				return cli.Exiting(cli.ExitError, err)
			}
			return c.Print(d, func(*out.Printer) out.Grid {
				return out.Grid{Rows: [][]string{{"only in " + args[0], out.Exact(d.OnlyA)}, {"only in " + args[1], out.Exact(d.OnlyB)}, {"in both", out.Exact(d.Both)}}}
			})
		})
}

func (c *commands) packageImport() *cobra.Command {
	var req api.ImportPackage
	cmd := c.Command("import FILE --account A [--name N]", "Hand a package in for an account", cobra.ExactArgs(1),
		func(ctx context.Context, args []string) error {
			if err := req.Validate(); err != nil {
				return err
			}
			svc, err := c.Service()
			if err != nil {
				return err
			}
			p, err := c.upload(ctx, svc, req, args[0])
			if err != nil {
				return err
			}
			return c.Print(p, packageFields(p))
		})
	c.AccountFlag(cmd, &req.Account, "name or id of the account that will send to it")
	cmd.Flags().StringVar(&req.Name, "name", "", "name of the package (default: the one in the file)")
	_ = cmd.MarkFlagRequired("account") // the flag is there
	return cmd
}

// upload hands in the package in a file.
func (c *commands) upload(ctx context.Context, svc api.Service, req api.ImportPackage, name string) (api.Package, error) {
	in, err := c.open(name)
	if err != nil {
		return api.Package{}, err
	}
	defer in.Close() // only read
	p, err := svc.ImportPackage(ctx, req, in)
	if err != nil {
		return p, refused(name, err)
	}
	return p, nil
}

func (c *commands) packageList() *cobra.Command {
	var account string
	var limit int
	cmd := c.Command("ls [--account A] [--limit N]", "List the packages that were handed in, the newest first", cobra.NoArgs,
		func(ctx context.Context, _ []string) error {
			svc, err := c.Service()
			if err != nil {
				return err
			}
			all, err := cli.Listed(c.CLI, limit, func(page api.Page) ([]api.Package, string, error) {
				list, err := svc.ListPackages(ctx, account, page)
				return list.Packages, list.Next, err
			})
			if err != nil {
				return err
			}
			return c.Print(all, func(p *out.Printer) out.Grid {
				g := out.Grid{Of: "packages", Columns: []out.Column{{Name: "id", Below: true}, {Name: "name", Flex: 1}, {Name: "account", Flex: 1},
					{Name: "ids", Right: true}, {Name: "size", Right: true}, {Name: "created"}}}
				for _, x := range all {
					g.Rows = append(g.Rows, []string{x.ID.String(), x.Name, x.Account, out.Count(x.Cardinality), out.Bytes(x.Bytes), p.Ago(x.CreatedAt)})
				}
				return g
			})
		})
	c.AccountFlag(cmd, &account, "name or id of the account; without it, all")
	cli.LimitFlag(cmd, &limit)
	return cmd
}
