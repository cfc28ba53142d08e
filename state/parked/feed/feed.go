// Package feed gives the parked index the ledger's records, several at a time where several wait: a
// batch of its store costs as much as dozens of rows.
package feed

import (
	"context"
	"fmt"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sync/semaphore"

	"crier/state/ledger"
	"crier/state/parked"
)

const (
	// togetherMost is how many records are applied together at most: readers wait for all of them.
	togetherMost = 64
	// togetherBytes bounds those, and what waits to be applied, each with one record more.
	togetherBytes = 1 << 20
)

// Follow applies the records of all journals, and the erasures, from the watermark on, until ctx ends; those that wait
// are applied together. After each time fn, if it is not nil, is called with them and with what they changed.
func Follow(ctx context.Context, x *parked.Index, log ledger.Log, fn func([]ledger.Stored, []parked.Change) error) error {
	g, ctx := errgroup.WithContext(ctx)
	room, waiting := semaphore.NewWeighted(togetherBytes), make(chan ledger.Stored, togetherMost)
	weight := func(st ledger.Stored) int64 { return min(int64(len(st.Data)), togetherBytes) }
	from := x.Watermark()
	g.Go(func() error {
		return log.Follow(ctx, from, ledger.AllSubjects, func(st ledger.Stored) error {
			if !indexed(st.Subject) {
				return nil
			}
			if err := room.Acquire(ctx, weight(st)); err != nil {
				return err
			}
			select {
			case waiting <- st:
				return nil
			case <-ctx.Done():
				return ctx.Err()
			}
		}, nil)
	})
	g.Go(func() error {
		for {
			var p pile
			select {
			case st := <-waiting:
				p.add(st)
			case <-ctx.Done():
				return ctx.Err()
			}
			for more := true; more && !p.isFull(); {
				select {
				case st := <-waiting:
					p.add(st)
				default:
					more = false
				}
			}
			for _, st := range p.records {
				room.Release(weight(st))
			}
			changes, err := x.Apply(ctx, p.records...)
			if err != nil {
				return fmt.Errorf("feeding the parked index: %w", err)
			}
			if fn == nil {
				continue
			}
			if err := fn(p.records, changes); err != nil {
				return err
			}
		}
	})
	return g.Wait()
}

// CatchUp applies what there is of them from the watermark on.
func CatchUp(ctx context.Context, x *parked.Index, log ledger.Log) error {
	var p pile
	err := ledger.ReadAll(ctx, log, x.Watermark(), ledger.AllSubjects, func(st ledger.Stored) error {
		if !indexed(st.Subject) {
			return nil
		}
		p.add(st)
		if !p.isFull() {
			return nil
		}
		_, err := x.Apply(ctx, p.records...)
		p = pile{}
		return err
	})
	if err == nil {
		_, err = x.Apply(ctx, p.records...)
	}
	if err != nil {
		return fmt.Errorf("reading the ledger into the parked index: %w", err)
	}
	return nil
}

// indexed reports whether the index takes in what stands under a subject. Two followers, of the
// journals and of the erasures, would not have them in their order; and that is what decides whom
// a charge counts for.
func indexed(subject string) bool { return ledger.IsJournal(subject) || ledger.IsErasure(subject) }

// pile is records that are applied together.
type pile struct {
	records []ledger.Stored
	bytes   int
}

func (p *pile) add(st ledger.Stored) {
	p.records = append(p.records, st)
	p.bytes += len(st.Data)
}

func (p *pile) isFull() bool { return len(p.records) == togetherMost || p.bytes >= togetherBytes }
