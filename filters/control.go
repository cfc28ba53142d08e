package filters

import (
	"context"
	"encoding/binary"

	"github.com/cespare/xxhash/v2"

	"crier/internal/idset"
	"crier/job"
)

// ControlGroup takes out a share of an account's recipients, always the same ones: each
// has a lot, a number from 0 to 2^32 - 1 that the account's salt and the recipient's id
// decide, and is in the group if its lot is below the share of 2^32. So whoever is held
// out at 5 % is held out at 10 %, and of two accounts the groups are independent.
//
// Lots are dealt a word of 64 recipients at a time. Digit d of the lots of a word, the
// highest first, is the XXH64 of 16 bytes: the XXH64 of the salt, the word's number
// (id / 64) in four bytes and d in four, each with the lowest byte first; bit i of it is
// the digit of the recipient i of the word. Few digits decide: with each, half of those
// drop out who are still level with the share.
// None of this may ever change, for then other recipients would be held out.
type ControlGroup struct {
	Share job.Percent
	Salt  job.Digest // the account's
}

// Reason names the stage.
func (ControlGroup) Reason() job.Reason { return job.ReasonControl }

// Refuse gives who of keep is held out.
func (s ControlGroup) Refuse(_ context.Context, keep *idset.Set) (*idset.Set, error) {
	out := idset.New(keep.Range)
	if s.Share.IsZero() {
		return out, nil
	}
	limit, deal := limitOf(s.Share), newLots(s.Salt)
	for i := range idset.Containers {
		c := keep.Container(i)
		if c == nil {
			continue
		}
		first := (keep.Range.Lo() + uint32(i)<<idset.ContainerBits) / 64
		held := out.Ensure(i)
		for w, ids := range c {
			if ids != 0 {
				held[w] = deal.below(first+uint32(w), ids, limit)
			}
		}
	}
	return out, nil
}

// limitOf is the number that the lots of a share lie below.
func limitOf(share job.Percent) uint64 {
	return (uint64(share)<<lotDigits + uint64(job.Everybody) - 1) / uint64(job.Everybody)
}

// Lot gives a recipient's lot in an account with a salt.
func Lot(salt job.Digest, who job.Recipient) (lot uint32) {
	deal := newLots(salt)
	for d := range uint32(lotDigits) {
		lot = lot<<1 | uint32(deal.digit(uint32(who)/64, d)>>(who%64)&1)
	}
	return lot
}

// lotDigits is the number of binary digits of a lot.
const lotDigits = 32

// lots deals lots; it is what the hash reads.
type lots [16]byte

func newLots(salt job.Digest) (l lots) {
	binary.LittleEndian.PutUint64(l[:], xxhash.Sum64(salt[:]))
	return l
}

// digit gives one digit of the lots of a word's 64 recipients.
func (l *lots) digit(word, d uint32) uint64 {
	binary.LittleEndian.PutUint64(l[8:], uint64(d)<<32|uint64(word)) // both at once, for the hash reads them so
	return xxhash.Sum64(l[:])
}

// below gives those ids of a word whose lots are below a limit of at most 2^32.
func (l *lots) below(word uint32, ids, limit uint64) (under uint64) {
	if limit>>lotDigits > 0 {
		return ids
	}
	level := ids // whose digits so far are the limit's
	for d := uint32(0); level != 0 && limit<<(64-lotDigits+d) != 0; d++ {
		ones := l.digit(word, d)
		if limit>>(lotDigits-1-d)&1 == 1 {
			under |= level &^ ones
			level &= ones
		} else {
			level &^= ones
		}
	}
	return under
}
