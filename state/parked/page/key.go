package page

import (
	"encoding/binary"

	"crier/job"
	"crier/state/parked/numbers"
	"crier/state/parked/row"
)

// Letter is that of the rows of parked recipients, whose keys are
//
//	range 'p' page job's-number seq entry flag
const Letter = 'p'

const prefixBytes = 2 + 1 + 2

// Prefix begins the keys of a page.
func Prefix(r job.Range, n int) []byte { return row.Key(r, Letter, number(n)) }

// JobPrefix begins the keys of a job in a page.
func JobPrefix(r job.Range, n int, of numbers.Number) []byte { return of.Append(Prefix(r, n)) }

func number(n int) []byte { return binary.BigEndian.AppendUint16(nil, uint16(n)) }

// NumberIn is the page of a key.
func NumberIn(key []byte) int { return int(binary.BigEndian.Uint16(key[3:])) }

// JobIn is the number of the job of a key.
func JobIn(key []byte) numbers.Number { return numbers.In(key[prefixBytes:]) }
