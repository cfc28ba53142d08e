package level

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"crier/state/parked"
)

// A journal is blocks of 32 KiB. A block is chunks: checksum (4 bytes) of all that
// follows it, length (2), kind (1), data; fewer than 7 bytes left are zeros. A
// record is one chunk, or a first, any middle ones and a last. A record is a batch
// that begins with the number of its first change (8) and how many it has (4).
const (
	blockBytes  = 32 << 10
	chunkHeader = 7
	batchHeader = 12

	chunkFull   = 1
	chunkFirst  = 2
	chunkMiddle = 3
	chunkLast   = 4
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// checksumOf is the masked sum that a chunk carries of its kind and data.
func checksumOf(b []byte) uint32 {
	c := crc32.Checksum(b, castagnoli)
	return (c>>15 | c<<17) + 0xa282ead8
}

// checkJournals reads the journals in dir, oldest first, and gives a
// parked.ErrDamaged unless they hold batches without a gap, of which only an end
// may be missing. It needs a block of memory.
func checkJournals(dir string) error {
	journals, err := listJournals(dir)
	if err != nil {
		return err
	}
	next, torn := uint64(0), "" // where the next batch begins; the journal with a torn end
	for _, j := range journals {
		s := &journalScan{next: next}
		if err := s.file(j.path); err != nil {
			return fmt.Errorf("%s: %w", filepath.Base(j.path), err)
		}
		if torn != "" && s.batches > 0 {
			return fmt.Errorf("%w: %s ends in the middle of a batch, but %s goes on", parked.ErrDamaged, torn, filepath.Base(j.path))
		}
		if s.torn {
			torn = filepath.Base(j.path)
		}
		next = s.next
	}
	return nil
}

type journalFile struct {
	number uint64
	path   string
}

func listJournals(dir string) ([]journalFile, error) {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var list []journalFile
	for _, e := range entries {
		name, ok := strings.CutSuffix(e.Name(), ".log")
		n, err := strconv.ParseUint(name, 10, 64)
		if ok && err == nil {
			list = append(list, journalFile{n, filepath.Join(dir, e.Name())})
		}
	}
	slices.SortFunc(list, func(a, b journalFile) int {
		if a.number < b.number {
			return -1
		}
		return 1
	})
	return list, nil
}

// journalScan is the state of reading one journal.
type journalScan struct {
	next    uint64 // number of the change with which the next batch must begin; 0: any
	batches int
	torn    bool // the end of a batch is missing

	within bool // a batch has begun and not ended
	head   []byte
}

func (s *journalScan) file(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close() // only read
	block := make([]byte, blockBytes)
	for at := int64(0); ; at += blockBytes {
		n, err := io.ReadFull(f, block)
		if err != nil && !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) {
			return err
		}
		last := err != nil
		if bad := s.block(block[:n], last); bad != nil {
			return fmt.Errorf("%w: block at byte %d: %w", parked.ErrDamaged, at, bad)
		}
		if last {
			s.torn = s.torn || s.within
			return nil
		}
		if s.torn {
			return fmt.Errorf("%w: block at byte %d breaks off in the middle", parked.ErrDamaged, at)
		}
	}
}

// block reads the chunks of a block. Where the file ends, so may a chunk.
func (s *journalScan) block(b []byte, last bool) error {
	for len(b) >= chunkHeader {
		sum, length, kind := binary.LittleEndian.Uint32(b), int(binary.LittleEndian.Uint16(b[4:])), b[6]
		switch {
		case sum == 0 && length == 0 && kind == 0:
			if slices.ContainsFunc(b, func(c byte) bool { return c != 0 }) {
				return errors.New("zeros with something behind them")
			}
			// Space that the file system gave and never filled.
			s.torn = true
			return nil
		case chunkHeader+length > len(b):
			if !last {
				return errors.New("a chunk is longer than its block")
			}
			s.torn = true
			return nil
		case checksumOf(b[6:chunkHeader+length]) != sum:
			return errors.New("a chunk's checksum is wrong")
		}
		if err := s.chunk(kind, b[chunkHeader:chunkHeader+length]); err != nil {
			return err
		}
		b = b[chunkHeader+length:]
	}
	if slices.ContainsFunc(b, func(c byte) bool { return c != 0 }) {
		if !last {
			return errors.New("the rest of a block is not empty")
		}
		s.torn = true
	}
	return nil
}

func (s *journalScan) chunk(kind byte, data []byte) error {
	begins, ends := kind == chunkFull || kind == chunkFirst, kind == chunkFull || kind == chunkLast
	if kind < chunkFull || kind > chunkLast || begins == s.within {
		return fmt.Errorf("a chunk of kind %d is out of place", kind)
	}
	if begins {
		s.head = s.head[:0]
	}
	s.head = append(s.head, data[:min(len(data), batchHeader-min(len(s.head), batchHeader))]...)
	s.within = !ends
	if !ends {
		return nil
	}
	if len(s.head) < batchHeader {
		return errors.New("a batch is too short")
	}
	first, count := binary.LittleEndian.Uint64(s.head), binary.LittleEndian.Uint32(s.head[8:])
	if s.next != 0 && first != s.next {
		return fmt.Errorf("a batch begins at change %d, not %d: some are missing", first, s.next)
	}
	s.next = first + uint64(count)
	s.batches++
	return nil
}
