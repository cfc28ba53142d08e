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
	"crier/state/parked/page"
	"crier/state/parked/row"
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
	held     *kv.Overlay // Apply's
	packages Packages
	records  Records
	people   waiting.People
	doubtful waiting.Ranges // with rows of doubt

	mu struct {
		sync.RWMutex
		mark     Number // everything before it is applied
		journals map[job.Journal]journal
		open     map[string]*Open // by openKey; bounded by the open blocks
		late     map[string]*Open // the same of reserves in doubt whose incarnation may still answer
		totals   map[job.ID]Tally // some, as they are written: of totalsMost jobs at most
	}
}

type journal struct {
	next   uint64
	sealed bool
}

// Open is the still open part of a reserve at one incarnation.
type Open struct {
	Ref     job.Ref
	At      Number // the entry that opened it: the reserve, or a done that ended a doubt; zero if in doubt
	Inc     job.Incarnation
	Job     job.ID
	Range   job.Range
	Set     *idset.Set // for reading only
	Doubted bool       // in doubt, but not for good; who was decided meanwhile is in Set, too
	whole   bool       // Set is what the reserve says
}

// Change tells what one entry did that somebody may want to act on.
type Change struct {
	Job   job.ID
	Range job.Range
	// Parked is who was parked by a reserve or a decision, and may be online by now;
	// may be nil. Who a gateway sent back is not in it: presence may still show them
	// there, and an immediate drain would come back as fast. They wait for their
	// next login or the sweep.
	Parked *idset.Set
	Total  Tally // of the job, after it
}

// New opens the index kept in a store.
func New(ctx context.Context, store kv.Store, packages Packages, records Records) (*Index, error) {
	store = page.NewCache(store)
	x := &Index{Charges: charge.Book{Rows: store}, kv: store, held: kv.NewOverlay(store), packages: packages, records: records}
	x.mu.journals = map[job.Journal]journal{}
	x.mu.open = map[string]*Open{}
	x.mu.late = map[string]*Open{}
	x.mu.totals = map[job.ID]Tally{}
	if err := x.load(ctx); err != nil {
		return nil, fmt.Errorf("opening the parked index: %w", err)
	}
	return x, nil
}

func (x *Index) load(ctx context.Context) error {
	b, err := x.kv.Get(globalKey(rowMark))
	if err != nil {
		return err
	}
	if b != nil {
		if x.mu.mark, err = parseMark(b); err != nil {
			return err
		}
	}
	prefix := globalKey(rowJournal)
	err = x.kv.Scan(prefix, row.After(prefix), func(k, v []byte) error {
		name, val := bin.NewReader(k[len(prefix):]), bin.NewReader(v)
		x.mu.journals[name.Journal()] = journal{next: val.Uint(), sealed: val.Bool()}
		return errors.Join(name.Err(true), val.Err(true))
	})
	if err != nil {
		return err
	}
	for r := range job.Range(job.Ranges) {
		prefix := row.Key(r, rowOpen)
		err := x.kv.Scan(prefix, row.After(prefix), func(k, v []byte) error { return x.loadOpen(ctx, r, k, v) })
		if err != nil {
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
	k := string(openKey(d.Range, d.Job, d.Ref, d.Inc))
	if o := x.mu.late[k]; o != nil {
		o.Set.Or(d.Set)
		return
	}
	x.mu.late[k] = &Open{Ref: d.Ref, Inc: d.Inc, Job: d.Job, Range: d.Range, Doubted: true, Set: d.Set}
}

func (x *Index) loadOpen(ctx context.Context, r job.Range, k, v []byte) error {
	kr, vr := bin.NewReader(k[3:]), bin.NewReader(v)
	o := &Open{Range: r, Job: kr.JobID(), Ref: kr.Ref(), Inc: kr.Incarnation()}
	o.At = Number{vr.Uint(), uint16(vr.Max(1<<16 - 1))}
	if o.whole = vr.Bool(); !o.whole {
		o.Set = vr.Set()
	}
	if err := errors.Join(kr.Err(true), vr.Err(true)); err != nil {
		return err
	}
	if o.whole {
		s, err := x.targetsAt(ctx, o.At, o.Inc)
		if err != nil {
			return fmt.Errorf("reading reserve %s from the ledger: %w", o.Ref, err)
		}
		o.Set = s
	}
	x.mu.open[string(k)] = o
	return nil
}

// targetsAt reads the targets of a reserve at one incarnation from the ledger.
func (x *Index) targetsAt(ctx context.Context, at Number, inc job.Incarnation) (*idset.Set, error) {
	st, err := x.records.Get(ctx, at.Seq)
	if err != nil {
		return nil, err
	}
	rec, err := ledger.ParseRecord(st.Data)
	if err != nil {
		return nil, err
	}
	if int(at.Entry) < len(rec.Entries) {
		t := targetsOf(rec.Entries[at.Entry])
		for i := range t.Incs {
			if t.Incs[i] == inc {
				return t.Sets[i], nil
			}
		}
	}
	return nil, fmt.Errorf("%w: record %d has no targets at %s in entry %d", ErrLedger, at.Seq, inc, at.Entry)
}

func targetsOf(e ledger.Entry) ledger.Targets {
	switch e := e.(type) {
	case *ledger.Reserve:
		return e.Targets
	case *ledger.Drain:
		return e.Targets
	}
	return ledger.Targets{}
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
