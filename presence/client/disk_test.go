package client

import (
	"bytes"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

func openFile(t *testing.T, path string) *File {
	t.Helper()
	f, err := OpenFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return f
}

// history writes a log and tells, for each of its lengths, what a reader of it knows.
func history(t *testing.T, path string) (log []byte, at map[int]string) {
	f := openFile(t, path)
	at = map[int]string{}
	want := map[string]bool{}
	note := func() {
		data, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		log, at[len(data)] = data, strings.Join(slices.Sorted(maps.Keys(want)), " ")
	}
	note()
	for i := range 30 {
		id := fmt.Sprintf("job_%026d", i)
		if err := f.Add(id); err != nil {
			t.Fatal(err)
		}
		want[id] = true
		note()
		if i%3 == 2 {
			id := fmt.Sprintf("job_%026d", i-1)
			if err := f.Forget([]string{id}); err != nil {
				t.Fatal(err)
			}
			delete(want, id)
			note()
		}
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	return log, at
}

// look tells what a log says. Opening it takes time for the disk; so that is done for
// some only, and then the file must say the same and can be gone on with.
func look(t *testing.T, path string, log []byte, open bool) (name, ids string, damaged int) {
	t.Helper()
	m, err := parseLog(log)
	if err != nil {
		t.Fatal(err)
	}
	name, ids, damaged = m.client, strings.Join(slices.Sorted(maps.Keys(m.ids)), " "), m.damaged
	if !open {
		return name, ids, damaged
	}
	if err := os.WriteFile(path, log, 0o600); err != nil {
		t.Fatal(err)
	}
	f := openFile(t, path)
	opened, list, _ := f.Load()
	if name != "" && opened != name || strings.Join(list, " ") != ids || f.Damaged() != damaged {
		t.Fatalf("opened: client %q, ids %q, damaged %d; parsed: %q, %q, %d", opened, list, f.Damaged(), name, ids, damaged)
	}
	if err := f.Add("one more"); err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	again := openFile(t, path)
	defer again.Close()
	name2, list2, _ := again.Load()
	if name2 != opened || len(list2) != len(list)+1 || again.Damaged() != 0 {
		t.Fatalf("after going on: %q %q, damaged %d", name2, list2, again.Damaged())
	}
	return opened, ids, damaged
}

// A crash leaves any prefix of the log.
func TestFileSurvivesACrashAtEachByte(t *testing.T) {
	path := filepath.Join(t.TempDir(), "shown")
	log, at := history(t, path)
	first := len(log)
	for n := range at {
		first = min(first, n)
	}
	name, _, _ := look(t, path, log, true)
	want, step := at[first], 0
	for n := first; n <= len(log); n++ {
		if _, whole := at[n]; whole {
			want, step = at[n], n
		}
		gotName, got, damaged := look(t, path, log[:n], n%89 == 0)
		if gotName != name || got != want || (damaged == 1) != (n != step) {
			t.Fatalf("cut at byte %d: client %q, ids %q, damaged %d; want %q", n, gotName, got, damaged, want)
		}
	}
}

// A power cut may leave a hole of zeros in what was not synced; a bad disk changes
// bits. Each record that was hit is left out, none is invented, the others stay.
func TestFileSurvivesDamage(t *testing.T) {
	path := filepath.Join(t.TempDir(), "shown")
	f := openFile(t, path)
	var all []string
	for i := range 40 {
		all = append(all, fmt.Sprintf("job_%026d", i))
		if err := f.Add(all[i]); err != nil {
			t.Fatal(err)
		}
	}
	f.Close()
	log, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	const magic = len("crier client 1\n")
	hit := func(from, to int) (ids []string) { // by how often a line is touched
		for _, id := range all {
			i := bytes.Index(log, []byte(id))
			start, end := i-len("00000000 + "), i+len(id)+1
			// A line feed that is lost joins two records.
			if from < end && to > start || from <= start-1 && to > start-1 {
				ids = append(ids, id)
			}
		}
		return ids
	}
	check := func(what string, damaged []byte, from, to int) {
		t.Helper()
		_, got, n := look(t, path, damaged, from%89 == 0)
		lost := hit(from, to)
		want := slices.DeleteFunc(slices.Clone(all), func(id string) bool { return slices.Contains(lost, id) })
		if got != strings.Join(want, " ") || n == 0 {
			t.Fatalf("%s at %d..%d: ids %q, damaged %d", what, from, to, got, n)
		}
	}
	clientLine := bytes.IndexByte(log[magic:], '\n') + magic + 1
	for at := clientLine; at < len(log); at++ {
		bad := bytes.Clone(log)
		bad[at] ^= 1 << (at % 8)
		check("a flipped bit", bad, at, at+1)
		to := min(at+1+at*7%300, len(log))
		hole := bytes.Clone(log)
		clear(hole[at:to])
		check("a hole", hole, at, to)
	}
	// Without its own id the client is a new one, and what it has stays true.
	bad := bytes.Clone(log)
	bad[magic+3] ^= 1
	if name, got, n := look(t, path, bad, true); bytes.Contains(log, []byte(name)) || got != strings.Join(all, " ") || n != 1 {
		t.Fatalf("client %q, ids %q, damaged %d", name, got, n)
	}
}

// A disk that fails and recovers: nothing that was added before or during the failure
// is lost once a Sync has returned nil, and the file can be read at every moment.
func TestFileOnAFailingDisk(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "d")
	gone := dir + ".gone"
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	f, err := OpenFile(filepath.Join(dir, "shown"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := f.Add("before"); err != nil {
		t.Fatal(err)
	}
	for _, op := range []func() error{func() error { return f.Add("x") }, func() error { return f.Forget([]string{"before"}) }, f.Sync} {
		// The descriptor refuses writes, and the file cannot be made anew.
		if err := f.mu.log.Close(); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(dir, gone); err != nil {
			t.Fatal(err)
		}
		if err := op(); err == nil {
			t.Fatal("the failure was not told")
		}
		for range 2 {
			if f.Add("during") == nil || f.Sync() == nil {
				t.Fatal("the failure lasts and was not told")
			}
		}
		if err := os.Rename(gone, dir); err != nil {
			t.Fatal(err)
		}
		if err := f.Add("during"); err != nil {
			t.Fatalf("the disk is back: %v", err)
		}
		if err := f.Sync(); err != nil {
			t.Fatalf("the disk is back: %v", err)
		}
		data, err := os.ReadFile(f.path)
		if err != nil {
			t.Fatal(err)
		}
		_, ids, _ := f.Load()
		if m, err := parseLog(data); err != nil || m.damaged != 0 || len(m.ids) != len(ids) || !slices.Contains(ids, "during") {
			t.Fatalf("the file has %v, the store %v, %v", m, ids, err)
		}
		if err := f.Forget([]string{"during"}); err != nil {
			t.Fatal(err)
		}
	}
}
