package apitest

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"time"

	"crier/api"
	"crier/job"
)

// Cluster is what the fake tells of the processes that work together. Steer changes it.
type Cluster struct {
	Members  []api.Member
	Journals []api.Journal
	Lanes    api.LaneList
	Status   func(*api.Status) // nil: nothing is changed
}

// cluster is three members: one that answers, one that has another view, and one whose
// process is gone and whose lease is still live.
func (f *Fake) cluster() Cluster {
	now := f.Now()
	roles := map[string]uint16{"api": 1, "scheduler": 1, "worker": 1, "gateway": 1, "relay": 1}
	zero, one := 0, 1
	id := job.NewID(now, [10]byte{9})
	slice, first, last := uint32(3), uint64(2)<<20, uint64(3)<<20-1
	return Cluster{
		Members: []api.Member{
			{ID: "m1", Self: true, State: "WORKING", Since: now.Add(-time.Hour), Reason: "ready, and working since the moment it announced to all", Roles: roles, Incarnation: 1,
				Address: "10.0.0.1:7430", Away: &zero, Neighbours: []string{"m2"}, Lease: true, View: "9f3c1d2e00aa17b4", Agrees: true, Answered: true,
				Holds: api.Holdings{Ranges: 2000, Slices: 4, Jobs: 1, Duties: []string{"mirror", "recorder"}}},
			{ID: "m2", State: "ONLINE", Since: now.Add(-9 * time.Second), Reason: "waited for the others' views long enough", Roles: map[string]uint16{"worker": 2, "gateway": 1},
				Incarnation: 3, Address: "10.0.0.2:7430", Away: &one, Neighbours: []string{"m1"}, Lease: true, View: "00e1aa17b49f3c1d", DiffersFor: api.Duration(9 * time.Second),
				Answered: true, Holds: api.Holdings{Ranges: 96, Journals: 1, Duties: []string{"audit", "folder", "sweep"}}},
			{ID: "m3-with-a-long-name-in-another-rack", State: api.Unreachable, Since: now.Add(-2 * time.Second), Roles: map[string]uint16{}, Incarnation: 12,
				Address: "m3-with-a-long-name-in-another-rack.example:7430", Lease: true, Holds: api.Holdings{Ranges: 2000}},
		},
		Journals: []api.Journal{
			{Journal: "w-m1.1", Worker: "w-m1", Member: "m1", Records: 52_100, Last: 81_234, LastAt: now.Add(-3 * time.Second), Open: 7},
			{Journal: "w-m2.2", Worker: "w-m2", Member: "m2", Records: 12, Last: 80_001, LastAt: now.Add(-time.Hour), Sealed: true, SealedBy: "w-m2.3", Open: 1, Lapsed: true},
			{Journal: "w-m2.3", Worker: "w-m2", Member: "m2", Records: 1, Last: 80_002, LastAt: now.Add(-time.Hour)},
		},
		Lanes: api.LaneList{
			Lanes: []api.Lane{
				{Worker: "w-m1", Lane: 0, Phase: "handing", Job: id, Slice: &slice, First: &first, Last: &last, Targets: 30_000, Since: now.Add(-time.Second)},
				{Worker: "w-m1", Lane: 1, Phase: "preparing", Job: id, Slice: &slice, First: &first, Last: &last, Since: now},
				{Worker: "w-m1", Lane: 2, Phase: "idle"},
			},
			Silent: []api.Silent{{Name: "w-m3-with-a-long-name-in-another-rack", Why: "no answer within 1s"}},
		},
	}
}

// Steer changes what the fake tells of its cluster.
func (f *Fake) Steer(change func(*Cluster)) {
	f.mu.Lock()
	defer f.mu.Unlock()
	change(f.clusterLocked())
}

func (f *Fake) clusterLocked() *Cluster {
	if f.mu.cluster == nil {
		c := f.cluster()
		f.mu.cluster = &c
	}
	return f.mu.cluster
}

