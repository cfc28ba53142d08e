// Package parked is an index of the ledger: who is parked, in doubt or handed
// off, which spans are reserved, and how many recipients each job has of each
// outcome.
//
// It is fed every record of a journal and every erasure in the order of the ledger and keeps nothing
// that the ledger does not say, so that it can be deleted and built again and is
// then equal, row by row. Its rows live in an ordered key-value store (package kv) that
// need not sync: the entries of a record are one atomic write that also moves the
// watermark, or a few of them, each of whole entries, and after a crash the index goes on from
// the watermark it finds.
package parked

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"crier/internal/bin"
	"crier/internal/idset"
	"crier/job"
	"crier/state/ledger"
	"crier/state/parked/charge"
	"crier/state/parked/kv"
	"crier/state/parked/numbers"
	"crier/state/parked/opens"
	"crier/state/parked/page"
	"crier/state/parked/row"
	"crier/state/parked/totals"
	"crier/state/parked/waiting"
)

// ErrLedger is wrapped when a record cannot be true: the ledger, or the index,
// is damaged. Deleting the index and starting again tells which.
var ErrLedger = errors.New("the ledger contradicts itself or the index")

// Packages gives the ids of a job's recipient package that lie in a range; the
// caller owns the set. It is called for jobs whose reserves are applied.
type Packages interface {
	PackageRange(ctx context.Context, id job.ID, r job.Range) (*idset.Set, error)
}

// Records reads the ledger; ledger.Log has it.
type Records interface {
	Get(ctx context.Context, seq uint64) (ledger.Stored, error)
}

// Index is the index. Apply belongs to one goroutine; everything else may be
// called from any.
type Index struct {
	// Charges is what recipients were charged, as far as the index has come; for reading.
	Charges charge.Book

	kv       kv.Store
	numbers  *numbers.Table
	held     *kv.Overlay // Apply's
	failed   error       // the same: the store could not be written, and may have what it was to write
	packages Packages
	records  Records
	people   waiting.People
	doubtful waiting.Ranges // with rows of doubt

	mu struct {
		sync.RWMutex
		mark     Number // everything before it is applied
		journals map[job.Journal]journal
		open     opens.Table
		late     map[opens.Name]*opens.Open // reserves in doubt whose incarnation may still answer
		totals   totals.Table
	}
}

type journal struct {
	next   uint64
	sealed bool
}

// Change tells who was parked by a reserve or a decision, and may be online by now. Who a
// gateway sent back is in none: presence may still show them there, and an immediate drain would
// come back as fast. They wait for their next login or the sweep.
type Change struct {
	Job    job.ID
	Range  job.Range
	Parked *idset.Set // not empty
}

// New opens the index kept in a store.
func New(ctx context.Context, store kv.Store, packages Packages, records Records) (*Index, error) {
	store = page.NewCache(store)
	x := &Index{Charges: charge.Book{Rows: store}, kv: store, numbers: numbers.New(store), held: kv.NewOverlay(store), packages: packages, records: records}
	x.mu.journals = map[job.Journal]journal{}
	x.mu.late = map[opens.Name]*opens.Open{}
	if err := x.load(ctx); err != nil {
		return nil, fmt.Errorf("opening the parked index: %w", err)
	}
	return x, nil
}

func (x *Index) load(ctx context.Context) error {
	b, err := x.kv.Get(row.Global(rowMark))
	if err != nil {
		return err
	}
	if b != nil {
		if x.mu.mark, err = parseMark(b); err != nil {
			return err
		}
	}
	if err := x.mu.totals.Load(x.kv); err != nil {
		return err
	}
	prefix := row.Global(rowJournal)
	err = x.kv.Scan(prefix, row.After(prefix), func(k, v []byte) error {
		name, val := bin.NewReader(k[len(prefix):]), bin.NewReader(v)
		x.mu.journals[name.Journal()] = journal{next: val.Uint(), sealed: val.Bool()}
		return errors.Join(name.Err(true), val.Err(true))
	})
	if err != nil {
		return err
	}
	targets := x.targets(ctx)
	for r := range job.Range(job.Ranges) {
		if err := x.mu.open.Load(r, x.kv, targets); err != nil {
			return err
		}
		x.doubtful.Add(r) // perhaps
		if err := x.scanDoubts(r, job.ID{}, x.loadLate); err != nil {
			return err
		}
	}
	return nil
}

// loadLate takes in a row of doubt of a reserve that may still be answered.
func (x *Index) loadLate(d Doubt, how byte) {
	if how != doubtUnanswered && how != doubtDecided {
		return
	}
	n := opens.Name{Range: d.Range, Job: d.Job, Ref: d.Ref, Inc: d.Inc}
	if o := x.mu.late[n]; o != nil {
		o.Set.Or(d.Set)
		return
	}
	x.mu.late[n] = &opens.Open{Name: n, Doubted: true, Set: d.Set}
}

// targets reads them in the ledger, and remembers the last record.
func (x *Index) targets(ctx context.Context) opens.Targets {
	var last uint64
	var rec ledger.Record
	return func(seq uint64, entry uint16, inc job.Incarnation) (job.ID, *idset.Set, error) {
		if seq != last {
			st, err := x.records.Get(ctx, seq)
			if err != nil {
				return job.ID{}, nil, err
			}
			if rec, err = ledger.ParseRecord(st.Data); err != nil {
				return job.ID{}, nil, err
			}
			last = seq
		}
		if int(entry) < len(rec.Entries) {
			id, t := targetsOf(rec.Entries[entry])
			for i := range t.Incs {
				if t.Incs[i] == inc {
					return id, t.Sets[i], nil
				}
			}
		}
		return job.ID{}, nil, fmt.Errorf("%w: record %d has no targets at %s in entry %d", ErrLedger, seq, inc, entry)
	}
}

func targetsOf(e ledger.Entry) (job.ID, ledger.Targets) {
	switch e := e.(type) {
	case *ledger.Reserve:
		return e.Job, e.Targets
	case *ledger.Drain:
		return e.Job, e.Targets
	}
	return job.ID{}, ledger.Targets{}
}

// Watermark is the sequence of the first record that is not wholly applied.
func (x *Index) Watermark() uint64 {
	x.mu.RLock()
	defer x.mu.RUnlock()
	return max(1, x.mu.mark.Seq)
}

// Sealed reports whether the journal's seal is applied.
func (x *Index) Sealed(j job.Journal) bool {
	x.mu.RLock()
	defer x.mu.RUnlock()
	return x.mu.journals[j].sealed
}

// Journals lists the journals that have records, and whether their seal is applied.
func (x *Index) Journals() map[job.Journal]bool {
	x.mu.RLock()
	defer x.mu.RUnlock()
	all := make(map[job.Journal]bool, len(x.mu.journals))
	for j, s := range x.mu.journals {
		all[j] = s.sealed
	}
	return all
}

// Size is the bytes that the index takes on disk.
func (x *Index) Size() (uint64, error) { return x.kv.Size() }

// Close closes the store.
func (x *Index) Close() error { return x.kv.Close() }
