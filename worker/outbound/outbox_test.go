package outbound

import (
	"fmt"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"crier/internal/idset"
	"crier/job"
	"crier/presence/handoff"
)

// TestGroup: a queue is cut into groups, each for one gateway, that keep the order of each
// gateway's hand-offs; none is lost or twice, one with its message is alone, and no group is
// larger than what goes together.
func TestGroup(t *testing.T) {
	big := idset.New(0)
	big.AddSpan(job.Span{Hi: 1 << 18})
	rapid.Check(t, func(t *rapid.T) {
		want := map[string][]uint64{}
		var queue []Send
		for n := range uint64(rapid.IntRange(1, 700).Draw(t, "hand-offs")) {
			to := job.Incarnation{Gateway: rapid.SampledFrom([]string{"a", "b", "c"}).Draw(t, "to"), Start: 1}
			h := &handoff.Handoff{Ref: job.Ref{N: n}, To: to, Targets: idset.Of(uint32(n))}
			kind := rapid.IntRange(0, 40).Draw(t, "kind")
			if kind == 0 {
				h.Targets = big
			}
			queue = append(queue, Send{Handoff: h, WithBody: kind == 1})
			want[to.Gateway] = append(want[to.Gateway], n)
		}
		got := map[string][]uint64{}
		for len(queue) > 0 {
			var group []Send
			group, queue = Group(queue)
			if len(group) == 0 || len(group) > handoff.Together {
				t.Fatalf("%d together", len(group))
			}
			large := 0
			for _, e := range group {
				if e.WithBody && len(group) > 1 {
					t.Fatal("one that brings its message is not alone")
				}
				if e.Handoff.To != group[0].Handoff.To {
					t.Fatal("a group for two gateways")
				}
				if e.Handoff.Targets == big {
					large++
				}
				got[e.Handoff.To.Gateway] = append(got[e.Handoff.To.Gateway], e.Handoff.Ref.N)
			}
			if large > 1 {
				t.Fatalf("%d large ones together", large)
			}
		}
		for g := range want {
			if !slices.Equal(got[g], want[g]) {
				t.Fatalf("%s gets %s, want %s", g, fmt.Sprint(got[g]), fmt.Sprint(want[g]))
			}
		}
	})
}

// TestTellTogether: everything is told once, in order for each gateway, no more together than may be.
func TestTellTogether(t *testing.T) {
	var list []*handoff.Recorded
	for n := range uint64(3*handoff.Together + 7) {
		list = append(list, &handoff.Recorded{Ref: job.Ref{N: n}, Inc: job.Incarnation{Gateway: []string{"a", "a", "b"}[n%3]}})
	}
	got, messages := map[string][]uint64{}, 0
	for len(list) > 0 {
		to, data, rest := TellTogether(list)
		all, err := handoff.ParseRecorded(data)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range all {
			if m.Inc.Gateway != to {
				t.Fatalf("%s is told what is for %s", to, m.Inc.Gateway)
			}
			got[to] = append(got[to], m.Ref.N)
		}
		list, messages = rest, messages+1
	}
	if len(got["a"])+len(got["b"]) != 3*handoff.Together+7 || !slices.IsSorted(got["a"]) || !slices.IsSorted(got["b"]) || messages != 5 {
		t.Errorf("%d and %d are told in %d messages", len(got["a"]), len(got["b"]), messages)
	}
}
