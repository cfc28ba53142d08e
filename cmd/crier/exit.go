package main

import (
	"context"
	"errors"
	"fmt"

	"crier/job"
)

// The exit codes.
const (
	exitOK        = 0
	exitError     = 1
	exitUsage     = 2
	exitNotFound  = 3
	exitAuth      = 4
	exitConflict  = 5
	exitRetry     = 6 // the same command may succeed later
	exitJob       = 7 // the job failed or was cancelled
	exitThreshold = 8 // a measurement missed what was asked of it
	exitNothing   = 9 // there was nothing to do
	exitInterrupt = 130
)

// exitErr is an error with an exit code of its own.
type exitErr struct {
	code int
	err  error
}

func (e *exitErr) Error() string { return e.err.Error() }
func (e *exitErr) Unwrap() error { return e.err }

// exiting gives an error an exit code.
func exiting(code int, err error) error {
	if err == nil {
		return nil
	}
	return &exitErr{code, err}
}

// usage is an error about how the command was called.
func usage(format string, args ...any) error {
	return exiting(exitUsage, fmt.Errorf(format, args...))
}

// codes is the table from error codes to exit codes.
var codes = map[job.Code]int{
	job.CodeInvalid: exitUsage, job.CodeTooLarge: exitUsage, job.CodeNotFound: exitNotFound, job.CodeDenied: exitAuth,
	job.CodeConflict: exitConflict, job.CodeUnavailable: exitRetry, job.CodeFull: exitRetry,
}

// exitCode is the exit code of a command that ended with err.
func exitCode(ctx context.Context, err error) int {
	if err == nil {
		return exitOK
	}
	if ctx.Err() != nil && errors.Is(err, ctx.Err()) {
		return exitInterrupt
	}
	var e *exitErr
	if errors.As(err, &e) {
		return e.code
	}
	if code, ok := codes[job.CodeOf(err)]; ok {
		return code
	}
	return exitError
}
