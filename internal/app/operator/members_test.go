package operator

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"crier/api"
	"crier/job"
	"crier/scheduler/apta/link"
	"crier/state/ledger"
)

// a sees b and c; d and g have a lease only; e is over; of f nothing is known but that it
// holds something. b and g answer.
func company(s *stage) (a *Operator, seatA *seat) {
	members := func(self string) []link.Seen {
		list := []link.Seen{works("a", 7), works("b", 2), works("c", 3)}
		for i := range list {
			if list[i].ID == self {
				list[i].Away = 0
			}
		}
		list[2].State, list[2].Takes, list[2].ViewHash = link.Online, false, 99
		return list
	}
	live := []string{"b", "c", "d", "g"}
	seatA = &seat{Snapshot: func() Snapshot { return seen("a", members("a"), live, "e") }}
	b := &seat{Snapshot: func() Snapshot {
		x := seen("b", members("b"), []string{"a"})
		x.Self.Frozen = true
		return x
	}}
	g := &seat{Snapshot: func() Snapshot {
		me := works("g", 4)
		me.State, me.Takes = link.Joining, false
		return seen("g", []link.Seen{me}, nil)
	}}
	id := s.accept(1)
	s.claim(ledger.RangeThing(1), "w-a", 7)
	s.claim(ledger.RangeThing(2), "w-a", 8) // its worker began again in the same process
	s.claim(ledger.RangeThing(3), "w-e", 5)
	s.claim(ledger.RangeThing(4), "w-f", 1)
	s.claim(ledger.RangeThing(5), "w-a", 7)
	s.claim(ledger.RangeThing(5), "", 0) // given up
	s.claim(ledger.SliceThing(id, 0), "w-b", 2)
	s.claim(ledger.SliceThing(job.ID{42}, 0), "w-b", 2) // of a job that is over
	s.claim(ledger.JobThing(id), "s-a", 7)
	s.claim(ledger.Thing{Kind: ledger.ClaimRole, ID: "recorder"}, "p-b", 2)
	s.claim(ledger.Thing{Kind: ledger.ClaimRole, ID: "folder"}, "p-e", 5)
	a = s.open(membership{seatA}, Counts{Online: 10, Sockets: 1})
	s.open(membership{b}, Counts{Online: 20, Sockets: 2, Disks: []api.Disk{{Of: []string{"data"}, Percent: 71}}})
	s.open(membership{g}, Counts{Online: 40, Sockets: 4})
	return a, seatA
}

func TestMembers(t *testing.T) {
	onStage(t, func(s *stage) {
		start := time.Now().UTC()
		a, _ := company(s)
		time.Sleep(30 * time.Second)
		got, err := a.Members(s.ctx, "")
		s.must(err)
		seen := a.cfg.Membership.Snapshot(s.ctx)
		view, other, at := hashText(seen.View.Hash), hashText(99), func(n int) *int { return &n }
		all := map[string]uint16{"api": 1, "scheduler": 1, "worker": 1, "gateway": 1, "relay": 1}
		want := []api.Member{
			{ID: "a", Self: true, State: "WORKING", Since: time.Now().UTC().Add(-time.Minute), Reason: "because of a", Roles: all, Incarnation: 7, Address: "a:1", Away: at(0),
				Neighbours: []string{"n-of-a"}, Lease: true, View: view, Agrees: true, Answered: true, Holds: api.Holdings{Ranges: 2, Jobs: 1}},
			{ID: "b", State: "WORKING", Since: time.Now().UTC().Add(-time.Minute), Reason: "because of b", Roles: all, Incarnation: 4, Address: "b:1", Away: at(1),
				Neighbours: []string{"n-of-b"}, Lease: true, View: view, Agrees: true, Answered: true, Frozen: true, Holds: api.Holdings{Slices: 1, Duties: []string{"recorder"}}},
			{ID: "c", State: "ONLINE", Since: start, Roles: all, Incarnation: 3, Address: "c:1", Away: at(1), Lease: true, View: other, DiffersFor: api.Duration(30 * time.Second)},
			{ID: "d", State: "unreachable", Since: start, Roles: map[string]uint16{}, Incarnation: 4, Address: "d:4", Lease: true},
			{ID: "e", State: "lapsed", Since: start, Roles: map[string]uint16{}, Incarnation: 5, Holds: api.Holdings{Ranges: 1}},
			{ID: "f", State: "unknown", Since: start, Roles: map[string]uint16{}, Incarnation: 1, Holds: api.Holdings{Ranges: 1}},
			{ID: "g", State: "JOINING", Since: time.Now().UTC().Add(-time.Minute), Reason: "because of g", Roles: all, Incarnation: 4, Address: "g:4",
				Neighbours: []string{"n-of-g"}, Lease: true, Answered: true, View: hashText(link.NewView("g", nil).Hash)},
		}
		want[1].Incarnation = 2
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("members (-want +got):\n%s", diff)
		}
		one, err := a.Members(s.ctx, "c")
		if err != nil || len(one) != 1 || cmp.Diff(want[2], one[0]) != "" {
			t.Errorf("one member: %+v, %v", one, err)
		}
		if none, err := a.Members(s.ctx, "nobody"); err != nil || len(none) != 0 {
			t.Errorf("nobody: %+v, %v", none, err)
		}
	})
}

