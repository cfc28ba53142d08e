package sqltest

import (
	"bytes"
	"errors"
	"fmt"
	"iter"
	"slices"
	"testing"

	"crier/audience/members"
	"crier/job"
	"crier/state/sql"
)

// changes yields what is given, then the error if it is not nil.
func changes(err error, all ...members.Change) iter.Seq2[members.Change, error] {
	return func(yield func(members.Change, error) bool) {
		for _, c := range all {
			if !yield(c, nil) {
				return
			}
		}
		if err != nil {
			yield(members.Change{}, err)
		}
	}
}

func appendAll(t *testing.T, s Store, all ...members.Change) int {
	t.Helper()
	n, err := s.Sets.Append(t.Context(), changes(nil, all...))
	must(t, err)
	return n
}

func wantHead(t *testing.T, s Store, want members.Head) {
	t.Helper()
	got, err := s.Sets.Head(t.Context(), want.Key)
	must(t, err)
	if got != want {
		t.Errorf("head is %+v, want %+v", got, want)
	}
}

// wantIncrements compares what Load gives with the revisions.
func wantIncrements(t *testing.T, s Store, key members.Key, want ...members.Increment) {
	t.Helper()
	h, got, err := s.Sets.Load(t.Context(), key)
	must(t, err)
	same := func(a, b members.Increment) bool {
		return a.Revision == b.Revision && a.Cardinality == b.Cardinality && bytes.Equal(a.Adds, b.Adds) && bytes.Equal(a.Removes, b.Removes)
	}
	if !slices.EqualFunc(got, want, same) {
		t.Errorf("increments are %+v, want %+v", got, want)
	}
	wantHead(t, s, h)
}

var key = members.Followers(4294967295)

func setIncrements(t *testing.T, s Store) {
	wantHead(t, s, members.Head{Key: key})
	wantIncrements(t, s, key)
	appendAll(t, s, members.Change{Key: key, Adds: []byte{0, 1, 255}, Cardinality: 3})
	wantHead(t, s, members.Head{Key: key, Revision: 1, Cardinality: 3, Increments: 1, IncrementBytes: 3})
	appendAll(t, s, members.Change{Key: key, Base: 1, Adds: []byte{7}, Removes: []byte{8, 9}, Cardinality: 2})
	wantHead(t, s, members.Head{Key: key, Revision: 2, Cardinality: 2, Increments: 2, IncrementBytes: 6})
	wantIncrements(t, s, key, members.Increment{Revision: 1, Adds: []byte{0, 1, 255}, Cardinality: 3},
		members.Increment{Revision: 2, Adds: []byte{7}, Removes: []byte{8, 9}, Cardinality: 2})

	// Other kinds and owners are other sets.
	for _, other := range []members.Key{members.Suppression(4294967295), members.GlobalSuppression(), members.Followers(0), members.Suppression(0)} {
		wantHead(t, s, members.Head{Key: other})
		appendAll(t, s, members.Change{Key: other, Adds: []byte{4}, Cardinality: 1})
		wantHead(t, s, members.Head{Key: other, Revision: 1, Cardinality: 1, Increments: 1, IncrementBytes: 1})
	}
	// A change that changes nothing makes no revision.
	appendAll(t, s, members.Change{Key: key, Base: 2, Cardinality: 2})
	wantHead(t, s, members.Head{Key: key, Revision: 2, Cardinality: 2, Increments: 2, IncrementBytes: 6})
}

func setAtomic(t *testing.T, s Store) {
	fine := members.Change{Key: members.Followers(1), Adds: []byte{1}, Cardinality: 1, MakeAccount: true}
	grow := members.Change{Key: key, Base: 2, Adds: []byte{2}, Cardinality: 2}
	appendAll(t, s, members.Change{Key: key, Adds: []byte{1}, Cardinality: 1})
	appendAll(t, s, members.Change{Key: key, Base: 1, Adds: []byte{1}, Cardinality: 1})
	boom := errors.New("the source broke")
	for name, c := range map[string]struct {
		changes iter.Seq2[members.Change, error]
		want    error
	}{
		"an error in between":      {changes(boom, fine, grow), boom},
		"a base of no set":         {changes(nil, fine, grow, members.Change{Key: members.Suppression(1), Base: 4, Adds: []byte{1}}), members.ErrStale},
		"the empty base":           {changes(nil, fine, members.Change{Key: key, Adds: []byte{1}}), members.ErrStale},
		"a base that is passed":    {changes(nil, fine, members.Change{Key: key, Base: 1, Adds: []byte{1}}), members.ErrStale},
		"a base that is to come":   {changes(nil, fine, members.Change{Key: key, Base: 3, Adds: []byte{1}}), members.ErrStale},
		"a snapshot on a bad base": {changes(nil, fine, members.Change{Key: key, Base: 1, Snapshot: job.Digest{1}}), members.ErrStale},
	} {
		if n, err := s.Sets.Append(t.Context(), c.changes); n != 0 || !errors.Is(err, c.want) {
			t.Errorf("%s: %d accounts, %v; want %v", name, n, err, c.want)
		}
		wantHead(t, s, members.Head{Key: key, Revision: 2, Cardinality: 1, Increments: 2, IncrementBytes: 2})
		wantHead(t, s, members.Head{Key: fine.Key})
		if n, err := s.Accounts.Count(t.Context()); n != 0 || err != nil {
			t.Errorf("%s: %d accounts are left, %v", name, n, err)
		}
	}
}

