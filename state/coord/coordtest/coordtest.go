// Package coordtest holds every coord.Store to what its comments promise.
package coordtest

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"crier/state/coord"
)

// patience bounds a wait for something that must happen.
const patience = 20 * time.Second

// Open makes two ends of one empty store, as two processes have them; they may be
// the same. It registers their tear-down with t. It is called from parallel tests.
type Open func(t *testing.T) (a, b coord.Store)

// Run runs the suite.
func Run(t *testing.T, open Open) {
	for _, c := range []struct {
		name string
		run  func(t *testing.T, a, b coord.Store)
	}{
		{"a value changes by compare and set", testPut},
		{"a key is created, deleted and created again", testDelete},
		{"a version of a key that was created again is no other's", testRecreated},
		{"one of many racing writes wins", testRacing},
		{"a lease lapses, not too early and not too late", testLeaseLapses},
		{"a lease that is renewed stays", testLeaseRenewed},
		{"a lapsed lease cannot be renewed and can be taken", testLeaseTaken},
		{"a lease that lapsed while nobody looked is over", testLeaseUnseen},
		{"a lease can be given back", testLeaseGivenBack},
		{"a list has what lies under its prefix, by key", testList},
		{"a list during writes has what stays", testListDuringWrites},
		{"a watch tells what is there and what changes", testWatch},
		{"a watch tells of a lease that lapses", testWatchLapse},
		{"a watch ends with its function's error, and with its context", testWatchEnds},
		{"a watcher that is slow sees the last state", testWatchSlow},
		{"a watcher sees the store answer", testWatchLooks},
		{"a watcher has seen what it says", testWatchSaw},
		{"a watcher learns of many writes in each key's order", testWatchDuringWrites},
		{"what cannot be stored is refused", testInvalid},
		{"an ended context ends a call", testContext},
		{"caller and store own their bytes", testOwnership},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			a, b := open(t)
			c.run(t, a, b)
		})
	}
}

func put(t *testing.T, s coord.Store, key, value string, expect coord.Version) coord.Version {
	t.Helper()
	v, err := s.Put(t.Context(), key, []byte(value), expect)
	if err != nil {
		t.Fatalf("Put(%s, %q, %d): %v", key, value, expect, err)
	}
	if v == 0 || v == expect {
		t.Fatalf("Put(%s, %q, %d) gives the version %d", key, value, expect, v)
	}
	return v
}

func lease(t *testing.T, s coord.Store, key, value string, expect coord.Version, ttl time.Duration) coord.Version {
	t.Helper()
	v, err := s.Lease(t.Context(), key, []byte(value), expect, ttl)
	if err != nil {
		t.Fatalf("Lease(%s, %q, %d): %v", key, value, expect, err)
	}
	return v
}

func remove(t *testing.T, s coord.Store, key string, expect coord.Version) {
	t.Helper()
	if err := s.Delete(t.Context(), key, expect); err != nil {
		t.Fatalf("Delete(%s, %d): %v", key, expect, err)
	}
}

func has(t *testing.T, s coord.Store, key, value string, version coord.Version) {
	t.Helper()
	e, err := s.Get(t.Context(), key)
	if err != nil || e.Key != key || string(e.Value) != value || e.Version != version {
		t.Fatalf("Get(%s) = %q %q %d, %v; want %q %d", key, e.Key, e.Value, e.Version, err, value, version)
	}
}

func hasNot(t *testing.T, s coord.Store, key string) {
	t.Helper()
	if e, err := s.Get(t.Context(), key); !errors.Is(err, coord.ErrNotFound) {
		t.Fatalf("Get(%s) = %q, %v; want ErrNotFound", key, e.Value, err)
	}
}

func conflicts(t *testing.T, what string, err error) {
	t.Helper()
	if !errors.Is(err, coord.ErrConflict) {
		t.Fatalf("%s: %v, want ErrConflict", what, err)
	}
}

func testPut(t *testing.T, a, b coord.Store) {
	hasNot(t, a, "job/1")
	_, err := a.Put(t.Context(), "job/1", []byte("x"), 7)
	conflicts(t, "Put over a version of a key that is not there", err)
	v1 := put(t, a, "job/1", "one", 0)
	has(t, b, "job/1", "one", v1)
	_, err = b.Put(t.Context(), "job/1", []byte("x"), 0)
	conflicts(t, "Put of a key that is there", err)
	v2 := put(t, b, "job/1", "two", v1)
	_, err = a.Put(t.Context(), "job/1", []byte("x"), v1)
	conflicts(t, "Put over an old version", err)
	has(t, a, "job/1", "two", v2)
	put(t, a, "job/2", "other", 0)
	v3 := put(t, a, "job/1", "two", v2) // the same value is another version
	has(t, b, "job/1", "two", v3)
}

