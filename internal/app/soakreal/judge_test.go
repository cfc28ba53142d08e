package soakreal

import (
	"slices"
	"strings"
	"testing"
	"time"

	"crier/api"
	"crier/job"
)

// evidence is three jobs to six recipients, of whom 1 has a device, in which all is well.
type evidence struct {
	world
	told     []told
	receipts []receipt
}

func sound() *evidence {
	noon := time.Date(2026, 11, 26, 12, 0, 0, 0, time.UTC)
	e := &evidence{world: world{cap: 2, accountCap: 2, zone: time.UTC, players: bitsOf([]uint32{1}),
		followers:  map[string]bits{"a": bitsOf([]uint32{1, 2, 3}), "b": bitsOf([]uint32{1, 2, 3, 4, 5})},
		suppressed: map[string]bits{"": bitsOf([]uint32{4}), "b": bitsOf([]uint32{5})},
		sends: []send{{"p0", "a", "zero", []uint32{1, 2, 3, 9}}, {"p1", "a", "one", []uint32{1, 2}},
			{"p2", "b", "two", []uint32{1, 2, 3, 4, 5}}}}}
	for i, t := range []struct {
		delivered, parked, capped []uint32
		relation, suppressed      uint64
	}{{[]uint32{1}, []uint32{2, 3}, nil, 1, 0}, {[]uint32{1}, []uint32{2}, nil, 0, 0}, {nil, []uint32{3}, []uint32{1, 2}, 0, 2}} {
		dropped := map[job.Reason]uint64{job.ReasonRelation: t.relation, job.ReasonSuppressed: t.suppressed, job.ReasonFrequency: uint64(len(t.capped))}
		e.told = append(e.told, told{api.Reconciliation{Job: job.ID{byte(i + 1)}, Conserved: true, Counts: job.Counts{Package: uint64(len(e.sends[i].set)),
			Delivered: uint64(len(t.delivered)), Parked: uint64(len(t.parked)), Dropped: dropped}}, t.delivered, t.parked, t.capped})
		if i < 2 {
			e.receipts = append(e.receipts, receipt{e.told[i].Job.String(), 1, e.sends[i].body, noon})
		}
	}
	return e
}

// moves a recipient of a job from one of its lists to another, the counts with it.
func (e *evidence) moves(i int, who uint32, from, to *[]uint32) {
	*from = slices.DeleteFunc(slices.Clone(*from), func(id uint32) bool { return id == who })
	*to = append(slices.Clone(*to), who)
	t := &e.told[i]
	t.Delivered, t.Parked, t.Dropped[job.ReasonFrequency] = uint64(len(t.delivered)), uint64(len(t.parked)), uint64(len(t.capped))
}

// shows is a device showing the message of a job.
func (e *evidence) shows(i int, who uint32) {
	e.receipts = append(e.receipts, receipt{e.told[i].Job.String(), who, e.sends[i].body, e.receipts[0].at})
}

