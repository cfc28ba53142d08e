package members

import (
	"context"
	"errors"
	"sync"
	"time"

	"crier/internal/idset"
	"crier/job"
)

// Bounds of the lists that SuppressionLists keeps open: readers of lists that have
// entries, at most 1.25 MiB each, and notes of lists that have none.
const (
	maxOpenLists = 64
	maxLists     = 1 << 16
)

// SuppressionLists answers who must get nothing. It keeps lists open between questions
// and looks again after each change, so that an entry counts from the moment that
// Add returned in this process. It is safe for concurrent use.
type SuppressionLists struct {
	s  *Store
	mu struct {
		sync.RWMutex
		lists map[Key]*openList
		open  int // lists with a reader
	}
}

// openList is what was last seen of one list.
type openList struct {
	version  uint64 // of all lists when this one was looked at
	revision uint64
	reader   *Reader   // nil if the list is empty
	failed   uint64    // version at which looking failed last
	tried    time.Time // when
}

// current reports whether a list need not be looked at: nothing has changed since, or the
// store just did not answer and is left alone for a while.
func (l *openList) current(version uint64) bool {
	return l.version >= version || l.failed >= version && time.Since(l.tried) < headAgain
}

// NewSuppressionLists makes the answerer for a store's suppression lists.
func NewSuppressionLists(s *Store) *SuppressionLists {
	p := &SuppressionLists{s: s}
	p.mu.lists = map[Key]*openList{}
	return p
}

// Version counts the changes of all suppression lists in this process. Reading it
// costs nothing: whoever acted on an answer knows by it whether to ask again.
func (p *SuppressionLists) Version() uint64 { return p.s.suppressed.Load() }

// Range gives those of a range who must get nothing from the account: the global
// list and the account's together. The set is the caller's to release.
func (p *SuppressionLists) Range(ctx context.Context, account uint32, q job.Range) (*idset.Set, error) {
	all, err := p.list(ctx, GlobalSuppression(), q)
	if err != nil {
		return nil, err
	}
	own, err := p.list(ctx, Suppression(account), q)
	if err != nil {
		all.Release()
		return nil, err
	}
	all.Or(own)
	own.Release()
	return all, nil
}

// list gives a range of one list as it is now, or newer.
func (p *SuppressionLists) list(ctx context.Context, key Key, q job.Range) (*idset.Set, error) {
	version := p.Version()
	p.mu.RLock()
	l := p.mu.lists[key]
	if l != nil && l.current(version) {
		defer p.mu.RUnlock()
		return l.read(q)
	}
	p.mu.RUnlock()
	p.mu.Lock()
	defer p.mu.Unlock()
	l, err := p.refreshLocked(ctx, key)
	if err != nil {
		return nil, err
	}
	return l.read(q)
}

func (l *openList) read(q job.Range) (*idset.Set, error) {
	if l.reader == nil {
		return idset.New(q), nil
	}
	return l.reader.Range(q)
}

// refreshLocked looks at a list and opens it again if it changed.
func (p *SuppressionLists) refreshLocked(ctx context.Context, key Key) (*openList, error) {
	version := p.Version() // before looking, so that a change meanwhile is seen next time
	if l := p.mu.lists[key]; l != nil && l.current(version) {
		return l, nil // another has looked, while this one waited for the lock
	}
	head, err := p.head(ctx, key)
	if err != nil {
		if l := p.mu.lists[key]; l != nil && p.s.cfg.Outlive && ctx.Err() == nil {
			l.failed, l.tried = version, time.Now()
			return l, nil
		}
		return nil, err
	}
	if l := p.mu.lists[key]; l != nil && l.revision == head.Revision {
		l.version = version
		return l, nil
	}
	if err := p.dropLocked(key); err != nil {
		return nil, err
	}
	if err := p.makeRoomLocked(); err != nil {
		return nil, err
	}
	l := &openList{version: version, revision: head.Revision}
	if head.Revision > 0 {
		if l.reader, err = p.s.Current(ctx, key); err != nil {
			return nil, err
		}
		l.revision = l.reader.Revision()
		p.mu.open++
	}
	p.mu.lists[key] = l
	return l, nil
}

// A store that does not answer is asked about a list that may outlive it for so long, and
// again after so long: who sends waits meanwhile.
const (
	headWithin = 500 * time.Millisecond
	headAgain  = 2 * time.Second
)

// head looks at a list in the store.
func (p *SuppressionLists) head(ctx context.Context, key Key) (Head, error) {
	if p.s.cfg.Outlive && p.mu.lists[key] != nil {
		try, cancel := context.WithTimeout(ctx, headWithin)
		defer cancel()
		ctx = try
	}
	return p.s.cfg.Sets.Head(ctx, key)
}

func (p *SuppressionLists) dropLocked(key Key) error {
	l := p.mu.lists[key]
	delete(p.mu.lists, key)
	if l == nil || l.reader == nil {
		return nil
	}
	p.mu.open--
	return l.reader.Close()
}

// makeRoomLocked closes lists until there is room for one more.
func (p *SuppressionLists) makeRoomLocked() error {
	for key, l := range p.mu.lists {
		if len(p.mu.lists) < maxLists && p.mu.open < maxOpenLists {
			return nil
		}
		if key.Kind == KindGlobalSuppression || len(p.mu.lists) < maxLists && l.reader == nil {
			continue
		}
		if err := p.dropLocked(key); err != nil {
			return err
		}
	}
	return nil
}

// Close closes all lists. Asking again opens them again.
func (p *SuppressionLists) Close() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	var errs []error
	for key := range p.mu.lists {
		errs = append(errs, p.dropLocked(key))
	}
	return errors.Join(errs...)
}
