package operator

import (
	"context"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"crier/api"
	"crier/internal/app/member"
	"crier/internal/bus"
	"crier/internal/idset"
	"crier/job"
	"crier/scheduler/apta/link"
	"crier/state/ledger"
	"crier/state/parked"
	"crier/state/parked/kv"
)

// unheard takes a question and does not answer.
func unheard(bus.Msg) {}

// answer answers every question at a subject.
func (s *stage) answer(subject, text string) {
	s.t.Helper()
	_, err := s.bus.Subscribe(subject, func(m bus.Msg) {
		if err := m.Respond([]byte(text)); err != nil {
			s.t.Error(err)
		}
	})
	s.must(err)
}

func (s *stage) emptyIndex() *parked.Index {
	x, err := parked.New(s.ctx, kv.NewMemory(), s, s.log)
	s.must(err)
	return x
}

// The ring says of each thing what the workers and schedulers themselves go by: who is
// their first choice. Their own code is asked here, member by member.
func TestRingIsWhatMembersGoBy(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	for range 5 {
		var list []link.Seen
		for _, id := range []string{"a", "b", "c", "d"} {
			m := works(id, 1)
			m.Weights[link.Worker], m.Weights[link.Scheduler] = uint16(rng.IntN(3)), uint16(rng.IntN(3))
			m.Takes = rng.IntN(4) > 0
			list = append(list, m)
		}
		x := seen("a", list, nil)
		for _, kind := range api.RingKinds {
			var things []ledger.Claim
			for n := range 300 {
				thing := map[string]ledger.Thing{api.RingRange: ledger.RangeThing(job.Range(n)), api.RingJob: ledger.JobThing(job.ID{byte(n), byte(n >> 8), 1}),
					api.RingSlice: ledger.SliceThing(job.ID{byte(n), byte(n >> 8), 2}, 3), api.RingJournal: ledger.JournalThing(job.Journal{Worker: fmt.Sprint("w-", n), Incarnation: 1})}[kind]
				c := ledger.Claim{Kind: thing.Kind, ID: thing.ID}
				if rng.IntN(3) > 0 {
					c.Journal, c.Epoch = job.Journal{Worker: "w-" + []string{"a", "b", "z"}[rng.IntN(3)], Incarnation: 1}, 1
				}
				things = append(things, c)
			}
			checkRing(t, &x, kind, things)
		}
	}
}

func checkRing(t *testing.T, x *Snapshot, kind string, things []ledger.Claim) {
	t.Helper()
	should := map[string]string{}
	for _, m := range x.View.Members {
		r := member.NewRing(m.ID, x.View)
		for _, c := range things {
			choice := r.Worker().Choice(c.Thing())
			if kind == api.RingJob {
				id, err := job.ParseID(c.ID)
				if err != nil {
					t.Fatal(err)
				}
				choice = r.Scheduler().Choice(id)
			}
			if choice == 0 {
				should[c.ID] = m.ID
			}
		}
	}
	want := map[string]api.RingMember{}
	differ, claimed, listed := uint64(0), uint64(0), map[string]bool{}
	for _, c := range things {
		holder, hint := strings.TrimPrefix(c.Journal.Worker, "w-"), should[c.ID]
		add := func(id string, change func(*api.RingMember)) {
			if id != "" {
				m := want[id]
				change(&m)
				want[id] = m
			}
		}
		add(hint, func(m *api.RingMember) { m.Hinted++ })
		add(holder, func(m *api.RingMember) { m.Holds++ })
		if holder != "" {
			claimed++
		}
		switch {
		case holder == hint:
			add(hint, func(m *api.RingMember) { m.Both++ })
		case holder == "":
			add(hint, func(m *api.RingMember) { m.Nobodys++ })
		default:
			differ++
			add(hint, func(m *api.RingMember) { m.Others++ })
		}
		listed[c.ID] = holder != hint && (holder != "" || kind != api.RingRange) || holder == "" && hint == "" && kind != api.RingRange
	}
	r, different := compare(x, kind, things)
	if r.Things != uint64(len(things)) || r.Differ != differ || r.Claimed != claimed || r.View != hashText(x.View.Hash) {
		t.Fatalf("%s: %+v; want %d claimed, %d of others", kind, r, claimed, differ)
	}
	for _, m := range r.Members {
		w := want[m.ID]
		w.ID, w.Weight = m.ID, m.Weight
		if m != w {
			t.Fatalf("%s: %+v, want %+v", kind, m, w)
		}
		delete(want, m.ID)
	}
	if len(want) > 0 {
		t.Fatalf("%s: not told: %v", kind, want)
	}
	for i, d := range different {
		if !listed[d.Thing] || d.Hint != should[d.Thing] || i > 0 && different[i-1].Thing >= d.Thing {
			t.Fatalf("%s: %+v is listed at %d", kind, d, i)
		}
		delete(listed, d.Thing)
	}
	for thing, is := range listed {
		if is {
			t.Fatalf("%s: %s is not listed", kind, thing)
		}
	}
}

