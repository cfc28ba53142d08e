package link

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"crier/scheduler/apta/timing"
)

const t0 = timing.Instant(time.Hour)

func member(id string, seq uint64, links ...string) *Record {
	slices.Sort(links)
	return &Record{Header: Header{Key{Membership, id}, Version{Incarnation: 1, Seq: seq, Nonce: 5}},
		Member: &Member{State: Working, Addr: id, Links: links}}
}

func dead(r *Record) *Record {
	d := &Record{Header: r.Header}
	d.Dead = true
	return d
}

// TestPutKeepsTheNewest: in whatever order records come, databases end up equal.
func TestPutKeepsTheNewest(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var all []*Record
		for range rapid.IntRange(1, 12).Draw(t, "records") {
			r := member(rapid.SampledFrom([]string{"a", "b"}).Draw(t, "id"), rapid.Uint64Range(1, 3).Draw(t, "seq"))
			r.Nonce = rapid.Uint64Range(1, 2).Draw(t, "nonce")
			if rapid.Bool().Draw(t, "dead") {
				r = dead(r)
			}
			all = append(all, r)
		}
		var one, other DB
		for _, r := range all {
			one.Put(t0, r)
		}
		for _, r := range rapid.Permutation(all).Draw(t, "order") {
			other.Put(t0, r)
		}
		if !slices.Equal(one.Headers(), other.Headers()) || one.Digest() != other.Digest() {
			t.Fatalf("%v and %v, digests %x and %x", one.Headers(), other.Headers(), one.Digest(), other.Digest())
		}
		if lacks, ahead := one.Diff(other.Headers()); len(lacks)+len(ahead) > 0 {
			t.Fatalf("equal databases differ by %v and %v", lacks, ahead)
		}
	})
}

// TestChange: what a record changes.
func TestChange(t *testing.T) {
	var d DB
	put := func(r *Record, want Change) {
		t.Helper()
		if got := d.Put(t0, r); got != want {
			t.Errorf("record %d: %+v, want %+v", r.Seq, got, want)
		}
	}
	put(member("a", 1, "b"), Change{Stored: true, Routes: true, View: true})
	put(member("a", 1, "b"), Change{})
	hash := member("a", 2, "b")
	hash.Member.ViewHash = 9
	put(hash, Change{Stored: true, Hash: true})
	put(member("a", 3, "b", "c"), Change{Stored: true, Routes: true, Hash: true})
	silent := member("a", 4, "b", "c")
	silent.Member.State = Silence
	put(silent, Change{Stored: true, View: true})
	put(dead(silent), Change{Stored: true, Routes: true, View: true})
	put(member("a", 4, "b", "c"), Change{})
	put(&Record{Header: Header{Key{Load, "a"}, Version{Seq: 1}}, Data: []byte("x")}, Change{Stored: true})
}

// TestAges: ages add up, and what is old or long dead is named.
func TestAges(t *testing.T) {
	var d DB
	r := member("a", 1)
	r.Age = 10 * time.Second
	d.Put(t0, r)
	if got := d.Aged(t0.Add(5*time.Second), r.Key).Age; got != 15*time.Second {
		t.Errorf("age %s, want 15s", got)
	}
	if old, _ := d.Expire(t0.Add(49*time.Second), time.Minute, time.Minute); len(old) != 0 {
		t.Errorf("old too early: %v", old)
	}
	if old, _ := d.Expire(t0.Add(50*time.Second), time.Minute, time.Minute); len(old) != 1 {
		t.Errorf("not old at its age: %v", old)
	}
	d.Put(t0.Add(50*time.Second), dead(r))
	if _, forget := d.Expire(t0.Add(109*time.Second), time.Minute, time.Minute); len(forget) != 0 {
		t.Errorf("forgotten too early: %v", forget)
	}
	_, forget := d.Expire(t0.Add(110*time.Second), time.Minute, time.Minute)
	for _, k := range forget {
		d.Remove(k)
	}
	if d.Get(r.Key) != nil || d.Digest() != 0 || len(d.Headers()) != 0 {
		t.Errorf("after it was forgotten: %v, digest %x", d.Headers(), d.Digest())
	}
}

// TestOutbox: what is not acknowledged is sent again, in its newest version.
func TestOutbox(t *testing.T) {
	var d DB
	var o Outbox
	d.Put(t0, member("a", 1))
	o.Put(t0, d.Get(Key{Membership, "a"}).Header)
	take := func(at time.Duration) []Record { return o.Take(t0.Add(at), &d, 100*time.Millisecond) }
	if got := take(0); len(got) != 1 || got[0].Seq != 1 {
		t.Fatalf("first: %v", got)
	}
	if got := take(99 * time.Millisecond); len(got) != 0 {
		t.Errorf("sent again too early: %v", got)
	}
	d.Put(t0, member("a", 2))
	if got := take(100 * time.Millisecond); len(got) != 1 || got[0].Seq != 2 {
		t.Errorf("again: %v, want the newest version", got)
	}
	o.Acked(member("a", 1).Header)
	if o.IsEmpty() {
		t.Error("an acknowledgement of an older version counts")
	}
	o.Acked(member("a", 2).Header)
	if !o.IsEmpty() || o.Next(time.Millisecond) != 0 {
		t.Error("it is acknowledged and not gone")
	}
}

