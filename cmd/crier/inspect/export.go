package inspect

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"crier/api"
	"crier/audience"
	"crier/cmd/crier/cli"
	"crier/cmd/crier/out"
	"crier/job"
)

// exportAbout stands in the help of job export.
const exportAbout = `.

Outcomes are delivered, parked, handed_off, in_doubt, pending, expired, recalled,
cancelled, dropped and failed; several with commas between them. dropped and failed may
have a reason behind a colon: --dropped relation is --outcome dropped:relation. It is what
the ledger shows at one moment, also of a job that is long over.

To send again to those who were missed:

  crier job export JOB --outcome failed,expired --format package --out missed.crpk
  crier package import missed.crpk --account news
  crier job submit --account news --package ID --body 'Hear ye!'`

// exported is an export in a file.
type exported struct {
	Job        job.ID `json:"job"`
	Outcome    string `json:"outcome"`
	File       string `json:"file"`
	Recipients uint64 `json:"recipients,omitzero"` // of a package
	Bytes      uint64 `json:"bytes"`
}

// JobExport is the command that writes who of a job stands where.
func JobExport(c *cli.CLI) *cobra.Command {
	var outcome, dropped, format, file string
	cmd := c.Command("export JOB (--outcome O,... | --dropped REASON,...) [--format ids|package] [--out FILE]", "Write the recipients of a job who stand at an outcome, as ids or as a package", cobra.ExactArgs(1),
		func(ctx context.Context, args []string) error {
			id, err := api.ParseJobID(args[0])
			if err != nil {
				return err
			}
			req := api.ExportJob{Format: format}
			if req.Standings, err = standingsOf(outcome, dropped); err != nil {
				return err
			}
			if err := req.Validate(); err != nil {
				return err
			}
			if _, terminal := cli.TerminalWidth(c.Out); terminal && file == "" && format == api.FormatPackage {
				return cli.Usage("a package is no text for a terminal; name a file with --out")
			}
			svc, err := c.Service()
			if err != nil {
				return err
			}
			if file == "" {
				return exportTo(ctx, svc, id, req, c.Out)
			}
			done, err := exportInto(ctx, svc, id, req, file)
			if err != nil {
				return err
			}
			return c.Print(done, func(*out.Printer) out.Grid {
				g := out.Grid{Rows: [][]string{{"job", done.Job.String()}, {"outcome", done.Outcome}, {"file", done.File}, {"bytes", out.Bytes(done.Bytes)}}}
				if format == api.FormatPackage {
					g.Rows = append(g.Rows, []string{"recipients", out.Exact(done.Recipients)})
				}
				return g
			})
		})
	cmd.Long = cmd.Short + exportAbout
	cmd.ValidArgsFunction = c.CompleteJobs
	f := cmd.Flags()
	f.StringVar(&outcome, "outcome", "", "outcomes, such as failed,expired")
	f.StringVar(&dropped, "dropped", "", "reasons, such as relation: who was dropped for one of them")
	f.StringVar(&format, "format", api.FormatIDs, "ids (one a line) or package (for crier package import)")
	f.StringVar(&file, "out", "", "file to write, which must not be there yet (default: standard output)")
	_ = cmd.RegisterFlagCompletionFunc("format", cobra.FixedCompletions([]string{api.FormatIDs, api.FormatPackage}, cobra.ShellCompDirectiveNoFileComp)) // the flag is there
	return cmd
}

// standingsOf joins the two flags. An error names the one that it is about.
func standingsOf(outcome, dropped string) ([]job.Standing, error) {
	all, err := api.ParseStandings(outcome)
	if err != nil || dropped == "" {
		return all, err
	}
	reasons, err := api.ParseStandings("dropped:" + strings.ReplaceAll(dropped, ",", ",dropped:"))
	if err != nil {
		return nil, job.Invalid("dropped", "dropped: "+err.Error(), nil)
	}
	return append(all, reasons...), nil
}

// exportTo writes an export once all of it is there.
func exportTo(ctx context.Context, svc api.Service, id job.ID, req api.ExportJob, w io.Writer) error {
	f, err := os.CreateTemp("", "crier-export-*.tmp")
	if err != nil {
		return fmt.Errorf("keeping the export: %w", err)
	}
	defer f.Close() // gone with it
	if err := os.Remove(f.Name()); err != nil {
		return fmt.Errorf("keeping the export: %w", err)
	}
	if err := svc.ExportJob(ctx, id, req, f); err != nil {
		return err
	}
	if _, err := f.Seek(0, io.SeekStart); err != nil {
		return fmt.Errorf("reading the export: %w", err)
	}
	if _, err := io.Copy(w, f); err != nil {
		return fmt.Errorf("writing the export: %w", err)
	}
	return nil
}

// exportInto writes an export to a file, which appears whole or not at all and takes the
// place of no other.
func exportInto(ctx context.Context, svc api.Service, id job.ID, req api.ExportJob, name string) (done exported, err error) {
	done = exported{Job: id, Outcome: req.StandingText(), File: name}
	if _, err := os.Lstat(name); err == nil {
		return done, there(name)
	}
	f, err := os.CreateTemp(filepath.Dir(name), ".crier-export-*.tmp")
	if err != nil {
		return done, fmt.Errorf("writing %s: %w", name, err)
	}
	defer func() { err = errors.Join(err, os.Remove(f.Name())) }()
	if err := errors.Join(svc.ExportJob(ctx, id, req, f), f.Sync(), f.Close()); err != nil {
		return done, err
	}
	if req.Format == api.FormatPackage {
		info, err := audience.Inspect(ctx, f.Name())
		if err != nil {
			return done, fmt.Errorf("what came is no whole package: %w", err)
		}
		done.Recipients = info.Cardinality
	}
	st, err := os.Stat(f.Name())
	if err != nil {
		return done, fmt.Errorf("writing %s: %w", name, err)
	}
	done.Bytes = uint64(st.Size())
	switch err := os.Link(f.Name(), name); {
	case errors.Is(err, fs.ErrExist):
		return done, there(name)
	case err != nil:
		return done, fmt.Errorf("writing %s: %w", name, err)
	}
	return done, nil
}

func there(name string) error {
	return job.Conflict(name + " is there already; remove it, or name another file with --out")
}
