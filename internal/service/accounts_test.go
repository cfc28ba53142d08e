package service

import (
	"bytes"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/iotest"

	"crier/api"
	"crier/audience"
	"crier/audience/source"
	"crier/job"
)

func zipped(s string) string {
	var b bytes.Buffer
	w := gzip.NewWriter(&b)
	w.Write([]byte(s))
	w.Close()
	return b.String()
}

func (f *fixture) importIDs(account, text string, skip int) (api.FollowersImport, error) {
	return f.ImportFollowers(asked(f.t), api.ImportFollowers{Format: api.FormatIDs, Account: account, Skip: skip}, strings.NewReader(text))
}

func (f *fixture) importEdges(account, text string, skip int) (api.FollowersImport, error) {
	return f.ImportFollowers(asked(f.t), api.ImportFollowers{Format: api.FormatEdges, Account: account, Skip: skip}, strings.NewReader(text))
}

func TestImportFollowers(t *testing.T) {
	f := newFixture(t)
	for _, c := range []struct {
		what string
		do   func() (api.FollowersImport, error)
		want api.FollowersImport
	}{
		{"ids", func() (api.FollowersImport, error) { return f.importIDs("empty", "1\n2,2\n3\n", 0) },
			api.FollowersImport{Read: 4, Repeated: 1, Added: 3, AccountsTouched: 1}},
		{"the same again", func() (api.FollowersImport, error) { return f.importIDs("empty", "1\n2,2\n3\n", 0) },
			api.FollowersImport{Read: 4, Repeated: 1, Already: 3}},
		{"a header", func() (api.FollowersImport, error) { return f.importIDs("empty", "id\n3\n4", 1) },
			api.FollowersImport{Read: 2, Already: 1, Added: 1, AccountsTouched: 1}},
		{"a header, gzipped", func() (api.FollowersImport, error) { return f.importIDs("empty", zipped("id\n4\n5"), 1) },
			api.FollowersImport{Read: 2, Already: 1, Added: 1, AccountsTouched: 1}},
		{"edges", func() (api.FollowersImport, error) {
			return f.importEdges("", "src dst\n7 1\n8 1\n8 1\n9 9\n5 77\n", 1)
		},
			api.FollowersImport{Read: 5, SelfLoops: 1, Repeated: 1, Added: 3, AccountsCreated: 1, AccountsTouched: 2}},
		{"edges of one account", func() (api.FollowersImport, error) { return f.importEdges("empty", zipped("7 1\n6 1\n5 78\n"), 0) },
			api.FollowersImport{Read: 3, OtherAccounts: 1, Already: 1, Added: 1, AccountsTouched: 1}},
	} {
		got, err := c.do()
		if err != nil || got != c.want {
			t.Errorf("%s: %+v, want %+v (%v)", c.what, got, c.want, err)
		}
		if got.Read != got.SelfLoops+got.OtherAccounts+got.Repeated+got.Already+got.Added {
			t.Errorf("%s does not add up: %+v", c.what, got)
		}
	}
	if a, err := f.GetAccount(asked(t), "empty"); err != nil || a.Followers != 8 { // 1 to 8
		t.Errorf("empty has %d followers, %v", a.Followers, err)
	}
	if a, err := f.GetAccount(asked(t), "78"); job.CodeOf(err) != job.CodeNotFound {
		t.Errorf("an account that was left out is %+v, %v", a, err)
	}
}

