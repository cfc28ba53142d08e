package parked

import (
	"encoding/binary"
	"fmt"

	"crier/job"
	"crier/state/parked/numbers"
	"crier/state/parked/page"
	"crier/state/parked/row"
)

// Rows of the index. What belongs to no range starts with 0xffff.
//
//	range 'c' job                          spans that are reserved
//	range 'd' job ref inc how              recipients in doubt
//	range 'o', 'r'                         open targets of reserves, see package opens
//	range 'p' page number seq entry flag   parked recipients of one page, of the job of a number
//	range 'f', 'h', 'k', 's', 'v', 'y'     the book of charges, see package charge
//	0xffff 'j' journal                     journal: last n, sealed
//	0xffff 'i', 'n', 'N'                   numbers of jobs, see package numbers
//	0xffff 'e', 't'                        totals of jobs, see package totals
//	0xffff 'W'                             watermark; another letter for rows of another form,
//	                                       so that an index of those counts as none
const (
	rowReserved = 'c'
	rowDoubt    = 'd'
	rowJournal  = 'j'
	rowMark     = 'W'
)

func reservedKey(r job.Range, id job.ID) []byte { return row.Key(r, rowReserved, id[:]) }

func doubtKey(r job.Range, id job.ID, ref job.Ref, inc job.Incarnation, how byte) []byte {
	return row.Key(r, rowDoubt, id[:], row.Ref(ref), row.Incarnation(inc), []byte{how})
}

// Number is a park number: the place in the ledger of the record that parked
// (rule 19). It orders what waits for a recipient and survives a rebuild.
type Number struct {
	Seq   uint64
	Entry uint16
}

func parkedKey(r job.Range, n int, of numbers.Number, at Number, flagged bool) []byte {
	k := page.JobPrefix(r, n, of)
	k = binary.BigEndian.AppendUint64(k, at.Seq)
	k = binary.BigEndian.AppendUint16(k, at.Entry)
	if flagged {
		return append(k, 1)
	}
	return append(k, 0)
}

// parkedRow is the key of a row of parked recipients, taken apart.
type parkedRow struct {
	page    int
	job     numbers.Number
	number  Number
	flagged bool
}

func parseParkedKey(k []byte) (parkedRow, error) {
	var p parkedRow
	if len(k) != 2+1+2+numbers.Size+8+2+1 {
		return p, fmt.Errorf("parked row key of %d bytes", len(k))
	}
	p.page, p.job = page.NumberIn(k), page.JobIn(k)
	at := k[2+1+2+numbers.Size:]
	p.number = Number{binary.BigEndian.Uint64(at), binary.BigEndian.Uint16(at[8:])}
	p.flagged = at[10] == 1
	return p, nil
}
