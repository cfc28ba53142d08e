package main

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"crier/api"
	"crier/audience"
	"crier/cmd/crier/cli"
	"crier/job"
)

// submitFlags are the flags of job submit as text.
type submitFlags struct {
	account, pkg, audience, body, class, ttl, onUnknown, collapseKey, displayAt, key, wait string
	include, exclude                                                                       []string
	control, priority                                                                      string
	rate                                                                                   uint32
	once                                                                                   bool
	onceKey, onceWindow, onceScope                                                         string
	webhook                                                                                string
	webhookOn                                                                              []string
}

func (c *commands) jobSubmit() *cobra.Command {
	var f submitFlags
	cmd := c.Command("submit --account A (--package FILE|ID | --audience followers) --body TEXT|@FILE [flags]",
		"Submit a job: it is in the ledger when this returns", noWords, func(ctx context.Context, _ []string) error {
			return c.submit(ctx, f)
		})
	set := cmd.Flags()
	c.AccountFlag(cmd, &f.account, "name or id of the account that sends")
	set.StringVar(&f.pkg, "package", "", "recipient package, of which followers of the account get the message: its id, or a .crpk file to hand in first")
	set.StringVar(&f.audience, "audience", "", "\"followers\": everyone who follows the account now")
	set.StringArrayVar(&f.include, "include", nil, "segment: who is in none of those to include gets nothing; may be repeated")
	set.StringArrayVar(&f.exclude, "exclude", nil, "segment: who is in it gets nothing; may be repeated")
	set.StringVar(&f.control, "control-group", "0", "percent of all recipients, such as 0.5, that are held out: always the same ones of the account")
	set.StringVar(&f.body, "body", "", "the message, or @FILE to read it from as it is, its last line break included; @- is standard input")
	set.StringVar(&f.class, "class", "normal", "normal or realtime")
	set.StringVar(&f.priority, "priority", strconv.Itoa(api.DefaultPriority), "1 to 99, 99 first")
	set.Uint32Var(&f.rate, "rate", 0, "recipients handed to gateways a second, who is dropped or parked does not count; 0 is unlimited")
	set.StringVar(&f.ttl, "ttl", "7d", "how long the message may wait for a login, such as 36h or 7d")
	set.StringVar(&f.onUnknown, "on-unknown", "hold", "what becomes of recipients in doubt: hold or resend")
	set.StringVar(&f.collapseKey, "collapse-key", "", "of the account's messages with this key only the newest waits for a recipient, and is displayed")
	set.BoolVar(&f.once, "send-once", false, "whoever got this message before does not get it again")
	set.StringVar(&f.onceKey, "send-once-key", "", "the same for whoever got a message with this key")
	set.StringVar(&f.onceWindow, "send-once-window", "", "for how long, such as 36h or 7d (default 30d)")
	set.StringVar(&f.onceScope, "send-once-scope", "", "account or all: whose messages count (default account)")
	set.StringVar(&f.webhook, "webhook", "", "URL that is told, by a signed POST, when the job is over; see \"crier webhook\"")
	set.StringSliceVar(&f.webhookOn, "webhook-on", nil, "states of the job of which the webhook is told, separated by commas (default: those that end it)")
	set.StringVar(&f.displayAt, "display-at", "", "when clients show it, such as 2026-05-01T12:00:00Z (default: at once)")
	set.StringVar(&f.key, "idempotency-key", "", "a second submit with this key is the same job, or a conflict if it differs")
	set.StringVar(&f.wait, "wait", "", "wait until the job is sent, or with --wait=completed until nobody is left, or until it is over")
	set.Lookup("wait").NoOptDefVal = "sent"
	for flag, field := range map[string]string{"include": "include_segments", "exclude": "exclude_segments", "webhook": "/webhook/url", "webhook-on": "/webhook/on", "idempotency-key": "Idempotency-Key",
		"send-once-key": "/send_once/key", "send-once-window": "/send_once/window", "send-once-scope": "/send_once/scope"} {
		cli.Names(cmd, flag, field)
	}
	_ = cmd.MarkFlagRequired("account") // the flags are there
	_ = cmd.MarkFlagRequired("body")
	for _, name := range []string{"include", "exclude"} {
		_ = cmd.RegisterFlagCompletionFunc(name, func(cmd *cobra.Command, _ []string, word string) ([]string, cobra.ShellCompDirective) {
			return c.CompleteSegments(cmd, nil, word)
		})
	}
	_ = cmd.RegisterFlagCompletionFunc("webhook-on", cobra.FixedCompletions(api.JobStates(), cobra.ShellCompDirectiveNoFileComp))
	_ = cmd.RegisterFlagCompletionFunc("class", cobra.FixedCompletions([]string{"normal", "realtime"}, cobra.ShellCompDirectiveNoFileComp))
	_ = cmd.RegisterFlagCompletionFunc("audience", cobra.FixedCompletions([]string{api.AudienceFollowers}, cobra.ShellCompDirectiveNoFileComp))
	_ = cmd.RegisterFlagCompletionFunc("send-once-scope", cobra.FixedCompletions([]string{api.ScopeAccount, api.ScopeAll}, cobra.ShellCompDirectiveNoFileComp))
	_ = cmd.RegisterFlagCompletionFunc("on-unknown", cobra.FixedCompletions([]string{"hold", "resend"}, cobra.ShellCompDirectiveNoFileComp))
	return cmd
}

