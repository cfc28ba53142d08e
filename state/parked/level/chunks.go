package level

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"slices"

	"crier/state/parked/kv"
)

// Journals and the list of tables are blocks of 32 KiB. A block is chunks:
// checksum (4 bytes) of all that follows it, length (2), kind (1), data; fewer than
// 7 bytes left are zeros. A record is one chunk, or a first, any middle ones and a
// last.
const (
	blockBytes  = 32 << 10
	chunkHeader = 7

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

// chunks reads records strictly: anything wrong is a kv.ErrDamaged, except
// that the end of the file may be missing, which torn then says.
type chunks struct {
	keep   int                      // bytes of a record that are wanted
	record func(start []byte) error // called for each; start is its first keep bytes
	torn   bool                     // the end of a record is missing

	within bool // a record has begun and not ended
	start  []byte
}

// read reads a whole file. It needs a block of memory, and what is kept.
func (c *chunks) read(r io.Reader) error {
	block := make([]byte, blockBytes)
	for at := int64(0); ; at += blockBytes {
		n, err := io.ReadFull(r, block)
		if err != nil && !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) {
			return err
		}
		last := err != nil
		if bad := c.block(block[:n], last); bad != nil {
			return fmt.Errorf("%w: block at byte %d: %w", kv.ErrDamaged, at, bad)
		}
		if last {
			c.torn = c.torn || c.within
			return nil
		}
	}
}

// block reads the chunks of a block. Where the file ends, so may a chunk.
func (c *chunks) block(b []byte, last bool) error {
	for len(b) >= chunkHeader {
		sum, length, kind := binary.LittleEndian.Uint32(b), int(binary.LittleEndian.Uint16(b[4:])), b[6]
		switch {
		case sum == 0 && length == 0 && kind == 0:
			return c.rest(b, last) // space that the file system gave and never filled
		case chunkHeader+length > len(b):
			if !last {
				return errors.New("a chunk is longer than its block")
			}
			c.torn = true
			return nil
		case checksumOf(b[6:chunkHeader+length]) != sum:
			return errors.New("a chunk's checksum is wrong")
		}
		if err := c.chunk(kind, b[chunkHeader:chunkHeader+length]); err != nil {
			return err
		}
		b = b[chunkHeader+length:]
	}
	if !last && !slices.ContainsFunc(b, notZero) {
		return nil
	}
	return c.rest(b, last)
}

// rest judges what is left of a block without a chunk: nothing, or the torn end of
// the file.
func (c *chunks) rest(b []byte, last bool) error {
	switch {
	case len(b) == 0:
		return nil
	case !last:
		return errors.New("a block breaks off in the middle")
	case len(b) >= chunkHeader && slices.ContainsFunc(b, notZero):
		return errors.New("zeros with something behind them")
	}
	c.torn = true
	return nil
}

func notZero(c byte) bool { return c != 0 }

func (c *chunks) chunk(kind byte, data []byte) error {
	begins, ends := kind == chunkFull || kind == chunkFirst, kind == chunkFull || kind == chunkLast
	if kind < chunkFull || kind > chunkLast || begins == c.within {
		return fmt.Errorf("a chunk of kind %d is out of place", kind)
	}
	if begins {
		c.start = c.start[:0]
	}
	c.start = append(c.start, data[:min(len(data), c.keep-len(c.start))]...)
	c.within = !ends
	if !ends {
		return nil
	}
	return c.record(c.start)
}
