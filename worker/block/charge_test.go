package block_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"crier/filters"
	"crier/internal/bus"
	"crier/internal/idset"
	"crier/job"
	"crier/presence"
	"crier/state/jobs"
	"crier/state/ledger"
	"crier/state/parked/charge"
	"crier/state/parked/kv"
	"crier/worker/block"
	"crier/worker/holds"
	"crier/worker/lane"
)

// bank is the home of range 5 with a book; what a ledger and an index do in production it
// does at once. It keeps the charges as a naive list beside.
type bank struct {
	t       *testing.T
	store   *kv.Memory
	book    charge.Book
	now     time.Time
	policy  block.Policy
	specs   map[job.ID]job.Spec
	mu      sync.Mutex
	charges []*ledger.Charge
	broken  error
	slow    time.Duration
}

func newBank(t *testing.T, p block.Policy, specs ...job.Spec) *bank {
	store := kv.NewMemory()
	b := &bank{t: t, store: store, book: charge.Book{Rows: store}, policy: p, now: time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC), specs: map[job.ID]job.Spec{}}
	for _, s := range specs {
		b.specs[s.ID] = s
	}
	return b
}

func (b *bank) maker() *block.Maker {
	h := holds.New()
	h.Begin(5, true)
	return block.New(block.Config{Name: "w1", Content: content{}, Holds: h, Bus: bus.NewMemory(), Logger: slog.New(slog.DiscardHandler),
		Job: func(_ context.Context, id job.ID) (jobs.Job, error) { return jobs.Job{Spec: b.specs[id]}, nil },
		Filters: func(l filters.Lists) filters.Chain {
			return filters.New(filters.Lists{Followers: everybody{}, Suppressed: nobody{}, Marked: l.Marked, Full: l.Full})
		},
		Split: func(keep *idset.Set) ([]presence.Target, *idset.Set) {
			return []presence.Target{{Inc: gateway, Set: keep.Clone()}}, idset.New(keep.Range)
		},
		Home: func(job.Range) string { return "" }, Want: func(...job.Range) {}, Full: func(job.Incarnation) bool { return false },
		Charges: b.book, Charge: b.charge, Policy: b.policy, Now: func() time.Time { return b.now }})
}

type nobody struct{}

func (nobody) Range(r job.Range) (*idset.Set, error) { return idset.New(r), nil }

