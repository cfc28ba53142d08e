package worker

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"crier/job"
	"crier/state/parked/kv"
	"crier/worker/sweep"
)

// waits is a message that waits for somebody, as a list kept by hand has it.
type waits struct {
	id  job.ID
	key string // with the account; "": it replaces nothing
}

// parkFor adds a message to somebody's list: it replaces the one with its key, and the oldest
// beyond the cap goes.
func parkFor(list []waits, x waits, most int) []waits {
	if x.key != "" {
		list = slices.DeleteFunc(slices.Clone(list), func(o waits) bool { return o.key == x.key })
	}
	list = append(list, x)
	return list[max(0, len(list)-most):]
}

// Jobs with collapse keys, and more of them than may wait for one recipient, while recipients
// come, the worker is restarted and its index taken away. What waits for each is what a list
// kept by hand has, without anybody logging in; who comes gets that and nothing else, in its order.
func TestWhoWaitsForTooMuch(t *testing.T) {
	dropped := map[job.Reason]uint64{}
	for seed := range uint64(6) {
		inWorld(t, 900+seed, func(w *world) {
			w.parkCap = 2 + int(seed)%3
			w.restart()
			const everybody = 40
			var who []uint32
			for i := range uint32(everybody) {
				who = append(who, i*60_001)
				w.content.followers[i*60_001] = true
			}
			lists := map[uint32][]waits{}
			want := map[job.ID]people{} // who is to have shown it
			packages := map[job.ID]int{}
			var ids []job.ID
			come := func(r uint32) {
				w.gw.connect(true, r)
				for _, x := range lists[r] {
					want[x.id][r] = true
				}
				lists[r] = nil
			}
			for n := range 12 {
				pkg := people{}
				for _, r := range who {
					if w.rng.IntN(3) > 0 {
						pkg[r] = true
					}
				}
				x := waits{key: []string{"", "", "k", "l"}[w.rng.IntN(4)]}
				account := uint32(1 + w.rng.IntN(2))
				id := w.submit(pkg, func(s *job.Spec) { s.Account, s.CollapseKey = account, x.key })
				if x.id = id; x.key != "" {
					x.key = fmt.Sprint(account, x.key)
				}
				ids, want[id], packages[id] = append(ids, id), people{}, len(pkg)
				w.send(id)
				for r := range pkg {
					if w.gw.clients[job.Recipient(r)] != nil {
						want[id][r] = true
					} else {
						lists[r] = parkFor(lists[r], x, w.parkCap)
					}
				}
				switch w.rng.IntN(6) {
				case 0:
					w.kv = kv.NewMemory()
					w.restart()
				case 1:
					w.restart()
				case 2:
					come(who[w.rng.IntN(everybody)])
					w.passes(time.Second)
				case 3:
					w.passes(2 * sweep.Every)
				}
				if n == 6 {
					w.passes(2 * sweep.Every)
				}
			}
			left := func(id job.ID) (n uint64) {
				for _, list := range lists {
					if slices.ContainsFunc(list, func(x waits) bool { return x.id == id }) {
						n++
					}
				}
				return n
			}
			var total uint64
			for _, id := range ids {
				w.until(fmt.Sprintf("%d are parked", left(id)), func() bool { c := w.counts(id); return c.Parked == left(id) && c.HandedOff == 0 })
				c := w.reconcile(id)
				if c.Delivered != uint64(len(want[id])) || c.Dropped[job.ReasonCollapsed]+c.Dropped[job.ReasonParkCap]+c.Delivered+c.Parked != uint64(packages[id]) {
					t.Errorf("seed %d: %+v, want %d delivered of %d", seed, c, len(want[id]), packages[id])
				}
				for reason, n := range c.Dropped {
					dropped[reason] += n
				}
				total += c.Parked
			}
			if total == 0 {
				t.Fatal("nobody waits for anything")
			}
			for _, r := range who {
				if w.gw.clients[job.Recipient(r)] == nil {
					come(r)
				}
			}
			w.until("nobody waits", func() bool {
				return !slices.ContainsFunc(ids, func(id job.ID) bool { return w.counts(id).Open() > 0 })
			})
			for _, id := range ids {
				w.reconcile(id)
				w.checkShown(id, want[id])
			}
			w.sameWhenRebuilt()
		})
	}
	if dropped[job.ReasonCollapsed] < 50 || dropped[job.ReasonParkCap] < 50 {
		t.Errorf("%v were dropped: too few to mean anything", dropped)
	}
}
