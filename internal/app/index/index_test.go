package index_test

import (
	"log/slog"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"

	"crier/internal/app/index"
	"crier/state/ledger"
	"crier/state/parked/kv"
	"crier/state/parked/level"
)

// An operator may have put the index on a disk of its own, by a link or by mounting it there: that
// is where it is built again, whatever is wrong with the one that is there.
func TestElsewhere(t *testing.T) {
	for name, put := range map[string]func(t *testing.T, dir string) bool{
		"a link": func(t *testing.T, dir string) bool {
			if err := os.Symlink(t.TempDir(), dir); err != nil {
				t.Fatal(err)
			}
			return true
		},
		"a mounted disk": func(t *testing.T, dir string) bool {
			if err := os.Mkdir(dir, 0o700); err != nil {
				t.Fatal(err)
			}
			if err := unix.Mount("crier-test", dir, "tmpfs", 0, "size=64m"); err != nil {
				t.Logf("no file system (%v): it is tested where one can be mounted", err)
				return false
			}
			t.Cleanup(func() {
				if err := unix.Unmount(dir, unix.MNT_DETACH); err != nil {
					t.Error(err)
				}
			})
			return true
		},
	} {
		for what, spoil := range map[string]func(t *testing.T, dir string){
			"damaged":         cutOff,
			"of another form": func(*testing.T, string) {}, // rows, and no watermark
		} {
			t.Run(name+", "+what, func(t *testing.T) {
				dir := filepath.Join(t.TempDir(), "parked")
				if !put(t, dir) {
					return
				}
				device := deviceOf(t, dir)
				write(t, dir)
				spoil(t, dir)
				f := index.Files{Dir: dir, Starts: 2, Ledger: ledger.NewMemory(ledger.MemoryConfig{}), Log: slog.New(slog.DiscardHandler)}
				store, err := f.Open(t.Context())
				if err != nil {
					t.Fatal(err)
				}
				defer store.Close()
				if v, err := store.Get([]byte("row")); v != nil || err != nil {
					t.Errorf("it has the row %q, %v", v, err)
				}
				if is := deviceOf(t, dir); is != device {
					t.Errorf("it is elsewhere than it was: %v, not %v", is, device)
				}
			})
		}
	}
}

// place is where a directory is: through which link, and on which device.
type place struct {
	link   string
	device uint64
}

func deviceOf(t *testing.T, dir string) place {
	t.Helper()
	var st unix.Stat_t
	if err := unix.Stat(dir, &st); err != nil {
		t.Fatal(err)
	}
	link, _ := os.Readlink(dir) // "" if it is none
	return place{link, uint64(st.Dev)}
}

func write(t *testing.T, dir string) {
	t.Helper()
	store, err := level.Open(level.Config{Dir: dir})
	if err != nil {
		t.Fatal(err)
	}
	var b kv.Batch
	b.Put([]byte("row"), []byte("value"))
	if err := store.Write(&b); err != nil {
		t.Fatal(err)
	}
	if err := store.Close(); err != nil {
		t.Fatal(err)
	}
}

func cutOff(t *testing.T, dir string) {
	t.Helper()
	lists, err := filepath.Glob(filepath.Join(dir, "MANIFEST*"))
	if err != nil || len(lists) == 0 {
		t.Fatal("no list of tables", err)
	}
	if err := os.Truncate(lists[0], 20); err != nil {
		t.Fatal(err)
	}
}
