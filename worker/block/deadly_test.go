package block_test

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"crier/filters"
	"crier/internal/bus"
	"crier/internal/guard"
	"crier/internal/idset"
	"crier/internal/inhand"
	"crier/job"
	"crier/presence"
	"crier/state/jobs"
	"crier/state/parked/charge"
	"crier/state/parked/kv"
	"crier/worker/block"
	"crier/worker/holds"
	"crier/worker/lane"
)

// deadly is a filter at which the process dies: what is in the file then is what the next
// process finds.
type deadly struct {
	path string
	left []byte
	hits int
}

func (*deadly) Reason() job.Reason { return job.ReasonRelation }

func (d *deadly) Refuse(context.Context, *idset.Set) (_ *idset.Set, err error) {
	d.hits++
	d.left, err = os.ReadFile(d.path)
	return nil, errors.Join(err, errors.New("the process dies"))
}

// deadlyTask is a block of a range.
var deadlyTask = lane.Task{Job: job.ID{1}, Span: job.Span{Lo: uint64(job.Range(6).Lo()), Hi: uint64(job.Range(7).Lo())}, Void: job.Parked, Budget: 1000}

// sender gives w1 of two workers, the first to send a block and the second to be asked. What one of
// them has in hand is in the book; begin begins what it holds.
func sender(t *testing.T, home string, book *inhand.Book, of string, begin func(*holds.Ranges), chain filters.Chain) *block.Maker {
	b := bus.NewMemory()
	t.Cleanup(func() { b.Close() })
	makers := map[string]*block.Maker{}
	for _, name := range []string{"w1", "w2"} {
		cfg := block.Config{Name: name, Content: content{}, Holds: holds.New(), Bus: b, Logger: slog.New(slog.DiscardHandler),
			Job:     func(_ context.Context, id job.ID) (jobs.Job, error) { return jobs.Job{Spec: job.Spec{ID: id}}, nil },
			Filters: func(filters.Lists) filters.Chain { return chain },
			Split:   func(keep *idset.Set) ([]presence.Target, *idset.Set) { return nil, keep },
			Home:    func(job.Range) string { return home }, Want: func(...job.Range) {}, Full: func(job.Incarnation) bool { return false },
			Charges: charge.Book{Rows: kv.NewMemory()}, Now: time.Now}
		if name == of {
			begin(cfg.Holds)
			cfg.InHand = book
		}
		makers[name] = block.New(cfg)
	}
	if _, err := b.Subscribe(block.To("w2"), func(m bus.Msg) { makers["w2"].Answer(t.Context(), m) }); err != nil {
		t.Fatal(err)
	}
	return makers["w1"]
}

// A block at which the process died five times is not worked out again, whether it works it
// out for itself or for another; what is closed is, for nothing is worked out of it.
func TestBlockThatEndsTheProcess(t *testing.T) {
	for _, home := range []string{"w1", "w2"} {
		d := &deadly{path: filepath.Join(t.TempDir(), "inhand")}
		task := deadlyTask
		// work lets w1 send the block; the process of its home has a book.
		work := func(task lane.Task) error {
			book, err := inhand.Open(d.path)
			if err != nil {
				t.Fatal(err)
			}
			defer book.Close()
			_, _, err = sender(t, home, book, home, func(h *holds.Ranges) { h.Begin(6, true) }, filters.Chain{d}).Make(t.Context(), task)
			return err
		}
		for range job.MaxTries {
			if err := work(task); err == nil || guard.Of(err) != nil {
				t.Fatalf("home %s: %v", home, err)
			}
			if err := os.WriteFile(d.path, d.left, 0o600); err != nil {
				t.Fatal(err)
			}
		}
		err := work(task)
		if guard.Of(err) == nil || !strings.Contains(err.Error(), "the process died 5 times") || d.hits != job.MaxTries {
			t.Errorf("home %s: after %d deaths: %v", home, d.hits, err)
		}
		task.Void = job.Cancelled
		if err := work(task); err != nil {
			t.Errorf("home %s: closing it: %v", home, err)
		}
	}
}

// A block that waits for a home, or for one that learns who is online yet, is in nobody's hand: a
// process that is killed meanwhile says nothing of the block. It may be killed so at each start.
func TestBlockThatWaitsIsNotInHand(t *testing.T) {
	for name, x := range map[string]struct {
		home  string // of the range
		holds bool   // it began just now
	}{
		"nobody is home":             {},
		"the home learns":            {"w1", true},
		"the other's home learns":    {"w2", true},
		"the home has not begun yet": {"w1", false},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				path := filepath.Join(t.TempDir(), "inhand")
				book, err := inhand.Open(path)
				if err != nil {
					t.Fatal(err)
				}
				defer book.Close()
				w1 := sender(t, x.home, book, cmp.Or(x.home, "w1"), func(h *holds.Ranges) {
					if x.holds {
						h.Begin(6, false)
					}
				}, nil)
				done := make(chan error, 1)
				go func() {
					_, _, err := w1.Make(t.Context(), deadlyTask)
					done <- err
				}()
				time.Sleep(time.Second)
				left, err := os.ReadFile(path)
				if err != nil {
					t.Fatal(err)
				}
				if len(bytes.Trim(left, "\x00")) > 0 {
					t.Error("what waits is in hand")
				}
				if err := <-done; (err == nil) != x.holds {
					t.Errorf("in the end: %v", err)
				}
			})
		})
	}
}