func (b *bank) charge(_ context.Context, e *ledger.Charge) error {
	if b.slow > 0 {
		time.Sleep(b.slow) // in a bubble
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.broken != nil {
		return b.broken
	}
	ids, _ := everybody{}.Range(e.Range())
	ids.KeepSpan(e.Span)
	var batch kv.Batch
	if err := b.book.Apply(&batch, e, ids, []job.Span{e.Span}); err != nil {
		return err
	}
	b.charges = append(b.charges, e)
	return b.store.Write(&batch)
}

// sent is to whom a block of a job goes, by the place in the range.
func (b *bank) sent(m *block.Maker, id byte, span job.Span) []int {
	b.t.Helper()
	res, _, err := m.Make(b.t.Context(), lane.Task{Job: job.ID{id}, Span: span, Void: job.Parked})
	if err != nil {
		b.t.Fatal(err)
	}
	var out []int
	for _, s := range res.Targets.Sets {
		for i := range s.All() {
			out = append(out, int(i-job.Range(5).Lo()))
		}
	}
	return out
}

func span5(lo, hi int) job.Span {
	at := uint64(job.Range(5).Lo())
	return job.Span{Lo: at + uint64(lo), Hi: at + uint64(hi)}
}

func spec(id byte, account uint32, once *job.SendOnce) job.Spec {
	return job.Spec{ID: job.ID{id}, Account: account, SendOnce: once}
}

func upTo(lo, hi int) (out []int) {
	for i := lo; i < hi; i++ {
		out = append(out, i)
	}
	return out
}

func equalInts(t *testing.T, what string, got, want []int) {
	t.Helper()
	if !slices.Equal(got, want) {
		t.Errorf("%s: got %v, want %v", what, got, want)
	}
}

// A verdict stands however the block is cut and whatever became true since (rule 7).
func TestAVerdictStands(t *testing.T) {
	key := &job.SendOnce{Key: job.OnceKey{7}, Window: time.Hour}
	b := newBank(t, block.Policy{Cap: 2}, spec(1, 1, key), spec(2, 1, key), spec(3, 1, nil), spec(4, 2, nil))
	m := b.maker()
	equalInts(t, "the first job", b.sent(m, 1, span5(0, 6)), upTo(0, 6))
	equalInts(t, "again, cut smaller", b.sent(m, 1, span5(2, 4)), upTo(2, 4))
	equalInts(t, "again, cut larger: who is new is charged", b.sent(m, 1, span5(4, 8)), upTo(4, 8))
	equalInts(t, "the same key again", b.sent(m, 2, span5(0, 10)), upTo(8, 10))
	equalInts(t, "a second message of the day", b.sent(m, 3, span5(0, 10)), upTo(0, 10))
	equalInts(t, "a third one", b.sent(m, 4, span5(0, 10)), nil)
	b.now = b.now.AddDate(0, 0, 1)
	equalInts(t, "the refused, asked for again the day after", b.sent(m, 4, span5(0, 10)), nil)
	equalInts(t, "the key's, after its window", b.sent(m, 2, span5(0, 10)), upTo(8, 10))
	if n := len(b.charges); n != 5 {
		t.Errorf("%d charges, want 5: a verdict that stands is not made again", n)
	}
}

func TestCapsAreOfADayAndAnAccount(t *testing.T) {
	specs := []job.Spec{spec(1, 0, nil), spec(2, 0, nil), spec(3, 2, nil), spec(4, 3, nil), spec(5, 3, nil), spec(6, 0, nil)}
	specs[4].Class = job.Realtime
	zone, err := time.LoadLocation("Asia/Shanghai")
	if err != nil {
		t.Fatal(err)
	}
	b := newBank(t, block.Policy{Cap: 2, AccountCap: 1, Zone: zone, Exempt: []job.Class{job.Realtime}}, specs...)
	b.now = time.Date(2026, 3, 1, 15, 59, 59, 0, time.UTC) // one second before midnight there
	m := b.maker()
	equalInts(t, "account 0", b.sent(m, 1, span5(0, 10)), upTo(0, 10))
	equalInts(t, "account 0 again", b.sent(m, 2, span5(0, 5)), nil)
	equalInts(t, "account 2", b.sent(m, 3, span5(0, 10)), upTo(0, 10))
	equalInts(t, "account 3", b.sent(m, 4, span5(0, 10)), nil)
	equalInts(t, "account 3, exempt", b.sent(m, 5, span5(0, 10)), upTo(0, 10))
	b.now = b.now.Add(time.Second)
	equalInts(t, "account 0 the next day", b.sent(m, 6, span5(0, 10)), upTo(0, 10))
	equalInts(t, "account 0, who was not asked for before", b.sent(m, 2, span5(5, 10)), nil)
}

// Two blocks of one range see each other's charges, whatever the ledger takes; and one
// whose asker gives up is charged or not, never both.
func TestChargesOfARangeFollowEachOther(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var specs []job.Spec
		for i := range byte(8) {
			specs = append(specs, spec(i+1, uint32(i)+1, nil))
		}
		b := newBank(t, block.Policy{Cap: 3}, specs...)
		b.slow = 700 * time.Millisecond
		m := b.maker()
		var wg sync.WaitGroup
		var mu sync.Mutex
		got := map[int]int{}
		for i := range byte(8) {
			wg.Go(func() {
				res, _, err := m.Make(t.Context(), lane.Task{Job: job.ID{i + 1}, Span: span5(0, 10), Void: job.Parked})
				if err != nil {
					if !errors.Is(err, context.DeadlineExceeded) {
						t.Error(err)
					}
					return
				}
				mu.Lock()
				defer mu.Unlock()
				for _, s := range res.Targets.Sets {
					for id := range s.All() {
						got[int(id-job.Range(5).Lo())]++
					}
				}
			})
		}
		wg.Wait()
		want := map[int]int{}
		for _, i := range upTo(0, 10) {
			want[i] = 3
		}
		if !maps.Equal(got, want) {
			t.Errorf("recipients got %v, want %v", got, want)
		}
	})
}

func TestWhatCannotBeChargedIsNotSent(t *testing.T) {
	b := newBank(t, block.Policy{Cap: 2}, spec(1, 1, nil))
	b.broken = errors.New("no room")
	if _, _, err := b.maker().Make(t.Context(), lane.Task{Job: job.ID{1}, Span: span5(0, 10), Void: job.Parked}); !errors.Is(err, b.broken) {
		t.Errorf("a block was made that is not charged: %v", err)
	}
}

func TestSlotsReleaseTheMessagesOfADay(t *testing.T) {
	p := block.Policy{Cap: 2, Slots: []time.Duration{9 * time.Hour, 18 * time.Hour}}
	for hour, want := range map[int]int{8: 0, 9: 1, 17: 1, 18: 2} {
		t.Run(fmt.Sprint(hour), func(t *testing.T) {
			b := newBank(t, p, spec(1, 1, nil), spec(2, 2, nil), spec(3, 3, nil))
			b.now = time.Date(2026, 3, 1, hour, 0, 0, 0, time.UTC)
			m, n := b.maker(), 0
			for id := byte(1); id <= 3; id++ {
				n += len(b.sent(m, id, span5(0, 1)))
			}
			if n != want {
				t.Errorf("%d messages, want %d", n, want)
			}
		})
	}
}

func TestPoliciesThatMeanNothingAreRefused(t *testing.T) {
	for _, p := range []block.Policy{{Cap: -1}, {AccountCap: -1}, {Cap: 10_001}, {Cap: 2, Slots: []time.Duration{0}},
		{Cap: 2, Slots: []time.Duration{2, 1}}, {Cap: 1, Slots: []time.Duration{24 * time.Hour}}} {
		if p.Validate() == nil {
			t.Errorf("%+v is taken", p)
		}
	}
	if err := (block.Policy{Cap: 2, AccountCap: 1, Slots: []time.Duration{0, time.Hour}}).Validate(); err != nil {
		t.Error(err)
	}
}
