package audience

import (
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/cespare/xxhash/v2"

	"crier/job"
)

// ErrFormat is wrapped by every error about bytes that are not a set as this
// package, or the portable roaring format, writes it.
var ErrFormat = errors.New("not a whole recipient set")

// Info says what a recipient package is. Min and Max are 0 if it is empty.
type Info struct {
	Name        string     `json:"name"`
	Cardinality uint64     `json:"cardinality"`
	Min         uint32     `json:"min"`
	Max         uint32     `json:"max"`
	Repeated    uint64     `json:"repeated"` // ids that the source gave again
	Bytes       uint64     `json:"bytes"`    // length of the envelope
	SHA256      job.Digest `json:"sha256"`   // of the canonical set
}

// The envelope is a header of 256 bytes and the payload, the set in the portable
// 32-bit roaring format. The header, little-endian:
//
//	  0  magic, 8 bytes
//	  8  version, 4
//	 12  number of containers, 4
//	 16  cardinality, 8
//	 24  repeated, 8
//	 32  min, 4
//	 36  max, 4
//	 40  length of the payload, 8
//	 48  SHA-256 of the canonical set, 32
//	 80  xxHash64 of the payload, 8
//	 88  length of the name, 2
//	 90  name, 128, filled up with zeros
//	218  zeros
//	248  xxHash64 of the 248 bytes before, 8
const (
	magic      = "\x89CRPK\r\n\x1a" // the bytes that a transfer as text would change are in it
	version    = 1
	headerSize = 256
	nameAt     = 90
	zerosAt    = nameAt + MaxName
	sumAt      = headerSize - 8
)

// maxPayload is the length of the longest payload that is ever written: 65,536
// bitmaps with their flags, descriptions and offsets.
const maxPayload = 4 + maxContainers/8 + maxContainers*(4+4+bitmapBytes)

// header is the envelope's header as values.
type header struct {
	info       Info
	containers int
	payload    int64
	payloadSum uint64
}

// encode writes the header.
func (h *header) encode() []byte {
	b := make([]byte, headerSize)
	le := binary.LittleEndian
	copy(b, magic)
	le.PutUint32(b[8:], version)
	le.PutUint32(b[12:], uint32(h.containers))
	le.PutUint64(b[16:], h.info.Cardinality)
	le.PutUint64(b[24:], h.info.Repeated)
	le.PutUint32(b[32:], h.info.Min)
	le.PutUint32(b[36:], h.info.Max)
	le.PutUint64(b[40:], uint64(h.payload))
	copy(b[48:], h.info.SHA256[:])
	le.PutUint64(b[80:], h.payloadSum)
	le.PutUint16(b[88:], uint16(len(h.info.Name)))
	copy(b[nameAt:], h.info.Name)
	le.PutUint64(b[sumAt:], xxhash.Sum64(b[:sumAt]))
	return b
}

// parseHeader reads a header and checks it against the length of the whole
// envelope, the first thing that is looked at.
func parseHeader(b []byte, size int64) (header, error) {
	var h header
	le := binary.LittleEndian
	switch {
	case len(b) < headerSize:
		return h, fmt.Errorf("%w: %d bytes are fewer than a header's %d", ErrFormat, len(b), headerSize)
	case string(b[:len(magic)]) != magic:
		return h, fmt.Errorf("%w: it does not start like a recipient package", ErrFormat)
	case le.Uint32(b[8:]) != version:
		return h, fmt.Errorf("%w: version %d of the envelope, only %d is known", ErrFormat, le.Uint32(b[8:]), version)
	case le.Uint64(b[sumAt:]) != xxhash.Sum64(b[:sumAt]):
		return h, fmt.Errorf("%w: the header's checksum is wrong", ErrFormat)
	}
	payload := le.Uint64(b[40:])
	if payload > maxPayload || int64(payload)+headerSize != size {
		return h, fmt.Errorf("%w: the header promises %d bytes of payload, the file has %d", ErrFormat, payload, size-headerSize)
	}
	nameLen := int(le.Uint16(b[88:]))
	if nameLen > MaxName {
		return h, fmt.Errorf("%w: a name of %d bytes", ErrFormat, nameLen)
	}
	h = header{
		info: Info{
			Name:        string(b[nameAt : nameAt+nameLen]),
			Cardinality: le.Uint64(b[16:]),
			Repeated:    le.Uint64(b[24:]),
			Min:         le.Uint32(b[32:]),
			Max:         le.Uint32(b[36:]),
			Bytes:       uint64(size),
			SHA256:      job.Digest(b[48:80]),
		},
		containers: int(le.Uint32(b[12:])),
		payload:    int64(payload),
		payloadSum: le.Uint64(b[80:]),
	}
	for _, z := range b[nameAt+nameLen : sumAt] {
		if z != 0 {
			return h, fmt.Errorf("%w: the header has bytes after the name", ErrFormat)
		}
	}
	if err := ValidateName(h.info.Name); err != nil {
		return h, fmt.Errorf("%w: %w", ErrFormat, err)
	}
	return h, nil
}

// matches checks the header against the index of the payload: the number of
// containers, the cardinality, and the containers of min and max.
func (h *header) matches(p *Portable) error {
	i := &h.info
	n := len(p.l.keys)
	switch {
	case h.containers != n:
		return fmt.Errorf("%w: the header says %d containers, the payload has %d", ErrFormat, h.containers, n)
	case i.Cardinality != p.card:
		return fmt.Errorf("%w: the header says %d ids, the payload has %d", ErrFormat, i.Cardinality, p.card)
	case n == 0 && (i.Min != 0 || i.Max != 0),
		n > 0 && (i.Min>>16 != uint32(p.l.keys[0]) || i.Max>>16 != uint32(p.l.keys[n-1])):
		return fmt.Errorf("%w: min %d or max %d of the header is not the payload's", ErrFormat, i.Min, i.Max)
	}
	return nil
}