// Nothing is left to do about the slices of a job that is sent: a member that is gone would be
// listed, and one that is silent seem to hold something, until the job is over.
func TestSlicesOfAJobThatIsSentAreNotHeld(t *testing.T) {
	onStage(t, func(s *stage) {
		a, _ := company(s)
		id := s.accept(2)
		s.claim(ledger.SliceThing(id, 0), "w-gone", 1)
		table, ids := a.cfg.Jobs, func() (ids []string) {
			list, err := a.Members(s.ctx, "")
			s.must(err)
			for _, m := range list {
				ids = append(ids, m.ID)
			}
			return ids
		}
		for _, state := range []job.State{job.Packed, job.Queued, job.Preparing, job.Prepared, job.Sending, job.Sent} {
			if !slices.Contains(ids(), "gone") {
				t.Errorf("who holds a slice is not listed before the job is %s", state)
			}
			_, err := table.Transition(s.ctx, id, state, "", time.Now())
			s.must(err)
			synctest.Wait()
		}
		if slices.Contains(ids(), "gone") {
			t.Error("who held a slice is listed when the job is sent")
		}
	})
}

// What a member floods of its view comes late: what it says when it is asked counts. One
// that does not answer, or says so itself, has another view.
func TestWhoHasAnotherView(t *testing.T) {
	onStage(t, func(s *stage) {
		late, other, mute := works("b", 1), works("c", 1), works("d", 1)
		late.ViewHash, other.ViewHash, mute.ViewHash = 1, 2, 3
		all := func() []link.Seen { return []link.Seen{works("a", 1), late, other, mute} }
		a := s.open(membership{&seat{Snapshot: func() Snapshot { return seen("a", all(), nil) }}}, Counts{})
		s.open(membership{&seat{Snapshot: func() Snapshot { return seen("b", all(), nil) }}}, Counts{})
		s.open(membership{&seat{Snapshot: func() Snapshot { return seen("c", all()[:3], nil) }}}, Counts{})
		s.pass(10 * time.Second)
		got, err := a.Members(s.ctx, "")
		s.must(err)
		for i, want := range []struct {
			agrees bool
			differ time.Duration
		}{{true, 0}, {true, 0}, {false, 10 * time.Second}, {false, 10 * time.Second}} {
			if m := got[i]; m.Agrees != want.agrees || m.DiffersFor != api.Duration(want.differ) {
				t.Errorf("%s: agrees %v, differs for %s; want %v", m.ID, m.Agrees, m.DiffersFor, want)
			}
		}
		r, err := a.Ring(s.ctx, api.AskRing{Kind: api.RingRange})
		if err != nil || cmp.Diff([]string{"c", "d"}, r.Disagree) != "" {
			t.Errorf("disagreeing: %v, %v", r.Disagree, err)
		}
	})
}

