// Package bench measures Crier's pipeline as it is, by one job to many and by many jobs to
// few: a server process with its
// ledger synced, the filters, the index and the API, and simulated gateways in
// processes of their own that speak the hand-off protocol over their own
// connections and check every recipient they get.
package bench

import (
	"math/bits"

	"crier/internal/bench/feed"
	"crier/internal/idset"
	"crier/job"
)

// Population is who exists, follows, is suppressed and is online: every set is a
// function of the seed, so that each process of a benchmark can compute its part
// without being told by another.
type Population struct {
	Recipients uint64 // in the package
	Gateways   int    // a power of two
	Seed       uint64
}

// The shares, in 1/256: of the id space in the package, of the package among the
// followers, on the suppression list, and online.
const (
	sharePackage    = 179 // 0.699: the ids lie in a space 1.43 times as large
	shareFollowers  = 252
	shareSuppressed = 4
	shareOnline     = 77
)

// The sets of a population.
const (
	inPackage = iota + 1
	follows
	suppressed
	online
	gatewayBit // and the next ones
)

// firstPart is the set of the first of some packages that are drawn from the one; the
// numbers of sets are below 256.
const firstPart = 32

// word gives 64 independent bits, each set with probability share/256, for a word
// of the id space and one of the sets.
func (p Population) word(w uint64, set int, share int) uint64 {
	base := p.Seed + w*0x9e3779b97f4a7c15 + uint64(set)<<56
	var acc uint64
	for i := bits.TrailingZeros(uint(share)); i < 8; i++ {
		r := feed.Mix(base + uint64(i)*0xd1342543de82ef95)
		if share>>i&1 == 1 {
			acc |= r
		} else {
			acc &= r
		}
	}
	return acc
}

// fill makes a set of a range from a function of its words.
func fill(r job.Range, word func(w uint64) uint64) *idset.Set {
	s := idset.New(r)
	base := uint64(r.Lo()) >> 6
	for i := range idset.Containers {
		c := s.Ensure(i)
		for w := range c {
			c[w] = word(base + uint64(i)*idset.Words + uint64(w))
		}
	}
	return s
}

// Package gives the recipients of one range, of whom left at most are taken, and
// at least one.
func (p Population) Package(r job.Range, left uint64) *idset.Set {
	s := fill(r, func(w uint64) uint64 { return p.word(w, inPackage, sharePackage) })
	if uint64(s.Card()) > left {
		lo := uint64(r.Lo())
		s.KeepSpan(job.Span{Lo: lo, Hi: s.Cut(lo, lo+1<<job.RangeBits, int(left))})
	}
	return s
}

// Ranges calls fn with each range of the package until the recipients are used up.
func (p Population) Ranges(fn func(*idset.Set) error) error {
	left := p.Recipients
	for r := job.Range(0); left > 0 && r < job.Ranges; r++ {
		s := p.Package(r, left)
		left -= uint64(s.Card())
		if err := fn(s); err != nil {
			return err
		}
		s.Release()
	}
	return nil
}

// Followers gives who of a range follows the account.
func (p Population) Followers(r job.Range) *idset.Set {
	return fill(r, func(w uint64) uint64 { return p.word(w, follows, shareFollowers) })
}

// Suppressed gives who of a range is on the suppression list.
func (p Population) Suppressed(r job.Range) *idset.Set {
	return fill(r, func(w uint64) uint64 { return p.word(w, suppressed, shareSuppressed) })
}

// At gives who of a range is online at a gateway.
func (p Population) At(r job.Range, gateway int) *idset.Set {
	return fill(r, func(w uint64) uint64 {
		at := p.word(w, online, shareOnline)
		for b := 0; 1<<b < p.Gateways; b++ {
			bit := p.word(w, gatewayBit+b, 128)
			if gateway>>b&1 == 0 {
				bit = ^bit
			}
			at &= bit
		}
		return at
	})
}
