package ledger

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"sort"
	"sync"
	"time"

	"crier/internal/bus/subject"
)

// ErrNoAnswer is what an append to a Memory gets when a fault keeps the answer
// back: as with a real stream, the record may or may not be stored.
var ErrNoAnswer = errors.New("ledger: no answer from the stream")

// Fault is what a Memory does to one append instead of the right thing.
type Fault int

// The faults.
const (
	FaultNone   Fault = iota // the right thing
	FaultStored              // stored (if its condition holds), but no answer comes
	FaultLost                // not stored, and no answer comes
	FaultFull                // refused with ErrFull
)

// memoryOverhead is what a record counts beside its subject and data.
const memoryOverhead = 32

// lookEvery is how often a follower says that it has seen all, if nothing new comes.
const lookEvery = 500 * time.Millisecond

// MemoryConfig describes a Memory.
type MemoryConfig struct {
	// Limit bounds the stream in bytes. Default 1 GiB.
	Limit uint64
	// Now is the clock that dates the records. Default time.Now.
	Now func() time.Time
}

// Memory is a Log in memory: the twin of the stream, for tests and simulation. It
// starts no goroutine; all that it does is done in its callers' calls.
type Memory struct {
	limit uint64
	now   func() time.Time
	mu    struct {
		sync.Mutex
		records   []Stored            // record seq at seq-1; a purged one has no subject
		sequences map[string][]uint64 // of each subject, ascending
		bytes     uint64
		stored    chan struct{} // closed and replaced at each append
		faults    []injected
		holds     []*hold // in the order of Hold
	}
}

type injected struct {
	filter string
	fault  Fault
}

type hold struct {
	filter string
	held   []*heldAppend // in the order they came
}

type heldAppend struct {
	subject string
	last    uint64
	data    []byte
	answer  chan appendAnswer // one slot
}

type appendAnswer struct {
	seq uint64
	err error
}

var _ Log = (*Memory)(nil)

// NewMemory makes an empty stream.
func NewMemory(cfg MemoryConfig) *Memory {
	m := &Memory{limit: cfg.Limit, now: cfg.Now}
	if m.limit == 0 {
		m.limit = 1 << 30
	}
	if m.now == nil {
		m.now = time.Now
	}
	m.mu.sequences = make(map[string][]uint64)
	m.mu.stored = make(chan struct{})
	return m
}

// Inject makes the next appends to subjects that match filter meet these faults,
// one each, in this order. Faults injected earlier come first.
func (m *Memory) Inject(filter string, faults ...Fault) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, f := range faults {
		m.mu.faults = append(m.mu.faults, injected{filter, f})
	}
}

// Hold delays appends to subjects that match filter, as a slow network does, until
// release is called: then they are tried in the order they came, also those whose
// callers have given up. release is idempotent.
func (m *Memory) Hold(filter string) (release func()) {
	h := &hold{filter: filter}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.mu.holds = append(m.mu.holds, h)
	return func() {
		m.mu.Lock()
		defer m.mu.Unlock()
		m.mu.holds = slices.DeleteFunc(m.mu.holds, func(o *hold) bool { return o == h })
		for _, a := range h.held {
			seq, err := m.appendLocked(a.subject, a.last, a.data)
			a.answer <- appendAnswer{seq, err}
		}
		h.held = nil
	}
}

// Append implements Log.
func (m *Memory) Append(ctx context.Context, subj string, last uint64, data []byte) (uint64, error) {
	if !subject.Valid(subj) {
		return 0, fmt.Errorf("ledger: storing in %q: bad subject", subj)
	}
	if err := ctx.Err(); err != nil {
		return 0, fmt.Errorf("ledger: storing in %s: %w", subj, err)
	}
	data = append([]byte{}, data...)
	a := m.holdAppend(subj, last, data)
	if a == nil {
		m.mu.Lock()
		defer m.mu.Unlock()
		return m.appendLocked(subj, last, data)
	}
	select {
	case r := <-a.answer:
		return r.seq, r.err
	case <-ctx.Done():
		return 0, fmt.Errorf("ledger: storing in %s: %w", subj, ctx.Err())
	}
}

// holdAppend puts an append aside if it is to be held.
func (m *Memory) holdAppend(subj string, last uint64, data []byte) *heldAppend {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, h := range m.mu.holds {
		if subject.Match(h.filter, subj) {
			a := &heldAppend{subj, last, data, make(chan appendAnswer, 1)}
			h.held = append(h.held, a)
			return a
		}
	}
	return nil
}

func (m *Memory) appendLocked(subj string, last uint64, data []byte) (uint64, error) {
	fault := FaultNone
	for i, f := range m.mu.faults {
		if subject.Match(f.filter, subj) {
			fault = f.fault
			m.mu.faults = slices.Delete(m.mu.faults, i, i+1)
			break
		}
	}
	switch fault {
	case FaultLost:
		return 0, fmt.Errorf("storing in %s: %w", subj, ErrNoAnswer)
	case FaultFull:
		return 0, fmt.Errorf("storing in %s: %w", subj, ErrFull)
	case FaultStored:
		_, err := m.storeLocked(subj, last, data)
		return 0, fmt.Errorf("storing in %s: %w (kept back: %v)", subj, ErrNoAnswer, err)
	default:
		return m.storeLocked(subj, last, data)
	}
}

