package main

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"strconv"

	"github.com/spf13/cobra"

	"crier/api"
	"crier/audience/source"
	"crier/cmd/crier/cli"
	"crier/cmd/crier/out"
	"crier/job"
)

func (c *commands) segmentCommand() *cobra.Command {
	return c.Group("segment", "Segments: named sets of recipients that jobs aim at or leave out",
		c.segmentCreate(), c.segmentImport(),
		c.segmentChange("add", "Add recipients to a segment", api.Service.AddToSegment),
		c.segmentChange("rm", "Remove recipients from a segment", api.Service.RemoveFromSegment),
		c.segmentList(), c.segmentOne("info", "Show a segment", api.Service.GetSegment),
		c.segmentOne("archive", "Take a segment out of use: it can be neither changed nor named by a new job; jobs that name it go on", api.Service.ArchiveSegment),
		c.segmentOne("restore", "Take an archived segment into use again", api.Service.RestoreSegment),
		c.segmentExport())
}

func (c *commands) segmentCreate() *cobra.Command {
	return c.Command("create NAME", "Create a segment", cobra.ExactArgs(1), func(ctx context.Context, args []string) error {
		req := api.CreateSegment{Name: args[0]}
		if err := req.Validate(); err != nil {
			return err
		}
		svc, err := c.Service()
		if err != nil {
			return err
		}
		s, err := svc.CreateSegment(ctx, req)
		if err != nil {
			return err
		}
		return c.Print(s, segmentFields(s))
	})
}

// segmentOne makes a command about one segment.
func (c *commands) segmentOne(verb, short string, do func(api.Service, context.Context, string) (api.Segment, error)) *cobra.Command {
	cmd := c.Command(verb+" SEGMENT", short, cobra.ExactArgs(1), func(ctx context.Context, args []string) error {
		svc, err := c.Service()
		if err != nil {
			return err
		}
		s, err := do(svc, ctx, args[0])
		if err != nil {
			return err
		}
		return c.Print(s, segmentFields(s))
	})
	cmd.ValidArgsFunction = c.CompleteSegments
	return cmd
}

func segmentFields(s api.Segment) func(*out.Printer) out.Grid {
	return func(p *out.Printer) out.Grid {
		rows := [][]string{{"segment", s.Name}, {"recipients", out.Exact(s.Recipients)}, {"revision", fmt.Sprint(s.Revision)}, {"created", p.Ago(s.CreatedAt)}}
		if !s.ArchivedAt.IsZero() {
			rows = append(rows, []string{"archived", p.Ago(s.ArchivedAt)})
		}
		return out.Grid{Rows: rows}
	}
}

func (c *commands) segmentImport() *cobra.Command {
	var req api.ImportIDs
	cmd := c.Command("import SEGMENT [--skip N] FILE", "Import a file of ids, one a line or separated by commas, gzipped or not; - is standard input", cobra.ExactArgs(2),
		func(ctx context.Context, args []string) error {
			return c.importIDs(args[1], req, func(svc api.Service, in io.Reader) (api.IDsImport, error) {
				res, err := svc.ImportSegment(ctx, args[0], req, in)
				if job.CodeOf(err) == job.CodeNotFound {
					err = job.NotFound(fmt.Sprintf("there is no segment %q; to make it: crier segment create %s", args[0], shellQuote(args[0])))
				}
				return res, err
			})
		})
	cmd.Flags().IntVar(&req.Skip, "skip", 0, "lines to leave out at the start")
	cmd.ValidArgsFunction = c.CompleteSegments
	return cmd
}

// importIDs hands a file of ids to do and prints what became of it.
func (c *commands) importIDs(name string, req api.ImportIDs, do func(api.Service, io.Reader) (api.IDsImport, error)) error {
	if err := req.Validate(); err != nil {
		return err
	}
	svc, err := c.Service()
	if err != nil {
		return err
	}
	in, err := c.open(name)
	if err != nil {
		return err
	}
	defer in.Close() // only read
	res, err := do(svc, in)
	if err != nil {
		return refused(name, err)
	}
	return c.Print(res, func(*out.Printer) out.Grid {
		return out.Grid{Rows: [][]string{{"read", out.Exact(res.Read)}, {"repeated", out.Exact(res.Repeated)}, {"already", out.Exact(res.Already)},
			{"added", out.Exact(res.Added)}, {"recipients", out.Exact(res.Recipients)}, {"revision", fmt.Sprint(res.Revision)}}}
	})
}

