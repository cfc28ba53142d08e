package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"crier/cmd/crier/cli"
	"crier/internal/app"
	"crier/internal/config"
	"crier/internal/launch"
	"crier/job"
)

// serveAbout stands in the help of serve.
const serveAbout = `.

Settings come from a file, then from variables, then from flags; what comes later
wins. The log level, say, is log.level in the file, CRIER_LOG_LEVEL, --log-level:

  data: /var/lib/crier
  listen: 127.0.0.1:7420
  log: {level: info, format: json}
  limits: {ledger: 16GiB}
  sql: {dsn: "crier:secret@tcp(db1:3306)/crier"}

Without sql.dsn an SQLite file in the data directory is used.

SIGTERM stops the server in order. Nothing is lost if it is killed instead.`

func (c *commands) serveCommand() *cobra.Command {
	cmd := c.Command("serve [flags]", "Run the server: everything in one process, under one data directory", cobra.NoArgs, nil)
	cmd.Long = cmd.Short + serveAbout
	config.Flags(cmd.Flags())
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		c.Started = true
		unix.Umask(0o077) // what is under the data directory is nobody else's
		cfg, err := config.Load(os.Environ(), cmd.Flags())
		if err != nil {
			return meant(err)
		}
		log, err := newLog(c.Err, cfg.Log)
		if err != nil {
			return err
		}
		return logged(cmd.Context(), log, func(ctx context.Context) error {
			return c.serve(ctx, cfg, launch.Process{Log: log, Version: version,
				Ready: func(r app.Ready) { fmt.Fprint(c.Out, welcome(cfg, r)) }})
		})
	}
	return cmd
}

// meant says which setting somebody may have meant who named one that there is not.
func meant(err error) error {
	var named *job.Error
	if !errors.Is(err, config.ErrNoSetting) || !errors.As(err, &named) {
		return err
	}
	return fmt.Errorf("%w%s", err, cli.Suggest(named.Field, config.Settings()))
}

// logged runs a server, and logs that it was told to stop and that it has done so.
func logged(ctx context.Context, log *slog.Logger, run func(context.Context) error) error {
	said := make(chan struct{})
	unhook := context.AfterFunc(ctx, func() {
		defer close(said)
		log.Info("stopping")
	})
	err := run(ctx)
	if !unhook() {
		<-said
		if err == nil {
			log.Info("stopped")
		}
	}
	return err
}

// newLog makes the server's log.
func newLog(w io.Writer, cfg config.Log) (*slog.Logger, error) {
	var level slog.Level
	if err := level.UnmarshalText([]byte(cfg.Level)); err != nil {
		return nil, cli.Usage("log.level: %w", err)
	}
	opts := &slog.HandlerOptions{Level: level}
	if cfg.Format == "json" {
		return slog.New(slog.NewJSONHandler(w, opts)), nil
	}
	return slog.New(slog.NewTextHandler(w, opts)), nil
}

// welcome says where the server is, and a command to paste that asks it.
func welcome(cfg config.Server, r app.Ready) string {
	r.Listen, r.API, r.Gateway = here(r.Listen), here(r.API), here(r.Gateway)
	var b strings.Builder
	if r.API == "" {
		fmt.Fprintf(&b, "health   %s/readyz\n", r.Listen)
	} else {
		fmt.Fprintf(&b, "api      %s\ndocs     %s/docs\n", r.API, r.API)
	}
	if r.Gateway != "" {
		fmt.Fprintf(&b, "gateway  %s\n", r.Gateway)
	}
	if r.API == "" {
		return b.String()
	}
	try := "crier status"
	if r.API != "http://"+config.DefaultListen {
		try += " --server " + shellQuote(r.API)
	}
	if data, err := filepath.Abs(cmp.Or(cfg.Keys, cfg.Data)); err == nil && data != config.ClientData() {
		try += " --data " + shellQuote(data)
	}
	fmt.Fprintf(&b, "try      %s\n", try)
	return b.String()
}

// here names this machine in a URL of a server that listens at all of its addresses.
func here(at string) string {
	u, err := url.Parse(at)
	if err != nil {
		return at
	}
	if ip := net.ParseIP(u.Hostname()); ip == nil || !ip.IsUnspecified() {
		return at
	}
	u.Host = net.JoinHostPort("127.0.0.1", u.Port())
	return u.String()
}

// shellQuote quotes what a shell would not take as one plain word.
func shellQuote(s string) string {
	const plain = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_./:=@"
	if s != "" && strings.Trim(s, plain) == "" {
		return s
	}
	return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'"
}
