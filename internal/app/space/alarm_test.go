package space

import (
	"context"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"slices"
	"strings"
	"syscall"
	"testing"

	"crier/job"
)

// told keeps what is logged, in short.
type told struct {
	slog.Handler
	lines *[]string
}

func (told) Enabled(context.Context, slog.Level) bool { return true }

func (t told) Handle(_ context.Context, r slog.Record) error {
	line := r.Level.String()
	r.Attrs(func(a slog.Attr) bool {
		if a.Key == "of" || a.Key == "level" {
			line += " " + a.Value.String()
		}
		return true
	})
	*t.lines = append(*t.lines, line)
	return nil
}

// TestCrossings fills a disk and frees it in small steps: each limit is told of once on
// the way up, once on the way down, and not when the disk hovers there.
func TestCrossings(t *testing.T) {
	var lines []string
	percent := map[string]float64{"/d": 0, "/a": 0}
	a := NewAlarms([]Dir{{"data", "/d"}, {"accepted", "/a"}, {"gone", "/no"}}, Limits{70, 85}, slog.New(told{slog.DiscardHandler, &lines}))
	a.stat = func(dir string) (statted, error) {
		if dir == "/no" {
			return statted{}, &fs.PathError{Op: "statfs", Path: dir, Err: syscall.ENOENT}
		}
		return statted{uint64(dir[1]), uint64(percent[dir] * 10), 1000}, nil
	}
	for _, c := range []struct {
		dir     string
		percent float64
		says    string
	}{
		{"/d", 69.9, ""}, {"/d", 70, "WARN data warning"}, {"/d", 69.9, ""}, {"/d", 68, ""}, {"/d", 70, ""}, {"/d", 67.9, "INFO data ok"}, {"/d", 69.9, ""},
		{"/d", 85, "ERROR data critical"}, {"/d", 84, ""}, {"/d", 99.9, ""}, {"/d", 83, ""}, {"/d", 82.9, "WARN data warning"},
		{"/a", 100, "ERROR accepted critical"}, {"/d", 85, "ERROR data critical"}, {"/a", 0, "INFO accepted ok"}, {"/d", 0, "INFO data ok"},
	} {
		lines, percent[c.dir] = nil, c.percent
		disks := a.Look()
		if got := strings.Join(lines, "; "); got != c.says {
			t.Errorf("%s at %v %%: told %q, want %q", c.dir, c.percent, got, c.says)
		}
		if len(disks) != 2 || disks[0].Percent() != percent["/d"] {
			t.Errorf("the disks are %+v", disks)
		}
		if a.Look(); len(lines) > 1 {
			t.Errorf("%s at %v %%: told again: %v", c.dir, c.percent, lines)
		}
	}
}

// TestOneDisk: directories on one file system are one disk, and it is as full as it is.
func TestOneDisk(t *testing.T) {
	dir := t.TempDir()
	if err := syscall.Mount("crier-test", dir, "tmpfs", 0, "size=1m"); err != nil {
		t.Logf("no small file system (%v): disks are looked at where one can be mounted", err)
		return
	}
	defer func() {
		if err := syscall.Unmount(dir, syscall.MNT_DETACH); err != nil {
			t.Error(err)
		}
	}()
	elsewhere := t.TempDir()
	if err := os.Mkdir(dir+"/in", 0o700); err != nil {
		t.Fatal(err)
	}
	a := NewAlarms([]Dir{{"data", dir}, {"accepted", dir + "/in"}, {"blobs", elsewhere}}, Limits{70, 85}, slog.New(slog.DiscardHandler))
	for _, c := range []struct {
		kib  int
		want Level
	}{{0, Fine}, {600, Fine}, {760, Warning}, {900, Critical}, {0, Fine}} {
		if err := os.WriteFile(dir+"/ballast", make([]byte, c.kib<<10), 0o600); err != nil {
			t.Fatal(err)
		}
		disks := a.Look()
		if len(disks) != 2 || !slices.Equal(disks[0].Of, []string{"data", "accepted"}) || disks[0].Level != c.want || disks[0].Size != 1<<20 || disks[0].Used != uint64(c.kib<<10) {
			t.Errorf("with %d KiB of a MiB the disks are %+v, want %s", c.kib, disks, c.want)
		}
	}
}

// A directory that is made later is told of by nobody; what else keeps a disk from being
// looked at is told of once.
func TestADirectoryThatIsNotThere(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(dir+"/file", nil, 0o600); err != nil {
		t.Fatal(err)
	}
	var lines []string
	a := NewAlarms([]Dir{{"data", dir}, {"later", dir + "/later"}, {"wrong", dir + "/file/in"}}, Limits{70, 85}, slog.New(told{slog.DiscardHandler, &lines}))
	for range 2 {
		if disks := a.Look(); len(disks) != 1 || !slices.Equal(disks[0].Of, []string{"data"}) {
			t.Errorf("the disks are %+v", disks)
		}
	}
	if got := slices.DeleteFunc(lines, func(line string) bool { return strings.Contains(line, "data") }); !slices.Equal(got, []string{"WARN wrong"}) { // that disk may be full
		t.Errorf("told %q", got)
	}
}

func TestLimits(t *testing.T) {
	for _, c := range []struct {
		l  Limits
		ok bool
	}{{Limits{}, true}, {Limits{50, 60}, true}, {Limits{Warn: 84}, true}, {Limits{Warn: 85}, false}, {Limits{Crit: 70}, false}, {Limits{-1, 50}, false}, {Limits{50, 101}, false}} {
		if err := c.l.Validate(); (err == nil) != c.ok || !c.ok && job.CodeOf(err) != job.CodeInvalid {
			t.Errorf("%+v: %v", c.l, err)
		}
	}
	if got := fmt.Sprint(Fine, Warning, Critical); got != "ok warning critical" {
		t.Error(got)
	}
}
