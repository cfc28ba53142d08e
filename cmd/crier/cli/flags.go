package cli

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/jedib0t/go-pretty/v6/text"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"crier/cmd/crier/out"
)

// flagMost is the furthest to the right that the meaning of a flag begins; that of a longer
// one begins below it.
const flagMost = 34

// flagUsages lists flags with what they mean, folded for a width. A flag that takes a value
// has a name for that, which says what kind it is.
func flagUsages(width int, set *pflag.FlagSet) string {
	var lefts, means []string
	column := 0
	set.VisitAll(func(f *pflag.Flag) {
		if f.Hidden || f.Deprecated != "" {
			return
		}
		left := leftOf(f)
		if w := text.StringWidth(left) + 2; w <= flagMost {
			column = max(column, w)
		}
		lefts, means = append(lefts, left), append(means, meansOf(f))
	})
	var b strings.Builder
	for i, left := range lefts {
		pad := column - text.StringWidth(left)
		if pad < 2 {
			fmt.Fprintln(&b, left)
			left, pad = "", column
		}
		b.WriteString(beside(left+strings.Repeat(" ", pad), column, width, means[i]))
	}
	return b.String()
}

// beside puts text beside what stands before a column.
func beside(left string, column, width int, s string) string {
	return left + strings.ReplaceAll(out.Fold(s, max(1, width-column)), "\n", "\n"+strings.Repeat(" ", column)) + "\n"
}

// leftOf is a flag as it is written.
func leftOf(f *pflag.Flag) string {
	left := "      --" + f.Name
	if f.Shorthand != "" {
		left = "  -" + f.Shorthand + ", --" + f.Name
	}
	switch value := valueName(f); {
	case f.NoOptDefVal != "" && f.Value.Type() != "bool":
		return left + "[=" + f.NoOptDefVal + "]"
	case value != "":
		return left + " " + value
	}
	return left
}

// meansOf is what a flag means, and what it is without being given.
func meansOf(f *pflag.Flag) string {
	_, means := pflag.UnquoteUsage(f)
	preset := f.DefValue
	switch f.Value.Type() {
	case "duration":
		preset = strings.TrimSuffix(preset, "0s")
		if strings.HasSuffix(preset, "h0m") {
			preset = strings.TrimSuffix(preset, "0m")
		}
		if preset == "" || strings.Trim(preset, "0123456789") == "" { // it was a number of seconds
			preset = f.DefValue
		}
	case "string":
		if strings.ContainsAny(preset, " ,") {
			preset = fmt.Sprintf("%q", preset)
		}
	}
	if slices.Contains([]string{"", "0", "0B", "0s", "false", "[]", "<nil>"}, f.DefValue) || strings.Contains(means, "(default") {
		return means
	}
	return means + " (default " + preset + ")"
}

// valueNames are the names of values by a flag, or the last word of one, where that word is
// none itself.
var valueNames = map[string]string{
	"adopt": "NAMES", "advertise": "ADDRESS", "allow": "NETWORKS", "and": "FILE", "at": "TIME", "audience": "WHO", "blobs": "DIR", "bundle": "FILE", "ca": "FILE", "cap": "N", "cert": "FILE", "config": "FILE",
	"cluster-tls-key": "FILE", "creds": "FILE", "crit": "PERCENT", "cut": "PAIRS", "data": "DIR", "drain": "N", "dropped": "REASONS", "exclude": "SEGMENT", "exempt": "CLASSES", "fold": "SIZE", "for": "TIME",
	"from": "FORMAT", "group": "PERCENT", "include": "SEGMENT", "keys": "DIR", "lanes": "N", "ledger": "SIZE", "listen": "ADDRESS", "log": "FILE", "minus": "FILE", "nats-tls-key": "FILE", "nats-token": "FILE", "on": "STATES", "once": "KEY",
	"out": "PATH", "outcome": "OUTCOMES", "output": "FORMAT", "package": "FILE|ID", "priority": "N", "reason": "WHY", "recipient": "N", "replicas": "N", "report": "FILE", "result": "RESULT", "routes": "ADDRESSES",
	"seeds": "ADDRESSES", "server": "URL", "servers": "URLS", "since": "TIME", "slots": "TIMES", "system": "FILE", "to": "DIR", "ttl": "TIME", "unknown": "DECISION", "url": "URL",
	"wait": "STATE", "warn": "PERCENT", "webhook": "URL", "window": "TIME", "within": "TIME", "zookeeper": "ADDRESSES",
}

// valueName is what the value of a flag is called; "" if it takes none.
func valueName(f *pflag.Flag) string {
	kind := f.Value.Type()
	if name, _ := pflag.UnquoteUsage(f); strings.Contains(f.Usage, "`"+name+"`") {
		return name
	}
	switch {
	case kind == "bool":
		return ""
	case kind == "duration":
		return "TIME"
	case kind == "percent", kind == "file":
		return strings.ToUpper(kind)
	case strings.HasPrefix(kind, "int"), strings.HasPrefix(kind, "uint"), strings.HasPrefix(kind, "float"):
		return "N"
	}
	word := f.Name[strings.LastIndexByte(f.Name, '-')+1:]
	for _, known := range []string{f.Name, word} {
		if name, ok := valueNames[known]; ok {
			return name
		}
	}
	return strings.ToUpper(word)
}

// missing words that flags are not given which a command needs, as fitting does for
// arguments; any other error stays as it is.
func missing(cmd *cobra.Command, err error) error {
	if err == nil || !strings.HasPrefix(err.Error(), "required flag(s)") { // cobra's has no type
		return err
	}
	var names []string
	cmd.Flags().VisitAll(func(f *pflag.Flag) {
		if need := f.Annotations[cobra.BashCompOneRequiredFlag]; len(need) == 0 || need[0] != "true" || f.Changed {
			return
		}
		_, means := pflag.UnquoteUsage(f)
		means, _, _ = strings.Cut(means, ";")
		names = append(names, fmt.Sprintf("--%s %s (%s)", f.Name, valueName(f), means))
	})
	if len(names) == 0 {
		return err
	}
	return errors.New(cmd.CommandPath() + " needs " + strings.Join(names, " and ") + "; usage: " + cmd.UseLine())
}