func setAccounts(t *testing.T, s Store) {
	_, err := s.Accounts.Create(t.Context(), "named", number(2))
	must(t, err)
	made := appendAll(t, s,
		members.Change{Key: members.Followers(1), Adds: []byte{1}, Cardinality: 1, MakeAccount: true},
		members.Change{Key: members.Followers(2), Adds: []byte{1}, Cardinality: 1, MakeAccount: true},
		members.Change{Key: members.Followers(3), MakeAccount: true},
		members.Change{Key: members.Followers(4), Adds: []byte{1}, Cardinality: 1})
	list, err := s.Accounts.List(t.Context(), 0, 10)
	must(t, err)
	want := []sql.Account{{Number: 1, Tenant: "default", Name: "1", CreatedAt: Start()}, {Number: 2, Tenant: "default", Name: "named", CreatedAt: Start()}, {Number: 3, Tenant: "default", Name: "3", CreatedAt: Start()}}
	if made != 2 || !slices.Equal(list, want) {
		t.Errorf("made %d: %+v, want %+v", made, list, want)
	}
	wantHead(t, s, members.Head{Key: members.Followers(3)})
}

func setSnapshots(t *testing.T, s Store) {
	ctx := t.Context()
	snap := func(revision uint64, pinned bool) members.Snapshot {
		return members.Snapshot{Revision: revision, Blob: job.Digest{0: byte(revision), 31: 1}, Cardinality: revision, Pinned: pinned}
	}
	for _, r := range []uint64{0, 1} {
		if err := s.Sets.AddSnapshot(ctx, key, snap(r, true)); !errors.Is(err, members.ErrStale) {
			t.Errorf("a snapshot of revision %d of a set that never changed: %v", r, err)
		}
	}
	inc := func(r uint64) members.Increment {
		return members.Increment{Revision: r, Adds: []byte{byte(r), 1}, Removes: []byte{byte(r)}, Cardinality: r}
	}
	for r := range uint64(6) {
		i := inc(r + 1)
		appendAll(t, s, members.Change{Key: key, Base: r, Adds: i.Adds, Removes: i.Removes, Cardinality: i.Cardinality})
	}
	kept := func(when string, want ...members.Snapshot) {
		t.Helper()
		for r := range uint64(8) {
			got, err := s.Sets.SnapshotAt(ctx, key, r)
			i := slices.IndexFunc(want, func(w members.Snapshot) bool { return w.Revision == r })
			if i < 0 && !errors.Is(err, members.ErrNoSnapshot) || i >= 0 && (err != nil || got != want[i]) {
				t.Errorf("%s: snapshot at %d: %+v, %v", when, r, got, err)
			}
		}
	}
	head := members.Head{Key: key, Revision: 6, Cardinality: 6}
	kept("none")
	for range 2 {
		must(t, s.Sets.AddSnapshot(ctx, key, snap(3, false)))
		head.Snapshot, head.Increments, head.IncrementBytes = snap(3, false), 3, 9
		wantHead(t, s, head)
		wantIncrements(t, s, key, inc(4), inc(5), inc(6))
		kept("one", snap(3, false))
	}
	must(t, s.Sets.AddSnapshot(ctx, key, snap(4, true)))
	kept("a newer, pinned one", snap(4, true))
	must(t, s.Sets.AddSnapshot(ctx, key, snap(5, false)))
	kept("a newer one", snap(4, true), snap(5, false))
	must(t, s.Sets.AddSnapshot(ctx, key, snap(2, false)))
	kept("an older one", snap(4, true), snap(5, false))
	must(t, s.Sets.AddSnapshot(ctx, key, snap(1, true)))
	kept("an older, pinned one", snap(1, true), snap(4, true), snap(5, false))
	must(t, s.Sets.AddSnapshot(ctx, key, snap(5, true)))
	must(t, s.Sets.AddSnapshot(ctx, key, snap(5, false)))
	kept("pinned later", snap(1, true), snap(4, true), snap(5, true))
	head.Snapshot, head.Increments, head.IncrementBytes = snap(5, true), 1, 3
	wantHead(t, s, head)
	if err := s.Sets.AddSnapshot(ctx, key, snap(7, false)); !errors.Is(err, members.ErrStale) {
		t.Errorf("a snapshot of the future: %v", err)
	}
	must(t, s.Sets.AddSnapshot(ctx, key, snap(6, false)))
	head.Snapshot, head.Increments, head.IncrementBytes = snap(6, false), 0, 0
	wantHead(t, s, head)
	wantIncrements(t, s, key)
}