// A file that is refused leaves nothing, and the refusal says where it is wrong.
func TestImportRefusals(t *testing.T) {
	f := newFixture(t)
	before := f.kept()
	long := strings.Repeat("1\n", 200000) // more than any buffer
	broken := errors.New("the connection broke")
	for _, c := range []struct {
		what  string
		err   error
		code  job.Code
		field string
		words string
	}{
		{"ids", second(f.importIDs("news", "1\n2\nx\n", 0)), job.CodeInvalid, "file", "line 3, column 1"},
		{"after a header", second(f.importIDs("news", "a\nb\n1\nx\n", 2)), job.CodeInvalid, "file", "line 4, column 1"},
		{"late", second(f.importIDs("news", long+"-1", 0)), job.CodeInvalid, "file", "line 200001"},
		{"half a gzip", second(f.importIDs("news", zipped(long)[:100], 0)), job.CodeInvalid, "file", "damaged"},
		{"too few lines", second(f.importIDs("news", "a\n", 2)), job.CodeInvalid, "skip", "fewer lines"},
		{"no account", second(f.importIDs("nobody", "1", 0)), job.CodeNotFound, "account", "nobody"},
		{"edges", second(f.importEdges("", "1 2\n3\n", 0)), job.CodeInvalid, "file", "line 2"},
		{"edges after a header", second(f.importEdges("", "src dst\n1 2\n3 4 5\n", 1)), job.CodeInvalid, "file", "line 3"},
		{"edges late", second(f.importEdges("", strings.Repeat("1 2\n", 200000)+"1 x\n", 0)), job.CodeInvalid, "file", "line 200001"},
		{"edges of nobody", second(f.importEdges("nobody", "1 2\n", 0)), job.CodeNotFound, "account", "nobody"},
	} {
		wantError(t, c.what, c.err, c.code, c.field)
		if text := fmt.Sprint(c.err); !strings.Contains(text, c.words) || c.field == "file" && !strings.HasSuffix(text, "; nothing was kept") {
			t.Errorf("%s: %q does not say %q", c.what, text, c.words)
		}
	}
	for _, format := range []string{api.FormatIDs, api.FormatEdges} {
		req := api.ImportFollowers{Format: format, Account: "news", Skip: 1}
		_, err := f.ImportFollowers(asked(t), req, io.MultiReader(strings.NewReader(long), iotest.ErrReader(broken)))
		if format == api.FormatIDs && !errors.Is(err, broken) || err == nil {
			t.Errorf("%s from a connection that breaks: %v", format, err)
		}
		req.Skip = 1 << 30
		if _, err = f.ImportFollowers(asked(t), req, iotest.ErrReader(broken)); !errors.Is(err, broken) {
			t.Errorf("%s from a connection that breaks at once: %v", format, err)
		}
	}
	if after := f.kept(); !slices.Equal(before, after) {
		t.Errorf("it leaves %v, there was %v", after, before)
	}
}

func second[T any](_ T, err error) error { return err }

// envelope builds a package and gives its bytes.
func (f *fixture) envelope(name, ids string) string {
	f.t.Helper()
	dir := filepath.Join(f.t.TempDir(), "built")
	info, err := audience.Build(asked(f.t), dir, source.NewText(source.Input{Name: name, File: name, R: io.NopCloser(strings.NewReader(ids))}))
	f.must(err)
	b, err := os.ReadFile(filepath.Join(dir, info.Name+audience.Extension))
	f.must(err)
	return string(b)
}

func (f *fixture) importPackage(account, name, bytes string) (api.Package, error) {
	return f.ImportPackage(asked(f.t), api.ImportPackage{Account: account, Name: name}, strings.NewReader(bytes))
}

// A package is kept whole or not at all, once for each account that has it, and
// can be sent to by the account that has it only.
func TestPackages(t *testing.T) {
	f := newFixture(t)
	whole := f.envelope("list", "5,6,7")
	before := f.kept()
	for what, bad := range map[string]string{"nothing": "", "a part": whole[:len(whole)-1], "more": whole + "x", "text": "5,6,7", "a flipped bit": whole[:len(whole)-9] + "\x99" + whole[len(whole)-8:]} {
		wantError(t, what, second(f.importPackage("news", "", bad)), job.CodeInvalid, "package")
	}
	wantError(t, "no account", second(f.importPackage("nobody", "", whole)), job.CodeNotFound, "account")
	if after := f.kept(); !slices.Equal(before, after) {
		t.Errorf("refusals leave %v, there was %v", after, before)
	}
	p, err := f.importPackage("news", "", whole)
	f.must(err)
	if p.Name != "list" || p.Cardinality != 3 || p.Min != 5 || p.Max != 7 || p.Account != "news" {
		t.Errorf("kept is %+v", p)
	}
	if again, err := f.importPackage("news", "", whole); err != nil || again != p {
		t.Errorf("the same again: %+v, %v", again, err)
	}
	_, err = f.importPackage("news", "list", f.envelope("other", "8"))
	wantError(t, "another set by that name", err, job.CodeConflict, "name")
	to := func(account string) api.SubmitJob {
		return api.SubmitJob{Account: account, Package: p.ID, Body: "Hello"}
	}
	if j := f.submit(to("news")); j.Recipients != 3 || j.Package != p.ID {
		t.Errorf("the job is %+v", j)
	}
	_, err = f.SubmitJob(asked(t), to("empty"))
	wantError(t, "another account's package", err, job.CodeNotFound, "package")
	if got, err := f.GetPackage(asked(t), p.ID); err != nil || got != p {
		t.Errorf("GetPackage: %+v, %v", got, err)
	}
	if _, err := f.GetPackage(asked(t), job.Digest{1}); job.CodeOf(err) != job.CodeNotFound {
		t.Errorf("a package that is not there: %v", err)
	}
}

