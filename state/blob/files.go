package blob

import (
	"io"
	"os"
)

// files is what Dir does to the disk, in the steps between which a crash can
// fall. Tests put another one in its place to cut the steps short.
type files interface {
	// create makes a new file for writing; it must not exist.
	create(path string) (file, error)
	// mkdir makes a directory; one that exists is fine.
	mkdir(path string) error
	// rename moves a file over whatever has the name.
	rename(from, to string) error
	// remove deletes a file; one that does not exist is an error.
	remove(path string) error
	// syncDir makes a directory's entries durable.
	syncDir(path string) error
}

// file is a file being written.
type file interface {
	io.Writer
	Sync() error
	Close() error
}

// disk is files as the operating system has them.
type disk struct{}

func (disk) create(path string) (file, error) {
	return os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
}

func (disk) mkdir(path string) error {
	if err := os.Mkdir(path, 0o700); err != nil && !os.IsExist(err) {
		return err
	}
	return nil
}

func (disk) rename(from, to string) error { return os.Rename(from, to) }

func (disk) remove(path string) error { return os.Remove(path) }

func (disk) syncDir(path string) error {
	d, err := os.Open(path)
	if err != nil {
		return err
	}
	if err := d.Sync(); err != nil {
		d.Close()
		return err
	}
	return d.Close()
}
