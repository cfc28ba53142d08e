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

// config is a maker's where every range has one home.
func config(name, home string, h *holds.Ranges, b bus.Bus, chain filters.Chain) block.Config {
	return block.Config{Name: name, Content: content{}, Holds: h, Bus: b, Logger: slog.New(slog.DiscardHandler),
		Job:     func(_ context.Context, id job.ID) (jobs.Job, error) { return jobs.Job{Spec: job.Spec{ID: id}}, nil },
		Filters: func(filters.Lists) filters.Chain { return chain },
		Split:   func(keep *idset.Set) ([]presence.Target, *idset.Set) { return nil, keep },
		Home:    func(job.Range) string { return home }, Want: func(...job.Range) {}, Full: func(job.Incarnation) bool { return false },
		Charges: charge.Book{Rows: kv.NewMemory()}, Now: time.Now}
}

// A block at which the process died five times is not worked out again, whether it works it
// out for itself or for another; what is closed is, for nothing is worked out of it.
func TestBlockThatEndsTheProcess(t *testing.T) {
	for _, home := range []string{"w1", "w2"} {
		b := bus.NewMemory()
		defer b.Close()
		d := &deadly{path: filepath.Join(t.TempDir(), "inhand")}
		task := lane.Task{Job: job.ID{1}, Span: job.Span{Lo: uint64(job.Range(6).Lo()), Hi: uint64(job.Range(7).Lo())}, Void: job.Parked, Budget: 1000}
		// work lets w1 send the block; the process of its home has a book.
		work := func(task lane.Task) error {
			book, err := inhand.Open(d.path)
			if err != nil {
				t.Fatal(err)
			}
			defer book.Close()
			makers := map[string]*block.Maker{}
			for _, name := range []string{"w1", "w2"} {
				h := holds.New()
				cfg := config(name, home, h, b, filters.Chain{d})
				if name == home {
					h.Begin(6, true)
					cfg.InHand = book
				}
				makers[name] = block.New(cfg)
			}
			sub, err := b.Subscribe(block.To("w2"), func(m bus.Msg) { makers["w2"].Answer(t.Context(), m) })
			if err != nil {
				t.Fatal(err)
			}
			defer sub.Unsubscribe()
			_, _, err = makers["w1"].Make(t.Context(), task)
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
				b := bus.NewMemory()
				defer b.Close()
				path := filepath.Join(t.TempDir(), "inhand")
				book, err := inhand.Open(path)
				if err != nil {
					t.Fatal(err)
				}
				defer book.Close()
				makers := map[string]*block.Maker{}
				for _, name := range []string{"w1", "w2"} {
					h := holds.New()
					cfg := config(name, x.home, h, b, nil)
					if name == cmp.Or(x.home, "w1") {
						cfg.InHand = book
						if x.holds {
							h.Begin(6, false)
						}
					}
					makers[name] = block.New(cfg)
				}
				sub, err := b.Subscribe(block.To("w2"), func(m bus.Msg) { makers["w2"].Answer(t.Context(), m) })
				if err != nil {
					t.Fatal(err)
				}
				defer sub.Unsubscribe()
				task := lane.Task{Job: job.ID{1}, Span: job.Span{Lo: uint64(job.Range(6).Lo()), Hi: uint64(job.Range(7).Lo())}, Void: job.Parked, Budget: 1000}
				done := make(chan error, 1)
				go func() {
					_, _, err := makers["w1"].Make(t.Context(), task)
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