func (m *Memory) storeLocked(subj string, last uint64, data []byte) (uint64, error) {
	of := m.mu.sequences[subj]
	if have := lastOf(of); have != last {
		return 0, fmt.Errorf("storing in %s after %d: %w (%d)", subj, last, ErrConflict, have)
	}
	size := sizeOf(subj, data)
	if m.mu.bytes+size > m.limit {
		return 0, fmt.Errorf("storing in %s: %w", subj, ErrFull)
	}
	seq := uint64(len(m.mu.records)) + 1
	m.mu.records = append(m.mu.records, Stored{Seq: seq, Subject: subj, Time: m.now(), Data: data})
	m.mu.sequences[subj] = append(of, seq)
	m.mu.bytes += size
	close(m.mu.stored)
	m.mu.stored = make(chan struct{})
	return seq, nil
}

func lastOf(sequences []uint64) uint64 {
	if len(sequences) == 0 {
		return 0
	}
	return sequences[len(sequences)-1]
}

func sizeOf(subj string, data []byte) uint64 {
	return uint64(len(subj)+len(data)) + memoryOverhead
}

// Last implements Log.
func (m *Memory) Last(ctx context.Context, subj string) (Stored, error) {
	if err := ctx.Err(); err != nil {
		return Stored{}, fmt.Errorf("ledger: reading the last record of %s: %w", subj, err)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	last := lastOf(m.mu.sequences[subj])
	if last == 0 {
		return Stored{}, fmt.Errorf("reading the last record of %s: %w", subj, ErrNoRecord)
	}
	return own(m.mu.records[last-1]), nil
}

// Get implements Log.
func (m *Memory) Get(ctx context.Context, seq uint64) (Stored, error) {
	if err := ctx.Err(); err != nil {
		return Stored{}, fmt.Errorf("ledger: reading record %d: %w", seq, err)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if seq == 0 || seq > uint64(len(m.mu.records)) || m.mu.records[seq-1].Subject == "" {
		return Stored{}, fmt.Errorf("reading record %d: %w", seq, ErrNoRecord)
	}
	return own(m.mu.records[seq-1]), nil
}

// own gives a record whose data its receiver may change.
func own(r Stored) Stored {
	r.Data = bytes.Clone(r.Data)
	return r
}

// Follow implements Log. It waits in its caller's goroutine.
func (m *Memory) Follow(ctx context.Context, from uint64, filter string, fn func(Stored) error, caughtUp func()) error {
	next := max(from, 1)
	for {
		batch, stored := m.after(next, filter)
		for _, r := range batch {
			if err := ctx.Err(); err != nil {
				return err
			}
			if err := fn(own(r)); err != nil {
				return err
			}
			next = r.Seq + 1
		}
		if len(batch) > 0 {
			continue
		}
		if err := ctx.Err(); err != nil {
			return err
		}
		if caughtUp != nil {
			caughtUp()
		}
		t := time.NewTimer(lookEvery)
		select {
		case <-ctx.Done():
		case <-stored:
		case <-t.C:
		}
		t.Stop()
	}
}

// after gives up to 256 records that match from sequence next on, and what is
// closed when there may be more.
func (m *Memory) after(next uint64, filter string) ([]Stored, <-chan struct{}) {
	m.mu.Lock()
	defer m.mu.Unlock()
	var batch []Stored
	for i := next - 1; i < uint64(len(m.mu.records)) && len(batch) < 256; i++ {
		if r := m.mu.records[i]; r.Subject != "" && subject.Match(filter, r.Subject) {
			batch = append(batch, r)
		}
	}
	return batch, m.mu.stored
}

// Subjects implements Log.
func (m *Memory) Subjects(ctx context.Context, filter string) (map[string]uint64, error) {
	if err := ctx.Err(); err != nil {
		return nil, fmt.Errorf("ledger: listing subjects %s: %w", filter, err)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	found := make(map[string]uint64)
	for s, of := range m.mu.sequences {
		if subject.Match(filter, s) {
			found[s] = uint64(len(of))
		}
	}
	return found, nil
}

// Purge implements Log.
func (m *Memory) Purge(ctx context.Context, subj string, before uint64) error {
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("ledger: purging %s: %w", subj, err)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	of := m.mu.sequences[subj]
	before = min(before, lastOf(of))
	n := sort.Search(len(of), func(i int) bool { return of[i] >= before })
	for _, seq := range of[:n] {
		r := &m.mu.records[seq-1]
		m.mu.bytes -= sizeOf(r.Subject, r.Data)
		*r = Stored{Seq: seq}
	}
	if n > 0 {
		m.mu.sequences[subj] = slices.Clone(of[n:])
	}
	return nil
}

// Usage implements Log.
func (m *Memory) Usage(ctx context.Context) (Usage, error) {
	if err := ctx.Err(); err != nil {
		return Usage{}, fmt.Errorf("ledger: asking the extent: %w", err)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	u := Usage{Last: uint64(len(m.mu.records)), Bytes: m.mu.bytes, Limit: m.limit}
	for _, r := range m.mu.records {
		if r.Subject != "" {
			u.First = r.Seq
			break
		}
	}
	return u, nil
}