// What is so for a while is told with its age; what ends and comes back begins anew.
func TestHowLongAStateLasts(t *testing.T) {
	onStage(t, func(s *stage) {
		b := works("b", 2)
		var away atomic.Bool
		x := &seat{Snapshot: func() Snapshot {
			list := []link.Seen{works("a", 1), b}
			if away.Load() {
				list = list[:1]
			}
			return seen("a", list, []string{"b"})
		}}
		a := s.open(membership{x}, Counts{})
		look := func(state string, since time.Time) {
			t.Helper()
			got, err := a.Members(s.ctx, "b")
			if err != nil || len(got) != 1 || got[0].State != state || got[0].Since.Before(since) || got[0].Since.Sub(since) > watchEvery {
				t.Errorf("%+v, %v; want %s since %s", got, err, state, since)
			}
		}
		first := time.Now()
		time.Sleep(10 * time.Second)
		look("WORKING", first)
		away.Store(true)
		look("unreachable", time.Now())
		gone := time.Now()
		time.Sleep(5 * time.Second)
		look("unreachable", gone)
		away.Store(false)
		time.Sleep(time.Minute)
		synctest.Wait()
		look("WORKING", gone.Add(5*time.Second))
	})
}

func TestOperate(t *testing.T) {
	onStage(t, func(s *stage) {
		a, x := company(s)
		for _, c := range []struct {
			id   string
			code job.Code
		}{{"nobody", job.CodeNotFound}, {"d", job.CodeUnavailable}, {"f", job.CodeUnavailable}, {"e", job.CodeConflict}} {
			if err := a.Operate(s.ctx, c.id, true, "why"); job.CodeOf(err) != c.code || !strings.Contains(err.Error(), c.id) {
				t.Errorf("%s: %v, want %s", c.id, err, c.code)
			}
		}
		if len(x.asked) > 0 {
			t.Fatalf("asked for %v", x.asked)
		}
		s.must(a.Operate(s.ctx, "b", true, "why"))
		s.must(a.Operate(s.ctx, "b", true, "why"))
		s.must(a.Operate(s.ctx, "a", false, ""))
		if diff := cmp.Diff([]string{"silence b why", "silence b why", "resume a "}, x.asked); diff != "" {
			t.Error(diff)
		}
		x.err = job.Conflict("no")
		if err := a.Operate(s.ctx, "a", true, ""); job.CodeOf(err) != job.CodeConflict {
			t.Errorf("what the membership refuses: %v", err)
		}
	})
}

// The status adds up who answers, and names who does not.
func TestSum(t *testing.T) {
	onStage(t, func(s *stage) {
		a, _ := company(s)
		st := a.Sum(s.ctx, api.Status{Online: 10, Sockets: 1, Healthy: true, Disks: []api.Disk{{Of: []string{"data"}}, {Of: []string{"blobs"}}}})
		disks := []api.Disk{{Member: "a", Of: []string{"data"}}, {Member: "a", Of: []string{"blobs"}}, {Member: "b", Of: []string{"data"}, Percent: 71}}
		if diff := cmp.Diff(disks, st.Disks); diff != "" {
			t.Errorf("disks: %s", diff)
		}
		if st.Online != 70 || st.Sockets != 7 || !st.Healthy || st.IndexLag == nil || *st.IndexLag != 0 {
			t.Errorf("%+v", st)
		}
		if diff := cmp.Diff([]api.Silent{{Name: "c", Why: "nobody listens there"}, {Name: "d", Why: "nobody listens there"}}, st.Silent); diff != "" {
			t.Errorf("silent: %s", diff)
		}
		// One that hears and does not answer costs the bound, once.
		sub, err := s.bus.Subscribe("crier.member.*.about", unheard)
		s.must(err)
		defer sub.Unsubscribe()
		began := time.Now()
		st = a.Sum(s.ctx, api.Status{})
		if took := time.Since(began); took != askWithin {
			t.Errorf("it took %s, want %s", took, askWithin)
		}
		if len(st.Silent) != 2 || st.Silent[0].Why != "no answer within 1s" {
			t.Errorf("silent: %+v", st.Silent)
		}
	})
}

