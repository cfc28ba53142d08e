// Package row is what the rows of the parked index and of the book of charges in it have in
// common. All keys of a range start with its number, so that a range can be dumped,
// compared and moved as one stretch of keys; then comes a letter that says what the row is.
// The letters of the index are c, d and p, see package parked, and o and r, see package opens;
// those of the book f, h, k, s, v and y, see package charge.
package row

import (
	"encoding/binary"

	"crier/internal/bin"
	"crier/internal/idset"
	"crier/job"
)

// Key makes the key of a row of a range, or, with less of it, of a stretch of rows.
func Key(r job.Range, letter byte, more ...[]byte) []byte {
	k := make([]byte, 0, 64)
	k = binary.BigEndian.AppendUint16(k, uint16(r))
	k = append(k, letter)
	for _, m := range more {
		k = append(k, m...)
	}
	return k
}

// Global makes the key of a row that belongs to no range; its letters are their own.
func Global(letter byte, more ...[]byte) []byte {
	k := append(make([]byte, 0, 64), 0xff, 0xff, letter)
	for _, m := range more {
		k = append(k, m...)
	}
	return k
}

// Is reports whether a key is of a row of a range with a letter.
func Is(key []byte, letter byte) bool {
	return len(key) > 2 && key[2] == letter && binary.BigEndian.Uint16(key) < job.Ranges
}

// After is the first key that does not start with prefix.
func After(prefix []byte) []byte {
	end := append([]byte(nil), prefix...)
	for i := len(end) - 1; i >= 0; i-- {
		if end[i]++; end[i] != 0 {
			return end[:i+1]
		}
	}
	return nil
}

// Set reads a row that is one set.
func Set(b []byte) (*idset.Set, error) {
	r := bin.NewReader(b)
	s := r.Set()
	return s, r.Err(true)
}

// Ref is a part of a key.
func Ref(ref job.Ref) []byte {
	var w bin.Writer
	w.Ref(ref)
	return w.B
}

// Incarnation is a part of a key.
func Incarnation(inc job.Incarnation) []byte {
	var w bin.Writer
	w.Incarnation(inc)
	return w.B
}

// Journal is a part of a key.
func Journal(j job.Journal) []byte {
	var w bin.Writer
	w.Journal(j)
	return w.B
}
