package operator

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"crier/internal/bus"
	"crier/internal/idset"
	"crier/job"
	"crier/scheduler/apta"
	"crier/scheduler/apta/link"
	"crier/scheduler/apta/wire"
	"crier/state/claims"
	"crier/state/jobs"
	"crier/state/ledger"
	"crier/state/parked"
	"crier/state/parked/feed"
	"crier/state/parked/kv"
)

// seat is a process's part in a cluster as a test says.
type seat struct {
	Snapshot func() Snapshot
	mu       sync.Mutex
	asked    []string
	err      error
}

type membership struct{ *seat }

func (m membership) Snapshot(context.Context) Snapshot { return m.seat.Snapshot() }

func (m membership) Operate(_ context.Context, id string, action apta.Action, reason string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.asked = append(m.asked, string(action)+" "+id+" "+reason)
	return m.err
}

// stage is a ledger and a bus in memory, in a bubble of fake time, with operators that
// follow the one and talk over the other.
type stage struct {
	t        *testing.T
	log      *ledger.Memory
	controls *ledger.Memory
	bus      *bus.Memory
	ctx      context.Context
	wg       sync.WaitGroup
}

func onStage(t *testing.T, run func(*stage)) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(context.Background())
		s := &stage{t: t, log: ledger.NewMemory(ledger.MemoryConfig{}), controls: ledger.NewMemory(ledger.MemoryConfig{}), bus: bus.NewMemory(), ctx: ctx}
		defer s.bus.Close()
		defer s.wg.Wait()
		defer cancel()
		run(s)
	})
}

func (s *stage) must(err error) {
	s.t.Helper()
	if err != nil {
		s.t.Fatal(err)
	}
}

// PackageRange implements parked.Packages: each package has one recipient.
func (s *stage) PackageRange(context.Context, job.ID, job.Range) (*idset.Set, error) {
	return idset.Of(5), nil
}

// open makes an operator and runs it.
func (s *stage) open(m Membership, counts Counts) *Operator {
	table, claimed := jobs.New(s.log, s.controls), claims.New(s.log)
	index, err := parked.New(s.ctx, kv.NewMemory(), s, s.log)
	s.must(err)
	o := New(Config{Membership: m, Claims: claimed, Jobs: table, Index: index, Log: s.log, Bus: s.bus, Counts: func() Counts { return counts },
		Logger: slog.New(slog.DiscardHandler)})
	run := func(part string, run func(context.Context) error) {
		s.wg.Go(func() {
			if err := run(s.ctx); err != nil && !errors.Is(err, context.Canceled) {
				s.t.Errorf("%s: %v", part, err)
			}
		})
	}
	run("jobs", table.Run)
	run("claims", claimed.Run)
	run("index", func(ctx context.Context) error {
		return feed.Follow(ctx, index, s.log, nil)
	})
	synctest.Wait() // all is read before the first look
	run("operator", o.Run)
	synctest.Wait()
	return o
}

// claim writes a claim into the ledger.
func (s *stage) claim(thing ledger.Thing, worker string, incarnation uint32) {
	s.t.Helper()
	last, err := ledger.LastClaim(s.ctx, s.log, thing)
	s.must(err)
	c := ledger.Claim{Kind: thing.Kind, ID: thing.ID, Epoch: last.Epoch + 1, Journal: job.Journal{Worker: worker, Incarnation: incarnation}, At: time.Now().UTC()}
	_, err = s.log.Append(s.ctx, ledger.ClaimSubject(thing), last.Seq, c.Bytes())
	s.must(err)
	synctest.Wait()
}

// pass lets time pass.
func (s *stage) pass(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}

// write appends a record to a journal.
func (s *stage) write(worker string, incarnation uint32, entries ...ledger.Entry) {
	s.t.Helper()
	j := job.Journal{Worker: worker, Incarnation: incarnation}
	rec := ledger.Record{Journal: j, Nonce: [16]byte{1}, Entries: entries}
	last, err := s.log.Last(s.ctx, ledger.JournalSubject(j))
	if err == nil {
		before, err := ledger.ParseRecord(last.Data)
		s.must(err)
		rec.N, rec.Prev = before.N+1, ledger.HashOf(last.Data)
	} else if !errors.Is(err, ledger.ErrNoRecord) {
		s.t.Fatal(err)
	}
	_, err = s.log.Append(s.ctx, ledger.JournalSubject(j), last.Seq, rec.Bytes())
	s.must(err)
	synctest.Wait()
}

// accept puts a job into the ledger.
func (s *stage) accept(n byte) job.ID {
	s.t.Helper()
	id := job.NewID(time.Now(), [10]byte{n})
	_, _, err := jobs.New(s.log, s.controls).Accept(s.ctx, job.Spec{ID: id, Nonce: job.Digest{n}, SubmittedAt: time.Now().UTC(), ExpiresAt: time.Now().Add(time.Hour).UTC()})
	s.must(err)
	synctest.Wait()
	return id
}

// full is the shares of a member that plays all roles.
var full = link.Weights{1, 1, 1, 1, 1}

func works(id string, incarnation uint32) link.Seen {
	return link.Seen{ID: id, Incarnation: incarnation, State: link.Working, Weights: full, Addr: id + ":1", Takes: true, Away: 1}
}

// seen makes a snapshot of a member. Those of its view whose hash is 0 have the same
// view; who is in gone is over.
func seen(self string, members []link.Seen, leases []string, gone ...string) Snapshot {
	view := link.NewView(self, members)
	for i := range members {
		if members[i].ViewHash == 0 {
			members[i].ViewHash = view.Hash
		}
	}
	me, _ := view.Find(self)
	s := Snapshot{Self: apta.Status{ID: self, Incarnation: me.Incarnation, State: me.State, Reason: "because of " + self, Neighbours: []string{"n-of-" + self}},
		Since: time.Now().UTC().Add(-time.Minute), Address: self + ":1", Leased: true, View: view,
		Lapsed: func(id string, incarnation uint32) bool {
			return slices.Contains(gone, id) || id == self && incarnation < me.Incarnation
		}}
	for _, id := range leases {
		s.Leases = append(s.Leases, wire.Lease{Identity: wire.Identity{ID: id, Incarnation: 4}, Addr: id + ":4"})
	}
	return s
}