// ListMembers implements api.Service.
func (f *Fake) ListMembers(context.Context) (api.MemberList, error) {
	if err := f.enter("ListMembers"); err != nil {
		return api.MemberList{}, err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	return api.MemberList{Members: slices.Clone(f.clusterLocked().Members)}, nil
}

func (f *Fake) member(method, id string, change func(*api.Member)) (api.Member, error) {
	if err := f.enter(method); err != nil {
		return api.Member{}, err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	members := f.clusterLocked().Members
	i := slices.IndexFunc(members, func(m api.Member) bool { return m.ID == id })
	if i < 0 {
		return api.Member{}, job.NotFound("there is no member " + strconv.Quote(id) + "; crier member ls names those there are")
	}
	change(&members[i])
	return members[i], nil
}

// GetMember implements api.Service.
func (f *Fake) GetMember(_ context.Context, id string) (api.Member, error) {
	return f.member("GetMember", id, func(*api.Member) {})
}

// SilenceMember implements api.Service; the member obeys at once.
func (f *Fake) SilenceMember(_ context.Context, id string, req api.Operate) (api.Member, error) {
	return f.member("SilenceMember", id, func(m *api.Member) {
		if m.State != "SILENCE" {
			m.State, m.Since, m.Holds = "SILENCE", f.Now(), api.Holdings{}
		}
		m.Reason = req.Reason
	})
}

// ResumeMember implements api.Service; the member obeys at once.
func (f *Fake) ResumeMember(_ context.Context, id string, req api.Operate) (api.Member, error) {
	return f.member("ResumeMember", id, func(m *api.Member) {
		if m.State == "SILENCE" {
			m.State, m.Since, m.Reason = "WORKING", f.Now(), req.Reason
		}
	})
}

// Ring implements api.Service with a ring of two members.
func (f *Fake) Ring(_ context.Context, req api.AskRing) (api.Ring, error) {
	if err := f.enter("Ring"); err != nil {
		return api.Ring{}, err
	}
	if err := req.Validate(); err != nil {
		return api.Ring{}, err
	}
	if req.Kind == "" {
		req.Kind = api.RingRange
	}
	r := api.Ring{Kind: req.Kind, View: "9f3c1d2e00aa17b4", Things: 4096, Claimed: 4000, Differ: 2, Disagree: []string{"m2"},
		Members: []api.RingMember{
			{ID: "m1", Weight: 1, Hinted: 2048, Holds: 2000, Both: 1999, Others: 1, Nobodys: 48},
			{ID: "m2", Weight: 1, Hinted: 2048, Holds: 2000, Both: 1999, Others: 1, Nobodys: 48}}}
	different := []api.Different{{Thing: "0017", Hint: "m1", Holder: "m2", Epoch: 3, Since: f.Now().Add(-time.Minute)},
		{Thing: "4095", Hint: "m2", Holder: "m1", Epoch: 1, Since: f.Now().Add(-time.Hour)}}
	items, next, err := cut(different, req.Page)
	if err == nil && req.Diff {
		r.Different, r.Next = items, next
	}
	return r, err
}

// ListJournals implements api.Service.
func (f *Fake) ListJournals(_ context.Context, page api.Page) (api.JournalList, error) {
	if err := f.enter("ListJournals"); err != nil {
		return api.JournalList{}, err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	var list api.JournalList
	for _, j := range f.clusterLocked().Journals {
		if j.LapsedFor > 0 {
			list.Unsealed++
			list.Longest = max(list.Longest, j.LapsedFor)
		}
	}
	var err error
	list.Journals, list.Next, err = cut(f.clusterLocked().Journals, page)
	return list, err
}

// ListLanes implements api.Service.
func (f *Fake) ListLanes(context.Context) (api.LaneList, error) {
	if err := f.enter("ListLanes"); err != nil {
		return api.LaneList{}, err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	list := f.clusterLocked().Lanes
	return api.LaneList{Lanes: slices.Clone(list.Lanes), Silent: slices.Clone(list.Silent)}, nil
}

// See changes a member's state, as a crash or a start would.
func (c *Cluster) See(id, state string, since time.Time) error {
	for i := range c.Members {
		if c.Members[i].ID == id {
			c.Members[i].State, c.Members[i].Since = state, since
			return nil
		}
	}
	return fmt.Errorf("the fake has no member %q", id)
}
