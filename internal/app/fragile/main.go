// Command fragile is the server of TestCrashPoints: crier serve, which ends itself just
// before a write that outlives it, or just after.
package main

import (
	"context"
	"flag"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"syscall"

	"crier/internal/app"
	"crier/presence/gateway/ws"
	"crier/state/ledger"
	"crier/state/parked/kv"
	"crier/worker/block"
)

func main() {
	if len(os.Args) < 2 || os.Args[1] != "serve" {
		fmt.Fprintln(os.Stderr, "fragile: want serve, as internal/app has it")
		os.Exit(2)
	}
	if err := serve(os.Args[2:]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func serve(args []string) error {
	flags := flag.NewFlagSet("serve", flag.ContinueOnError)
	data, listen, ready := flags.String("data", "", ""), flags.String("listen", "", ""), flags.String("ready-file", "", "")
	die := flags.Int64("die", -1, "the recipient at whom the process dies")
	at, passed := flags.String("crash", "", ""), flags.String("passed", "", "")
	if err := flags.Parse(args); err != nil {
		return err
	}
	f, err := os.OpenFile(*passed, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	c := &crasher{at: *at, passed: f}
	c.mu.seen = map[string]bool{}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	return app.Run(ctx, app.Config{Data: *data, Listen: *listen, ReadyFile: *ready, Logger: slog.New(slog.NewTextHandler(os.Stderr, nil)),
		FoldEvery: 64 << 10, Policy: block.Policy{Cap: 1000}, Filters: deadly(*die),
		Edge: app.Edge{
			Log:      func(l ledger.Log) ledger.Log { return fragileLog{l, c} },
			Index:    func(s kv.Store) kv.Store { return fragileIndex{s, c} },
			Accepted: func(a ws.Accepted) ws.Accepted { return fragileAccepted{a, c} },
		}})
}