func testDelete(t *testing.T, a, b coord.Store) {
	conflicts(t, "Delete of no key", a.Delete(t.Context(), "k", 3))
	conflicts(t, "Delete of version 0", a.Delete(t.Context(), "k", 0))
	seen := map[coord.Version]bool{}
	for i := range 4 {
		v := put(t, a, "k", fmt.Sprint(i), 0)
		if seen[v] {
			t.Fatalf("version %d came twice", v)
		}
		seen[v] = true
		conflicts(t, "Delete of another version", b.Delete(t.Context(), "k", v+1))
		has(t, a, "k", fmt.Sprint(i), v)
		remove(t, b, "k", v)
		hasNot(t, a, "k")
		conflicts(t, "Delete of what is deleted", a.Delete(t.Context(), "k", v))
		_, err := a.Put(t.Context(), "k", []byte("x"), v)
		conflicts(t, "Put over what is deleted", err)
	}
}

func testRacing(t *testing.T, a, b coord.Store) {
	const racers, rounds = 8, 10
	var version coord.Version
	for round := range rounds {
		type result struct {
			version coord.Version
			err     error
		}
		results := make(chan result, racers)
		expect := version
		for i := range racers {
			s := []coord.Store{a, b}[i%2]
			go func() {
				v, err := s.Put(t.Context(), "claim/x", fmt.Appendf(nil, "%d/%d", round, i), expect)
				results <- result{v, err}
			}()
		}
		won := 0
		for range racers {
			r := <-results
			if r.err == nil {
				won++
				version = r.version
			} else {
				conflicts(t, "a racing Put", r.err)
			}
		}
		if won != 1 {
			t.Fatalf("%d of %d racing writes won", won, racers)
		}
	}
}

// gone waits until a key is not there. It was still there at seen or later, and was not
// any more at missed.
func gone(t *testing.T, s coord.Store, key string) (seen, missed time.Time) {
	t.Helper()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	end := time.Now().Add(patience)
	for {
		asked := time.Now()
		_, err := s.Get(t.Context(), key)
		if errors.Is(err, coord.ErrNotFound) {
			return seen, time.Now()
		}
		if err != nil {
			t.Fatalf("Get(%s): %v", key, err)
		}
		if seen = asked; asked.After(end) {
			t.Fatalf("%s does not lapse", key)
		}
		<-tick.C
	}
}

func testLeaseLapses(t *testing.T, a, b coord.Store) {
	before := time.Now()
	v := lease(t, a, "member/1", "w1", 0, 1200*time.Millisecond) // rounded up to 2 s
	after := time.Now()
	has(t, b, "member/1", "w1", v)
	put(t, a, "stays", "x", 0)
	seen, missed := gone(t, b, "member/1")
	if early := missed.Sub(before); early < 2*time.Second-50*time.Millisecond {
		t.Fatalf("a lease of 2 s lapsed after %s", early)
	}
	if late := seen.Sub(after); late > 5*time.Second+time.Second {
		t.Fatalf("a lease of 2 s is there after %s", late)
	}
	if _, err := a.Get(t.Context(), "stays"); err != nil {
		t.Fatalf("a key without a lease: %v", err)
	}
}

func testLeaseRenewed(t *testing.T, a, b coord.Store) {
	v := lease(t, a, "member/1", "w1", 0, 4*time.Second)
	tick := time.NewTicker(500 * time.Millisecond)
	defer tick.Stop()
	var renewed time.Time
	for i := range 10 { // 5 s; a slow machine has some time for each
		<-tick.C
		renewed = time.Now()
		next, err := a.Lease(t.Context(), "member/1", fmt.Appendf(nil, "w1 %d", i), v, 4*time.Second)
		if err != nil {
			t.Fatalf("renewal %d: %v", i, err)
		}
		has(t, b, "member/1", fmt.Sprintf("w1 %d", i), next)
		_, err = b.Lease(t.Context(), "member/1", []byte("x"), v, 4*time.Second)
		conflicts(t, "a renewal of an old version", err)
		v = next
	}
	_, missed := gone(t, b, "member/1")
	if early := missed.Sub(renewed); early < 4*time.Second-50*time.Millisecond {
		t.Fatalf("the last renewal for 4 s held %s", early)
	}
}

func testLeaseTaken(t *testing.T, a, b coord.Store) {
	v := lease(t, a, "member/1", "w1", 0, time.Second)
	_, err := b.Lease(t.Context(), "member/1", []byte("w2"), 0, time.Second)
	conflicts(t, "a lease on what is leased", err)
	gone(t, b, "member/1")
	_, err = a.Lease(t.Context(), "member/1", []byte("w1"), v, time.Second)
	conflicts(t, "a renewal of a lapsed lease", err)
	lease(t, b, "member/1", "w2", 0, time.Minute)
	_, err = a.Lease(t.Context(), "member/1", []byte("w1"), v, time.Second)
	conflicts(t, "a renewal of what another has taken", err)
}

func testLeaseGivenBack(t *testing.T, a, b coord.Store) {
	v := lease(t, a, "member/1", "w1", 0, time.Minute)
	remove(t, a, "member/1", v)
	hasNot(t, b, "member/1")
	lease(t, b, "member/1", "w2", 0, time.Minute)
}