// noWords takes no arguments; one that follows --wait is most likely meant to be its value.
func noWords(cmd *cobra.Command, args []string) error {
	if len(args) == 1 && cmd.Flags().Changed("wait") && (args[0] == "sent" || args[0] == "completed") {
		return cli.Usage("--wait takes its value with =: --wait=%s", args[0])
	}
	return cobra.NoArgs(cmd, args)
}

func (c *commands) submit(ctx context.Context, f submitFlags) error {
	req, err := c.submitRequest(f)
	if err != nil {
		return err
	}
	target := job.Sent
	if f.wait != "" {
		if target, err = waitTarget("--wait", f.wait); err != nil {
			return err
		}
	}
	svc, err := c.Service()
	if err != nil {
		return err
	}
	file := req.Package.IsZero() && f.pkg != ""
	if file { // checked with the rest before the file is handed in
		req.Package = job.Digest{1}
	}
	if err := req.Validate(); err != nil {
		return err
	}
	if file {
		p, err := c.uploadForJob(ctx, svc, f)
		if err != nil {
			return err
		}
		req.Package = p.ID
	}
	j, err := svc.SubmitJob(ctx, req)
	if err != nil {
		return err
	}
	c.warnOfNobody(ctx, svc, j)
	if f.wait == "" {
		return c.Print(j, jobFields(j))
	}
	c.Say("submitted %s; waiting until it is %s", j.Job, target)
	return c.waitAndPrint(ctx, svc, j.Job, target)
}

// warnOfNobody says that a job reaches nobody, for nothing is wrong with it otherwise.
func (c *commands) warnOfNobody(ctx context.Context, svc api.Service, j api.Job) {
	if len(j.Include) > 0 && !slices.ContainsFunc(j.Include, func(s api.SegmentRef) bool { return s.Recipients > 0 }) {
		c.Say("warning: nobody is in the segments to include: the message reaches nobody")
	}
	if a, err := svc.GetAccount(ctx, j.Account); err == nil && a.Followers == 0 {
		c.Say("warning: nobody follows account %s: the message reaches nobody; to add followers: crier followers import --format ids --account %s FILE", j.Account, shellQuote(j.Account))
	}
}

// uploadForJob hands in the package of a job. Who sends a list of today under the name
// that yesterday's has means no conflict: then the set is a part of the name.
func (c *commands) uploadForJob(ctx context.Context, svc api.Service, f submitFlags) (api.Package, error) {
	req := api.ImportPackage{Account: f.account}
	p, err := c.upload(ctx, svc, req, f.pkg)
	if job.CodeOf(err) != job.CodeConflict || f.pkg == "-" {
		return p, err
	}
	info, inspect := audience.Inspect(ctx, f.pkg)
	if inspect != nil {
		return p, err
	}
	set := fmt.Sprintf("-%.12s", info.SHA256)
	req.Name = strings.ToValidUTF8(info.Name[:min(len(info.Name), audience.MaxName-len(set))], "") + set
	return c.upload(ctx, svc, req, f.pkg)
}

