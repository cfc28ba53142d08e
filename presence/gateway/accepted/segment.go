package accepted

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"os"
	"path/filepath"
	"sync/atomic"
	"unsafe"

	"golang.org/x/sys/unix"

	"crier/internal/bin"
	"crier/internal/idset"
	"crier/job"
	"crier/presence/gateway"
)

// A segment is a header page and records, one after the other. A record, in
// little-endian integers of 32 bits:
//
//	size     of all of it, a multiple of 8; stored last, so that a record that a
//	         killed process left in the middle has size 0 and is not there
//	check    CRC-32C of length, ranks and payload
//	length   of the payload
//	ranks    number of accepted recipients
//	state    freed, or anything else
//	(zero)
//	payload  reserve, job, accepted set, away set, mute bits; padded to 8
//	acks     a 64-bit word for 64 ranks, and all of them once more: a rank is
//	         acknowledged if both copies say so
const (
	magic       = "crieracc"
	headerBytes = 4096
	recordHead  = 24
	freed       = 0x5e771ed0
	emptyBytes  = headerBytes + recordHead
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// errDamaged is wrapped by every error about a segment's content.
var errDamaged = errors.New("the segment is damaged")

// segment is one mapped file. Stores into it reach the file whatever becomes of
// the process; only a stop of the machine loses them.
type segment struct {
	path  string
	start uint32
	mem   []byte
	used  int
	open  int // records not freed
}

// place is a record in its segment.
type place struct {
	seg   *segment
	at    int
	acks  int // offset of the first copy
	ranks int
}

// createSegment makes a segment that is on disk, header and name, before it is used:
// if the machine stops, its absence would say that nothing was accepted. Its blocks
// are allocated, so that no store into it can fail.
func createSegment(dir string, inc job.Incarnation, number, size int, boot string) (*segment, error) {
	s := &segment{path: filepath.Join(dir, segmentName(inc.Start, number)), start: inc.Start, used: headerBytes}
	var w bin.Writer
	w.Incarnation(inc)
	w.String(boot)
	w.Uint(uint64(size))
	head := make([]byte, 16, headerBytes)
	copy(head, magic)
	binary.LittleEndian.PutUint32(head[8:], crc32.Checksum(w.B, castagnoli))
	binary.LittleEndian.PutUint32(head[12:], uint32(len(w.B)))
	head = append(head, w.B...)
	if len(head) > headerBytes {
		return nil, fmt.Errorf("a boot id of %d bytes", len(boot))
	}
	f, err := os.OpenFile(s.path+".tmp", os.O_RDWR|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	err = unix.Fallocate(int(f.Fd()), 0, 0, int64(size))
	if err == nil {
		_, err = f.WriteAt(head, 0)
	}
	if err == nil {
		err = f.Sync()
	}
	if err == nil {
		err = os.Rename(f.Name(), s.path)
	}
	if err == nil {
		err = syncDir(dir)
	}
	if err == nil {
		s.mem, err = unix.Mmap(int(f.Fd()), 0, size, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	}
	if err != nil {
		os.Remove(f.Name())
		os.Remove(s.path)
		return nil, err
	}
	return s, nil
}

// loadSegment maps an existing segment and tells when the machine was started that
// wrote it.
func loadSegment(path string, inc job.Incarnation) (s *segment, boot string, err error) {
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return nil, "", err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, "", err
	}
	if info.Size() < emptyBytes || info.Size() > 1<<30 {
		return nil, "", fmt.Errorf("%w: %d bytes", errDamaged, info.Size())
	}
	mem, err := unix.Mmap(int(f.Fd()), 0, int(info.Size()), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		return nil, "", err
	}
	s = &segment{path: path, start: inc.Start, mem: mem, used: len(mem)}
	n := int(binary.LittleEndian.Uint32(mem[12:]))
	if string(mem[:8]) != magic || n > headerBytes-16 || crc32.Checksum(mem[16:16+n], castagnoli) != binary.LittleEndian.Uint32(mem[8:]) {
		err = fmt.Errorf("%w: its header", errDamaged)
	} else {
		r := bin.NewReader(mem[16 : 16+n])
		was := r.Incarnation()
		boot = r.String()
		if size := r.Uint(); r.Err(true) != nil || was != inc || size != uint64(len(mem)) {
			err = fmt.Errorf("%w: it is of %s and has %d of %d bytes", errDamaged, was, len(mem), size)
		}
	}
	if err != nil {
		s.unmap()
		return nil, "", err
	}
	return s, boot, nil
}

func (s *segment) unmap() {
	if s.mem != nil {
		_ = unix.Munmap(s.mem) // fails for memory that is not mapped, and this is
		s.mem = nil
	}
}

func (s *segment) word(at int) *uint32 { return (*uint32)(unsafe.Pointer(&s.mem[at])) }
func (s *segment) ack(at int) *uint64  { return (*uint64)(unsafe.Pointer(&s.mem[at])) }

// payload writes what the check covers of a record, but for its two lengths.
func payload(r gateway.Record) []byte {
	var w bin.Writer
	w.Ref(r.Ref)
	w.Fixed(r.Job[:])
	for _, ids := range [][]uint32{r.IDs, r.Away} {
		set := idset.Of(ids...)
		w.Set(set)
		set.Release()
	}
	mute := false
	for _, b := range r.Mute {
		mute = mute || b != 0
	}
	w.Bool(mute)
	for i := 0; mute && i < words(len(r.IDs)); i++ {
		w.B = binary.LittleEndian.AppendUint64(w.B, r.Mute[i])
	}
	return w.B
}

func words(ranks int) int { return (ranks + 63) / 64 }

func pad(n int) int { return (n + 7) &^ 7 }

func recordBytes(payload, ranks int) int { return recordHead + pad(payload) + 16*words(ranks) }

func check(body []byte, ranks int) uint32 {
	var lengths [8]byte
	binary.LittleEndian.PutUint32(lengths[:], uint32(len(body)))
	binary.LittleEndian.PutUint32(lengths[4:], uint32(ranks))
	return crc32.Update(crc32.Checksum(lengths[:], castagnoli), castagnoli, body)
}

// append writes a record behind the others; the caller has seen that it fits.
func (s *segment) append(r gateway.Record, body []byte) place {
	at := s.used
	p := place{seg: s, at: at, acks: at + recordHead + pad(len(body)), ranks: len(r.IDs)}
	binary.LittleEndian.PutUint32(s.mem[at+4:], check(body, len(r.IDs)))
	binary.LittleEndian.PutUint32(s.mem[at+8:], uint32(len(body)))
	binary.LittleEndian.PutUint32(s.mem[at+12:], uint32(len(r.IDs)))
	copy(s.mem[at+recordHead:], body)
	for i := range words(len(r.IDs)) {
		if i < len(r.Acked) {
			*s.ack(p.acks + 8*i) = r.Acked[i]
			*s.ack(p.acks + 8*(words(p.ranks)+i)) = r.Acked[i]
		}
	}
	size := recordBytes(len(body), len(r.IDs))
	atomic.StoreUint32(s.word(at), uint32(size)) // from here on it is there
	s.used += size
	s.open++
	return p
}

// mark sets an acknowledgement, in one copy after the other.
func (p place) mark(rank int) {
	if rank >= p.ranks {
		return
	}
	for _, at := range [2]int{p.acks, p.acks + 8*words(p.ranks)} {
		w := p.seg.ack(at + 8*(rank>>6))
		atomic.StoreUint64(w, *w|1<<(rank&63))
	}
}

func (p place) free() {
	atomic.StoreUint32(p.seg.word(p.at+16), freed)
	p.seg.open--
}

// records reads what a segment holds; fn gets every record that is not freed. Since
// a size is stored last, a record with a size and a wrong check is not torn: the
// segment is damaged, and nothing can be said of it.
func (s *segment) records(fn func(gateway.Record, place)) error {
	at := headerBytes
	for at+recordHead <= len(s.mem) {
		size := int(binary.LittleEndian.Uint32(s.mem[at:]))
		if size == 0 {
			return nil
		}
		n := int(binary.LittleEndian.Uint32(s.mem[at+8:]))
		ranks := int(binary.LittleEndian.Uint32(s.mem[at+12:]))
		if ranks > 1<<job.RangeBits || n > len(s.mem) || size != recordBytes(n, ranks) || size > len(s.mem)-at {
			return fmt.Errorf("%w: a record of %d bytes at %d", errDamaged, size, at)
		}
		body := s.mem[at+recordHead : at+recordHead+n]
		if check(body, ranks) != binary.LittleEndian.Uint32(s.mem[at+4:]) {
			return fmt.Errorf("%w: the record at %d", errDamaged, at)
		}
		p := place{seg: s, at: at, acks: at + recordHead + pad(n), ranks: ranks}
		r, err := p.read(body)
		if err != nil {
			return fmt.Errorf("%w: the record at %d: %w", errDamaged, at, err)
		}
		if binary.LittleEndian.Uint32(s.mem[at+16:]) != freed {
			s.open++
			fn(r, p)
		}
		at += size
	}
	return nil
}

func (p place) read(body []byte) (gateway.Record, error) {
	b := bin.NewReader(body)
	r := gateway.Record{Ref: b.Ref(), Job: b.JobID(), Mute: gateway.MakeBits(p.ranks), Acked: gateway.MakeBits(p.ranks)}
	for _, ids := range []*[]uint32{&r.IDs, &r.Away} {
		set := b.Set()
		*ids = make([]uint32, 0, set.Card())
		for id := range set.All() {
			*ids = append(*ids, id)
		}
		set.Release()
	}
	if b.Bool() {
		for i := range r.Mute {
			if w := b.Fixed(8); w != nil {
				r.Mute[i] = binary.LittleEndian.Uint64(w)
			}
		}
	}
	if len(r.IDs) != p.ranks {
		b.Fail(fmt.Errorf("%d ids, %d ranks", len(r.IDs), p.ranks))
	}
	if err := b.Err(true); err != nil {
		return r, err
	}
	for i := range r.Acked {
		r.Acked[i] = *p.seg.ack(p.acks + 8*i) & *p.seg.ack(p.acks + 8*(len(r.Acked)+i))
	}
	return r, nil
}
