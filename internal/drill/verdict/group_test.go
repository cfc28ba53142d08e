package verdict

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"crier/api"
	"crier/job"
)

// set makes a set.
func set(ids ...job.Recipient) map[job.Recipient]bool {
	s := map[job.Recipient]bool{}
	for _, id := range ids {
		s[id] = true
	}
	return s
}

// Of two jobs 5 is barred. Of the second one 4 is, too, for it is in another segment.
func pair(least, most int) []*Group {
	barred := set(5, 105)
	return []*Group{{Name: "pair", Least: least, Most: most, Jobs: []Aim{{Job: job.ID{1}, Barred: barred}, {Job: job.ID{2}, Barred: barred, Only: set(1, 2, 3, 5, 101)}}}}
}

func TestSee(t *testing.T) {
	type shown map[job.Recipient]int
	recalled := pair(0, 2)
	recalled[0].Recalled = true
	for _, c := range []struct {
		name     string
		groups   []*Group
		a, b     shown
		withdrew map[job.Recipient]bool // of a
		away     []job.Recipient
		want     Oracle
	}{
		{"all", pair(2, 2), shown{1: 1, 2: 1, 3: 1, 4: 1}, shown{1: 1, 2: 1, 3: 1}, nil, nil, Oracle{Due: 7, Shown: 7}},
		{"lost", pair(2, 2), shown{1: 1, 2: 1, 4: 1}, shown{}, nil, nil, Oracle{Due: 7, Shown: 3, Lost: 4}},
		{"twice", pair(1, 1), shown{1: 1, 2: 3, 3: 1, 4: 1}, nil, nil, nil, Oracle{Due: 4, Shown: 4, Twice: 1}},
		{"one is away", pair(1, 1), shown{1: 1, 2: 1, 3: 1}, nil, nil, []job.Recipient{4}, Oracle{Due: 3, Shown: 3, Away: 1}},
		{"twice and away", pair(1, 1), shown{1: 1, 2: 1, 3: 1, 4: 2}, nil, nil, []job.Recipient{4}, Oracle{Due: 3, Shown: 3, Twice: 1, Away: 1}},
		{"a stranger", pair(1, 1), shown{1: 1, 2: 1, 3: 1, 4: 1, 9: 1}, nil, nil, nil, Oracle{Due: 4, Shown: 4, Strange: 1}},
		{"either is enough", pair(1, 1), shown{1: 1, 4: 1}, shown{2: 1, 3: 1}, nil, nil, Oracle{Due: 4, Shown: 4}},
		{"both of what is sent once", pair(1, 1), shown{1: 1, 2: 1, 3: 1, 4: 1}, shown{2: 1}, nil, nil, Oracle{Due: 4, Shown: 4, Over: 1}},
		{"either side of midnight", pair(1, 2), shown{1: 1, 2: 1, 3: 1, 4: 1}, shown{2: 1}, nil, nil, Oracle{Due: 4, Shown: 4}},
		{"who is barred", pair(2, 2), shown{1: 1, 2: 1, 3: 1, 4: 1, 5: 1}, shown{1: 1, 2: 1, 3: 1, 4: 1}, nil, nil, Oracle{Due: 7, Shown: 7, Barred: 2}},
		{"recalled", recalled, shown{1: 1, 2: 1}, nil, set(1, 2), nil, Oracle{}},
		{"recalled and kept", recalled, shown{1: 1, 2: 1, 3: 1}, nil, set(2), []job.Recipient{3}, Oracle{Kept: 1, Away: 1}},
	} {
		seen := map[job.ID]Seen{{1}: {c.a, c.withdrew}, {2}: {c.b, nil}}
		if diff := cmp.Diff(c.want, See(c.groups, seen, []job.Recipient{1, 2, 3, 4, 5}, c.away)); diff != "" {
			t.Errorf("%s (-want +got):\n%s", c.name, diff)
		}
	}
	if n := Due(pair(2, 2), []job.Recipient{1, 4, 5}); n != 3 {
		t.Errorf("%d are due", n)
	}
}

