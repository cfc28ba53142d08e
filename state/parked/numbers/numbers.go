// Package numbers gives jobs short names for the rows of the index, of which most are parked
// recipients: a job's number has 4 bytes, its id 16, and they are in every key that is
// written, compared and compacted. Jobs are numbered in the order in which the ledger first
// parks anybody for them, so that all indexes of a ledger have the same numbers.
//
//	0xffff 'i' job        number
//	0xffff 'n' number     job
//	0xffff 'N'            how many there are
package numbers

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"sync"

	"crier/job"
	"crier/state/parked/kv"
	"crier/state/parked/row"
)

const (
	rowNumber = 'i'
	rowJob    = 'n'
	rowCount  = 'N'
)

// most is how many jobs are remembered, and how many numbers: 2 MiB.
const most = 16 << 10

// Size is the bytes of a number in a key.
const Size = 4

// Number names a job; 0 is none.
type Number uint32

// Append appends a number to a key.
func (n Number) Append(key []byte) []byte { return binary.BigEndian.AppendUint32(key, uint32(n)) }

// In reads a number at the beginning of a piece of a key.
func In(b []byte) Number { return Number(binary.BigEndian.Uint32(b)) }

// Rows reads rows; kv.Store and kv.Overlay have it.
type Rows interface {
	Get(key []byte) ([]byte, error)
}

// Table finds jobs and numbers that are in a store, and remembers them. It is safe for concurrent
// use.
type Table struct {
	rows Rows
	mu   struct {
		sync.RWMutex
		number map[job.ID]Number
		job    map[Number]job.ID
	}
}

// New makes a table of the rows of a store.
func New(rows Rows) *Table {
	t := &Table{rows: rows}
	t.mu.number, t.mu.job = map[job.ID]Number{}, map[Number]job.ID{}
	return t
}

// Of gives the number of a job; 0: nobody was ever parked for it.
func (t *Table) Of(id job.ID) (Number, error) {
	t.mu.RLock()
	n, ok := t.mu.number[id]
	t.mu.RUnlock()
	if ok {
		return n, nil
	}
	n, err := read(t.rows, id)
	if err == nil && n != 0 {
		t.keep(n, id)
	}
	return n, err
}

func read(rows Rows, id job.ID) (Number, error) {
	b, err := rows.Get(row.Global(rowNumber, id[:]))
	if err != nil || b == nil {
		return 0, err
	}
	if len(b) != Size {
		return 0, fmt.Errorf("the number of job %s has %d bytes", id, len(b))
	}
	return In(b), nil
}

// Job gives the job that has a number.
func (t *Table) Job(n Number) (job.ID, error) {
	t.mu.RLock()
	id, ok := t.mu.job[n]
	t.mu.RUnlock()
	if ok {
		return id, nil
	}
	b, err := t.rows.Get(row.Global(rowJob, n.Append(nil)))
	if err == nil && len(b) != len(id) {
		err = fmt.Errorf("job number %d has %d bytes", n, len(b))
	}
	if err != nil {
		return job.ID{}, err
	}
	id = job.ID(b)
	t.keep(n, id)
	return id, nil
}

func (t *Table) keep(n Number, id job.ID) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.mu.number) >= most {
		clear(t.mu.number)
		clear(t.mu.job)
	}
	t.mu.number[id], t.mu.job[n] = n, id
}

// Ahead is the table with what rows show that are yet to be written.
type Ahead struct {
	*Table
	Rows Rows
}

// Of is Table.Of.
func (a Ahead) Of(id job.ID) (Number, error) {
	n, err := a.Table.Of(id)
	if err != nil || n != 0 {
		return n, err
	}
	return read(a.Rows, id)
}

// Give gives a job its number; if it has none yet, a batch gives it the next one, which Of knows
// when rows show what is in the batch.
func (a Ahead) Give(b *kv.Batch, id job.ID) (Number, error) {
	n, err := a.Of(id)
	if err != nil || n != 0 {
		return n, err
	}
	count, err := a.Rows.Get(row.Global(rowCount))
	if err != nil {
		return 0, err
	}
	if count != nil {
		n = In(count)
	}
	if n == math.MaxUint32 {
		return 0, errors.New("there are no numbers left for jobs")
	}
	n++
	b.Put(row.Global(rowCount), n.Append(nil))
	b.Put(row.Global(rowNumber, id[:]), n.Append(nil))
	b.Put(row.Global(rowJob, n.Append(nil)), id[:])
	return n, nil
}
