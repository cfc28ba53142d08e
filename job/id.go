package job

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"strings"
	"time"
)

// ID names a job: 128 bits, written "job_" and 26 characters of Crockford's
// base 32. An id made from time and randomness sorts by time; one derived from
// an idempotency key (KeyID) or another job (WithdrawalID) does not.
type ID [16]byte

const (
	idPrefix  = "job_"
	crockford = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
)

// NewID makes an id from a time (milliseconds, 48 bits) and ten random bytes,
// which is the layout of a ULID.
func NewID(at time.Time, random [10]byte) ID {
	var id ID
	ms := uint64(at.UnixMilli())
	for i := range 6 {
		id[i] = byte(ms >> (40 - 8*i))
	}
	copy(id[6:], random[:])
	return id
}

// KeyID derives the one id that an account's idempotency key can have, so that
// the ledger's conditional append on the job's subject decides between
// concurrent submits of the same key.
func KeyID(account, key string) ID {
	sum := sha256.Sum256([]byte("crier idempotency key\x00" + account + "\x00" + key))
	return ID(sum[:16])
}

// WithdrawalID derives the one id that the withdrawal of a recalled job can have, so
// that the ledger lets only one exist, whoever makes it and however often.
func WithdrawalID(recalled ID) ID {
	sum := sha256.Sum256(append([]byte("crier withdrawal\x00"), recalled[:]...))
	return ID(sum[:16])
}

// String writes the id as "job_" and 26 characters.
func (id ID) String() string {
	var out [26]byte
	var acc uint32
	bits, in := uint(2), 0 // 130 bits are written; the two leading ones are zero
	for i := range out {
		for bits < 5 {
			acc = acc<<8 | uint32(id[in])
			in++
			bits += 8
		}
		bits -= 5
		out[i] = crockford[acc>>bits&31]
	}
	return idPrefix + string(out[:])
}

// ParseID reads what String writes, in either case.
func ParseID(s string) (ID, error) {
	var id ID
	body, ok := strings.CutPrefix(s, idPrefix)
	if !ok || len(body) != 26 {
		return id, fmt.Errorf("job id %q: want %q and 26 characters", s, idPrefix)
	}
	var acc uint32
	var bits uint
	out := 0
	for i := range len(body) {
		c := body[i]
		if 'a' <= c && c <= 'z' {
			c -= 'a' - 'A'
		}
		v := strings.IndexByte(crockford, c)
		if v < 0 || (i == 0 && v > 7) {
			return ID{}, fmt.Errorf("job id %q: character %d is not one of %s", s, i+len(idPrefix)+1, crockford)
		}
		acc = acc<<5 | uint32(v)
		bits += 5
		if i == 0 {
			bits = 3
		}
		if bits >= 8 {
			bits -= 8
			id[out] = byte(acc >> bits)
			out++
		}
	}
	return id, nil
}

// IsZero reports whether the id names no job.
func (id ID) IsZero() bool { return id == ID{} }

// MarshalText writes the id for JSON, YAML and flags.
func (id ID) MarshalText() ([]byte, error) { return []byte(id.String()), nil }

// UnmarshalText reads what MarshalText writes.
func (id *ID) UnmarshalText(b []byte) error {
	v, err := ParseID(string(b))
	if err != nil {
		return err
	}
	*id = v
	return nil
}

// Digest is a SHA-256, written as 64 hexadecimal characters.
type Digest [32]byte

// ParseDigest reads 64 hexadecimal characters.
func ParseDigest(s string) (Digest, error) {
	var d Digest
	b, err := hex.DecodeString(s)
	if err != nil || len(b) != len(d) {
		return d, fmt.Errorf("digest %q: want 64 hexadecimal characters", s)
	}
	return Digest(b), nil
}

// String writes the digest in lower-case hexadecimal.
func (d Digest) String() string { return hex.EncodeToString(d[:]) }

// IsZero reports whether the digest is unset.
func (d Digest) IsZero() bool { return d == Digest{} }

// MarshalText writes the digest, or nothing if it is unset.
func (d Digest) MarshalText() ([]byte, error) {
	if d.IsZero() {
		return nil, nil
	}
	return []byte(d.String()), nil
}

// UnmarshalText reads what MarshalText writes.
func (d *Digest) UnmarshalText(b []byte) error {
	if len(b) == 0 {
		*d = Digest{}
		return nil
	}
	v, err := ParseDigest(string(b))
	if err != nil {
		return err
	}
	*d = v
	return nil
}