func testList(t *testing.T, a, b coord.Store) {
	for _, prefix := range []string{"", "job"} {
		if got, err := a.List(t.Context(), prefix); err != nil || len(got) != 0 {
			t.Fatalf("List(%q) of an empty store: %v, %v", prefix, got, err)
		}
	}
	versions := map[string]coord.Version{}
	for _, key := range []string{"job/b", "job/a/status", "jobs/x", "job", "member/w-1_=", "job/a", "gone/x", "job/c"} {
		versions[key] = put(t, a, key, "value of "+key, 0)
	}
	versions["job/c"] = put(t, b, "job/c", "value of job/c", versions["job/c"])
	remove(t, b, "gone/x", versions["gone/x"])
	for prefix, want := range map[string]string{
		"":        "job job/a job/a/status job/b job/c jobs/x member/w-1_=",
		"job":     "job/a job/a/status job/b job/c",
		"job/a":   "job/a/status",
		"gone":    "",
		"nothing": "",
	} {
		got, err := b.List(t.Context(), prefix)
		if err != nil {
			t.Fatalf("List(%q): %v", prefix, err)
		}
		var keys []string
		for _, e := range got {
			keys = append(keys, e.Key)
			if string(e.Value) != "value of "+e.Key || e.Version != versions[e.Key] {
				t.Errorf("List(%q) has %s with %q %d", prefix, e.Key, e.Value, e.Version)
			}
		}
		if strings.Join(keys, " ") != want {
			t.Errorf("List(%q) = %v, want %s", prefix, keys, want)
		}
	}
}

func testInvalid(t *testing.T, a, _ coord.Store) {
	long := strings.Repeat("x", coord.MaxKey+1)
	for _, key := range []string{"", "/", "a/", "/a", "a//b", "a.b", "a b", "a*", "a/>", "ü", long} {
		if _, err := a.Put(t.Context(), key, []byte("x"), 0); !errors.Is(err, coord.ErrInvalid) {
			t.Errorf("Put(%q): %v, want ErrInvalid", key, err)
		}
		if _, err := a.Get(t.Context(), key); !errors.Is(err, coord.ErrInvalid) {
			t.Errorf("Get(%q): %v, want ErrInvalid", key, err)
		}
		if err := a.Delete(t.Context(), key, 1); !errors.Is(err, coord.ErrInvalid) {
			t.Errorf("Delete(%q): %v, want ErrInvalid", key, err)
		}
		if key == "" {
			continue // it is a prefix
		}
		if _, err := a.List(t.Context(), key); !errors.Is(err, coord.ErrInvalid) {
			t.Errorf("List(%q): %v, want ErrInvalid", key, err)
		}
		if err := a.Watch(t.Context(), key, nil, nil); !errors.Is(err, coord.ErrInvalid) {
			t.Errorf("Watch(%q): %v, want ErrInvalid", key, err)
		}
	}
	for _, size := range []int{0, coord.MaxValue + 1} {
		if _, err := a.Put(t.Context(), "k", make([]byte, size), 0); !errors.Is(err, coord.ErrInvalid) {
			t.Errorf("Put of %d bytes: %v, want ErrInvalid", size, err)
		}
	}
	for _, ttl := range []time.Duration{-1, 0, 999 * time.Millisecond, 25 * time.Hour} {
		if _, err := a.Lease(t.Context(), "k", []byte("x"), 0, ttl); !errors.Is(err, coord.ErrInvalid) {
			t.Errorf("Lease for %s: %v, want ErrInvalid", ttl, err)
		}
	}
	hasNot(t, a, "k")
	put(t, a, strings.Repeat("x", coord.MaxKey), strings.Repeat("v", coord.MaxValue), 0)
}

func testContext(t *testing.T, a, _ coord.Store) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err := a.Get(ctx, "k")
	_, perr := a.Put(ctx, "k", []byte("x"), 0)
	_, lerr := a.Lease(ctx, "k", []byte("x"), 0, time.Second)
	_, serr := a.List(ctx, "")
	for what, err := range map[string]error{"Get": err, "Put": perr, "Lease": lerr, "List": serr, "Delete": a.Delete(ctx, "k", 1)} {
		if !errors.Is(err, context.Canceled) {
			t.Errorf("%s: %v, want Canceled", what, err)
		}
	}
}

func testOwnership(t *testing.T, a, b coord.Store) {
	value := []byte("mine")
	v, err := a.Put(t.Context(), "k/1", value, 0)
	if err != nil {
		t.Fatal(err)
	}
	copy(value, "xxxx")
	for range 2 {
		e, err := b.Get(t.Context(), "k/1")
		if err != nil || string(e.Value) != "mine" || e.Version != v {
			t.Fatalf("the value is %q (%v)", e.Value, err)
		}
		copy(e.Value, "yyyy")
		list, err := b.List(t.Context(), "k")
		if err != nil || len(list) != 1 || string(list[0].Value) != "mine" {
			t.Fatalf("the list is %v (%v)", list, err)
		}
		copy(list[0].Value, "zzzz")
	}
}
