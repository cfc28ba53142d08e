package sqltest

import (
	"fmt"
	"testing"
	"unicode/utf8"

	"crier/internal/badinput"
	"crier/job"
	"crier/state/sql"
)

// userText stores what users write, in every place that takes text: it comes back to the
// byte, or is refused by its name; and no two of them are one.
func userText(t *testing.T, s Store) {
	var ts []job.Transition
	var want []sql.Job
	named, seen := 0, map[string]bool{}
	for i, text := range badinput.Strings(t) {
		if seen[text] {
			continue
		}
		seen[text] = true
		a, err := s.Accounts.Create(t.Context(), text, nil)
		if err == nil {
			named++
			if got, err := s.Accounts.Find(t.Context(), text); err != nil || got != a || got.Name != text {
				t.Errorf("account %q is found as %+v, %v", text, got, err)
			}
		} else if code := job.CodeOf(err); code != job.CodeInvalid && code != job.CodeConflict {
			t.Errorf("account %q: %v", text, err)
		}
		if !utf8.ValidString(text) || len(text) > 300 {
			continue // the API refuses it
		}
		sp := spec(i, 7, byte(i))
		sp.CollapseKey, sp.AccountName = text, text
		st := step(sp, 1, job.Submitted)
		st.Reason = "because " + text
		ts = append(ts, st)
		want = append(want, sql.Job{Spec: *sp, Version: 1, State: job.Submitted, Reason: st.Reason, StateAt: stepAt(sp, 1)})
		p := sql.Package{Account: 7, Name: fmt.Sprint("x", text), Set: job.Digest{byte(i), byte(i >> 8), 1}, Blob: job.Digest{1}}
		_, err = s.Packages.Put(t.Context(), p)
		must(t, err)
		if got, err := s.Packages.ByName(t.Context(), 7, p.Name); err != nil || got.Name != p.Name || got.Set != p.Set {
			t.Errorf("package %q is found as %+v, %v", p.Name, got, err)
		}
	}
	project(t, s, 10, ts...)
	for _, j := range want {
		wantJob(t, s, j)
	}
	t.Logf("%d accounts and %d jobs of %d texts", named, len(want), len(seen))
	if named < 10 || len(want) < 30 {
		t.Errorf("only %d accounts and %d jobs of %d texts", named, len(want), len(seen))
	}
}
