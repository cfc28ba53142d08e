package bundle_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"crier/internal/bundle"
)

func write(t *testing.T, path string, data []byte) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		t.Fatal(err)
	}
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	_, err = f.Write(data)
	if err := errors.Join(err, f.Sync(), f.Close()); err != nil { // blocks are given to it now
		t.Fatal(err)
	}
}

// Files are added up by where they are and how they end, and what the system's own tools
// say is what is said.
func TestMeasure(t *testing.T) {
	dir := t.TempDir()
	for path, n := range map[string]int{"nats/a/1.blk": 5000, "nats/b/2.blk": 70_000, "nats/meta.inf": 10, "blobs/ab/abcdef": 3, "crier.db": 4096,
		"mine/passwords.of-recipient-4711": 11, "stray.txt": 1, "nats/x.Recipient4711": 2} {
		write(t, filepath.Join(dir, path), bytes.Repeat([]byte("x"), n))
	}
	hole := filepath.Join(dir, "accepted", "1.log")
	write(t, hole, nil)
	if err := os.Truncate(hole, 10<<20); err != nil {
		t.Fatal(err)
	}
	u, err := bundle.Measure(t.Context(), dir, []string{"nats", "blobs", "crier.db", "accepted"})
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]string{}
	var taken uint64
	for _, k := range u.Kinds {
		got[k.Kind] = fmt.Sprint(k.Files, " ", k.Bytes)
		taken += k.Taken
	}
	want := map[string]string{"nats/*.blk": "2 75000", "nats/*.inf": "1 10", "nats/*": "1 2", "blobs/*": "1 3", "crier.db": "1 4096", "others": "2 12", "accepted/*.log": "1 10485760"}
	if fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("it is %v, want %v", got, want)
	}
	du, err := exec.CommandContext(t.Context(), "find", dir, "-type", "f", "-printf", "%b\n").Output()
	if err != nil {
		t.Fatal(err)
	}
	var blocks, sum uint64
	for line := range strings.Lines(string(du)) {
		if _, err := fmt.Sscan(line, &blocks); err != nil {
			t.Fatal(err)
		}
		sum += blocks * 512
	}
	if taken != sum {
		t.Errorf("%d bytes of the disk are taken; find says %d", taken, sum)
	}
	if u.DiskBytes == 0 || u.DiskFree > u.DiskBytes || u.Dir != dir {
		t.Errorf("the disk is %+v", u)
	}
}

func TestMeasureNothing(t *testing.T) {
	if _, err := bundle.Measure(t.Context(), filepath.Join(t.TempDir(), "gone"), nil); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a directory that is not there: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := bundle.Measure(ctx, t.TempDir(), nil); !errors.Is(err, context.Canceled) {
		t.Errorf("after its time: %v", err)
	}
}

func TestTail(t *testing.T) {
	path := filepath.Join(t.TempDir(), "log")
	for _, c := range []struct {
		log   string
		lines int
		most  int64
		want  string
	}{
		{"", 3, 100, ""}, {"a\n", 3, 100, "a\n"}, {"a\nb\nc\nd\n", 2, 100, "c\nd\n"}, {"a\nb\nc\nd", 2, 100, "c\nd"}, {"a\nb", 2, 100, "a\nb"},
		{"a\n\n\n", 2, 100, "\n\n"}, {"aaaa\nbbbb\ncc\n", 9, 5, "cc\n"}, {"aaaa\nbbbb\ncc\n", 9, 8, "bbbb\ncc\n"}, {"aaaaaaaa", 9, 5, ""},
	} {
		write(t, path, []byte(c.log))
		if got, err := bundle.Tail(path, c.lines, c.most); err != nil || string(got) != c.want {
			t.Errorf("of %q the last %d lines in %d bytes are %q, %v; want %q", c.log, c.lines, c.most, got, err, c.want)
		}
	}
	pipe := filepath.Join(t.TempDir(), "pipe")
	if err := unix.Mkfifo(pipe, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, bad := range []string{pipe, t.TempDir(), filepath.Join(t.TempDir(), "gone")} {
		if _, err := bundle.Tail(bad, 3, 100); err == nil {
			t.Errorf("%s is taken for a log", bad)
		}
	}
}