// Each list gives everything once, whatever the size of its pages.
func TestListsOfAccountsAndPackages(t *testing.T) {
	f := newFixture(t)
	for i := range 11 {
		a, err := f.CreateAccount(asked(t), api.CreateAccount{Name: fmt.Sprint("account-", i)})
		f.must(err)
		_, err = f.importPackage(a.Name, fmt.Sprint("p.", i%3), f.envelope("x", fmt.Sprint(i)))
		f.must(err)
	}
	_, err := f.CreateAccount(asked(t), api.CreateAccount{Name: "news"})
	wantError(t, "a name that is taken", err, job.CodeConflict, "name")
	for _, size := range []int{1, 2, 5, 11, 12, 13, 100} {
		var accounts, packages []string
		page := api.Page{Limit: size}
		for ok := true; ok; ok = page.Cursor != "" {
			l, err := f.ListAccounts(asked(t), page)
			f.must(err)
			if want := min(size, 13-len(accounts)); len(l.Accounts) != want {
				t.Fatalf("a page of %d has %d accounts, want %d", size, len(l.Accounts), want)
			}
			for _, a := range l.Accounts {
				accounts = append(accounts, a.Name)
			}
			if (l.Next != "") != (len(accounts) < 13) {
				t.Errorf("after %d accounts next is %q", len(accounts), l.Next)
			}
			page.Cursor = l.Next
		}
		for ok := true; ok; ok = page.Cursor != "" {
			l, err := f.ListPackages(asked(t), "", page)
			f.must(err)
			if want := min(size, 11-len(packages)); len(l.Packages) != want {
				t.Fatalf("a page of %d has %d packages, want %d", size, len(l.Packages), want)
			}
			for _, p := range l.Packages {
				packages = append(packages, p.Account)
			}
			if (l.Next != "") != (len(packages) < 11) {
				t.Errorf("after %d packages next is %q", len(packages), l.Next)
			}
			page.Cursor = l.Next
		}
		if len(accounts) != 13 || accounts[0] != "empty" || accounts[1] != "news" || accounts[12] != "account-10" {
			t.Errorf("pages of %d accounts: %v", size, accounts)
		}
		slices.Reverse(packages) // the newest first
		if len(packages) != 11 || !slices.Equal(packages, accounts[2:]) {
			t.Errorf("pages of %d packages: %v", size, packages)
		}
	}
	for _, cursor := range []string{"x", "-1", "4294967296"} {
		_, err := f.ListAccounts(asked(t), api.Page{Cursor: cursor})
		wantError(t, cursor, err, job.CodeInvalid, "cursor")
	}
	if l, err := f.ListPackages(asked(t), "account-3", api.Page{}); err != nil || len(l.Packages) != 1 || l.Packages[0].Account != "account-3" {
		t.Errorf("one account's packages: %+v, %v", l, err)
	}
}

func TestFollowersAndSuppression(t *testing.T) {
	f := newFixture(t)
	c, err := f.AddFollowers(asked(t), "empty", []job.Recipient{1, 2, 2, 3})
	if err != nil || c.Changed != 3 || c.Unchanged != 1 || c.Followers != 3 || c.Revision != 1 {
		t.Errorf("adding: %+v, %v", c, err)
	}
	if c, err = f.RemoveFollowers(asked(t), "1", []job.Recipient{3, 4}); err != nil || c.Changed != 1 || c.Unchanged != 1 || c.Followers != 2 || c.Account != "empty" {
		t.Errorf("removing: %+v, %v", c, err)
	}
	for account, n := range map[string]uint64{"": 2, "news": 1} {
		req := api.SuppressionChange{Account: account, IDs: []job.Recipient{7, 8}[:n]}
		if l, err := f.AddSuppressed(asked(t), req); err != nil || l.Entries != n || l.Changed != n || (l.AccountID == nil) != (account == "") {
			t.Errorf("suppressing for %q: %+v, %v", account, l, err)
		}
		if l, err := f.AddSuppressed(asked(t), req); err != nil || l.Entries != n || l.Changed != 0 || l.Revision != 1 {
			t.Errorf("again for %q: %+v, %v", account, l, err)
		}
		if l, err := f.GetSuppression(asked(t), account); err != nil || l.Entries != n || l.Revision != 1 {
			t.Errorf("the list of %q: %+v, %v", account, l, err)
		}
	}
	if l, err := f.RemoveSuppressed(asked(t), api.SuppressionChange{IDs: []job.Recipient{7, 9}}); err != nil || l.Entries != 1 || l.Changed != 1 {
		t.Errorf("taking off: %+v, %v", l, err)
	}
	if l, err := f.GetSuppression(asked(t), "empty"); err != nil || l.Entries != 0 {
		t.Errorf("a list that was never written to: %+v, %v", l, err)
	}
	if _, err := f.GetSuppression(asked(t), "nobody"); job.CodeOf(err) != job.CodeNotFound {
		t.Errorf("a list of nobody: %v", err)
	}
}