func TestIndexLag(t *testing.T) {
	onStage(t, func(s *stage) {
		a := s.open(Alone{ID: "a", Incarnation: 1, Roles: []string{"worker"}}, Counts{})
		s.write("w-a", 1, ledger.Open{Boot: "b"})
		s.accept(1) // lies behind the watermark, and is no news to the index
		time.Sleep(time.Hour)
		if lag, ok := a.indexLag(s.ctx, time.Now()); !ok || lag != 0 {
			t.Errorf("caught up: %s, %v", lag, ok)
		}
		cfg := a.cfg
		cfg.Index = s.emptyIndex()
		stalled := New(cfg)
		if lag, ok := stalled.indexLag(s.ctx, time.Now().Add(time.Second)); !ok || lag != time.Hour+time.Second {
			t.Errorf("nothing applied: %s, %v", lag, ok)
		}
		cfg.Index = nil
		if _, ok := New(cfg).indexLag(s.ctx, time.Now()); ok {
			t.Error("a process without an index knows its lag")
		}
	})
}

func TestAlone(t *testing.T) {
	m := Alone{ID: "a", Incarnation: 3, Roles: []string{"api", "worker"}, Since: time.Unix(1, 0)}
	x := m.Snapshot(t.Context())
	if x.Self.State != link.Working || len(x.View.Takers(link.Worker)) != 1 || len(x.View.Takers(link.Gateway)) != 0 || len(x.View.Disagreeing()) != 0 || x.Leased {
		t.Errorf("%+v, view %+v", x, x.View)
	}
	if !x.Lapsed("a", 2) || x.Lapsed("a", 3) || x.Lapsed("b", 1) {
		t.Error("of an earlier start it is known that it is over, and of nothing else")
	}
	if err := m.Operate(t.Context(), "a", "silence", ""); job.CodeOf(err) != job.CodeConflict {
		t.Errorf("silence: %v", err)
	}
	if err := m.Operate(t.Context(), "a", "resume", ""); err != nil {
		t.Errorf("resume: %v", err)
	}
	m.Leased = func(ctx context.Context) bool {
		_, bounded := ctx.Deadline()
		return bounded
	}
	if !m.Snapshot(t.Context()).Leased {
		t.Error("it is not asked for its lease, or for ever")
	}
}

// An answer under another name, or none that can be read, is no answer.
func TestAnswersThatCannotBeRead(t *testing.T) {
	onStage(t, func(s *stage) {
		x := &seat{Snapshot: func() Snapshot { return seen("a", []link.Seen{works("a", 1), works("b", 1), works("c", 1)}, nil) }}
		a := s.open(membership{x}, Counts{})
		s.answer("crier.member.b.about", `{"id":"z","online":5}`)
		s.answer("crier.member.c.about", `]`)
		st := a.Sum(s.ctx, api.Status{})
		if st.Online != 0 || len(st.Silent) != 2 || st.Silent[0].Name != "b" || st.Silent[1].Name != "c" {
			t.Errorf("%+v", st)
		}
	})
}

// Who asked goes away: that is no list of members who are silent.
func TestAskingEndsWithItsContext(t *testing.T) {
	onStage(t, func(s *stage) {
		a, _ := company(s)
		ctx, cancel := context.WithCancel(s.ctx)
		cancel()
		if _, err := a.Members(ctx, ""); !errors.Is(err, context.Canceled) {
			t.Errorf("%v", err)
		}
	})
}