// TestRoutes compares with ways found by adding one link after the other.
func TestRoutes(t *testing.T) {
	for seed := range uint64(200) {
		r := rand.New(rand.NewPCG(seed, 1))
		n := 2 + r.IntN(8)
		names := make([]map[int]bool, n) // who names whom
		for i := range names {
			names[i] = map[int]bool{}
			for j := range n {
				if i != j && r.IntN(3) == 0 {
					names[i][j] = true
				}
			}
		}
		var d DB
		for i := range names {
			var links []string
			for j := range n {
				if names[i][j] {
					links = append(links, fmt.Sprint(j))
				}
			}
			d.Put(t0, member(fmt.Sprint(i), 1, links...))
		}
		const far = 99
		away := make([][]int, n)
		for i := range away {
			away[i] = slices.Repeat([]int{far}, n)
			for j := range away[i] {
				switch {
				case i == j:
					away[i][j] = 0
				case names[i][j] && names[j][i]:
					away[i][j] = 1
				}
			}
		}
		for k := range n {
			for i := range n {
				for j := range n {
					away[i][j] = min(away[i][j], away[i][k]+away[k][j])
				}
			}
		}
		routes := Compute(&d, "0")
		for j := range n {
			h, ok := routes.Find(fmt.Sprint(j))
			if ok != (away[0][j] < far) || ok && h.Away != away[0][j] {
				t.Fatalf("seed %d: to %d: %+v (%v), want %d links", seed, j, h, ok, away[0][j])
			}
			if ok && j != 0 {
				var by int
				_, _ = fmt.Sscan(h.By, &by)
				if away[0][by] != 1 || away[by][j] != away[0][j]-1 {
					t.Errorf("seed %d: to %d by %d is not the shortest way", seed, j, by)
				}
			}
		}
	}
}

func nobody(string) bool { return false }

func ids(n int) []string {
	list := make([]string, n)
	for i := range list {
		list[i] = fmt.Sprintf("m%03d", i)
	}
	return list
}

// TestOverlay: both ends agree, degrees are bounded, all are connected within a few
// links, and one that leaves changes the neighbours of few.
func TestOverlay(t *testing.T) {
	for _, n := range []int{2, 11, 12, 50, 200} {
		all := ids(n)
		of := map[string][]string{}
		least, most := n, 0
		for _, id := range all {
			of[id] = Overlay(id, all, nobody)
			least, most = min(least, len(of[id])), max(most, len(of[id]))
		}
		for a, list := range of {
			for _, b := range list {
				if !slices.Contains(of[b], a) {
					t.Errorf("%d members: %s wants %s and not the other way", n, a, b)
				}
			}
		}
		if n <= Degree+1 && least != n-1 || n > Degree+1 && (least < 5 || most > Degree) {
			t.Errorf("%d members have %d to %d neighbours", n, least, most)
		}
		var d DB
		for _, id := range all {
			d.Put(t0, member(id, 1, of[id]...))
		}
		routes, far := Compute(&d, all[0]), 0
		for _, h := range routes {
			far = max(far, h.Away)
		}
		if len(routes) != n || far > 4 {
			t.Errorf("%d members: %d reachable, the farthest over %d links", n, len(routes), far)
		}
		t.Logf("%d members: %d to %d neighbours, at most %d links apart", n, least, most, far)
	}
	all, changed := ids(200), 0
	without := slices.Delete(ids(200), 77, 78)
	for _, id := range without {
		if !slices.Equal(Overlay(id, all, nobody), Overlay(id, without, nobody)) {
			changed++
		}
	}
	if changed > Degree {
		t.Errorf("one of 200 left, and %d have other neighbours", changed)
	}
}

// TestBlocked: somebody stands in for who cannot be reached.
func TestBlocked(t *testing.T) {
	all := ids(50)
	before := Overlay("m007", all, nobody)
	gone := before[3]
	after := Overlay("m007", all, func(id string) bool { return id == gone })
	if slices.Contains(after, gone) || len(after) < len(before)-1 {
		t.Errorf("%v without %s: %v", before, gone, after)
	}
}

// TestValidate: what may come from outside.
func TestValidate(t *testing.T) {
	bad := map[string]func(r *Record){
		"kind":         func(r *Record) { r.Kind = 9 },
		"id":           func(r *Record) { r.ID = "a b" },
		"age":          func(r *Record) { r.Age = -1 },
		"no content":   func(r *Record) { r.Member = nil },
		"dead content": func(r *Record) { r.Dead = true },
		"state":        func(r *Record) { r.Member.State = 0 },
		"order":        func(r *Record) { r.Member.Links = []string{"c", "b"} },
		"link":         func(r *Record) { r.Member.Links = []string{""} },
		"data":         func(r *Record) { r.Kind, r.Member, r.Data = Load, nil, make([]byte, MaxData+1) },
	}
	if err := member("a", 1, "b", "c").Validate(); err != nil {
		t.Errorf("a good record: %v", err)
	}
	for name, spoil := range bad {
		r := member("a", 1, "b", "c")
		spoil(r)
		if r.Validate() == nil {
			t.Errorf("%s: a bad record is taken", name)
		}
	}
	for r := API; r < Roles; r++ {
		if got, err := ParseRole(r.String()); err != nil || got != r {
			t.Errorf("role %s: %v, %v", r, got, err)
		}
	}
	if _, err := ParseRole("boss"); err == nil {
		t.Error("boss is a role")
	}
}
