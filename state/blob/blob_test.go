package blob_test

import (
	"bytes"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"crier/job"
	"crier/state/blob"
	"crier/state/blob/blobtest"
)

func openDir(t *testing.T, root string) *blob.Dir {
	d, err := blob.OpenDir(root)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// smallDisk gives a directory with room for 1 MiB: a file system of that size if
// this process may mount one, else "" and false.
func smallDisk(t *testing.T) (string, bool) {
	dir := t.TempDir()
	if err := syscall.Mount("crier-test", dir, "tmpfs", 0, "size=1m"); err != nil {
		t.Logf("no small file system (%v): going on with a disk that says it is full", err)
		return "", false
	}
	t.Cleanup(func() {
		if err := syscall.Unmount(dir, syscall.MNT_DETACH); err != nil {
			t.Errorf("unmounting %s: %v", dir, err)
		}
	})
	return dir, true
}

// Other processes may be writing what a process that opens the directory finds.
func TestOthersWriteToASharedDirectory(t *testing.T) {
	root := filepath.Join(t.TempDir(), "blobs")
	first, err := blob.OpenShared(root)
	if err != nil {
		t.Fatal(err)
	}
	old := filepath.Join(root, "tmp", "left")
	if err := os.WriteFile(old, []byte("half"), 0o600); err != nil {
		t.Fatal(err)
	}
	yesterday := time.Now().Add(-25 * time.Hour)
	if err := os.Chtimes(old, yesterday, yesterday); err != nil {
		t.Fatal(err)
	}
	r, w := io.Pipe()
	put := make(chan error, 1)
	go func() {
		_, _, err := first.Put(t.Context(), r)
		put <- err
	}()
	if _, err := w.Write([]byte("one half, ")); err != nil { // the file is there once this is taken
		t.Fatal(err)
	}
	if _, err := blob.OpenShared(root); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(old); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("what nobody has written to for a day is still there: %v", err)
	}
	if _, err := w.Write([]byte("and the other")); err != nil {
		t.Fatal(err)
	}
	w.Close()
	if err := <-put; err != nil {
		t.Errorf("another process opened the directory meanwhile: %v", err)
	}
}

func TestDir(t *testing.T) {
	blobtest.Run(t, blobtest.Subject{
		Open: func(t *testing.T) blobtest.Store {
			root := filepath.Join(t.TempDir(), "blobs")
			d := openDir(t, root)
			return d
		},
		Damage: func(t *testing.T, s blobtest.Store, digest job.Digest) {
			h, err := s.Open(t.Context(), digest)
			if err != nil {
				t.Fatal(err)
			}
			defer h.Close()
			b, err := os.ReadFile(h.Path())
			if err != nil {
				t.Fatal(err)
			}
			b[len(b)/3] ^= 0x10
			if err := os.WriteFile(h.Path(), b, 0o600); err != nil {
				t.Fatal(err)
			}
		},
		Small: func(t *testing.T) blobtest.Store {
			if dir, ok := smallDisk(t); ok {
				return openDir(t, filepath.Join(dir, "blobs"))
			}
			d, err := blob.OpenDirWithRoom(filepath.Join(t.TempDir(), "blobs"), 1<<20)
			if err != nil {
				t.Fatal(err)
			}
			return d
		},
	})
}

func TestMemory(t *testing.T) {
	blobtest.Run(t, blobtest.Subject{
		Open: func(*testing.T) blobtest.Store { return blob.NewMemory(0) },
		Damage: func(_ *testing.T, s blobtest.Store, digest job.Digest) {
			s.(*blob.Memory).Damage(digest)
		},
		Small: func(*testing.T) blobtest.Store { return blob.NewMemory(1 << 20) },
	})
}

func TestBlobsSurviveReopening(t *testing.T) {
	root := filepath.Join(t.TempDir(), "blobs")
	b := blobtest.Random(5, 10000)
	digest, _, err := openDir(t, root).Put(t.Context(), bytes.NewReader(b))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(root, "tmp", "LEFTOVER"), b[:100], 0o600); err != nil {
		t.Fatal(err)
	}
	d := openDir(t, root)
	if err := d.Verify(t.Context(), digest); err != nil {
		t.Error(err)
	}
	if left, err := os.ReadDir(filepath.Join(root, "tmp")); err != nil || len(left) != 0 {
		t.Errorf("left over: %v, %v", left, err)
	}
}
