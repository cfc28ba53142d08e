package claims

import (
	"context"
	"fmt"
	"slices"
	"testing"
	"testing/synctest"

	"crier/job"
	"crier/state/ledger"
)

var (
	a = job.Journal{Worker: "a", Incarnation: 1}
	b = job.Journal{Worker: "b", Incarnation: 4}
)

func take(t *testing.T, l ledger.Log, thing ledger.Thing, by job.Journal) ledger.Claim {
	t.Helper()
	c, err := ledger.Take(t.Context(), l, thing, ledger.Taker{Journal: by, Sealed: func(job.Journal) bool { return true }})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// running runs a table until the test ends.
func running(t *testing.T, l ledger.Log, onClaim func(ledger.Claim)) *Table {
	x := New(l)
	x.OnClaim = onClaim
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- x.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return x
}

// What stood before Run is there when the table is ready; what comes later follows, in
// the order of the ledger.
func TestTheTableFollowsTheLedger(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := ledger.NewMemory(ledger.MemoryConfig{})
		seven := ledger.RangeThing(7)
		first := take(t, l, seven, a)
		var told []string
		x := running(t, l, func(c ledger.Claim) {
			told = append(told, fmt.Sprintf("%s %d %s", c.Thing(), c.Epoch, c.Journal.Worker))
		})
		<-x.Ready()
		if got := x.Of(seven); got != first || x.Home(7) != "a" {
			t.Errorf("%+v, the home is %q; want %+v", got, x.Home(7), first)
		}
		if got := x.Of(ledger.RangeThing(8)); got.Epoch != 0 || got.ID != "0008" || x.Home(8) != "" {
			t.Errorf("of what nobody claimed: %+v", got)
		}
		take(t, l, seven, b)
		synctest.Wait()
		if x.Home(7) != "b" || x.Of(seven).Epoch != 2 || x.Of(seven).Seq != 2 {
			t.Errorf("after b took it: %+v", x.Of(seven))
		}
		if err := ledger.Give(t.Context(), l, x.Of(seven), 5); err != nil {
			t.Fatal(err)
		}
		take(t, l, ledger.JournalThing(a), b)
		synctest.Wait()
		if got := x.Of(seven); x.Home(7) != "" || got.Epoch != 3 || got.After != 5 {
			t.Errorf("after b gave it: %+v", got)
		}
		if want := []string{"range 0007 1 a", "range 0007 2 b", "range 0007 3 ", "journal a.1 1 b"}; !slices.Equal(told, want) {
			t.Errorf("told %q, want %q", told, want)
		}
		var kinds []string
		x.All(ledger.ClaimJournal, func(c ledger.Claim) { kinds = append(kinds, c.ID) })
		if !slices.Equal(kinds, []string{"a.1"}) {
			t.Errorf("of journals: %v", kinds)
		}
	})
}

func TestPruneDropsWhatIsOfJobsThatAreOver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := ledger.NewMemory(ledger.MemoryConfig{})
		live, over := job.ID{1}, job.ID{2}
		keep := []ledger.Thing{ledger.JobThing(live), ledger.SliceThing(live, 3), ledger.RangeThing(1), ledger.JournalThing(a), {Kind: ledger.ClaimRole, ID: "folder"}}
		drop := []ledger.Thing{ledger.JobThing(over), ledger.SliceThing(over, 0), ledger.SliceThing(over, 12), {Kind: ledger.ClaimJob, ID: "nonsense"}}
		for _, thing := range append(slices.Clone(keep), drop...) {
			take(t, l, thing, b)
		}
		x := running(t, l, nil)
		<-x.Ready()
		for _, thing := range append(slices.Clone(keep), drop...) {
			if x.Of(thing).Journal != b {
				t.Fatalf("the %s is nobody's before", thing)
			}
		}
		x.Prune(func(job.ID) bool { return false }) // it does not know of a job yet
		for _, thing := range append(slices.Clone(keep), drop[:3]...) {
			if x.Of(thing).Journal != b {
				t.Errorf("the claim on the %s is gone at the first look", thing)
			}
		}
		x.Prune(func(id job.ID) bool { return id == live })
		for _, thing := range keep {
			if x.Of(thing).Journal != b {
				t.Errorf("the claim on the %s is gone", thing)
			}
		}
		for _, thing := range drop {
			if x.Of(thing).Epoch != 0 {
				t.Errorf("the claim on the %s is still there", thing)
			}
		}
	})
}

// How long the ledger has been silent is not told by a clock that may be set.
// What was dropped can be learned again; what the table has stays, and nothing comes of
// what nobody claimed.
func TestLearn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := ledger.NewMemory(ledger.MemoryConfig{})
		one, two := ledger.JobThing(job.ID{1}), ledger.JobThing(job.ID{2})
		want := take(t, l, one, a)
		x := running(t, l, nil)
		<-x.Ready()
		none := func(job.ID) bool { return false }
		x.Prune(none)
		x.Prune(none)
		if got := x.Of(one); got.Epoch != 0 {
			t.Fatalf("not dropped: %+v", got)
		}
		for range 2 {
			if err := x.Learn(t.Context(), one); err != nil || x.Of(one) != want {
				t.Errorf("%v, learned %+v, want %+v", err, x.Of(one), want)
			}
		}
		if err := x.Learn(t.Context(), two); err != nil || x.Of(two).Epoch != 0 {
			t.Errorf("%v, of what nobody claimed: %+v", err, x.Of(two))
		}
		next := take(t, l, one, b)
		synctest.Wait()
		if err := x.Learn(t.Context(), one); err != nil || x.Of(one) != next {
			t.Errorf("%v, %+v, want %+v", err, x.Of(one), next)
		}
	})
}

func TestHeardByTheMonotonicClock(t *testing.T) {
	x := New(ledger.NewMemory(ledger.MemoryConfig{}))
	if !x.Heard().IsZero() {
		t.Error("it heard of the ledger before it asked")
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- x.Run(ctx) }()
	<-x.Ready()
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
	if at := x.Heard(); at == at.Round(0) {
		t.Errorf("%v has no monotonic reading", at)
	}
}

// A claim that cannot be read ends the table: whoever goes on without it would take for
// free what is held.
func TestAClaimThatCannotBeReadEndsTheTable(t *testing.T) {
	l := ledger.NewMemory(ledger.MemoryConfig{})
	if _, err := l.Append(t.Context(), ledger.ClaimSubject(ledger.RangeThing(1)), 0, []byte("{")); err != nil {
		t.Fatal(err)
	}
	if err := New(l).Run(t.Context()); err == nil {
		t.Fatal("it goes on")
	}
}
