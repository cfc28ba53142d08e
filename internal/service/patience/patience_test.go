package patience

import (
	"context"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"crier/job"
	"crier/state/ledger"
)

// dumb is a log of which a follower gets some records and then hears nothing.
type dumb struct {
	ledger.Log
	records []time.Duration // after so long each
}

func (d dumb) Follow(ctx context.Context, _ uint64, _ string, fn func(ledger.Stored) error, _ func()) error {
	for i, after := range d.records {
		select {
		case <-time.After(after):
		case <-ctx.Done():
			return ctx.Err()
		}
		if err := fn(ledger.Stored{Seq: uint64(i + 1)}); err != nil {
			return err
		}
	}
	<-ctx.Done()
	return ctx.Err()
}

// Who reads to the end of a stream waits for the next record, and no longer than is said;
// a reader that is slow itself is no sign of silence.
func TestPatience(t *testing.T) {
	const s = time.Second
	stop := errors.New("stop")
	for _, c := range []struct {
		records []time.Duration
		slow    time.Duration // for each record
		takes   time.Duration
	}{{nil, 0, 10 * s}, {[]time.Duration{9 * s, 9 * s, 9 * s}, 0, 37 * s}, {[]time.Duration{s, s}, 30 * s, 72 * s}} {
		synctest.Test(t, func(t *testing.T) {
			began := time.Now()
			err := ledger.ReadAll(t.Context(), Log{dumb{records: c.records}, 10 * s}, 1, "x", func(ledger.Stored) error {
				time.Sleep(c.slow)
				return nil
			})
			if job.CodeOf(err) != job.CodeUnavailable || !strings.Contains(err.Error(), "the ledger does not answer") || time.Since(began) != c.takes {
				t.Errorf("%v: %v after %s, want %s", c.records, err, time.Since(began), c.takes)
			}
			if err := (Log{dumb{records: c.records}, 10 * s}).Follow(t.Context(), 1, "x", func(ledger.Stored) error { return stop }, nil); len(c.records) > 0 && !errors.Is(err, stop) {
				t.Errorf("its own end: %v", err)
			}
			ctx, cancel := context.WithTimeout(t.Context(), s)
			defer cancel()
			if err := (Log{dumb{}, 10 * s}).Follow(ctx, 1, "x", nil, nil); !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("its caller's end: %v", err)
			}
			log := ledger.NewMemory(ledger.MemoryConfig{}) // which says again and again that all is read
			ctx, cancel = context.WithTimeout(t.Context(), time.Hour)
			defer cancel()
			if err := (Log{log, 10 * s}).Follow(ctx, 1, "x", nil, nil); !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("at the end of a stream that answers: %v", err)
			}
		})
	}
}
