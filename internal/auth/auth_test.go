package auth_test

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"pgregory.net/rapid"

	"crier/internal/auth"
	"crier/job"
)

func open(t testing.TB, data string, now func() time.Time) *auth.Keys {
	t.Helper()
	k, err := auth.Open(auth.Config{Data: data, Now: now})
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func adminKey(t testing.TB, k *auth.Keys) string {
	t.Helper()
	key, err := k.AdminKey()
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func TestKeysAreMadeOnce(t *testing.T) {
	data := t.TempDir()
	first := open(t, data, nil)
	key := adminKey(t, first)
	token, _, err := first.Mint(7, time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	if !strings.HasPrefix(key, "crier_") || len(key) != 54 {
		t.Errorf("admin key %q; want crier_ and 48 characters", key)
	}
	again := open(t, data, nil)
	if adminKey(t, again) != key || again.VerifyAdmin(key) != nil {
		t.Error("a second start made another admin key")
	}
	if r, err := again.VerifyRecipient(token); err != nil || r != 7 {
		t.Errorf("after a second start the token is of %d, %v", r, err)
	}
	if local, err := auth.ReadAdminKey(data); err != nil || local != key {
		t.Errorf("the command line reads %q, %v", local, err)
	}
	if other := open(t, t.TempDir(), nil); other.VerifyAdmin(key) == nil || adminKey(t, other) == key {
		t.Error("two data directories share a key")
	}
	entries, err := os.ReadDir(filepath.Join(data, "keys"))
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		info, err := e.Info()
		if err != nil {
			t.Fatal(err)
		}
		if info.Mode().Perm() != 0o600 {
			t.Errorf("%s has mode %v", e.Name(), info.Mode())
		}
		if strings.HasSuffix(e.Name(), ".tmp") {
			t.Errorf("%s was left behind", e.Name())
		}
	}
}

// What a crash, or an operator, may leave: the key without its hash, the hash
// without the key, and files that do not fit.
func TestWhatIsLeft(t *testing.T) {
	data := t.TempDir()
	key := adminKey(t, open(t, data, nil))
	keyFile, hashFile := filepath.Join(data, "keys/admin.key"), filepath.Join(data, "keys/admin.sha256")
	sum := sha256.Sum256([]byte(key))
	if text, err := os.ReadFile(hashFile); err != nil || strings.TrimSpace(string(text)) != hex.EncodeToString(sum[:]) {
		t.Errorf("the stored hash is %s, %v", text, err)
	}
	remove(t, hashFile)
	if k := open(t, data, nil); k.VerifyAdmin(key) != nil {
		t.Error("the key lost its validity with its hash")
	}
	remove(t, keyFile)
	k := open(t, data, nil)
	if k.VerifyAdmin(key) != nil {
		t.Error("the key lost its validity when it was deleted from the directory")
	}
	if _, err := k.AdminKey(); job.CodeOf(err) != job.CodeNotFound {
		t.Errorf("a deleted key: %v; want not found", err)
	}
	if _, err := auth.ReadAdminKey(data); job.CodeOf(err) != job.CodeNotFound {
		t.Errorf("a deleted key: %v; want not found", err)
	}
	other := adminKey(t, open(t, t.TempDir(), nil))
	for name, text := range map[string]string{keyFile: other, hashFile: "abc"} {
		was, _ := os.ReadFile(name)
		write(t, name, text)
		if _, err := auth.Open(auth.Config{Data: data}); err == nil || !strings.Contains(err.Error(), "delete") {
			t.Errorf("%s with %q: %v; want advice", name, text, err)
		}
		if was == nil {
			remove(t, name)
		} else {
			write(t, name, string(was))
		}
	}
	write(t, filepath.Join(data, "keys/recipient.json"), `{"current":2,"keys":[]}`)
	if _, err := auth.Open(auth.Config{Data: data}); err == nil {
		t.Error("a broken ring of keys was accepted")
	}
}

func remove(t *testing.T, path string) {
	t.Helper()
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
}

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

func TestOpenNeedsRandomness(t *testing.T) {
	data := t.TempDir()
	if _, err := auth.Open(auth.Config{Data: data, Random: strings.NewReader("short")}); err == nil {
		t.Error("a key was made of five bytes")
	}
	entries, err := os.ReadDir(filepath.Join(data, "keys"))
	if err != nil || len(entries) != 1 || entries[0].Name() != "lock" {
		t.Errorf("%v was left behind, want the lock only, %v", entries, err)
	}
}

const alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"

// mutations gives every string that differs in one place: a character replaced,
// left out, added, or its case changed; and parts of it.
func mutations(s string) []string {
	out := []string{"", s + s, s + "=", "=" + s, s + "\n", "\n" + s, " " + s, strings.ToUpper(s), strings.ToLower(s)}
	for i := range len(s) {
		out = append(out, s[:i]+s[i+1:], s[:i], s[:i]+"\n"+s[i:], s[:i]+"\n"+s[i+1:], s[:i]+"\r"+s[i+1:], s[:i]+"\x00"+s[i+1:])
		for _, c := range alphabet {
			out = append(out, s[:i]+string(c)+s[i+1:], s[:i]+string(c)+s[i:])
		}
	}
	return out
}

func TestMutatedKeysAreRefused(t *testing.T) {
	now := time.Unix(1_800_000_000, 0)
	k := open(t, t.TempDir(), func() time.Time { return now })
	key := adminKey(t, k)
	n := 0
	for _, m := range mutations(key) {
		if m == key {
			continue
		}
		n++
		if err := k.VerifyAdmin(m); job.CodeOf(err) != job.CodeDenied {
			t.Errorf("admin key %q: %v", m, err)
		}
	}
	for _, r := range []job.Recipient{0, 1, 4294967295} {
		token, _, err := k.Mint(r, time.Hour)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range mutations(token) {
			if m == token {
				continue
			}
			n++
			if got, err := k.VerifyRecipient(m); job.CodeOf(err) != job.CodeDenied {
				t.Errorf("token %q of %d verifies as %d, %v", m, r, got, err)
			}
		}
	}
	t.Logf("%d mutations", n)
}

func TestTokensOfOtherKeys(t *testing.T) {
	a, b := open(t, t.TempDir(), nil), open(t, t.TempDir(), nil)
	token, _, err := a.Mint(7, time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	if r, err := b.VerifyRecipient(token); err == nil {
		t.Errorf("a token of another server verifies as %d", r)
	}
}

func TestMint(t *testing.T) {
	now := time.Unix(1_800_000_000, 600_000_000)
	k := open(t, t.TempDir(), func() time.Time { return now })
	rapid.Check(t, func(t *rapid.T) {
		now = time.Unix(rapid.Int64Range(0, 1<<40).Draw(t, "now"), 0)
		r := job.Recipient(rapid.Uint32().Draw(t, "recipient"))
		ttl := time.Duration(rapid.Int64Range(int64(time.Second), int64(job.MaxTTL)).Draw(t, "ttl"))
		token, expires, err := k.Mint(r, ttl)
		if err != nil {
			t.Fatal(err)
		}
		if late := now.Add(ttl).Sub(expires); late < 0 || late >= time.Second {
			t.Fatalf("expires %v before the time asked for", late)
		}
		if strings.Trim(token, alphabet) != "" || len(token) != 60 {
			t.Fatalf("token %q cannot stand in a URL", token)
		}
		if got, err := k.VerifyRecipient(token); err != nil || got != r {
			t.Fatalf("token of %d verifies as %d, %v", r, got, err)
		}
		now = expires.Add(-time.Second)
		if _, err := k.VerifyRecipient(token); err != nil {
			t.Fatalf("a second before it expires: %v", err)
		}
		now = expires
		var je *job.Error
		if _, err := k.VerifyRecipient(token); !errors.As(err, &je) || je.Code != job.CodeDenied || !strings.Contains(je.Message, "expired") {
			t.Fatalf("when it expires: %v", err)
		}
	})
	for _, ttl := range []time.Duration{0, -time.Second, time.Second - 1, job.MaxTTL + 1} {
		if _, _, err := k.Mint(1, ttl); job.CodeOf(err) != job.CodeInvalid {
			t.Errorf("a token for %v: %v; want invalid", ttl, err)
		}
	}
}

// What was made for a recipient before it was erased is refused, also what was made between
// two erasures; what is made later is good, also where the erasure is not known yet. Others'
// tokens are as they were.
func TestTokensOfTheErased(t *testing.T) {
	dir, marks := t.TempDir(), map[job.Recipient]uint64{}
	open := func(erased func(job.Recipient) uint64) *auth.Keys {
		k, err := auth.Open(auth.Config{Data: dir, Erased: erased})
		if err != nil {
			t.Fatal(err)
		}
		return k
	}
	k, behind := open(func(r job.Recipient) uint64 { return marks[r] }), open(nil)
	mint := func(r job.Recipient) string {
		token, _, err := k.Mint(r, time.Hour)
		if err != nil {
			t.Fatal(err)
		}
		return token
	}
	var former []string
	other := mint(8)
	for _, mark := range []uint64{0, 1, 1 << 40, 1<<48 - 1} {
		marks[7] = mark
		token := mint(7)
		if (len(token) == 60) != (mark == 0) {
			t.Errorf("after record %d a token has %d characters", mark, len(token))
		}
		for _, k := range []*auth.Keys{k, behind} {
			if r, err := k.VerifyRecipient(token); err != nil || r != 7 {
				t.Errorf("after record %d a new token verifies as %d, %v", mark, r, err)
			}
		}
		for i, old := range former {
			if _, err := k.VerifyRecipient(old); job.CodeOf(err) != job.CodeDenied || !strings.Contains(err.Error(), "erased") {
				t.Errorf("after record %d token %d from before: %v", mark, i, err)
			}
		}
		for _, m := range mutations(token) {
			if m == token {
				continue
			}
			if got, err := k.VerifyRecipient(m); job.CodeOf(err) != job.CodeDenied {
				t.Errorf("token %q verifies as %d, %v", m, got, err)
			}
		}
		former = append(former, token)
	}
	if r, err := k.VerifyRecipient(other); err != nil || r != 8 {
		t.Errorf("another's token verifies as %d, %v", r, err)
	}
}

func FuzzVerify(f *testing.F) {
	k := open(f, f.TempDir(), nil)
	key := adminKey(f, k)
	token, _, err := k.Mint(7, time.Hour)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(key)
	f.Add(token)
	f.Fuzz(func(t *testing.T, s string) {
		if k.VerifyAdmin(s) == nil && s != key {
			t.Errorf("%q is an admin key", s)
		}
		if _, err := k.VerifyRecipient(s); err == nil && s != token {
			t.Errorf("%q is a token", s)
		}
	})
}

func TestProcessesThatOpenOneDirectoryAtOnceHaveTheSameKeys(t *testing.T) {
	data := t.TempDir()
	keys := make([]string, 8)
	var wg sync.WaitGroup
	for i := range keys {
		wg.Go(func() {
			k, err := auth.Open(auth.Config{Data: data})
			if err != nil {
				t.Error(err)
				return
			}
			if keys[i], err = k.AdminKey(); err != nil || k.VerifyAdmin(keys[i]) != nil {
				t.Errorf("key %d: %v", i, err)
			}
		})
	}
	wg.Wait()
	for _, k := range keys {
		if k != keys[0] {
			t.Fatal("two processes have two keys")
		}
	}
}
