package main

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/jedib0t/go-pretty/v6/text"
	"github.com/spf13/cobra"

	"crier/api"
	"crier/api/apitest"
	"crier/cmd/crier/cli"
	"crier/job"
)

// furnished is a fake with something of everything, and the newest job's id.
func furnished(t *testing.T) (*apitest.Fake, string) {
	t.Helper()
	ctx := t.Context()
	f := apitest.New()
	check := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	var last api.Job
	for i, name := range []string{"news", "The Very Long Name of an Account That Has Much to Say", "日本のニュース\u00e9"} {
		_, err := f.CreateAccount(ctx, api.CreateAccount{Name: name})
		check(err)
		ids := make([]job.Recipient, 8*(i+1))
		for k := range ids {
			ids[k] = job.Recipient(k)
		}
		_, err = f.AddFollowers(ctx, name, ids)
		check(err)
		_, err = f.ImportPackage(ctx, api.ImportPackage{Account: name, Name: "package of " + name}, strings.NewReader(strings.Repeat("x", 12345*(i+1))))
		check(err)
		last, err = f.SubmitJob(ctx, api.SubmitJob{Account: name, Audience: "followers", Body: "hello", Class: job.Class(i % 2), CollapseKey: "score"})
		check(err)
		for range i {
			f.Advance(last.Job)
		}
	}
	f.Doubt(last.Job, 5)
	_, err := f.CreateTenant(ctx, api.CreateTenant{Name: "the-weather-office", Limits: job.Limits{Jobs: 4, Recipients: 1_000_000_000, Rate: 20_000}})
	check(err)
	k, err := f.CreateKey(ctx, api.CreateKey{Name: "the nightly newsletter of the weather office", Role: job.Submitter, Tenant: "the-weather-office"})
	check(err)
	_, err = f.CreateKey(ctx, api.CreateKey{Name: "dashboard", Role: job.Viewer})
	check(err)
	_, err = f.RevokeKey(api.WithAct(ctx, &api.Act{Reason: "it stood in a public repository"}), k.ID)
	check(err)
	return f, last.Job.String()
}

// aim gives the fake segments, suppression lists and a job that aims, and tells the job's id.
func aim(t *testing.T, f *apitest.Fake) string {
	t.Helper()
	ctx := t.Context()
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	for i, name := range []string{"vip", "Everybody Who Bought Something in the Last Thirty Days", "left"} {
		_, err := f.CreateSegment(ctx, api.CreateSegment{Name: name})
		must(err)
		_, err = f.ImportSegment(ctx, name, api.ImportIDs{}, strings.NewReader(strings.Repeat("7\n8\n9\n", i+1)+strconv.Itoa(i)))
		must(err)
	}
	_, err := f.AddSuppressed(ctx, api.SuppressionChange{IDs: []job.Recipient{1, 2}})
	must(err)
	_, err = f.AddSuppressed(ctx, api.SuppressionChange{Account: "news", IDs: []job.Recipient{3}})
	must(err)
	j, err := f.SubmitJob(ctx, api.SubmitJob{Account: "news", Audience: "followers", Body: "hello", ControlGroup: 0.5,
		IncludeSegments: []string{"vip", "Everybody Who Bought Something in the Last Thirty Days"}, ExcludeSegments: []string{"left"}})
	must(err)
	f.Advance(j.Job)
	_, err = f.ArchiveSegment(ctx, "left")
	must(err)
	return j.Job.String()
}

// overstay makes a job one that should have gone on long ago.
func overstay(t *testing.T, fake *apitest.Fake, text string) {
	t.Helper()
	id, err := job.ParseID(text)
	if err != nil {
		t.Fatal(err)
	}
	fake.Overstay(id, time.Date(2026, 1, 2, 3, 14, 0, 0, time.UTC), 2)
}

// A list of nothing says so on standard error, each in the same words, and nothing at all
// where a program reads.
func TestEmptyLists(t *testing.T) {
	empty := apitest.New()
	empty.Steer(func(c *apitest.Cluster) { *c = apitest.Cluster{} })
	run := func(words ...string) (stdout, stderr string) {
		var o, e bytes.Buffer
		c := &commands{CLI: &cli.CLI{In: strings.NewReader(""), Out: &o, Err: &e, Getenv: func(string) string { return "" }, Now: time.Now,
			Dial: func(string, string) (api.Service, error) { return empty, nil }}}
		if code := c.main(t.Context(), words); code != 0 {
			t.Errorf("%q: exit code %d, %s", words, code, &e)
		}
		return o.String(), e.String()
	}
	for args, of := range map[string]string{"account ls": "accounts", "followers ls": "accounts", "job ls": "jobs", "job ls --stuck": "jobs that overstay their state", "package ls": "packages", "segment ls": "segments",
		"audit ls": "acts", "key ls": "keys", "lane ls": "lanes", "journal ls": "journals", "member ls": "members"} {
		if stdout, stderr := run(strings.Fields(args)...); stdout != "" || stderr != "no "+of+" found\n" {
			t.Errorf("%s: %q and %q", args, stdout, stderr)
		}
		if stdout, stderr := run(append(strings.Fields(args), "-o", "jsonl")...); stderr != "" || strings.Count(stdout, "\n") > 1 {
			t.Errorf("%s as JSON lines: %q and %q", args, stdout, stderr)
		}
	}
}

