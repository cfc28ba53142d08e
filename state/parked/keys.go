package parked

import (
	"encoding/binary"
	"fmt"
	"math/bits"
	"slices"

	"crier/internal/bin"
	"crier/internal/idset"
	"crier/job"
	"crier/state/parked/row"
)

// Rows of the index. What belongs to no range starts with 0xffff.
//
//	range 'c' job                          cell: spans reserved, counts
//	range 'd' job ref inc how              recipients in doubt
//	range 'o' job ref inc                  open targets of a reserve
//	range 'p' page job seq entry flag      parked recipients of one page
//	range 'f', 'h', 'k', 's', 'y'          the book of charges, see package charge
//	0xffff 'j' journal                     journal: last n, sealed
//	0xffff 't' job                         total of the job's cells
//	0xffff 'w'                             watermark
const (
	rowCell    = 'c'
	rowDoubt   = 'd'
	rowOpen    = 'o'
	rowParked  = 'p'
	rowJournal = 'j'
	rowTotal   = 't'
	rowMark    = 'w'
)

// pageBits is the width of a page: the 4,096 ids whose parked recipients of one
// job share a row. A row is at most 537 bytes; a login with 1,000 jobs parked
// reads at most 1,000 of them.
const (
	pageBits  = 12
	pageWords = 1 << (pageBits - 6)
	pages     = 1 << (job.RangeBits - pageBits)
)

var globalPrefix = []byte{0xff, 0xff}

func globalKey(row byte, more ...[]byte) []byte {
	k := append(make([]byte, 0, 64), globalPrefix...)
	k = append(k, row)
	for _, m := range more {
		k = append(k, m...)
	}
	return k
}

func cellKey(r job.Range, id job.ID) []byte { return row.Key(r, rowCell, id[:]) }

// openKey names the open targets of one reserve at one incarnation.
func openKey(r job.Range, id job.ID, ref job.Ref, inc job.Incarnation) []byte {
	return row.Key(r, rowOpen, id[:], refBytes(ref), incBytes(inc))
}

func doubtKey(r job.Range, id job.ID, ref job.Ref, inc job.Incarnation, how byte) []byte {
	return row.Key(r, rowDoubt, id[:], refBytes(ref), incBytes(inc), []byte{how})
}

func refBytes(ref job.Ref) []byte {
	var w bin.Writer
	w.Ref(ref)
	return w.B
}

func incBytes(inc job.Incarnation) []byte {
	var w bin.Writer
	w.Incarnation(inc)
	return w.B
}

func journalBytes(j job.Journal) []byte {
	var w bin.Writer
	w.Journal(j)
	return w.B
}

// Number is a park number: the place in the ledger of the record that parked
// (rule 19). It orders what waits for a recipient and survives a rebuild.
type Number struct {
	Seq   uint64
	Entry uint16
}

func pagePrefix(r job.Range, page int) []byte {
	return row.Key(r, rowParked, []byte{byte(page)})
}

func jobPagePrefix(r job.Range, page int, id job.ID) []byte {
	return row.Key(r, rowParked, []byte{byte(page)}, id[:])
}

func parkedKey(r job.Range, page int, id job.ID, n Number, flagged bool) []byte {
	k := jobPagePrefix(r, page, id)
	k = binary.BigEndian.AppendUint64(k, n.Seq)
	k = binary.BigEndian.AppendUint16(k, n.Entry)
	if flagged {
		return append(k, 1)
	}
	return append(k, 0)
}

// parkedRow is the key of a row of parked recipients, taken apart.
type parkedRow struct {
	page    int
	job     job.ID
	number  Number
	flagged bool
}

func parseParkedKey(k []byte) (parkedRow, error) {
	var p parkedRow
	if len(k) != 2+1+1+16+8+2+1 {
		return p, fmt.Errorf("parked row key of %d bytes", len(k))
	}
	p.page = int(k[3])
	copy(p.job[:], k[4:20])
	p.number.Seq = binary.BigEndian.Uint64(k[20:])
	p.number.Entry = binary.BigEndian.Uint16(k[28:])
	p.flagged = k[30] == 1
	return p, nil
}

// page is 4,096 ids as bits.
type page [pageWords]uint64

func (p *page) isEmpty() bool { return *p == page{} }

func (p *page) card() int {
	n := 0
	for _, w := range p {
		n += bits.OnesCount64(w)
	}
	return n
}

// bytes writes the mask of the words that are not zero, then those words.
func (p *page) bytes() []byte {
	var mask uint64
	b := make([]byte, 8, 8+8*pageWords)
	for i, w := range p {
		if w != 0 {
			mask |= 1 << i
			b = binary.LittleEndian.AppendUint64(b, w)
		}
	}
	binary.LittleEndian.PutUint64(b, mask)
	return b
}

func parsePage(b []byte, p *page) error {
	if len(b) < 8 || len(b) != 8+8*bits.OnesCount64(binary.LittleEndian.Uint64(b)) {
		return fmt.Errorf("parked row of %d bytes", len(b))
	}
	clear(p[:])
	mask := binary.LittleEndian.Uint64(b)
	for at := 8; mask != 0; mask &= mask - 1 {
		p[bits.TrailingZeros64(mask)] = binary.LittleEndian.Uint64(b[at:])
		at += 8
	}
	return nil
}

// pageOf gives the words of a set that lie in a page; nil if there are none.
func pageOf(s *idset.Set, n int) []uint64 {
	if few, ok := s.Few(); ok {
		return pageOfFew(few, s.Range.Lo()+uint32(n)<<pageBits)
	}
	c := s.Container(n * pageWords / idset.Words)
	if c == nil {
		return nil
	}
	at := n * pageWords % idset.Words
	w := c[at : at+pageWords]
	for _, x := range w {
		if x != 0 {
			return w
		}
	}
	return nil
}

// pageOfFew gives the words of ids, ascending, that lie in the page from an id on.
func pageOfFew(ids []uint32, first uint32) (words []uint64) {
	at, _ := slices.BinarySearch(ids, first)
	for _, id := range ids[at:] {
		if id>>pageBits != first>>pageBits {
			break
		}
		if words == nil {
			words = make([]uint64, pageWords)
		}
		words[id>>6%pageWords] |= 1 << (id & 63)
	}
	return words
}

// addPage puts the ids of a page into a set.
func addPage(s *idset.Set, n int, p *page) {
	first := s.Range.Lo() + uint32(n)<<pageBits
	for i, w := range p {
		if w != 0 {
			s.AddWord(first+uint32(i)<<6, w)
		}
	}
}
