package cli

import (
	"context"
	"errors"
	"fmt"

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
	if code, ok := codes[job.CodeOf(err)]; ok {
		return code
	}
	return ExitError
}
