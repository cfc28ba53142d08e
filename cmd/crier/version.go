package main

import (
	"context"
	"runtime"

	"github.com/spf13/cobra"

	"crier/cmd/crier/out"
)

func (c *commands) versionCommand() *cobra.Command {
	return c.Command("version", "Show the version of this program", cobra.NoArgs, func(context.Context, []string) error {
		v := struct {
			Version  string `json:"version"`
			Go       string `json:"go"`
			Platform string `json:"platform"`
		}{version, runtime.Version(), runtime.GOOS + "/" + runtime.GOARCH}
		return c.Print(v, func(*out.Printer) out.Grid {
			return out.Grid{Rows: [][]string{{"crier", v.Version}, {"go", v.Go}, {"platform", v.Platform}}}
		})
	})
}