// The pages of what differs are all of it, each once.
func TestPagesOfARing(t *testing.T) {
	onStage(t, func(s *stage) {
		for r := range job.Range(25) {
			s.claim(ledger.RangeThing(r*3), "w-z", 1)
		}
		id := s.accept(1)
		s.claim(ledger.SliceThing(id, 0), "w-z", 1)
		s.claim(ledger.SliceThing(job.ID{42}, 0), "w-z", 1) // of a job that is over
		a := s.open(Alone{ID: "a", Incarnation: 1, Roles: []string{"worker", "scheduler"}}, Counts{})
		seen := map[string]int{}
		for req := (api.AskRing{Kind: api.RingRange, Diff: true, Page: api.Page{Limit: 10}}); ; {
			r, err := a.Ring(s.ctx, req)
			s.must(err)
			if r.Differ != 25 || r.Things != 4096 || len(r.Different) > 10 {
				t.Fatalf("%+v", r)
			}
			for _, d := range r.Different {
				seen[d.Thing]++
				if d.Hint != "a" || d.Holder != "z" || d.Epoch != 1 {
					t.Errorf("%+v", d)
				}
			}
			if req.Cursor = r.Next; r.Next == "" {
				break
			}
		}
		for r := range job.Range(25) {
			if seen[(r*3).String()] != 1 || len(seen) != 25 {
				t.Fatalf("listed: %v", seen)
			}
		}
		for kind, things := range map[string]uint64{api.RingJob: 1, api.RingSlice: 1, api.RingJournal: 0} {
			r, err := a.Ring(s.ctx, api.AskRing{Kind: kind})
			if err != nil || r.Things != things || r.Different != nil {
				t.Errorf("%s: %+v, %v", kind, r, err)
			}
		}
		none, err := a.Ring(s.ctx, api.AskRing{Kind: api.RingRange, Diff: true, Page: api.Page{Cursor: "9999"}})
		if err != nil || len(none.Different) != 0 || none.Next != "" {
			t.Errorf("behind the end: %+v, %v", none, err)
		}
	})
}

// reserve is a reserve of one recipient at a gateway.
func reserve() *ledger.Reserve {
	who := job.Recipient(5)
	return &ledger.Reserve{Job: job.ID{1}, Span: job.Span{Lo: uint64(who), Hi: uint64(who) + 1}, IDs: 1, Rest: job.Parked,
		Targets: ledger.Targets{Incs: []job.Incarnation{{Gateway: "g", Start: 1}}, Sets: []*idset.Set{idset.Of(uint32(who))}}}
}