// Five members, of whom 5 is barred, and who never logs in: 101 to 105, of whom 105 is. All
// get one of two messages, 101 the second one.
func TestProved(t *testing.T) {
	members, parked := []job.Recipient{1, 2, 3, 4, 5}, []job.Recipient{101, 102, 103, 104, 105}
	seen := map[job.ID]Seen{{1}: {Shown: map[job.Recipient]int{1: 1, 4: 1}}, {2}: {Shown: map[job.Recipient]int{2: 1, 3: 1}}}
	for _, c := range []struct {
		want   string
		change func(a, b *api.Reconciliation, g *Group)
	}{
		{"", func(_, _ *api.Reconciliation, _ *Group) {}},
		{"not prove", func(a, _ *api.Reconciliation, _ *Group) { a.Conserved = false }},
		{"delivered to 3", func(a, _ *api.Reconciliation, _ *Group) { a.Delivered = 3 }},
		{"pair: 3 are parked", func(a, _ *api.Reconciliation, _ *Group) { a.Parked = 2 }},
		{"pair: 5 are parked", func(_, b *api.Reconciliation, _ *Group) { b.Parked = 2 }},
		{"are in doubt", func(a, _ *api.Reconciliation, _ *Group) { a.InDoubt = 1 }},
		{"are handed off", func(a, _ *api.Reconciliation, _ *Group) { a.HandedOff = 1 }},
		{"are pending", func(a, _ *api.Reconciliation, _ *Group) { a.Pending = 1 }},
		{"are failed", func(a, _ *api.Reconciliation, _ *Group) { a.Failed = 1 }},
		{"are expired", func(a, _ *api.Reconciliation, _ *Group) { a.Cancelled = 1 }},
		{"are recalled", func(a, _ *api.Reconciliation, _ *Group) { a.Recalled = 1 }},
		{"3 are dropped, and it was not for 2", func(a, _ *api.Reconciliation, _ *Group) { a.Dropped[job.ReasonControl]++ }},
		{"dropped are 9 of 10", func(_, b *api.Reconciliation, _ *Group) { b.Dropped[job.ReasonFrequency]-- }},
		{"9 recipients,", func(a, _ *api.Reconciliation, _ *Group) { a.Package = 9 }},
		{"for a cap, and it has none", func(_, _ *api.Reconciliation, g *Group) { g.Jobs = g.Jobs[:1] }},
		{"2 are dropped, and it was not for 1", func(a, _ *api.Reconciliation, g *Group) { g.Jobs[0].Barred = set(5) }},
		{"5 are dropped, and it was not for 6", func(_, b *api.Reconciliation, _ *Group) { b.Dropped[job.ReasonTargeting]-- }},
		{"should be 0 to 0", func(_, _ *api.Reconciliation, g *Group) { g.Least, g.Recalled = 0, true }},
	} {
		counts := func(parked uint64, dropped map[job.Reason]uint64) api.Reconciliation {
			return api.Reconciliation{Conserved: true, Counts: job.Counts{Package: 10, Delivered: 2, Parked: parked, Dropped: dropped}}
		}
		a := counts(3, map[job.Reason]uint64{job.ReasonControl: 1, job.ReasonSuppressed: 1, job.ReasonSendOnce: 3})
		b := counts(1, map[job.Reason]uint64{job.ReasonControl: 2, job.ReasonTargeting: 4, job.ReasonFrequency: 1})
		g := pair(1, 1)[0]
		c.change(&a, &b, g)
		bad := strings.Join(g.Proved(map[job.ID]api.Reconciliation{{1}: a, {2}: b}, seen, members, parked), "\n")
		if !strings.Contains(bad, c.want) || (bad == "") != (c.want == "") {
			t.Errorf("want %q: %q", c.want, bad)
		}
	}
}
