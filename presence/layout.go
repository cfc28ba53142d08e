package presence

import (
	"errors"
	"fmt"
	"os"
	"unsafe"

	"golang.org/x/sys/unix"

	"crier/internal/idset"
	"crier/job"
)

// The file, in 64-bit words of the machine's own byte order (it never leaves the
// machine):
//
//	header   magic, planes, sequence of the table, number of recipients online, then the table:
//	         for each ordinal from 1 the start and length of the name, and the name
//	index    a word per container: sequence (upper half) and recipients online (lower half)
//	planes   per container the words of plane 0, then those of plane 1, …
//
// A sequence is odd while its container, or the table, is being written. A
// container with nobody online is never read, so its planes take no memory.
const (
	magic       = 0x6372_6965_7250_4c31
	headerWords = 4096
	entryWords  = 9 // one for start and length, eight for a name of up to 64 bytes
	tableAt     = 8
	containers  = 1 << (32 - idset.ContainerBits)
	maxPlanes   = 8
)

// The words of the header before the table.
const (
	wordMagic = iota
	wordPlanes
	wordTableSeq
	wordOnline
)

// region is the mapped file and its parts.
type region struct {
	mem    []byte
	head   []uint64
	index  []uint64
	data   []uint64
	planes int
	file   *os.File // nil for memory without a file
	room   []bool   // of the writer: containers that the disk has given room to
}

func regionBytes(planes int) int {
	return 8 * (headerWords + containers + containers*planes*idset.Words)
}

// mapRegion maps the file, or memory without one if file is nil.
func mapRegion(file *os.File, planes int, write bool) (*region, error) {
	prot, flags, fd := unix.PROT_READ, unix.MAP_SHARED|unix.MAP_NORESERVE, -1
	if write {
		prot |= unix.PROT_WRITE
	}
	if file != nil {
		fd = int(file.Fd())
	} else {
		flags |= unix.MAP_ANONYMOUS
	}
	mem, err := unix.Mmap(fd, 0, regionBytes(planes), prot, flags)
	if err != nil {
		return nil, fmt.Errorf("mapping %d bytes of presence planes: %w", regionBytes(planes), err)
	}
	words := unsafe.Slice((*uint64)(unsafe.Pointer(&mem[0])), len(mem)/8)
	return &region{
		mem:    mem,
		head:   words[:headerWords:headerWords],
		index:  words[headerWords : headerWords+containers : headerWords+containers],
		data:   words[headerWords+containers:],
		planes: planes,
		file:   file,
		room:   make([]bool, containers),
	}, nil
}

// place is where a container's planes are in the file, in bytes.
func (r *region) place(c int) (at, n int) {
	n = 8 * r.planes * idset.Words
	return 8*(headerWords+containers) + c*n, n
}

// allocate makes the disk give room to a part of a file. A file system that cannot do that
// beforehand is used without.
func allocate(f *os.File, at, n int) error {
	err := unix.Fallocate(int(f.Fd()), unix.FALLOC_FL_KEEP_SIZE, int64(at), int64(n))
	if errors.Is(err, unix.EOPNOTSUPP) || errors.Is(err, unix.ENOSYS) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("making room in %s: %w", f.Name(), err)
	}
	return nil
}

// container gives the words of all planes of a container.
func (r *region) container(c int) []uint64 {
	n := r.planes * idset.Words
	return r.data[c*n : (c+1)*n : (c+1)*n]
}

// free gives the memory of a container's planes, which must be all zero, back.
// Where the file system cannot do that the zeroes stay.
func (r *region) free(c int) {
	at, n := r.place(c)
	r.room[c] = false
	_ = unix.Madvise(r.mem[at:at+n], unix.MADV_REMOVE)
}

func (r *region) close() error {
	err := unix.Munmap(r.mem)
	if r.file != nil {
		if e := r.file.Close(); err == nil {
			err = e
		}
	}
	return err
}

// firstContainer is the number of a range's first container in the file.
func firstContainer(r job.Range) int { return int(r) * idset.Containers }
