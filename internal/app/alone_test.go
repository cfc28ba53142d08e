package app

import (
	"errors"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"crier/internal/app/datadir"
	"crier/job"
	"crier/state/coord"
)

// Of two processes that do not know of others, on one ledger, at most one enters, however
// they begin together and however long it takes them to be ready.
func TestTwoThatAreAloneDoNotBothEnter(t *testing.T) {
	for _, later := range []time.Duration{0, 100 * time.Millisecond, 2 * time.Second, time.Minute} {
		synctest.Test(t, func(t *testing.T) {
			store := coord.NewMemory(time.Now)
			enter := func(name string) (*app, error) {
				a := &app{node: &datadir.Node{Name: name, Starts: 1}, log: slog.New(slog.DiscardHandler)}
				a.cfg.Messaging.Servers, a.coord = []string{"nats://a:4222"}, store
				return a, a.enter(t.Context())
			}
			var first, second *app
			var errFirst, errSecond error
			done := make(chan struct{})
			go func() { first, errFirst = enter("m1"); close(done) }()
			time.Sleep(later)
			second, errSecond = enter("m2")
			<-done
			if errFirst == nil && errSecond == nil {
				t.Errorf("%s later: both entered", later)
			}
			if later > 0 && errFirst != nil {
				t.Errorf("%s later: the first: %v", later, errFirst)
			}
			for _, err := range []error{errFirst, errSecond} {
				if err != nil && (job.CodeOf(err) != job.CodeConflict || !strings.HasPrefix(err.Error(), "cluster.listen: ")) {
					t.Errorf("%s later: %v", later, err)
				}
			}
			first.close()
			second.close()
			time.Sleep(10 * time.Second)
			third, err := enter("m3")
			if err != nil {
				t.Errorf("%s later: when both are gone: %v", later, err)
			}
			third.close()
		})
	}
}

// Who is refused at the first look leaves no lease: members would take it for one of them.
func TestWhoIsRefusedLeavesNoLease(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := coord.NewMemory(time.Now)
		var v coord.Version
		stop := time.AfterFunc(0, func() {})
		renew := func() {
			var err error
			if v, err = store.Lease(t.Context(), "members/m1", []byte(`{"id":"m1","addr":"a:1"}`), v, 5*time.Second); err != nil {
				t.Error(err)
			}
			stop.Reset(time.Second)
		}
		stop = time.AfterFunc(time.Hour, renew)
		renew()
		a := &app{node: &datadir.Node{Name: "alone", Starts: 1}, log: slog.New(slog.DiscardHandler)}
		a.cfg.Messaging.Servers, a.coord = []string{"nats://a:4222"}, store
		if err := a.enter(t.Context()); job.CodeOf(err) != job.CodeConflict {
			t.Errorf("beside a member: %v", err)
		}
		a.close()
		stop.Stop()
		if _, err := store.Get(t.Context(), "members/alone"); !errors.Is(err, coord.ErrNotFound) {
			t.Errorf("it has a lease: %v", err)
		}
	})
}
