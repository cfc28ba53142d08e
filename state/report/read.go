package report

import (
	"bufio"
	"encoding/binary"
	"fmt"
	"io"
	"slices"
	"sort"
	"time"

	"crier/internal/bin"
	"crier/job"
	"crier/state/ledger"
)

// Report reads a report. It is safe for concurrent use.
type Report struct {
	r     io.ReaderAt
	rows  uint64 // how many
	begin uint64 // where they begin
}

// Entry is one entry of the ledger with where it stood.
type Entry struct {
	Seq   uint64
	Ref   job.Ref // its own identity
	Time  time.Time
	Entry ledger.Entry
}

// Open reads the end of a report of a size in bytes. The bytes behind r must be
// those that were written: Store sees to that.
func Open(r io.ReaderAt, size int64) (*Report, error) {
	foot, head := make([]byte, footBytes), make([]byte, len(magic))
	if size < int64(len(magic)+footBytes) {
		return nil, fmt.Errorf("%w: it has %d bytes", ErrReport, size)
	}
	if err := readFull(r, head, 0); err != nil {
		return nil, err
	}
	if err := readFull(r, foot, size-footBytes); err != nil {
		return nil, err
	}
	x := &Report{r: r, rows: binary.BigEndian.Uint64(foot), begin: binary.BigEndian.Uint64(foot[8:])}
	room := uint64(size) - footBytes
	if string(head) != magic || x.begin < uint64(len(magic)) || x.begin > room || (room-x.begin)%rowBytes != 0 || (room-x.begin)/rowBytes != x.rows {
		return nil, fmt.Errorf("%w: its beginning or its end is something else", ErrReport)
	}
	return x, nil
}

func readFull(r io.ReaderAt, b []byte, at int64) error {
	if n, err := r.ReadAt(b, at); n < len(b) {
		return fmt.Errorf("reading a report: %w", err)
	}
	return nil
}

// row reads row i.
func (x *Report) row(i uint64) (row, error) {
	var b [rowBytes]byte
	if err := readFull(x.r, b[:], int64(x.begin+i*rowBytes)); err != nil {
		return row{}, err
	}
	return parseRow(b[:]), nil
}

// from is the first row that is not before one.
func (x *Report) from(want row) (uint64, error) {
	var failed error
	i := sort.Search(int(x.rows), func(i int) bool {
		got, err := x.row(uint64(i))
		if err != nil {
			failed = err
		}
		return compareRows(got, want) >= 0
	})
	return uint64(i), failed
}

// Entries calls fn for each entry about a job's recipients of one range, in the
// order of the ledger. Its error ends the reading and is returned.
func (x *Report) Entries(id job.ID, r job.Range, fn func(Entry) error) error {
	i, err := x.from(row{job: id, rng: r})
	for ; err == nil && i < x.rows; i++ {
		var at row
		if at, err = x.row(i); err != nil || at.job != id || at.rng != r {
			break
		}
		var e Entry
		if e, err = x.entry(at); err == nil {
			err = fn(e)
		}
	}
	return err
}

// Voids calls fn for each seal, in the order of the ledger.
func (x *Report) Voids(fn func(Entry) error) error { return x.Entries(job.ID{}, 0, fn) }

// Ranges lists the ranges that hold entries about a job, ascending.
func (x *Report) Ranges(id job.ID) ([]job.Range, error) {
	var out []job.Range
	i, err := x.from(row{job: id})
	for err == nil && i < x.rows {
		var at row
		if at, err = x.row(i); err != nil || at.job != id {
			break
		}
		out = append(out, at.rng)
		before := i
		if i, err = x.from(row{job: id, rng: at.rng + 1}); err == nil && i <= before {
			err = fmt.Errorf("%w: its rows are not in their order", ErrReport)
		}
	}
	return out, err
}

// header is what stands in front of a record.
type header struct {
	seq    uint64
	time   time.Time
	length uint64
	bytes  uint64 // of the header
}

func parseHeader(b []byte) (header, error) {
	r := bin.NewReader(b)
	h := header{seq: r.Uint(), time: time.Unix(0, int64(r.Uint())).UTC(), length: r.Uint(), bytes: uint64(len(b) - r.Len())}
	if err := r.Err(false); err != nil {
		return h, fmt.Errorf("%w: %w", ErrReport, err)
	}
	return h, nil
}

// entry reads the entry of a row.
func (x *Report) entry(at row) (Entry, error) {
	if at.record >= at.at || at.at > x.begin || uint64(at.length) > x.begin-at.at {
		return Entry{}, fmt.Errorf("%w: a row points outside of the records", ErrReport)
	}
	body := make([]byte, at.length)
	if err := readFull(x.r, body, int64(at.at)); err != nil {
		return Entry{}, err
	}
	// The names in front of a record are short: a worker's is at most 64 bytes.
	front := make([]byte, min(uint64(headerMost+ledger.RecordFront), at.at-at.record))
	if err := readFull(x.r, front, int64(at.record)); err != nil {
		return Entry{}, err
	}
	h, err := parseHeader(front)
	if err != nil {
		return Entry{}, err
	}
	journal, n, err := ledger.NameOf(front[h.bytes:])
	if err != nil {
		return Entry{}, err
	}
	e, err := ledger.ParseEntry(body)
	if err != nil {
		return Entry{}, fmt.Errorf("entry %d of record %d: %w", at.entry, h.seq, err)
	}
	return Entry{Seq: h.seq, Ref: job.Ref{Journal: journal, N: n, Entry: at.entry}, Time: h.time, Entry: e}, nil
}

// Records calls fn for each record, in the order of the ledger; fn may keep its
// data. Its error ends the reading and is returned.
func (x *Report) Records(fn func(ledger.Stored) error) error {
	size := x.begin - uint64(len(magic))
	in := bufio.NewReaderSize(io.NewSectionReader(x.r, int64(len(magic)), int64(size)), 128<<10)
	for {
		front, err := in.Peek(headerMost)
		if len(front) == 0 {
			if err == io.EOF {
				return nil
			}
			return fmt.Errorf("reading a report: %w", err)
		}
		h, err := parseHeader(slices.Clone(front))
		if err != nil {
			return err
		}
		if h.length > size {
			return fmt.Errorf("%w: record %d has %d bytes", ErrReport, h.seq, h.length)
		}
		st := ledger.Stored{Seq: h.seq, Time: h.time, Data: make([]byte, h.length)}
		if _, err := in.Discard(int(h.bytes)); err != nil {
			return fmt.Errorf("reading a report: %w", err)
		}
		if _, err := io.ReadFull(in, st.Data); err != nil {
			return fmt.Errorf("reading record %d of a report: %w", h.seq, err)
		}
		journal, _, err := ledger.NameOf(st.Data)
		if err != nil {
			return fmt.Errorf("record %d of a report: %w", h.seq, err)
		}
		st.Subject = ledger.JournalSubject(journal)
		if err := fn(st); err != nil {
			return err
		}
	}
}