// The judge finds each thing that may be wrong, and nothing where all is well.
func TestJudgeFinds(t *testing.T) {
	for _, c := range []struct {
		what  string
		spoil func(e *evidence)
		kind  string // nothing: all is well
	}{
		{"all is well", func(*evidence) {}, ""},
		{"a message that never came", func(e *evidence) { e.receipts = e.receipts[:1] }, "lost"},
		{"one that waits for a device that was there", func(e *evidence) {
			e.receipts = e.receipts[:1]
			e.moves(1, 1, &e.told[1].delivered, &e.told[1].parked)
		}, "lost"},
		{"somebody who is nowhere", func(e *evidence) { e.told[0].parked = []uint32{2} }, "lost"},
		{"a message that came twice", func(e *evidence) { e.shows(0, 1) }, "twice"},
		{"one that is not recorded", func(e *evidence) { e.shows(0, 2) }, "not recorded"},
		{"one that was shown although a cap refused it", func(e *evidence) { e.shows(2, 1) }, "not recorded"},
		{"one that was shown although it is refused", func(e *evidence) { e.shows(2, 4) }, "not recorded"},
		{"another text", func(e *evidence) { e.receipts[1].body = "zero" }, "another text"},
		{"a message of no job", func(e *evidence) { e.receipts[1].job = "job_0" }, "shown to a stranger"},
		{"a message to somebody outside", func(e *evidence) { e.shows(1, 3) }, "shown to a stranger"},
		{"a message to somebody beyond all packages", func(e *evidence) { e.shows(1, 1<<31) }, "shown to a stranger"},
		{"one more than the cap", func(e *evidence) {
			e.moves(2, 1, &e.told[2].capped, &e.told[2].delivered)
			e.shows(2, 1)
		}, "over the cap"},
		{"one more than the cap that waits", func(e *evidence) { e.moves(2, 2, &e.told[2].capped, &e.told[2].parked) }, "over the cap"},
		{"one less than the cap", func(e *evidence) { e.moves(1, 2, &e.told[1].parked, &e.told[1].capped) }, "under the cap"},
		{"a cap that is one too high", func(e *evidence) { e.cap = 1 }, "over the cap"},
		{"a cap that is one too low", func(e *evidence) { e.cap = 3 }, "under the cap"},
		{"an account's cap that is one too high", func(e *evidence) { e.accountCap = 1 }, "over the account's cap"},
		{"one more than an account's cap is shown in a day", func(e *evidence) { e.accountCap = 1 }, "shown over the account's cap"},
		{"one more than the cap is shown in a day", func(e *evidence) { e.cap = 1 }, "shown over the cap: recipient 1 showed 2 messages on 2026-11-26"},
		{"delivered and parked", func(e *evidence) { e.told[0].parked = []uint32{1, 2, 3} }, "two places"},
		{"parked twice", func(e *evidence) { e.told[0].parked = []uint32{2, 3, 3} }, "two places"},
		{"parked although no follower", func(e *evidence) { e.told[0].parked = []uint32{2, 3, 9} }, "two places"},
		{"parked although suppressed", func(e *evidence) { e.told[2].parked = []uint32{3, 5} }, "two places"},
		{"parked and not in the package", func(e *evidence) { e.told[1].parked = []uint32{2, 3} }, "a stranger"},
		{"relation counted wrong", func(e *evidence) { e.told[0].Dropped[job.ReasonRelation]++ }, "reconcile"},
		{"suppression counted wrong", func(e *evidence) { e.told[2].Dropped[job.ReasonSuppressed]-- }, "reconcile"},
		{"caps counted wrong", func(e *evidence) { e.told[2].Dropped[job.ReasonFrequency]++ }, "reconcile"},
		{"another reason", func(e *evidence) { e.told[1].Dropped[job.ReasonTargeting] = 1 }, "reconcile"},
		{"the package counted wrong", func(e *evidence) { e.told[1].Package++ }, "reconcile"},
		{"somebody in doubt", func(e *evidence) { e.told[1].InDoubt++ }, "reconcile"},
		{"not conserved", func(e *evidence) { e.told[1].Conserved = false }, "not conserved"},
	} {
		e := sound()
		c.spoil(e)
		found := e.judge(e.told, e.receipts).wrong
		if c.kind == "" && len(found) > 0 || c.kind != "" && !slices.ContainsFunc(found, func(f string) bool { return strings.HasPrefix(f, c.kind) }) {
			t.Errorf("%s: found %q, want %q", c.what, found, c.kind)
		}
	}
	e := sound()
	e.accountCap = 1
	if v := e.judge(e.told, e.receipts); v.capped != 0 || v.accountCapped != 2 {
		t.Errorf("the caps held back %d and %d, want none and 2", v.capped, v.accountCapped)
	}
	e = sound()
	if v := e.judge(e.told, e.receipts); v.capped != 2 || v.accountCapped != 0 {
		t.Errorf("the caps held back %d and %d, want 2 and none", v.capped, v.accountCapped)
	}
	for range 10 {
		e.shows(1, 3)
		e.receipts = append(e.receipts, receipt{"job_0", 1, "", e.receipts[0].at})
	}
	if found := e.judge(e.told, e.receipts).wrong; !slices.Contains(found, "shown to a stranger: 8 more") {
		t.Errorf("of many the number is not told: %q", found)
	}
}
