package members_test

import (
	"context"
	"errors"
	"slices"
	"sync"
	"sync/atomic"
	"testing"

	"crier/audience/members"
	"crier/job"
)

func suppressed(t *testing.T, lists *members.SuppressionLists, account uint32, q job.Range) []uint32 {
	t.Helper()
	set, err := lists.Range(t.Context(), account, q)
	must(t, err)
	defer set.Release()
	return slices.Collect(set.All())
}

func TestSuppressionIsGlobalAndOwn(t *testing.T) {
	w := onDisk(t, func(c *members.Config) { c.MaxIncrements = 2 })
	lists := members.NewSuppressionLists(w.Store)
	defer func() { must(t, lists.Close()) }()
	check := func(when string, account uint32, q job.Range, want ...uint32) {
		t.Helper()
		if got := suppressed(t, lists, account, q); !slices.Equal(got, want) {
			t.Errorf("%s: account %d, range %s: %v, want %v", when, account, q, got, want)
		}
	}
	change := func(f func(context.Context, members.Key, []uint32) (members.Result, error), key members.Key, ids ...uint32) {
		t.Helper()
		before := lists.Version()
		res, err := f(t.Context(), key, ids)
		must(t, err)
		if moved := lists.Version() != before; moved != (res.Changed > 0) {
			t.Errorf("%d changed, but that the version moved is %v", res.Changed, moved)
		}
	}
	check("at first", 0, 0)
	change(w.Add, members.GlobalSuppression(), 5, 1<<20)
	check("global", 0, 0, 5)
	check("global", 7, 0, 5)
	check("global", 7, 1, 1<<20)
	change(w.Add, members.Suppression(0), 5, 6)
	change(w.Add, members.Suppression(7), 4)
	check("own", 0, 0, 5, 6)
	check("own", 7, 0, 4, 5)
	check("own", 8, 0, 5)
	for i := range uint32(5) { // over the bound: the list becomes a snapshot
		change(w.Add, members.Suppression(7), 100+i)
	}
	check("as a snapshot", 7, 0, 4, 5, 100, 101, 102, 103, 104)
	change(w.Remove, members.GlobalSuppression(), 5)
	check("taken off", 0, 0, 5, 6)
	check("taken off", 8, 0)
	change(w.Add, members.Suppression(8))
	change(w.Add, members.Suppression(7), 4)

	before := lists.Version()
	for _, key := range []members.Key{members.Followers(7), members.Segment(7)} {
		if _, err := w.Add(t.Context(), key, []uint32{1}); err != nil || lists.Version() != before {
			t.Errorf("the %s moved the version of the lists: %v", key, err)
		}
	}
	must(t, lists.Close())
	check("closed and asked again", 8, 1, 1<<20)
}

func TestManySuppressionLists(t *testing.T) {
	w := inMemory(t, nil)
	lists := members.NewSuppressionLists(w.Store)
	defer func() { must(t, lists.Close()) }()
	for account := range uint32(200) {
		_, err := w.Add(t.Context(), members.Suppression(account), []uint32{account})
		must(t, err)
	}
	for range 2 {
		for account := range uint32(200) {
			if got := suppressed(t, lists, account, 0); !slices.Equal(got, []uint32{account}) {
				t.Fatalf("account %d: %v", account, got)
			}
		}
	}
}

// TestAnEntryCountsAtOnce asks from several goroutines while entries are added:
// whatever Add had returned before a question must be in the answer.
func TestAnEntryCountsAtOnce(t *testing.T) {
	w := onDisk(t, func(c *members.Config) { c.MaxIncrements = 8 })
	lists := members.NewSuppressionLists(w.Store)
	defer func() { must(t, lists.Close()) }()
	var added atomic.Uint32 // ids below it are suppressed
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	for account := range uint32(4) {
		wg.Go(func() {
			for ctx.Err() == nil {
				know := added.Load()
				set, err := lists.Range(ctx, account, 0)
				if errors.Is(err, context.Canceled) {
					return
				}
				if err != nil {
					t.Error(err)
					return
				}
				if n := uint32(set.Card()); n < know {
					t.Errorf("%d entries are shown after %d were added", n, know)
				}
				set.Release()
			}
		})
	}
	for id := range uint32(60) {
		if _, err := w.Add(t.Context(), members.GlobalSuppression(), []uint32{id}); err != nil {
			t.Error(err)
		}
		added.Store(id + 1)
	}
	cancel()
	wg.Wait()
}

