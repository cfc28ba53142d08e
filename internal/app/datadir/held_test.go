package datadir_test

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"crier/internal/app/datadir"
)

// begin starts on a directory, and ends.
func begin(t *testing.T, dir string) *datadir.Node {
	t.Helper()
	lock, err := datadir.Lock(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer lock.Close()
	n, err := datadir.Take(dir, "")
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func run(t *testing.T, name string, args ...string) {
	t.Helper()
	if out, err := exec.Command(name, args...).CombinedOutput(); err != nil {
		t.Fatalf("%s %q: %v: %s", name, args, err, out)
	}
}

// What copies a directory gives it another lock, so that it has another Home; what leaves
// it in its place, or moves it on its file system, does not.
func TestHomeOfACopy(t *testing.T) {
	for _, c := range []struct {
		what  string
		move  func(t *testing.T, from, to string)
		stays bool
	}{
		{"started again", func(t *testing.T, from, to string) { run(t, "ln", "-s", from, to) }, true},
		{"moved", func(t *testing.T, from, to string) { run(t, "mv", from, to) }, true},
		{"cp -a", func(t *testing.T, from, to string) { run(t, "cp", "-a", from, to) }, false},
		{"tar, and in its place again", func(t *testing.T, from, to string) {
			run(t, "tar", "-C", from, "-cf", to+".tar", ".")
			run(t, "rm", "-r", from)
			run(t, "mkdir", to)
			run(t, "tar", "-C", to, "-xpf", to+".tar")
		}, false},
		{"without its lock", func(t *testing.T, from, to string) {
			run(t, "mkdir", to)
			run(t, "cp", "-a", filepath.Join(from, "node.json"), to)
		}, false},
	} {
		at := t.TempDir()
		from, to := filepath.Join(at, "from"), filepath.Join(at, "to")
		first := begin(t, from)
		c.move(t, from, to)
		second := begin(t, to)
		if second.Name != first.Name || second.Starts != first.Starts+1 || (second.Home == first.Home) != c.stays {
			t.Errorf("%s: %+v after %+v", c.what, second, first)
		}
		if third := begin(t, to); third.Home != second.Home {
			t.Errorf("%s: %+v after %+v, in its place", c.what, third, second)
		}
	}
}

// The owner and the mode of a lock are no part of it, where the file system tells its birth.
func TestHomeWhenTheModeIsChanged(t *testing.T) {
	dir := t.TempDir()
	first := begin(t, dir)
	var st unix.Statx_t
	if err := unix.Statx(unix.AT_FDCWD, filepath.Join(dir, "lock"), 0, unix.STATX_BTIME, &st); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(filepath.Join(dir, "lock"), 0o640); err != nil {
		t.Fatal(err)
	}
	if second := begin(t, dir); second.Home != first.Home && st.Mask&unix.STATX_BTIME != 0 {
		t.Errorf("%+v after %+v", second, first)
	}
}

// Whatever is another about the lock than what its Home stands for, it is a copy: another
// boot may be another machine's, another device a volume's clone. What an older program
// wrote says less, and proves as little.
func TestHomeOfAnotherLock(t *testing.T) {
	for what, change := range map[string]func(held map[string]json.RawMessage){
		"boot": func(held map[string]json.RawMessage) {
			held["boot"] = json.RawMessage(`"5e4e0d0c-0000-4000-8000-000000000000"`)
		},
		"device":  func(held map[string]json.RawMessage) { held["device"] = json.RawMessage(`"7:1000"`) },
		"inode":   func(held map[string]json.RawMessage) { held["inode"] = json.RawMessage("1") },
		"birth":   func(held map[string]json.RawMessage) { held["born"] = json.RawMessage("1") },
		"nothing": func(map[string]json.RawMessage) {},
		"older":   func(held map[string]json.RawMessage) { clear(held) },
	} {
		dir := t.TempDir()
		first := begin(t, dir)
		path := filepath.Join(dir, "node.json")
		b, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		var all, held map[string]json.RawMessage
		if err := json.Unmarshal(b, &all); err != nil {
			t.Fatal(err)
		}
		if err := json.Unmarshal(all["held"], &held); err != nil {
			t.Fatal(err)
		}
		if len(held) != 4 {
			t.Fatalf("the lock is told apart by %v", held)
		}
		change(held)
		if all["held"], err = json.Marshal(held); err != nil {
			t.Fatal(err)
		}
		if len(held) == 0 {
			delete(all, "held")
			all["lock"] = json.RawMessage("4") // it was the inode
		}
		if b, err = json.Marshal(all); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, b, 0o600); err != nil {
			t.Fatal(err)
		}
		if second := begin(t, dir); (second.Home == first.Home) != (what == "nothing") {
			t.Errorf("%s: %+v after %+v", what, second, first)
		}
	}
}

// A copy on another file system may have the same inode, as two that are new give them out
// in the same order; so may one on the file system that came in the place of the first.
func TestHomeOnAnotherFileSystem(t *testing.T) {
	dir := t.TempDir()
	mount := func(name string) (string, error) {
		at := filepath.Join(dir, name)
		if err := os.MkdirAll(at, 0o700); err != nil {
			t.Fatal(err)
		}
		return at, syscall.Mount("crier-test", at, "tmpfs", 0, "size=1m")
	}
	unmount := func(at string) {
		t.Helper()
		if err := syscall.Unmount(at, syscall.MNT_DETACH); err != nil {
			t.Error(err)
		}
	}
	inode := func(at string) uint64 {
		t.Helper()
		var st syscall.Stat_t
		if err := syscall.Stat(filepath.Join(at, "lock"), &st); err != nil {
			t.Fatal(err)
		}
		return st.Ino
	}
	one, err := mount("one")
	if err != nil {
		t.Logf("no file system (%v): copies on others are tested where one can be mounted", err)
		return
	}
	keep := filepath.Join(dir, "keep")
	first := begin(t, one)
	was := inode(one)
	run(t, "cp", "-a", one, keep)

	two, err := mount("two")
	if err != nil {
		t.Fatal(err)
	}
	run(t, "cp", "-a", filepath.Join(one, "lock"), filepath.Join(one, "node.json"), two)
	if inode(two) != was {
		t.Errorf("the copy's inode is %d, not %d: the test shows nothing", inode(two), was)
	}
	if copied := begin(t, two); copied.Home == first.Home {
		t.Errorf("on another file system: %+v, and %+v lives", copied, first)
	}
	unmount(two)

	unmount(one)
	if _, err := mount("one"); err != nil {
		t.Fatal(err)
	}
	run(t, "cp", "-a", filepath.Join(keep, "lock"), filepath.Join(keep, "node.json"), one)
	if copied := begin(t, one); copied.Home == first.Home {
		t.Errorf("on another file system in its place: %+v", copied)
	}
	unmount(one)
}
