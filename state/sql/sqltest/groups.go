package sqltest

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"crier/audience/members"
	"crier/job"
	"crier/state/sql/groups"
)

func segmentNames(t *testing.T, s Store) {
	ctx := t.Context()
	first, err := s.Segments.Create(ctx, "vip")
	must(t, err)
	if want := (groups.Segment{Number: 1, Name: "vip", CreatedAt: Start()}); first != want {
		t.Errorf("created %+v, want %+v", first, want)
	}
	s.clock.advance()
	second, err := s.Segments.Create(ctx, "VIP")
	must(t, err)
	if second.Number != 2 || !second.CreatedAt.Equal(Start().Add(time.Second)) {
		t.Errorf("the second is %+v", second)
	}
	for _, name := range []string{"vip", "VIP"} {
		_, err := s.Segments.Create(ctx, name)
		wantCode(t, "a name that is taken", err, job.CodeConflict)
		wantField(t, err, "name")
	}
	longest := strings.Repeat("é", groups.MaxName/2)
	for _, name := range []string{"", longest + "x", "a\xff"} {
		_, err := s.Segments.Create(ctx, name)
		wantCode(t, fmt.Sprintf("name %q", name), err, job.CodeInvalid)
		wantField(t, err, "name")
	}
	_, err = s.Segments.Create(ctx, longest)
	must(t, err)
	got, err := s.Segments.Find(ctx, "vip")
	if must(t, err); got != first {
		t.Errorf("found %+v, want %+v", got, first)
	}
	for _, name := range []string{"Vip", "vip ", "1", ""} {
		_, err := s.Segments.Find(ctx, name)
		wantCode(t, fmt.Sprintf("finding %q", name), err, job.CodeNotFound)
	}
}

func wantField(t *testing.T, err error, field string) {
	t.Helper()
	var e *job.Error
	if !errors.As(err, &e) || e.Field != field {
		t.Errorf("%v names another field than %s", err, field)
	}
}

// segmentArchive holds that a segment which is archived is not listed, keeps its name, its
// number and the time, and is as before when it is restored.
func segmentArchive(t *testing.T, s Store) {
	ctx := t.Context()
	names := []string{"a", "b", "c", "d", "e"}
	for _, n := range []string{"c", "a", "e", "b", "d"} {
		_, err := s.Segments.Create(ctx, n)
		must(t, err)
	}
	list := func(archived bool, after string, limit int) (got []string) {
		t.Helper()
		all, err := s.Segments.List(ctx, archived, after, limit)
		must(t, err)
		for _, x := range all {
			if x.ArchivedAt.IsZero() == archived {
				t.Errorf("%+v is listed among archived %v", x, archived)
			}
			got = append(got, x.Name)
		}
		return got
	}
	if got := list(false, "", 100); !slices.Equal(got, names) {
		t.Errorf("listed are %v", got)
	}
	if got := list(false, "b", 2); !slices.Equal(got, []string{"c", "d"}) {
		t.Errorf("after b come %v", got)
	}
	s.clock.advance()
	b, err := s.Segments.Archive(ctx, "b", true)
	must(t, err)
	s.clock.advance()
	again, err := s.Segments.Archive(ctx, "b", true)
	must(t, err)
	if b.Number != 4 || !b.ArchivedAt.Equal(Start().Add(time.Second)) || again != b {
		t.Errorf("archived is %+v, and again %+v", b, again)
	}
	if got, old := list(false, "", 100), list(true, "", 100); !slices.Equal(got, []string{"a", "c", "d", "e"}) || !slices.Equal(old, []string{"b"}) {
		t.Errorf("listed are %v, archived %v", got, old)
	}
	_, err = s.Segments.Create(ctx, "b")
	wantCode(t, "the name of an archived one", err, job.CodeConflict)
	if found, err := s.Segments.Find(ctx, "b"); err != nil || found != b {
		t.Errorf("found %+v, %v", found, err)
	}
	for range 2 {
		back, err := s.Segments.Archive(ctx, "b", false)
		if err != nil || back.Number != 4 || !back.ArchivedAt.IsZero() || !back.CreatedAt.Equal(b.CreatedAt) {
			t.Errorf("restored is %+v, %v", back, err)
		}
	}
	if got := list(false, "", 100); !slices.Equal(got, names) {
		t.Errorf("listed are %v", got)
	}
	for _, archived := range []bool{true, false} {
		_, err := s.Segments.Archive(ctx, "nothing", archived)
		wantCode(t, "archiving what is not", err, job.CodeNotFound)
	}
}

// segmentsAtOnce holds that of many who make the same names each has one maker, and that
// no number is given twice.
func segmentsAtOnce(t *testing.T, s Store) {
	const sides, names = 6, 5
	made := make([]int, names)
	var mu sync.Mutex
	for i, err := range together(sides, func(int) error {
		for n := range names {
			_, err := s.Segments.Create(context.Background(), fmt.Sprint("name ", n))
			if job.CodeOf(err) == job.CodeConflict {
				continue
			}
			if err != nil {
				return err
			}
			mu.Lock()
			made[n]++
			mu.Unlock()
		}
		return nil
	}) {
		if err != nil {
			t.Errorf("side %d: %v", i, err)
		}
	}
	all, err := s.Segments.List(t.Context(), false, "", 100)
	must(t, err)
	numbers := map[uint32]bool{}
	for _, x := range all {
		numbers[x.Number] = true
	}
	if len(all) != names || len(numbers) != names {
		t.Errorf("%d segments with %d numbers", len(all), len(numbers))
	}
	for n, count := range made {
		if count != 1 {
			t.Errorf("name %d was made %d times", n, count)
		}
	}
}

// saltsStay holds that each account has a salt of its own that never changes, whichever
// way the account was made, and whoever asks first.
func saltsStay(t *testing.T, s Store) {
	ctx := t.Context()
	_, err := s.Accounts.Create(ctx, "news", nil)
	must(t, err)
	_, err = s.Accounts.CreateMissing(ctx, []uint32{1, 7, 8})
	must(t, err)
	_, err = s.Sets.Append(ctx, func(yield func(members.Change, error) bool) {
		yield(members.Change{Key: members.Followers(9), Adds: []byte{1}, Cardinality: 1, MakeAccount: true}, nil)
	})
	must(t, err)
	salts := map[job.Digest]uint32{}
	for _, account := range []uint32{1, 7, 8, 9, 10} { // 10 has none yet, as an account that is older than salts
		got := make([]job.Digest, 8)
		for i, err := range together(len(got), func(i int) (err error) {
			got[i], err = s.Salts.Of(context.Background(), account)
			return err
		}) {
			if err != nil {
				t.Errorf("account %d, side %d: %v", account, i, err)
			}
		}
		if all := slices.Compact(got); len(all) != 1 || all[0].IsZero() {
			t.Errorf("account %d has %d salts: %v", account, len(all), all)
		}
		if other, taken := salts[got[0]]; taken {
			t.Errorf("accounts %d and %d have one salt", account, other)
		}
		salts[got[0]] = account
	}
	_, err = s.Accounts.CreateMissing(ctx, []uint32{1, 10, 11})
	must(t, err)
	for salt, account := range salts {
		if again, err := s.Salts.Of(ctx, account); err != nil || again != salt {
			t.Errorf("the salt of account %d changed, %v", account, err)
		}
	}
}
