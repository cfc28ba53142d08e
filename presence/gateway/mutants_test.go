package gateway

import (
	"slices"
	"testing"

	"crier/internal/badinput"
	"crier/internal/idset"
	"crier/job"
	"crier/presence/handoff"
)

// TestMutatedMessages gives a gateway mutants of all that workers and homes say to it. What
// can be read is answered, if it asks something; what it is told of others' reserves, and of
// other ranges, changes nothing for what it has: a hand-off before is acknowledged, and one
// afterwards is taken.
func TestMutatedMessages(t *testing.T) {
	id, other := job.ID{1}, job.ID{2}
	whole := request(1, id, 5, 6)
	whole.Settled, whole.Urgent = ref(0), 3
	samples := map[string][]byte{
		"hand-off": whole.Bytes(),
		"fence":    (&handoff.Fence{Journal: writer, To: me, By: job.Journal{Worker: "w2", Incarnation: 1}}).Bytes(),
		"recorded": (&handoff.Recorded{Ref: ref(1), Inc: me, Version: 1, Settled: ref(1)}).Bytes(),
		"settle":   (&handoff.Settle{Inc: me, Recipient: 5, Jobs: []job.ID{id, other}}).Bytes(),
		"anew":     (&handoff.Anew{Inc: me, Ranges: []job.Range{0, 7}}).Bytes(),
		"redirect": (&handoff.Redirect{Inc: me, To: "ws://other/v1/connect", Who: idset.Of(900)}).Bytes(),
	}
	events := map[string]func(b []byte) (Event, bool){
		"hand-off": func(b []byte) (Event, bool) {
			all, err := handoff.ParseHandoffs(b)
			if err != nil {
				return nil, false
			}
			return HandedOff{Request: all[0], Token: 1}, true
		},
		"fence": func(b []byte) (Event, bool) {
			f, err := handoff.ParseFence(b)
			if err != nil || f.Journal == writer {
				return nil, false // one that would be right
			}
			return Fenced{Request: *f, Token: 1}, true
		},
		"recorded": func(b []byte) (Event, bool) {
			all, err := handoff.ParseRecorded(b)
			if err != nil || all[0].Ref.Journal == writer || all[0].Settled.Journal == writer {
				return nil, false
			}
			return Recorded{*all[0]}, true
		},
		"settle": func(b []byte) (Event, bool) {
			s, err := handoff.ParseSettle(b)
			if err != nil || s.Recipient == 900 {
				return nil, false
			}
			return Settled{*s}, true
		},
		"anew": func(b []byte) (Event, bool) {
			a, err := handoff.ParseAnew(b)
			return Anew{a.Ranges}, err == nil
		},
		"redirect": func(b []byte) (Event, bool) {
			r, err := handoff.ParseRedirect(b)
			if err != nil {
				return nil, false
			}
			var who []job.Recipient
			for id := range r.Who.All() {
				if id != 900 {
					who = append(who, job.Recipient(id))
				}
			}
			return Redirected{r.To, who}, true
		},
	}
	for what, sample := range samples {
		t.Run(what, func(t *testing.T) {
			g := newRig(t, Config{})
			g.connect(1, 5, 55)
			g.connect(9, 900, 99)
			mine := job.Ref{Journal: job.Journal{Worker: "steady", Incarnation: 1}, N: 1}
			steady := func(n uint64) *handoff.Handoff {
				h := request(1, job.ID{byte(n), 77}, 900)
				h.Ref = job.Ref{Journal: mine.Journal, N: n}
				return h
			}
			g.do(HandedOff{Request: steady(1), Token: 1})
			g.wantAnswer(handoff.Accepted, "v1 rest waiting")
			taken := 0
			for m := range badinput.Mutants(badinput.Number(t, sample)/4, sample, slices.Concat(samples["hand-off"], samples["settle"])) {
				ev, ok := events[what](m.Bytes)
				if !ok {
					continue
				}
				taken++
				g.do(ev)
				switch ev.(type) {
				case HandedOff, Fenced:
					g.answer() // there is one, whatever it is
				}
				if taken%64 == 0 {
					g.tick(1 << 20)
				}
			}
			if taken == 0 {
				t.Fatal("no mutant can be read")
			}
			t.Logf("%d mutants were taken", taken)
			g.do(HandedOff{Request: steady(2), Token: 1})
			g.wantAnswer(handoff.Accepted, "v1 rest waiting")
			g.do(Acked{Conn: 9, IDs: []job.ID{{1, 77}, {2, 77}}})
			g.do(HandedOff{Request: steady(1), Token: 1})
			if a := g.answer(); a.Kind != handoff.Accepted || len(a.Reports) != 1 || a.Reports[0].Rest != handoff.RestAcked {
				t.Errorf("the hand-off from before: %s %+v", a.Kind, a.Reports)
			}
		})
	}
}