// The text of a help has lines of one length also where no width is known, as in a pager.
func TestHelpText(t *testing.T) {
	var stdout bytes.Buffer
	c := &commands{CLI: &cli.CLI{In: strings.NewReader(""), Out: &stdout, Err: &stdout, Now: time.Now, Getenv: func(string) string { return "" }}}
	for _, group := range []string{"webhook", "key", "recipient"} {
		stdout.Reset()
		if code := c.main(t.Context(), []string{group, "--help"}); code != 0 {
			t.Fatal(stdout.String())
		}
		prose, _, _ := strings.Cut(stdout.String(), "\nUsage:\n")
		for line := range strings.Lines(prose) {
			if text.StringWidth(line) > 80 {
				t.Errorf("crier %s: %d columns: %s", group, text.StringWidth(line), line)
			}
		}
	}
}

// The help of every command fits a terminal, but for words that are wider.
func TestHelpFits(t *testing.T) {
	t.Setenv("CRIER_DATA", "/data") // which the help of --data repeats
	var stdout, stderr bytes.Buffer
	c := &commands{CLI: &cli.CLI{In: strings.NewReader(""), Out: &stdout, Err: &stderr, Now: time.Now,
		Getenv: func(k string) string { return map[string]string{"COLUMNS": "80"}[k] }}}
	var visit func(path []string, cmd *cobra.Command)
	seen := 0
	visit = func(path []string, cmd *cobra.Command) {
		stdout.Reset()
		if code := c.main(t.Context(), append(slices.Clone(path), "--help")); code != 0 || stdout.Len() == 0 {
			t.Fatalf("%q: exit code %d, %s", path, code, &stderr)
		}
		seen++
		for line := range strings.Lines(stdout.String()) {
			if line = strings.TrimRight(line, "\n"); text.StringWidth(line) > 80 && len(strings.Fields(line)) > 1 {
				t.Errorf("%q: %d columns: %s", path, text.StringWidth(line), line)
			}
		}
		for _, line := range brokenEarly(stdout.String(), 80) {
			t.Errorf("%q: the next word would have had room: %s", path, line)
		}
		for _, sub := range cmd.Commands() {
			if sub.Name() != "completion" && sub.Name() != "help" { // their words are cobra's
				visit(append(slices.Clone(path), sub.Name()), sub)
			}
		}
	}
	if visit(nil, c.root()); seen < 50 {
		t.Errorf("only %d commands were looked at", seen)
	}
}

// brokenEarly finds lines of a help text that end although the next word would have fitted,
// and that is no end of a paragraph or of an item of a list: what goes on stands flush left
// as the line does, or beside the item's text.
func brokenEarly(help string, width int) (early []string) {
	about, lists, _ := strings.Cut(help, "\nUsage:\n")
	for _, part := range []string{about, lists} {
		lines := strings.Split(part, "\n")
		for i, line := range lines[:len(lines)-1] {
			next := strings.TrimLeft(lines[i+1], " ")
			in := len(lines[i+1]) - len(next)
			flush := part == about && in == 0 && !strings.HasPrefix(line, " ")
			beside := in >= 10 && !strings.HasPrefix(next, "-")
			word, _, _ := strings.Cut(next, " ")
			own := strings.TrimLeft(line, " ")
			long := strings.HasPrefix(own, "-") && !strings.Contains(own, "  ") // a flag whose meaning has no room beside it
			if line != "" && word != "" && !long && (flush || beside) && text.StringWidth(line) < 40 && text.StringWidth(line+" "+word) <= width {
				early = append(early, line)
			}
		}
	}
	return early
}

// The finder of lines that end early finds them.
func TestBrokenEarly(t *testing.T) {
	for help, want := range map[string]int{
		"It goes\non here.\n\nUsage:\n  x\n": 1, "It goes.\n\nOn.\n\nUsage:\n  x\n": 0, "It has\n  a: list\n\nUsage:\n  x\n": 0,
		"It.\n\nUsage:\n  x\n      --flag      which goes\n                  on\n      --next      is another\n": 1,
	} {
		if got := brokenEarly(help, 80); len(got) != want {
			t.Errorf("in\n%s\nit finds %q", help, got)
		}
	}
}