func (c *commands) segmentChange(verb, short string, do func(api.Service, context.Context, string, []job.Recipient) (api.SegmentChange, error)) *cobra.Command {
	cmd := c.Command(verb+" SEGMENT ID...", short+"; - reads ids from standard input", cobra.MinimumNArgs(2),
		func(ctx context.Context, args []string) error {
			svc, err := c.Service()
			if err != nil {
				return err
			}
			var total api.SegmentChange
			err = c.eachIDs(args[1:], func(ids []job.Recipient) error {
				one, err := do(svc, ctx, args[0], ids)
				one.Changed += total.Changed
				one.Unchanged += total.Unchanged
				total = one
				return err
			})
			if err != nil {
				return err
			}
			return c.Print(total, func(*out.Printer) out.Grid {
				return out.Grid{Rows: [][]string{{"segment", total.Segment}, {"changed", out.Exact(total.Changed)}, {"unchanged", out.Exact(total.Unchanged)},
					{"recipients", out.Exact(total.Recipients)}, {"revision", fmt.Sprint(total.Revision)}}}
			})
		})
	cmd.ValidArgsFunction = c.CompleteSegments
	return cmd
}

func (c *commands) segmentList() *cobra.Command {
	var archived bool
	var limit int
	cmd := c.Command("ls [--archived] [--limit N]", "List segments", cobra.NoArgs, func(ctx context.Context, _ []string) error {
		svc, err := c.Service()
		if err != nil {
			return err
		}
		all, err := cli.Listed(c.CLI, limit, func(page api.Page) ([]api.Segment, string, error) {
			list, err := svc.ListSegments(ctx, api.ListSegments{Page: page, Archived: archived})
			return list.Segments, list.Next, err
		})
		if err != nil {
			return err
		}
		return c.Print(all, func(p *out.Printer) out.Grid {
			g := out.Grid{Of: "segments", Columns: []out.Column{{Name: "segment", Flex: 1}, {Name: "recipients", Right: true}, {Name: "revision", Right: true}, {Name: "created"}}}
			if archived {
				g.Columns = append(g.Columns, out.Column{Name: "archived"})
			}
			for _, s := range all {
				row := []string{s.Name, out.Count(s.Recipients), fmt.Sprint(s.Revision), p.Ago(s.CreatedAt)}
				if archived {
					row = append(row, p.Ago(s.ArchivedAt))
				}
				g.Rows = append(g.Rows, row)
			}
			return g
		})
	})
	cmd.Flags().BoolVar(&archived, "archived", false, "those that are archived, instead of the others")
	cli.LimitFlag(cmd, &limit)
	return cmd
}

func (c *commands) segmentExport() *cobra.Command {
	cmd := c.Command("export SEGMENT", "Write the ids of a segment, one a line; for a package: crier package build --from segment", cobra.ExactArgs(1),
		func(ctx context.Context, args []string) error { return c.export(ctx, source.FormatSegment, args[0]) })
	cmd.ValidArgsFunction = c.CompleteSegments
	return cmd
}

// fetch gets what a server keeps.
func (c *commands) fetch(ctx context.Context, from source.Format, of string, w io.Writer) error {
	svc, err := c.Service()
	if err != nil {
		return err
	}
	return svc.ExportSet(ctx, api.ExportSet{Kind: string(from), Of: of}, w)
}

// export writes the ids of a set that a server keeps, once all of it is there.
func (c *commands) export(ctx context.Context, from source.Format, of string) error {
	list, err := source.Open(ctx, source.Config{From: from, Files: []string{of}, Fetch: c.fetch, Name: "export"})
	if err != nil {
		return err
	}
	defer list.Close() // only read
	w := bufio.NewWriter(c.Out)
	ids := make([]uint32, 4096)
	var line []byte
	for {
		n, err := list.Sources[0].NextBatch(ctx, ids)
		if err == io.EOF {
			return w.Flush()
		}
		if job.CodeOf(err) == job.CodeInvalid {
			err = cli.Exiting(cli.ExitError, err) // what came is no matter of usage
		}
		if err != nil {
			return err
		}
		for _, id := range ids[:n] {
			line = append(strconv.AppendUint(line[:0], uint64(id), 10), '\n')
			if _, err := w.Write(line); err != nil {
				return fmt.Errorf("writing the ids: %w", err)
			}
		}
	}
}