// heads is Sets whose heads cannot be read at times.
type heads struct {
	members.Sets
	down   atomic.Bool
	silent atomic.Bool  // they do not even fail
	waited atomic.Int64 // for one that was silent
}

// Head implements members.Sets.
func (h *heads) Head(ctx context.Context, key members.Key) (members.Head, error) {
	if h.down.Load() {
		return members.Head{}, errors.New("the store does not answer")
	}
	if h.silent.Load() {
		h.waited.Add(1)
		<-ctx.Done()
		return members.Head{}, ctx.Err()
	}
	return h.Sets.Head(ctx, key)
}

// Two processes on one store: what one changes the other sees when it is told to look
// again, and what it saw last while the store does not answer.
func TestListsOfManyProcesses(t *testing.T) {
	var h *heads
	told := 0
	w := inMemory(t, func(c *members.Config) { c.OnChange = func() { told++ } })
	other := inMemory(t, func(c *members.Config) {
		h = &heads{Sets: w.cfg.Sets}
		c.Sets, c.Blobs, c.Outlive = h, w.cfg.Blobs, true
	})
	lists := members.NewSuppressionLists(other.Store)
	defer func() { must(t, lists.Close()) }()
	check := func(when string, want ...uint32) {
		t.Helper()
		if got := suppressed(t, lists, 7, 0); !slices.Equal(got, want) {
			t.Errorf("%s: %v, want %v", when, got, want)
		}
	}
	check("at first")
	_, err := w.Add(t.Context(), members.Suppression(7), []uint32{4})
	must(t, err)
	if told != 1 {
		t.Errorf("told %d times of one change", told)
	}
	other.Touch()
	check("told", 4)
	h.down.Store(true)
	other.Touch()
	check("while the store is down", 4)
	if set, err := lists.Range(t.Context(), 8, 0); err == nil {
		set.Release()
		t.Error("a list that was never read is answered while the store is down")
	}
	h.down.Store(false)
	_, err = w.Add(t.Context(), members.Suppression(7), []uint32{5})
	must(t, err)
	other.Touch()
	check("when it answers again", 4, 5)
}

// A store that does not answer at all keeps nobody waiting for long: it is left alone for
// a while, and asked at once about what has changed since.
func TestListsOutliveASilentStore(t *testing.T) {
	var h *heads
	w := inMemory(t, func(c *members.Config) {
		h = &heads{Sets: c.Sets}
		c.Sets, c.Outlive = h, true
	})
	lists := members.NewSuppressionLists(w.Store)
	defer func() { must(t, lists.Close()) }()
	_, err := w.Add(t.Context(), members.Suppression(7), []uint32{4})
	must(t, err)
	ask := func(when string, want ...uint32) {
		t.Helper()
		if got := suppressed(t, lists, 7, 0); !slices.Equal(got, want) {
			t.Errorf("%s: %v, want %v", when, got, want)
		}
	}
	ask("at first", 4)
	h.silent.Store(true)
	w.Touch()
	for range 100 {
		ask("while it is silent", 4)
	}
	if n := h.waited.Load(); n < 2 || n > 10 { // two lists a look, and a look every two seconds
		t.Errorf("the store was waited for %d times", n)
	}
	h.silent.Store(false)
	_, err = w.Add(t.Context(), members.Suppression(7), []uint32{5})
	must(t, err)
	ask("when it answers again", 4, 5)
}
