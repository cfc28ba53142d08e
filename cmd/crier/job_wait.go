package main

import (
	"context"
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"crier/api"
	"crier/cmd/crier/cli"
	"crier/cmd/crier/out"
	"crier/job"
)

func (c *commands) jobWait() *cobra.Command {
	var until string
	cmd := c.onJob("wait JOB [--for sent|completed]", "Wait until a job is sent or completed, or over", cobra.ExactArgs(1),
		func(ctx context.Context, svc api.Service, id job.ID, _ []string) error {
			target, err := waitTarget("--for", until)
			if err != nil {
				return err
			}
			return c.waitAndPrint(ctx, svc, id, target)
		})
	cmd.Flags().StringVar(&until, "for", "sent", "sent: all who are online handled, the rest parked; completed: nobody left")
	_ = cmd.RegisterFlagCompletionFunc("for", cobra.FixedCompletions([]string{"sent", "completed"}, cobra.ShellCompDirectiveNoFileComp)) // the flag is there
	return cmd
}

func waitTarget(flag, word string) (job.State, error) {
	switch word {
	case "sent":
		return job.Sent, nil
	case "completed":
		return job.Completed, nil
	}
	return 0, cli.Usage("%s %q: want sent or completed", flag, word)
}

func (c *commands) jobWatch() *cobra.Command {
	return c.onJob("watch JOB", "Show a job's progress until it is over", cobra.ExactArgs(1),
		func(ctx context.Context, svc api.Service, id job.ID, _ []string) error {
			var last api.Job
			lines := c.Output == string(out.Lines)
			err := c.watch(ctx, svc, id, func(j api.Job) error {
				last = j
				if lines {
					return c.Print(j, jobFields(j))
				}
				return nil
			})
			if err != nil {
				return err
			}
			if !lines {
				if err := c.Print(last, jobFields(last)); err != nil {
					return err
				}
			}
			return ended(last, job.Completed)
		})
}

// waitAndPrint waits for a job, with progress on a terminal, and shows it.
func (c *commands) waitAndPrint(ctx context.Context, svc api.Service, id job.ID, target job.State) error {
	var last api.Job
	var err error
	if _, terminal := cli.TerminalWidth(c.Err); terminal {
		reached := errors.New("reached")
		err = c.watch(ctx, svc, id, func(j api.Job) error {
			if last = j; j.State.Reached(target) {
				return reached
			}
			return nil
		})
		if errors.Is(err, reached) {
			err = nil
		}
	} else {
		last, err = svc.WaitJob(ctx, id, api.WaitJob{For: target})
	}
	if err != nil {
		if ctx.Err() != nil {
			c.Say("the job goes on; see it with: crier job watch %s", id)
		}
		return err
	}
	if err := c.Print(last, jobFields(last)); err != nil {
		return err
	}
	return ended(last, target)
}

// watch follows a job and draws its progress on standard error: a line that is
// written over on a terminal, a line for each state elsewhere.
func (c *commands) watch(ctx context.Context, svc api.Service, id job.ID, fn func(api.Job) error) error {
	width, terminal := cli.TerminalWidth(c.Err)
	progress := out.NewProgress(c.Err, width)
	var seen *job.State
	err := svc.WatchJob(ctx, id, func(j api.Job) error {
		switch {
		case terminal:
			if err := progress.Update(c.Now(), j.State.String(), j.Done(), j.Recipients); err != nil {
				return err
			}
		case seen == nil || *seen != j.State:
			c.Say("%s  %s/%s", j.State, out.Exact(j.Done()), out.Exact(j.Recipients))
		}
		seen = &j.State
		return fn(j)
	})
	return errors.Join(err, progress.Done())
}

// ended tells a job that is over without having got where it was waited for.
func ended(j api.Job, target job.State) error {
	if j.State == target || !j.State.Terminal() || j.State == job.Completed || target == job.Sent && j.State == job.JobExpired {
		return nil
	}
	why := ""
	if j.Reason != "" {
		why = ": " + j.Reason
	}
	return cli.Exiting(cli.ExitJob, fmt.Errorf("%s is %s%s", j.Job, j.State, why))
}
