package sqltest

import (
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"crier/audience/members"
	"crier/job"
)

// told takes all rows, marks them, and says what they tell, in one order.
func told(t *testing.T, s Store) []string {
	t.Helper()
	var all []string
	for {
		rows := take(t, s, "o", 1000)
		if len(rows) == 0 {
			slices.Sort(all)
			return all
		}
		var ids []uint64
		for _, r := range rows {
			line := fmt.Sprintf("%s %s at %s", r.Event.ID(), r.Event.State, r.Event.At.Sub(Start()))
			if x := r.Event.Set; x != nil {
				line += fmt.Sprintf(" %q of %q: %d, %d in all", x.Name, x.Tenant, x.Changed, x.Recipients)
			}
			all, ids = append(all, line), append(ids, r.ID)
			must(t, r.Event.Validate())
		}
		must(t, s.Outbox.Mark(t.Context(), ids))
	}
}

func wantTold(t *testing.T, what string, s Store, want ...string) {
	t.Helper()
	slices.Sort(want)
	if got := told(t, s); !slices.Equal(got, want) {
		t.Errorf("%s: told\n%q, want\n%q", what, got, want)
	}
}

// eventsOfSets holds that each revision of a set is told once, by the name and the owner
// of the set, and that nothing else is.
func eventsOfSets(t *testing.T, s Store) {
	ctx := t.Context()
	_, err := s.Accounts.Create(ctx, "größer 'so'", number(7))
	must(t, err)
	_, err = s.Of("acme").Accounts.Create(ctx, "news", number(0))
	must(t, err)
	vip, err := s.Segments.Create(ctx, "vip")
	must(t, err)
	seven := members.Followers(7)
	appendAll(t, s, members.Change{Key: seven, Adds: []byte{1}, Cardinality: 3}, members.Change{Key: members.Followers(0), Adds: []byte{1}, Cardinality: 1},
		members.Change{Key: members.GlobalSuppression(), Adds: []byte{1}, Cardinality: 5}, members.Change{Key: members.Followers(8), Snapshot: job.Digest{1}, Cardinality: 1 << 32, MakeAccount: true},
		members.Change{Key: members.Segment(vip.Number), Adds: []byte{1}, Cardinality: 2}, members.Change{Key: members.Followers(9), Adds: []byte{1}, Cardinality: 4})
	wantTold(t, "the first changes", s, `followers.7/1 added at 0s "größer 'so'" of "default": 3, 3 in all`, `followers.0/1 added at 0s "news" of "acme": 1, 1 in all`,
		`global-suppression.0/1 added at 0s "" of "": 5, 5 in all`, `followers.8/1 added at 0s "8" of "default": 4294967296, 4294967296 in all`,
		`segment.1/1 added at 0s "vip" of "default": 2, 2 in all`, `followers.9/1 added at 0s "" of "": 4, 4 in all`)
	s.clock.advance()
	appendAll(t, s, members.Change{Key: seven, Base: 1, Removes: []byte{1}, Cardinality: 1}, members.Change{Key: members.Suppression(0), Adds: []byte{1}, Cardinality: 1},
		members.Change{Key: members.Followers(8), Base: 1, Snapshot: job.Digest{2}, Cardinality: 0}, members.Change{Key: members.Segment(vip.Number), Base: 1, Cardinality: 2})
	wantTold(t, "the next", s, `followers.7/2 removed at 1s "größer 'so'" of "default": 2, 1 in all`, `suppression.0/1 added at 1s "news" of "acme": 1, 1 in all`,
		`followers.8/2 removed at 1s "8" of "default": 4294967296, 0 in all`)
	must(t, s.Sets.AddSnapshot(ctx, seven, members.Snapshot{Revision: 2, Blob: job.Digest{3}, Cardinality: 1, Pinned: true}))
	boom := errors.New("the source broke")
	if _, err := s.Sets.Append(ctx, changes(boom, members.Change{Key: seven, Base: 2, Adds: []byte{1}, Cardinality: 2})); !errors.Is(err, boom) {
		t.Fatal(err)
	}
	if _, err := s.Sets.Append(ctx, changes(nil, members.Change{Key: members.Suppression(7), Adds: []byte{1}, Cardinality: 1}, members.Change{Key: seven, Base: 1, Adds: []byte{1}, Cardinality: 2})); !errors.Is(err, members.ErrStale) {
		t.Fatal(err)
	}
	wantTold(t, "a snapshot, and changes that were refused", s)
	s.clock.advance()
	appendAll(t, s, members.Change{Key: seven, Base: 2, Adds: []byte{1}, Cardinality: 8})
	wantTold(t, "after the snapshot", s, `followers.7/3 added at 2s "größer 'so'" of "default": 7, 8 in all`)
}

// eventsOfSetsWait holds that an event of a job is taken before those of an import.
func eventsOfSetsWait(t *testing.T, s Store) {
	const sets = 1200
	var all []members.Change
	for i := range uint32(sets) {
		all = append(all, members.Change{Key: members.Followers(i), Adds: []byte{1}, Cardinality: 1, MakeAccount: true})
	}
	appendAll(t, s, all...)
	first := step(spec(0, 7, 1), 1, job.Submitted)
	project(t, s, 1, first)
	wantEvents(t, "behind an import", take(t, s, "a", 1), first)
	for range 4 {
		s.clock.advance()
	}
	at, err := time.Parse(time.RFC3339Nano, first.At)
	must(t, err)
	lines := told(t, s)
	if len(lines) != sets+1 || !slices.Contains(lines, fmt.Sprintf("%s/1 submitted at %s", first.Job, at.Sub(Start()))) {
		t.Errorf("%d events are told of %d sets and a job", len(lines), sets)
	}
}