func TestJournals(t *testing.T) {
	onStage(t, func(s *stage) {
		start := time.Now().UTC()
		s.write("w-a", 1, ledger.Open{Boot: "b"})
		s.write("w-a", 1, ledger.Seal{})
		s.write("w-a", 2, ledger.Open{Boot: "b"})
		s.write("w-b", 1, ledger.Open{Boot: "b"})
		s.write("w-b", 1, reserve())
		s.write("w-b", 1, ledger.Seal{By: job.Journal{Worker: "w-a", Incarnation: 2}})
		s.write("w-c", 1, ledger.Open{Boot: "b"})
		x := &seat{Snapshot: func() Snapshot { return seen("a", []link.Seen{works("a", 2)}, nil, "b", "c") }}
		a := s.open(membership{x}, Counts{})
		s.pass(20 * time.Second)
		want := []api.Journal{
			{Journal: "w-a.1", Worker: "w-a", Member: "a", Records: 2, Last: 2, LastAt: start, Sealed: true, SealedBy: "itself", Lapsed: true},
			{Journal: "w-a.2", Worker: "w-a", Member: "a", Records: 1, Last: 3, LastAt: start},
			{Journal: "w-b.1", Worker: "w-b", Member: "b", Records: 3, Last: 6, LastAt: start, Sealed: true, SealedBy: "w-a.2", Open: 1, Lapsed: true},
			{Journal: "w-c.1", Worker: "w-c", Member: "c", Records: 1, Last: 7, LastAt: start, Lapsed: true, LapsedFor: api.Duration(20 * time.Second)},
		}
		var got []api.Journal
		for page := (api.Page{Limit: 3}); ; {
			list, err := a.Journals(s.ctx, page)
			s.must(err)
			if list.Unsealed != 1 || list.Longest != api.Duration(20*time.Second) {
				t.Errorf("%d unsealed, for %s", list.Unsealed, list.Longest)
			}
			got = append(got, list.Journals...)
			if page.Cursor = list.Next; list.Next == "" {
				break
			}
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("journals (-want +got):\n%s", diff)
		}
		if _, err := a.Journals(s.ctx, api.Page{Cursor: "nonsense"}); job.CodeOf(err) != job.CodeInvalid {
			t.Errorf("a cursor that is none: %v", err)
		}
		// What is open of a sealed journal is in the ring, and what somebody claimed of it is held.
		s.claim(ledger.JournalThing(job.Journal{Worker: "w-b", Incarnation: 1}), "w-a", 2)
		s.claim(ledger.JournalThing(job.Journal{Worker: "w-a", Incarnation: 1}), "w-a", 2) // nothing of it is open
		r, err := a.Ring(s.ctx, api.AskRing{Kind: api.RingJournal})
		if err != nil || r.Things != 1 || len(r.Members) != 1 || r.Members[0].Both != 1 {
			t.Errorf("%+v, %v", r, err)
		}
		if m, err := a.Members(s.ctx, "a"); err != nil || m[0].Holds.Journals != 1 {
			t.Errorf("%+v, %v", m, err)
		}
		cfg := a.cfg
		cfg.Index = nil
		if _, err := New(cfg).Journals(s.ctx, api.Page{}); job.CodeOf(err) != job.CodeUnavailable {
			t.Errorf("without an index: %v", err)
		}
	})
}

