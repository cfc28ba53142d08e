package cli

import (
	"context"
	"errors"
	"fmt"

	"crier/api"
	"crier/job"
)

// The exit codes.
const (
	ExitOK        = 0
	ExitError     = 1
	ExitUsage     = 2
	ExitNotFound  = 3
	ExitAuth      = 4
	ExitConflict  = 5
	ExitRetry     = 6 // the same command may succeed later
	ExitJob       = 7 // the job failed or was cancelled
	ExitThreshold = 8 // a measurement missed what was asked of it
	ExitNothing   = 9 // there was nothing to do
	ExitInterrupt = 130
)

// Exit says what an exit code means.
type Exit struct {
	Exit  int    `json:"exit"`
	Means string `json:"means"`
	Do    string `json:"do"`
}

// Exits are all exit codes of the command line, but for "crier check", which has those of
// Nagios.
func Exits() []Exit {
	return []Exit{
		{ExitOK, "done", "Nothing."},
		{ExitError, "error", "Read what stands on standard error; of an internal error of the server, its log has the request id."},
		{ExitUsage, "wrong use", "Mend the command line, or the field that the error names: --help has the form."},
		{ExitNotFound, "not found", "See with the ls command of the group what there is."},
		{ExitAuth, "denied", "Set CRIER_TOKEN to a key that may do it."},
		{ExitConflict, "conflict", "Look at the object first: it exists already, or its state forbids this."},
		{ExitRetry, "may succeed later", "Try the same command again; crier status shows what does not answer or is full."},
		{ExitJob, "the job failed, was cancelled or recalled", "crier job info JOB has the reason, crier job export JOB who missed it."},
		{ExitThreshold, "a measurement missed its goal", "The output has what was measured."},
		{ExitNothing, "nothing to do", "Nothing: it is so already."},
		{ExitInterrupt, "interrupted", "Run it again; what it had begun on the server goes on there."},
	}
}

// ExitOf is the exit code of a command that ended with an error of a code.
func ExitOf(code job.Code) int {
	if exit, ok := codes[code]; ok {
		return exit
	}
	return ExitError
}

// exitErr is an error with an exit code of its own.
type exitErr struct {
	code int
	err  error
}

func (e *exitErr) Error() string { return e.err.Error() }
func (e *exitErr) Unwrap() error { return e.err }

// Exiting gives an error an exit code.
func Exiting(code int, err error) error {
	if err == nil {
		return nil
	}
	return &exitErr{code, err}
}

// Ending ends a command with an exit code after it has said all.
func Ending(code int) error {
	if code == ExitOK {
		return nil
	}
	return &exitErr{code, errors.New("")}
}

// hasCode reports whether an error has an exit code of its own.
func hasCode(err error) bool {
	var e *exitErr
	return errors.As(err, &e)
}

// Usage is an error about how the command was called.
func Usage(format string, args ...any) error {
	return Exiting(ExitUsage, fmt.Errorf(format, args...))
}

// Each connects to the server and does something with each argument, also behind one that
// fails. Of several, each error names its argument, and the exit code is the highest.
func (c *CLI) Each(ctx context.Context, args []string, do func(svc api.Service, arg string) error) error {
	svc, err := c.Service()
	if err != nil {
		return err
	}
	if len(args) == 1 {
		return do(svc, args[0])
	}
	var errs []error
	exit := ExitOK
	for _, arg := range args {
		if err := do(svc, arg); err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", arg, err))
			exit = max(exit, exitCode(ctx, err))
		}
	}
	return Exiting(exit, errors.Join(errs...))
}

// codes is the table from error codes to exit codes.
var codes = map[job.Code]int{
	job.CodeInvalid: ExitUsage, job.CodeTooLarge: ExitUsage, job.CodeNotFound: ExitNotFound, job.CodeDenied: ExitAuth,
	job.CodeConflict: ExitConflict, job.CodeUnavailable: ExitRetry, job.CodeFull: ExitRetry, job.CodeLimited: ExitRetry,
}

// exitCode is the exit code of a command that ended with err.
func exitCode(ctx context.Context, err error) int {
	if err == nil {
		return ExitOK
	}
	if ctx.Err() != nil && errors.Is(err, ctx.Err()) {
		return ExitInterrupt
	}
	var e *exitErr
	if errors.As(err, &e) {
		return e.code
	}
	return ExitOf(job.CodeOf(err))
}
