// Package report holds the past of the ledger: stretches of journal records, just
// as they were, with an index by job and range. Reports are blobs; ledger.Fold
// names them.
//
// It guarantees that an entry read from a report is the one that stood in the
// ledger: records keep their bytes, so that their chains can still be checked, and
// Store compares a blob with its digest before the first use.
//
//	"CR" 1
//	records, in the order of the ledger: sequence, time (Unix ns), length, bytes
//	rows, sorted by job, range, sequence and entry, 48 bytes each
//	how many rows there are, and where they begin, 8 bytes each
package report

import (
	"bufio"
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"slices"

	"crier/internal/bin"
	"crier/job"
	"crier/state/ledger"
)

// ErrReport is wrapped by errors about bytes that are no report.
var ErrReport = errors.New("not a report")

const (
	magic      = "CR\x01"
	rowBytes   = 48
	footBytes  = 16
	headerMost = 3 * binary.MaxVarintLen64 // of a record: sequence, time, length
)

// row says where an entry is. Seals stand under no job and range 0.
type row struct {
	job    job.ID
	rng    job.Range
	entry  uint16 // its number in the record
	length uint32 // of the entry
	seq    uint64 // of the record
	record uint64 // where the record's header begins
	at     uint64 // where the entry begins
}

func compareRows(a, b row) int {
	return cmp.Or(slices.Compare(a.job[:], b.job[:]), cmp.Compare(a.rng, b.rng), cmp.Compare(a.seq, b.seq), cmp.Compare(a.entry, b.entry))
}

func (x row) append(b []byte) []byte {
	b = append(b, x.job[:]...)
	b = binary.BigEndian.AppendUint16(b, uint16(x.rng))
	b = binary.BigEndian.AppendUint16(b, x.entry)
	b = binary.BigEndian.AppendUint32(b, x.length)
	for _, v := range []uint64{x.seq, x.record, x.at} {
		b = binary.BigEndian.AppendUint64(b, v)
	}
	return b
}

func parseRow(b []byte) row {
	x := row{rng: job.Range(binary.BigEndian.Uint16(b[16:])), entry: binary.BigEndian.Uint16(b[18:]), length: binary.BigEndian.Uint32(b[20:]),
		seq: binary.BigEndian.Uint64(b[24:]), record: binary.BigEndian.Uint64(b[32:]), at: binary.BigEndian.Uint64(b[40:])}
	copy(x.job[:], b)
	return x
}

// Writer writes a report. It keeps 56 bytes an entry in memory. After an error it
// is of no use.
type Writer struct {
	w    *bufio.Writer
	at   uint64
	rows []row
}

// NewWriter begins a report.
func NewWriter(w io.Writer) (*Writer, error) {
	x := &Writer{w: bufio.NewWriterSize(w, 128<<10)}
	return x, x.put([]byte(magic))
}

func (w *Writer) put(b []byte) error {
	n, err := w.w.Write(b)
	w.at += uint64(n)
	if err != nil {
		return fmt.Errorf("writing a report: %w", err)
	}
	return nil
}

// Bytes is the size of the report so far, its rows included.
func (w *Writer) Bytes() uint64 { return w.at + uint64(len(w.rows))*rowBytes }

// Add takes in the next record of the ledger, which must be a journal's.
func (w *Writer) Add(st ledger.Stored) error {
	_, entries, err := ledger.SplitRecord(st.Data)
	if err != nil {
		return fmt.Errorf("record %d: %w", st.Seq, err)
	}
	record := w.at
	var h bin.Writer
	h.Uint(st.Seq)
	h.Uint(uint64(st.Time.UnixNano()))
	h.Uint(uint64(len(st.Data)))
	if err := w.put(h.B); err != nil {
		return err
	}
	// The entries are the record's last bytes, each with its length in front.
	at := w.at + uint64(len(st.Data))
	for i, e := range slices.Backward(entries) {
		at -= uint64(len(e))
		t, err := ledger.TopicOf(e)
		if err != nil {
			return fmt.Errorf("entry %d of record %d: %w", i, st.Seq, err)
		}
		if t.Voids {
			t = ledger.Topic{Voids: true}
		}
		if t.Voids || !t.Job.IsZero() {
			w.rows = append(w.rows, row{job: t.Job, rng: t.Range, entry: uint16(i), length: uint32(len(e)), seq: st.Seq, record: record, at: at})
		}
		at -= uint64(len(binary.AppendUvarint(nil, uint64(len(e)))))
	}
	return w.put(st.Data)
}

// Finish writes the rows and ends the report.
func (w *Writer) Finish() error {
	slices.SortFunc(w.rows, compareRows)
	begin := w.at
	var b []byte
	for _, x := range w.rows {
		if err := w.put(x.append(b[:0])); err != nil {
			return err
		}
	}
	b = binary.BigEndian.AppendUint64(b[:0], uint64(len(w.rows)))
	if err := w.put(binary.BigEndian.AppendUint64(b, begin)); err != nil {
		return err
	}
	if err := w.w.Flush(); err != nil {
		return fmt.Errorf("writing a report: %w", err)
	}
	return nil
}
