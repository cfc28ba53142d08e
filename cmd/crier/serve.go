package main

import (
	"os"

	"github.com/spf13/cobra"

	"crier/internal/config"
)

func (c *cli) serveCommand() *cobra.Command {
	cmd := c.command("serve [flags]", "Run the server: everything in one process, under one data directory", cobra.NoArgs, nil)
	config.Flags(cmd.Flags())
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		c.started = true
		cfg, err := config.Load(os.Environ(), cmd.Flags())
		if err != nil {
			return err
		}
		return c.serve(cmd.Context(), cfg, version)
	}
	return cmd
}