// The tables of every command that prints one, at 80 and at 160 columns.
func TestGoldenTables(t *testing.T) {
	fake, id := furnished(t)
	aiming, _ := furnished(t) // a fake of its own: a list shows all there is
	aimed := aim(t, aiming)
	late, lateID := furnished(t)
	overstay(t, late, lateID)
	paused, pausedID := furnished(t)
	overstay(t, paused, pausedID) // which says what it waits on
	if id, err := job.ParseID(pausedID); err != nil {
		t.Fatal(err)
	} else if _, err := paused.PauseJob(api.WithAct(t.Context(), &api.Act{Reason: "the link in it is wrong"}), id); err != nil {
		t.Fatal(err)
	}
	recalled, recalledID := furnished(t)
	if id, err := job.ParseID(recalledID); err != nil {
		t.Fatal(err)
	} else if _, err := recalled.RecallJob(t.Context(), id, api.Recall{Reason: "a typo"}); err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	ids := filepath.Join(dir, "a package with a rather long name.txt")
	if err := os.WriteFile(ids, []byte("1\n2\n2\n70000\n4294967295\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, args := range map[string]string{
		"account-ls": "account ls", "account-info": "account info 3", "job-ls": "job ls", "job-info": "job info JOB", "job-reconcile": "job reconcile JOB",
		"job-explain": "job explain JOB 3", "package-ls": "package ls", "package-build": "package build --from ids --out DIR FILE", "status": "status", "ledger-tail": "ledger tail --from 4", "events-tail": "events tail --follow=false",
		"ledger-verify": "ledger verify", "suppression-info": "suppression info", "token-mint": "token mint --recipient 7",
		"member-ls": "member ls", "member-info": "member info m2", "ring": "ring", "ring-diff": "ring --diff", "journal-ls": "journal ls", "lane-ls": "lane ls",
		"drill-ls": "drill ls", "key-ls": "key ls", "tenant-ls": "tenant ls", "tenant-info": "tenant info the-weather-office", "audit-ls": "audit ls",
		"segment-ls": "segment ls", "segment-ls-archived": "segment ls --archived", "segment-info": "segment info left",
		"suppression-ls": "suppression ls", "job-ls-paused": "job ls --state paused", "job-info-paused": "job info LATE", "job-info-recalled": "job info RECALLED", "job-ls-stuck": "job ls --stuck", "job-info-stuck": "job info LATE", "status-stuck": "status", "job-info-aimed": "job info AIMED", "job-explain-aimed": "job explain AIMED 4", "recipient-info": "recipient info 7", "recipient-erase": "recipient erase 7 --reason asked", "error": "error",
	} {
		svc := api.Service(fake)
		if strings.HasPrefix(name, "segment-") || name == "suppression-ls" || strings.HasSuffix(name, "-aimed") {
			svc = aiming
		}
		if strings.HasSuffix(name, "-stuck") {
			svc = late
		}
		if strings.HasSuffix(name, "-paused") {
			svc = paused
		}
		if strings.HasSuffix(name, "-recalled") {
			svc = recalled
		}
		for _, width := range []int{80, 160} {
			var stdout, stderr bytes.Buffer
			c := &commands{CLI: &cli.CLI{In: strings.NewReader(""), Out: &stdout, Err: &stderr,
				Getenv: func(k string) string {
					return map[string]string{"COLUMNS": strconv.Itoa(width), "CRIER_TOKEN": "k"}[k]
				},
				Now:  func() time.Time { return time.Date(2026, 1, 2, 4, 0, 0, 0, time.UTC) },
				Dial: func(string, string) (api.Service, error) { return svc, nil },
			}}
			words := strings.Fields(args)
			for i, w := range words {
				words[i] = strings.NewReplacer("JOB", id, "AIMED", aimed, "LATE", lateID, "RECALLED", recalledID, "DIR", filepath.Join(dir, "out", strconv.Itoa(width)), "FILE", ids).Replace(w)
			}
			if code := c.main(context.Background(), words); code != 0 || stderr.Len() != 0 {
				t.Errorf("%s: exit code %d, %s", args, code, &stderr)
			}
			golden := filepath.Join("testdata", "golden", name+"-"+strconv.Itoa(width)+".txt")
			if *update {
				if err := os.WriteFile(golden, stdout.Bytes(), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(golden)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(string(want), stdout.String()); diff != "" {
				t.Errorf("%s at %d columns differs from %s (-want +got); go test ./cmd/crier -update writes it anew:\n%s", args, width, golden, diff)
			}
		}
	}
}