func setLarge(t *testing.T, s Store) {
	first := members.Change{Key: key, Snapshot: job.Digest{1}, Cardinality: 1 << 32}
	appendAll(t, s, first)
	head := members.Head{Key: key, Revision: 1, Cardinality: 1 << 32,
		Snapshot: members.Snapshot{Revision: 1, Blob: job.Digest{1}, Cardinality: 1 << 32}}
	wantHead(t, s, head)
	appendAll(t, s, members.Change{Key: key, Base: 1, Removes: []byte{1}, Cardinality: 5})
	must(t, s.Sets.AddSnapshot(t.Context(), key, members.Snapshot{Revision: 1, Blob: job.Digest{1}, Cardinality: 1 << 32, Pinned: true}))
	appendAll(t, s, members.Change{Key: key, Base: 2, Snapshot: job.Digest{2}, Cardinality: 9})
	wantHead(t, s, members.Head{Key: key, Revision: 3, Cardinality: 9,
		Snapshot: members.Snapshot{Revision: 3, Blob: job.Digest{2}, Cardinality: 9}})
	wantIncrements(t, s, key)
	if got, err := s.Sets.SnapshotAt(t.Context(), key, 1); err != nil || !got.Pinned {
		t.Errorf("the pinned one: %+v, %v", got, err)
	}
	appendAll(t, s, members.Change{Key: key, Base: 3, Snapshot: job.Digest{4}, Cardinality: 7})
	if got, err := s.Sets.SnapshotAt(t.Context(), key, 3); !errors.Is(err, members.ErrNoSnapshot) {
		t.Errorf("one that is not pinned is kept: %+v, %v", got, err)
	}
}

// setMany appends enough changes for many statements, twice, and reads them all.
func setMany(t *testing.T, s Store) {
	const n = 1201
	var keys []members.Key
	for i := range uint32(n) {
		keys = append(keys, members.Followers(i), members.Suppression(i))
	}
	for round := range uint64(2) {
		made, err := s.Sets.Append(t.Context(), func(yield func(members.Change, error) bool) {
			for i, k := range keys {
				c := members.Change{Key: k, Base: round, Adds: fmt.Append(nil, i, round), Cardinality: uint64(i),
					MakeAccount: k.Kind == members.KindFollowers}
				if i == 17 {
					c.Adds = bytes.Repeat([]byte{1}, 5<<20)
				}
				if !yield(c, nil) {
					return
				}
			}
		})
		if want := n * (1 - int(round)); err != nil || made != want {
			t.Fatalf("round %d made %d accounts, %v", round, made, err)
		}
	}
	for _, from := range []uint32{0, 1, 999, 1200, 1201} {
		heads, err := s.Sets.Scan(t.Context(), members.KindSuppression, from, 700)
		must(t, err)
		if len(heads) != min(700, n-int(from)) {
			t.Fatalf("from %d: %d sets", from, len(heads))
		}
		for i, h := range heads {
			owner := from + uint32(i)
			if h.Key != members.Suppression(owner) || h.Revision != 2 || h.Cardinality != uint64(2*owner+1) || h.Increments != 2 {
				t.Fatalf("set %d is %+v", owner, h)
			}
		}
	}
	wantIncrements(t, s, members.Followers(600), members.Increment{Revision: 1, Adds: []byte("1200 0"), Cardinality: 1200},
		members.Increment{Revision: 2, Adds: []byte("1200 1"), Cardinality: 1200})
}
