// Command crier sends one message to a set of recipients: each reachable
// recipient once, urgent jobs first, through crashes. It is the server (crier
// serve) and the command line that asks one.
//
// It guarantees that data goes to standard output and everything else to standard
// error, and that the exit code tells what happened (see cmd/crier/cli).
package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"
	"time"
	_ "time/tzdata" // for frequency.zone, where the system has none

	"crier/cmd/crier/cli"
	"crier/internal/launch"
)

// version is stamped by the linker.
var version = "dev"

func main() { os.Exit(run()) }

// run is main without the exit. A second signal ends the process at once.
func run() int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	context.AfterFunc(ctx, stop)
	c := &commands{CLI: &cli.CLI{In: os.Stdin, Out: os.Stdout, Err: os.Stderr, Getenv: os.Getenv, Now: time.Now, Dial: cli.Dial}, serve: launch.Run}
	return c.main(ctx, os.Args[1:])
}
