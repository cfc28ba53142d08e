package gateway

import "crier/job"

// Record is what the accepted-file keeps of a reserve: enough to answer for this
// incarnation after it has ended (rule 10).
type Record struct {
	Ref   job.Ref
	Job   job.ID
	IDs   []uint32 // accepted, ascending; an id's index is its rank
	Away  []uint32 // targets that were not here, ascending
	Mute  Bits     // by rank: a client that got it may be one that does not say what it has
	Acked Bits     // by rank
}

// Bits is a row of bits; missing ones are 0.
type Bits []uint64

// MakeBits makes room for n bits.
func MakeBits(n int) Bits { return make(Bits, (n+63)/64) }

// Has reports whether bit i is set.
func (b Bits) Has(i int) bool { return i>>6 < len(b) && b[i>>6]>>(i&63)&1 == 1 }

// Set sets bit i.
func (b Bits) Set(i int) { b[i>>6] |= 1 << (i & 63) }

// History is what the accepted-files say of earlier incarnations of this gateway.
type History struct {
	// First is the oldest start that the files remember. A start from First on
	// that is not among Ended left nothing to answer for.
	First uint32
	Ended []Ended
}

// Ended is an earlier incarnation that left records, or cannot be read.
type Ended struct {
	Start      uint32
	Unreadable bool // written before the machine's last start, or damaged: in doubt
	Records    []Record
}
