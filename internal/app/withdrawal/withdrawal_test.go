package withdrawal

import (
	"context"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"sync"
	"testing"
	"time"

	"crier/audience"
	"crier/internal/idset"
	"crier/job"
	"crier/state/blob"
	"crier/state/jobs"
	"crier/state/ledger"
)

// seen is who may have seen the message: sets, or why they cannot be had.
type seen struct {
	sets []*idset.Set
	err  error
}

// MayHaveSeen implements Seen.
func (s seen) MayHaveSeen(_ context.Context, _ job.ID, fn func(*idset.Set) error) error {
	for _, x := range s.sets {
		if err := fn(x); err != nil {
			return err
		}
	}
	return s.err
}

type fixture struct {
	*testing.T
	log     *ledger.Memory
	blobs   *blob.Dir
	scratch string
}

func newFixture(t *testing.T) *fixture {
	blobs, err := blob.OpenDir(filepath.Join(t.TempDir(), "blobs"))
	if err != nil {
		t.Fatal(err)
	}
	return &fixture{t, ledger.NewMemory(ledger.MemoryConfig{}), blobs, filepath.Join(t.TempDir(), "scratch")}
}

// maker is one of a process that just began.
func (f *fixture) maker(s Seen) *Maker {
	controls := ledger.NewMemory(ledger.MemoryConfig{})
	return &Maker{Seen: s, Jobs: jobs.New(f.log, controls), Blobs: f.blobs, Scratch: f.scratch, Now: func() time.Time { return now }}
}

var (
	now      = time.Date(2026, 3, 2, 8, 0, 0, 0, time.UTC)
	recalled = job.Spec{ID: job.ID{7}, Tenant: "acme", Account: 3, AccountName: "news", Package: job.Digest{1}, Recipients: 9, Class: job.Normal, Priority: 5, Rate: 10,
		SubmittedAt: now.Add(-50 * time.Hour), ExpiresAt: now.Add(-2 * time.Hour), DisplayAt: now, CollapseKey: "k", FollowersRev: 4, Followers: job.Digest{2}}
	three = seen{sets: []*idset.Set{idset.Of(4, 9), idset.Of(7<<20 + 1)}}
)

// accepted reads the first record of the withdrawal from the ledger; there may be none.
func (f *fixture) accepted() (specs []job.Spec) {
	f.Helper()
	err := ledger.ReadAll(f.Context(), f.log, 1, ledger.AllJobs, func(st ledger.Stored) error {
		var tr job.Transition
		err := json.Unmarshal(st.Data, &tr)
		specs = append(specs, tr.Spec)
		return err
	})
	if err != nil {
		f.Fatal(err)
	}
	return specs
}

func (f *fixture) ids(s job.Spec) (ids []uint32) {
	f.Helper()
	h, err := f.blobs.Open(f.Context(), s.Package)
	if err != nil {
		f.Fatal(err)
	}
	defer h.Close()
	set, err := audience.Open(h.Path())
	if err != nil {
		f.Fatal(err)
	}
	defer set.Close()
	if set.Info().SHA256 != s.Set || set.Cardinality() != s.Recipients {
		f.Errorf("the package is %+v, the job says %s of %d", set.Info(), s.Set, s.Recipients)
	}
	for r := range set.Ranges() {
		x, err := set.Range(r)
		if err != nil {
			f.Fatal(err)
		}
		ids = slices.AppendSeq(ids, x.All())
	}
	return ids
}

// clean asks that nothing is left of what was under way.
func (f *fixture) clean() {
	f.Helper()
	if left, err := os.ReadDir(f.scratch); err != nil || len(left) > 0 {
		f.Errorf("left in the scratch directory: %v, %v", left, err)
	}
}

func TestAWithdrawalGoesToWhoMayHaveSeenIt(t *testing.T) {
	f := newFixture(t)
	if err := f.maker(three).Withdraw(t.Context(), recalled); err != nil {
		t.Fatal(err)
	}
	all := f.accepted()
	if len(all) != 1 {
		t.Fatalf("%d jobs", len(all))
	}
	got := all[0]
	if ids := f.ids(got); !slices.Equal(ids, []uint32{4, 9, 7<<20 + 1}) {
		t.Errorf("it goes to %v", ids)
	}
	want := job.Spec{ID: job.WithdrawalID(recalled.ID), Withdraws: recalled.ID, Tenant: "acme", Account: 3, AccountName: "news", Package: got.Package, Set: got.Set, Recipients: 3,
		Class: job.Realtime, Priority: 99, OnUnknown: job.Resend, Nonce: got.Nonce, SubmittedAt: now, ExpiresAt: now.Add(48 * time.Hour)}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got  %+v\nwant %+v", got, want)
	}
	f.clean()
}

func TestWhatNobodySawIsNotWithdrawn(t *testing.T) {
	f := newFixture(t)
	if err := f.maker(seen{}).Withdraw(t.Context(), recalled); err != nil || len(f.accepted()) > 0 {
		t.Errorf("%v, %d jobs", err, len(f.accepted()))
	}
	if err := f.maker(seen{sets: []*idset.Set{idset.New(3)}}).Withdraw(t.Context(), recalled); err != nil || len(f.accepted()) > 0 {
		t.Errorf("an empty set: %v, %d jobs", err, len(f.accepted()))
	}
	f.clean()
}

// Whoever dies behind the package, or behind the append, has left nothing that the next
// try does not go on with: in the end there is one job, with one package.
func TestThereIsOneWithdrawalWhateverDies(t *testing.T) {
	for name, fault := range map[string]ledger.Fault{"behind the package": ledger.FaultFull, "behind the append": ledger.FaultStored} {
		t.Run(name, func(t *testing.T) {
			f := newFixture(t)
			f.log.Inject(ledger.JobSubject(job.WithdrawalID(recalled.ID)), fault)
			first := f.maker(three).Withdraw(t.Context(), recalled)
			if (first != nil) != (fault == ledger.FaultFull) {
				t.Errorf("the first try: %v", first)
			}
			var blobs int
			for range f.blobs.List(t.Context()) {
				blobs++
			}
			if blobs != 1 {
				t.Errorf("%d blobs after the first try", blobs)
			}
			for range 3 {
				if err := f.maker(three).Withdraw(t.Context(), recalled); err != nil {
					t.Error(err)
				}
			}
			// What is made is not made out again, whatever the ledger shows by then.
			if err := f.maker(seen{err: errors.New("must not be asked")}).Withdraw(t.Context(), recalled); err != nil {
				t.Error(err)
			}
			if all := f.accepted(); len(all) != 1 || all[0].Recipients != 3 {
				t.Errorf("jobs: %+v", all)
			}
			f.clean()
		})
	}
}

func TestManyMakersMakeOneWithdrawal(t *testing.T) {
	f := newFixture(t)
	var all sync.WaitGroup
	for range 8 {
		all.Go(func() {
			if err := f.maker(three).Withdraw(t.Context(), recalled); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	if all := f.accepted(); len(all) != 1 {
		t.Errorf("%d jobs", len(all))
	}
	f.clean()
}

// An error in the middle of the ledger makes nothing: not even a smaller package.
func TestAProofThatBreaksOffMakesNothing(t *testing.T) {
	f := newFixture(t)
	broken := seen{sets: three.sets, err: errors.New("a report is gone")}
	if err := f.maker(broken).Withdraw(t.Context(), recalled); err == nil || len(f.accepted()) > 0 {
		t.Errorf("%v, %d jobs", err, len(f.accepted()))
	}
	for range f.blobs.List(t.Context()) {
		t.Error("a package was stored")
	}
	f.clean()
}
