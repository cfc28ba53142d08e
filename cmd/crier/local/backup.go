package local

import (
	"context"
	"io"
	"log/slog"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"crier/cmd/crier/cli"
	"crier/cmd/crier/out"
	"crier/internal/app/backup"
	"crier/internal/config"
)

// backupAbout stands in the help of backup.
const backupAbout = `.

The server goes on meanwhile. Everything that it acknowledged before the command began
is in the backup: the ledger, the controls of jobs, accounts, followers and lists, blobs,
and keys. Whoever has the backup can do what the admin key can. The directory must be
empty or not there; it is a backup once manifest.json is in it. The stream of events is
not copied, for the ledger knows better.

A server with others, or with NATS or a database elsewhere, is not copied like that.`

// taken is a backup that is done.
type taken struct {
	To    string    `json:"to"`
	Name  string    `json:"name"`  // of the process
	Taken time.Time `json:"taken"` // everything acknowledged before is in it
	Files int       `json:"files"`
	Bytes uint64    `json:"bytes"`
}

// Backup is the command that copies a server.
func Backup(c *cli.CLI) *cobra.Command {
	var to string
	cmd := c.Command("backup --to DIR", "Copy what a running server has into a directory", cobra.NoArgs, func(ctx context.Context, _ []string) error {
		if to == "" {
			return cli.Usage("--to is missing: the directory for the backup")
		}
		unix.Umask(0o077) // there are keys in it
		svc, err := c.Service()
		if err != nil {
			return err
		}
		r, w := io.Pipe()
		go func() { w.CloseWithError(svc.Backup(ctx, w)) }()
		m, err := backup.Receive(r, to)
		r.CloseWithError(err) // ends the other half if this one did not like it
		if err != nil {
			return err
		}
		done := taken{to, m.Name, m.Began, len(m.Files), m.Bytes()}
		return c.Print(done, func(p *out.Printer) out.Grid {
			return out.Grid{Rows: [][]string{{"backup", done.To}, {"of", done.Name}, {"taken", p.Ago(done.Taken)}, {"files", out.Count(uint64(done.Files))}, {"bytes", out.Bytes(done.Bytes)}}}
		})
	})
	cmd.Long = cmd.Short + backupAbout
	cmd.Flags().StringVar(&to, "to", "", "directory for the backup; empty, or not there")
	return cmd
}

// restoreAbout stands in the help of restore.
const restoreAbout = `.

The data directory, named by --data, must be empty or not there. A backup that was cut
short, that has changed, or is of another format is refused before anything is written.

What the server did after the backup is not in it: jobs, followers and lists are as they
were, and nobody knows who was sent something meanwhile. So each job that is not over is
paused: nothing of it is sent, also to those for whom it is parked, before "crier job
resume". Who was sent it meanwhile is sent it again then, and shown it again unless the
client still has it unsettled; "crier job cancel" sends it to nobody, and so loses who was
not sent it. With --resume nothing is paused: for a backup after which nothing was sent.

Never run the old server and the restored one at the same time.`

// Restore is the command that makes a data directory of a copy.
func Restore(c *cli.CLI) *cobra.Command {
	var r backup.Restoring
	cmd := c.Command("restore --from DIR --data NEWDIR [--resume]", "Make a data directory of a backup", cobra.NoArgs, func(ctx context.Context, _ []string) error {
		if r.From == "" {
			return cli.Usage("--from is missing: the directory of the backup")
		}
		unix.Umask(0o077)
		if r.Data = c.DataDir; r.Data == "" {
			r.Data = config.ClientData()
		}
		r.Logger = slog.New(slog.NewTextHandler(c.Err, &slog.HandlerOptions{Level: slog.LevelWarn}))
		done, err := backup.Restore(ctx, r)
		if err != nil {
			return err
		}
		if done.Paused && len(done.Open) > 0 {
			c.Say("Open jobs are paused. Start the server, then decide about each: crier job resume JOB, or crier job cancel JOB.")
		}
		return c.Print(done, func(p *out.Printer) out.Grid {
			rows := [][]string{{"data", done.Data}, {"of", done.Name}, {"taken", p.Ago(done.Taken)}, {"files", out.Count(uint64(done.Files))},
				{"bytes", out.Bytes(done.Bytes)}, {"jobs", out.Count(uint64(done.Jobs))}, {"open", out.Count(uint64(len(done.Open)))}}
			for _, id := range done.Open {
				what := "goes on"
				if done.Paused {
					what = "paused"
				}
				rows = append(rows, []string{what, id.String()})
			}
			return out.Grid{Rows: rows}
		})
	})
	cmd.Long = cmd.Short + restoreAbout
	f := cmd.Flags()
	f.StringVar(&r.From, "from", "", "directory of the backup")
	f.BoolVar(&r.Resume, "resume", false, "pause no job: nothing was sent after the backup")
	return cmd
}