// submitRequest reads the flags. A package that is a file stays unset.
func (c *commands) submitRequest(f submitFlags) (api.SubmitJob, error) {
	req := api.SubmitJob{Account: f.account, Audience: f.audience, Rate: f.rate, IncludeSegments: f.include, ExcludeSegments: f.exclude,
		CollapseKey: f.collapseKey, IdempotencyKey: f.key}
	priority, err := strconv.ParseUint(f.priority, 10, 8)
	if err != nil || priority < 1 || priority > 99 {
		return req, cli.Usage("--priority %q: want a whole number from 1 to 99", f.priority)
	}
	req.Priority = uint8(priority)
	if err := req.Class.UnmarshalText([]byte(f.class)); err != nil {
		return req, cli.Usage("--class: %w", err)
	}
	if err := req.OnUnknown.UnmarshalText([]byte(f.onUnknown)); err != nil {
		return req, cli.Usage("--on-unknown: %w", err)
	}
	control, err := job.ParsePercent(f.control)
	if err != nil {
		return req, cli.Usage("--control-group: %w", err)
	}
	req.ControlGroup = control.Float()
	ttl, err := api.ParseDuration(f.ttl)
	switch {
	case err != nil:
		return req, cli.Usage("--ttl %q: want a length of time such as 36h or 7d", f.ttl)
	case ttl <= 0:
		return req, cli.Usage("--ttl %s: want more than 0", f.ttl)
	}
	req.TTL = ttl
	if req.SendOnce, err = f.sendOnce(); err != nil {
		return req, err
	}
	if req.Webhook, err = f.hook(); err != nil {
		return req, err
	}
	if f.displayAt != "" {
		if req.DisplayAt, err = time.Parse(time.RFC3339, f.displayAt); err != nil {
			return req, cli.Usage("--display-at %q: want a time such as 2026-05-01T12:00:00Z", f.displayAt)
		}
	}
	if id, err := job.ParseDigest(f.pkg); err == nil {
		req.Package = id
	}
	body, err := c.body(f.body)
	req.Body = string(body)
	return req, err
}

// hook reads the flags of the webhook; nil if none is asked for.
func (f submitFlags) hook() (*job.Webhook, error) {
	if f.webhook == "" {
		if len(f.webhookOn) > 0 {
			return nil, cli.Usage("--webhook-on says of what, and --webhook whom: give both")
		}
		return nil, nil
	}
	for _, text := range f.webhookOn {
		if !slices.Contains(api.JobStates(), text) {
			return nil, cli.Usage("--webhook-on %q: want some of %s", text, strings.Join(api.JobStates(), ", "))
		}
	}
	return &job.Webhook{URL: f.webhook, On: f.webhookOn}, nil
}

// sendOnce reads the flags of what is sent once; nil if it is not asked for.
func (f submitFlags) sendOnce() (*api.SendOnce, error) {
	if !f.once && f.onceKey == "" {
		if f.onceWindow != "" || f.onceScope != "" {
			return nil, cli.Usage("--send-once-window and --send-once-scope say how long and where, and --send-once or --send-once-key that it is: give one of these, too")
		}
		return nil, nil
	}
	window, err := api.ParseDuration(cmp.Or(f.onceWindow, "30d"))
	switch {
	case err != nil:
		return nil, cli.Usage("--send-once-window %q: want a length of time such as 36h or 7d", f.onceWindow)
	case window <= 0:
		return nil, cli.Usage("--send-once-window %s: want more than 0", f.onceWindow)
	}
	return &api.SendOnce{Key: f.onceKey, Window: window, Scope: cmp.Or(f.onceScope, api.ScopeAccount)}, nil
}

// body reads the message: the text itself, or a file after @.
func (c *commands) body(text string) ([]byte, error) {
	name, ok := strings.CutPrefix(text, "@")
	if !ok {
		return []byte(text), nil
	}
	in, err := c.open(name)
	if err != nil {
		return nil, err
	}
	defer in.Close() // only read
	data, err := io.ReadAll(io.LimitReader(in, job.MaxBody+1))
	if err != nil {
		return nil, fmt.Errorf("read the message: %w", err)
	}
	if len(data) > job.MaxBody {
		return nil, &job.Error{Code: job.CodeTooLarge, Message: fmt.Sprintf("%s: a message has at most %d bytes", name, job.MaxBody)}
	}
	return data, nil
}