func TestLanes(t *testing.T) {
	onStage(t, func(s *stage) {
		gateway := works("d", 1)
		gateway.Weights = link.Weights{}
		gateway.Weights[link.Gateway] = 1
		s.claim(ledger.RangeThing(1), "w-e", 5) // over
		s.claim(ledger.RangeThing(2), "w-f", 1) // not seen, but may be there
		x := &seat{Snapshot: func() Snapshot {
			return seen("a", []link.Seen{works("a", 1), works("b", 1), works("c", 1), gateway}, nil, "e")
		}}
		a := s.open(membership{x}, Counts{})
		id := job.ID{1}
		s.answer("crier.worker.w-a.lanes", `[{"phase":"idle"},{"phase":"handing","job":"`+id.String()+`","slice":0,"span":{"lo":0,"hi":64},"targets":3,"since":"2026-01-02T03:04:05+01:00"}]`)
		s.answer("crier.worker.w-b.lanes", `nonsense`)
		s.answer("crier.worker.w-e.lanes", `[{"phase":"idle"}]`)
		got, err := a.Lanes(s.ctx)
		s.must(err)
		slice, first, last := uint32(0), uint64(0), uint64(63)
		want := api.LaneList{
			Lanes: []api.Lane{{Worker: "w-a", Phase: "idle"},
				{Worker: "w-a", Lane: 1, Phase: "handing", Job: id, Slice: &slice, First: &first, Last: &last, Targets: 3, Since: time.Date(2026, 1, 2, 2, 4, 5, 0, time.UTC)}},
			Silent: []api.Silent{{Name: "w-b", Why: "its answer cannot be read"}, {Name: "w-c", Why: "nobody listens there"}, {Name: "w-f", Why: "nobody listens there"}}}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("lanes (-want +got):\n%s", diff)
		}
		ctx, cancel := context.WithCancel(s.ctx)
		cancel()
		if _, err := a.Lanes(ctx); err == nil {
			t.Error("who asked is gone, and gets a list")
		}
	})
}

// Every member is asked where a recipient is; what the home says counts, not what one
// believes that lost the range, and who does not answer is named.
func TestWhereabouts(t *testing.T) {
	onStage(t, func(s *stage) {
		at := time.Now().UTC()
		s.claim(ledger.RangeThing(0), "w-b", 1)
		x := &seat{Snapshot: func() Snapshot {
			return seen("a", []link.Seen{works("a", 1), works("b", 1), works("c", 1), works("d", 1), works("f", 1)}, []string{"e"})
		}}
		a := s.open(membership{x}, Counts{})
		a.cfg.Here = func(who job.Recipient) Here {
			return Here{Online: Sockets("g-a", []time.Time{at.Add(-time.Minute), at.Add(-time.Hour)}), Home: "w-a", Primary: "g-old.1"}
		}
		y := &seat{Snapshot: func() Snapshot {
			return seen("b", []link.Seen{works("a", 1), works("b", 1)}, nil)
		}}
		b := s.open(membership{y}, Counts{})
		b.cfg.Here = func(who job.Recipient) Here {
			if who != 7 {
				return Here{Home: "w-b"}
			}
			return Here{Home: "w-b", Primary: "g-a.4"}
		}
		s.answer(recipientTo("c"), "nonsense")
		s.answer(recipientTo("d"), `{"id":"z","online":[{"gateway":"g-z","connections":1}]}`)
		silence, err := s.bus.Subscribe(recipientTo("f"), func(bus.Msg) {})
		s.must(err)
		defer silence.Unsubscribe()
		began := time.Now()
		want := api.Whereabouts{Online: []api.Connected{{Gateway: "g-a", Connections: 2, Since: at.Add(-time.Hour)}}, Home: "w-b", Primary: "g-a.4",
			Silent: []api.Silent{{Name: "c", Why: "its answer cannot be read"}, {Name: "d", Why: "its answer cannot be read"}, {Name: "e", Why: "nobody listens there"},
				{Name: "f", Why: "no answer within 1s"}}}
		if diff := cmp.Diff(want, a.Whereabouts(s.ctx, 7)); diff != "" {
			t.Errorf("where 7 is (-want +got):\n%s", diff)
		}
		if took := time.Since(began); took > askWithin {
			t.Errorf("it took %s", took)
		}
		want.Primary = ""
		if diff := cmp.Diff(want, a.Whereabouts(s.ctx, 8)); diff != "" {
			t.Errorf("where 8 is (-want +got):\n%s", diff)
		}
		bounded, cancel := context.WithTimeout(s.ctx, time.Second)
		defer cancel()
		if _, err := s.bus.Request(bounded, recipientTo("b"), []byte("7x")); err == nil {
			t.Error("a question about nobody is answered")
		}
	})
}
