package audience

import (
	"errors"
	"fmt"
	"io"
	"os"
	"runtime"
	"runtime/debug"
	"sync"
	"unsafe"

	"golang.org/x/sys/unix"
)

// ErrClosed is the error of a read from a set that was closed.
var ErrClosed = errors.New("the set is closed")

// store gives views of immutable bytes, mapped or read. Views are for any number
// of goroutines; close waits for those in use.
type store struct {
	size int64
	r    io.ReaderAt // nil if mapped
	f    *os.File    // the file behind r, if it is the store's to close

	mu struct {
		sync.RWMutex
		mem    []byte
		closed bool
	}
}

// mapFile maps a file. The map outlives the descriptor, which is closed.
func mapFile(path string) (*store, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if !st.Mode().IsRegular() || st.Size() < headerSize || st.Size() > maxPayload+headerSize {
		return nil, fmt.Errorf("%w: %d bytes are no envelope", ErrFormat, st.Size())
	}
	mem, err := unix.Mmap(int(f.Fd()), 0, int(st.Size()), unix.PROT_READ, unix.MAP_SHARED)
	if err != nil {
		return nil, fmt.Errorf("mapping %s: %w", path, err)
	}
	s := &store{size: st.Size()}
	s.mu.mem = mem
	return s, nil
}

// openFile reads a file without mapping it.
func openFile(path string) (*store, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	st, err := f.Stat()
	if err == nil && !st.Mode().IsRegular() {
		err = fmt.Errorf("%w: it is not a regular file", ErrFormat)
	}
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return &store{size: st.Size(), r: f, f: f}, nil
}

// scratch keeps buffers of up to a range's bytes for stores that are not mapped.
var scratch = sync.Pool{New: func() any { return new([]byte) }}

// view shows n bytes at off to use, which must not keep them. The caller has
// checked that they lie inside the store, and that n is bounded.
func (s *store) view(off, n int64, use func([]byte) error) (err error) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	if s.mu.closed {
		return ErrClosed
	}
	if mem := s.mu.mem; mem != nil {
		defer catchFault(mem, debug.SetPanicOnFault(true), &err)
		return use(mem[off : off+n : off+n])
	}
	buf := scratch.Get().(*[]byte)
	defer scratch.Put(buf)
	if int64(cap(*buf)) < n {
		*buf = make([]byte, n)
	}
	b := (*buf)[:n]
	if _, err := io.ReadFull(io.NewSectionReader(s.r, off, n), b); err != nil {
		return shortIs(err, "it became shorter while it was read")
	}
	return use(b)
}

// catchFault turns a fault inside the map (the file became shorter, or the disk
// does not give the page) into an error; the process would else die of it.
func catchFault(mem []byte, before bool, err *error) {
	debug.SetPanicOnFault(before)
	p := recover()
	if p == nil {
		return
	}
	if fault, ok := p.(interface {
		runtime.Error
		Addr() uintptr
	}); ok {
		base := uintptr(unsafe.Pointer(unsafe.SliceData(mem)))
		if at := fault.Addr(); at >= base && at < base+uintptr(len(mem)) {
			*err = fmt.Errorf("%w: byte %d cannot be read", ErrFormat, at-base)
			return
		}
	}
	panic(p)
}

// close frees the map or the file; a second call does nothing.
func (s *store) close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.mu.closed {
		return nil
	}
	s.mu.closed = true
	var err error
	if s.mu.mem != nil {
		err = unix.Munmap(s.mu.mem)
		s.mu.mem = nil
	}
	if s.f != nil {
		err = errors.Join(err, s.f.Close())
	}
	return err
}
