package audience

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/cespare/xxhash/v2"
	"golang.org/x/sys/unix"

	"crier/internal/idset"
	"crier/job"
)

// Writer makes an envelope from sets given range by range. The encoded containers
// go to an unnamed file beside the target, so that memory is bounded by the index
// (0.75 MiB), one container and the buffers (under 1 MiB). It is used by one
// goroutine; call Abort when done with it, also after Finish.
type Writer struct {
	dir, name string
	spool     *os.File // unlinked: gone with the process
	out       *bufio.Writer
	canon     *canonical
	next      int // least range that may come
	l         layout
	lengths   []uint32
	buf       []byte
}

// NewWriter starts the envelope of a package, to be published in a directory.
func NewWriter(dir, name string) (*Writer, error) {
	if err := ValidateName(name); err != nil {
		return nil, err
	}
	f, err := os.CreateTemp(dir, ".crpk-spool-*.tmp")
	if err != nil {
		return nil, writing(name, err)
	}
	if err := os.Remove(f.Name()); err != nil {
		return nil, writing(name, errors.Join(err, f.Close()))
	}
	return &Writer{dir: dir, name: name, spool: f, out: bufio.NewWriterSize(f, 1<<18), canon: newCanonical()}, nil
}

func writing(name string, err error) error { return fmt.Errorf("writing package %q: %w", name, err) }

// Add takes the ids of the next range. Ranges come in ascending order, each once;
// an empty set may be left out. The set stays the caller's.
func (w *Writer) Add(s *idset.Set) error {
	if int(s.Range) < w.next {
		return writing(w.name, fmt.Errorf("range %s came after range %s", s.Range, job.Range(w.next-1)))
	}
	w.next = int(s.Range) + 1
	for i := range idset.Containers {
		if c := s.Container(i); c != nil {
			if err := w.add(uint16(int(s.Range)*idset.Containers+i), c); err != nil {
				return err
			}
		}
	}
	return nil
}

// add takes the next container.
func (w *Writer) add(key uint16, c *idset.Container) error {
	b, card, run := appendContainer(w.buf[:0], c)
	w.buf = b
	if card == 0 {
		return nil
	}
	w.canon.add(key, c)
	i := len(w.l.keys)
	w.l.keys = append(w.l.keys, key)
	w.l.cards = append(w.l.cards, uint16(card-1))
	w.lengths = append(w.lengths, uint32(len(b)))
	if run {
		for len(w.l.runs) <= i/8 {
			w.l.runs = append(w.l.runs, 0)
		}
		w.l.runs[i/8] |= 1 << (i % 8)
	}
	if _, err := w.out.Write(b); err != nil {
		return writing(w.name, err)
	}
	return nil
}

// Finish writes the envelope whole and synced under a temporary name. repeated
// is the number of ids that the source gave more than once.
func (w *Writer) Finish(repeated uint64) (*Draft, error) {
	if err := w.out.Flush(); err != nil {
		return nil, writing(w.name, err)
	}
	if _, err := w.spool.Seek(0, io.SeekStart); err != nil {
		return nil, writing(w.name, err)
	}
	f, err := os.CreateTemp(w.dir, ".crpk-"+w.name+"-*.tmp")
	if err != nil {
		return nil, writing(w.name, err)
	}
	d := &Draft{path: f.Name(), final: filepath.Join(w.dir, w.name+Extension)}
	if err := errors.Join(w.compose(f, repeated, d), f.Close()); err != nil {
		return nil, writing(w.name, errors.Join(err, d.Discard()))
	}
	return d, nil
}

// compose writes payload and header to f and syncs it.
func (w *Writer) compose(f *os.File, repeated uint64, d *Draft) error {
	head := header{info: w.canon.info(), containers: len(w.l.keys)}
	head.info.Name, head.info.Repeated = w.name, repeated
	if _, err := f.Seek(headerSize, io.SeekStart); err != nil {
		return err
	}
	sum := xxhash.New()
	to := io.MultiWriter(f, sum)
	roar := w.roaringHeader()
	if _, err := to.Write(roar); err != nil {
		return err
	}
	n, err := io.CopyBuffer(to, struct{ io.Reader }{w.spool}, make([]byte, 1<<18))
	if err != nil {
		return err
	}
	head.payload, head.payloadSum = int64(len(roar))+n, sum.Sum64()
	head.info.Bytes = uint64(headerSize + head.payload)
	if _, err := f.WriteAt(head.encode(), 0); err != nil {
		return err
	}
	d.Info = head.info
	return f.Sync()
}

// roaringHeader writes the header of the portable format.
func (w *Writer) roaringHeader() []byte {
	n := len(w.l.keys)
	le := binary.LittleEndian
	var b []byte
	if w.l.runs != nil {
		b = le.AppendUint32(b, cookieRuns|uint32(n-1)<<16)
		b = append(b, w.l.runs...)
		b = append(b, make([]byte, (n+7)/8-len(w.l.runs))...)
	} else {
		b = le.AppendUint32(b, cookiePlain)
		b = le.AppendUint32(b, uint32(n))
	}
	for i, key := range w.l.keys {
		b = le.AppendUint16(b, key)
		b = le.AppendUint16(b, w.l.cards[i])
	}
	if w.l.runs != nil && n < offsetThreshold {
		return b
	}
	at := uint32(len(b) + 4*n)
	for _, length := range w.lengths {
		b = le.AppendUint32(b, at)
		at += length
	}
	return b
}

// Abort frees what the writer holds. It leaves a draft from Finish alone and may
// be called twice.
func (w *Writer) Abort() {
	// The spool has no name and nobody reads it again: an error of closing it
	// changes nothing.
	_ = w.spool.Close()
}

// Draft is a whole and synced envelope under a temporary name that starts with
// ".crpk-". A process that dies leaves such a file; it may be deleted.
type Draft struct {
	Info  Info
	path  string // empty once published or discarded; an older envelope, once it is placed
	final string
}

// Path is where the envelope is until it is published or discarded.
func (d *Draft) Path() string { return d.path }

// Publish gives the envelope its name, NAME.crpk, in place of an older one, and
// makes that durable.
func (d *Draft) Publish() error {
	if err := d.rename(); err != nil {
		return err
	}
	return syncDir(filepath.Dir(d.final))
}

// place gives the envelope its name and an older one the draft's, in one step; back undoes
// that. Where the file system cannot exchange names, the older one is replaced for good.
func (d *Draft) place() (back func() error, err error) {
	exchange := func() error {
		return unix.Renameat2(unix.AT_FDCWD, d.path, unix.AT_FDCWD, d.final, unix.RENAME_EXCHANGE)
	}
	older, err := os.Lstat(d.final)
	switch isThere := err == nil; {
	case isThere && !older.IsDir() && exchange() == nil:
		return exchange, nil
	case isThere:
		return func() error { return nil }, d.rename()
	}
	return func() error { return os.Remove(d.final) }, d.rename()
}

func (d *Draft) rename() error {
	if err := os.Rename(d.path, d.final); err != nil {
		return fmt.Errorf("naming package file: %w", err)
	}
	d.path = ""
	return nil
}

// Discard deletes the envelope unless it was published; a second call does
// nothing.
func (d *Draft) Discard() error {
	if d.path == "" {
		return nil
	}
	path := d.path
	d.path = ""
	return os.Remove(path)
}

// syncDir makes the names in a directory durable.
func syncDir(dir string) error {
	f, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}
