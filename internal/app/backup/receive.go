package backup

import (
	"archive/tar"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"crier/internal/app/datadir"
	"crier/job"
)

// Receive lays out in a directory what Source's Write writes. The directory is made; it
// must be empty if it is there. Its manifest is written when everything else is durable,
// so that what is cut short is no backup. If nothing came, a directory that it made is
// taken away again.
func Receive(r io.Reader, dir string) (Manifest, error) {
	_, err := os.Lstat(dir)
	made := errors.Is(err, fs.ErrNotExist)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return Manifest{}, job.Invalid("to", "to: making the directory; give one that may be written", err)
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) > 0 {
		return Manifest{}, job.Invalid("to", fmt.Sprintf("to: %s is not empty; give another directory, or remove what is in it", dir), err)
	}
	m, raw, err := unpack(tar.NewReader(r), dir)
	if err != nil {
		if made {
			_ = os.Remove(dir) // with files in it, it stays
		}
		return Manifest{}, err
	}
	if _, err := io.Copy(io.Discard, r); err != nil { // all of it came
		return Manifest{}, fmt.Errorf("reading the end of the backup: %w", err)
	}
	if err := syncAll(dir); err != nil {
		return Manifest{}, err
	}
	if err := datadir.WriteWhole(filepath.Join(dir, manifestName), raw, 0o600); err != nil {
		return Manifest{}, fmt.Errorf("writing the manifest: %w", err)
	}
	return m, nil
}

// unpack writes the files and compares them with the manifest, which it gives.
func unpack(tr *tar.Reader, dir string) (m Manifest, raw []byte, err error) {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return m, nil, err
	}
	defer root.Close()
	var got []File
	for {
		h, err := tr.Next()
		if err != nil && len(got) == 0 {
			return m, nil, fmt.Errorf("nothing of a backup came: %w", err)
		}
		if err != nil {
			return m, nil, fmt.Errorf("the backup broke off after %d files: %w", len(got), err)
		}
		if h.Name == manifestName {
			break
		}
		f, err := write(root, h, tr)
		if err != nil {
			return m, nil, fmt.Errorf("writing %s: %w", h.Name, err)
		}
		got = append(got, f)
	}
	if raw, err = io.ReadAll(tr); err != nil {
		return m, nil, fmt.Errorf("the backup broke off in its manifest: %w", err)
	}
	if m, err = parse(raw); err != nil {
		return m, nil, err
	}
	if len(got) != len(m.Files) {
		return m, nil, fmt.Errorf("%d files came, and the backup has %d", len(got), len(m.Files))
	}
	for i, f := range m.Files {
		if got[i] != f {
			return m, nil, fmt.Errorf("%s came as %+v, and is %+v", f.Name, got[i], f)
		}
	}
	return m, raw, nil
}

func write(root *os.Root, h *tar.Header, r io.Reader) (File, error) {
	if h.Typeflag != tar.TypeReg {
		return File{}, errors.New("it is no plain file")
	}
	if err := root.MkdirAll(filepath.Dir(h.Name), 0o700); err != nil {
		return File{}, err
	}
	f, err := root.OpenFile(h.Name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return File{}, err
	}
	sum := sha256.New()
	n, err := io.Copy(io.MultiWriter(f, sum), r)
	if err = errors.Join(err, f.Close()); err != nil {
		return File{}, err
	}
	return File{h.Name, n, job.Digest(sum.Sum(nil))}, nil
}

// syncAll makes everything under a directory durable, and its own entry.
func syncAll(dir string) error {
	for _, d := range []string{dir, filepath.Dir(dir)} {
		f, err := os.Open(d)
		if err != nil {
			return err
		}
		if d == dir {
			err = unix.Syncfs(int(f.Fd()))
		} else {
			err = f.Sync()
		}
		if err = errors.Join(err, f.Close()); err != nil {
			return fmt.Errorf("making %s durable: %w", d, err)
		}
	}
	return nil
}

// Check reads a whole backup and refuses it if a byte of it is not as it was written.
func Check(dir string) (Manifest, error) {
	m, err := Read(dir)
	if err != nil {
		return m, err
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return m, err
	}
	defer root.Close()
	for _, f := range m.Files {
		if err := f.check(root); err != nil {
			return m, err
		}
	}
	return m, nil
}

func (f File) check(root *os.Root) error {
	r, err := root.Open(f.Name)
	if errors.Is(err, fs.ErrNotExist) {
		return broken("%s is missing", f.Name)
	}
	if err != nil {
		return fmt.Errorf("reading the backup: %w", err)
	}
	defer r.Close()
	sum := sha256.New()
	n, err := io.Copy(sum, r)
	switch {
	case err != nil:
		return fmt.Errorf("reading %s of the backup: %w", f.Name, err)
	case n != f.Size:
		return broken("%s has %d of %d bytes", f.Name, n, f.Size)
	case job.Digest(sum.Sum(nil)) != f.SHA256:
		return broken("%s has changed since it was written", f.Name)
	}
	return nil
}
