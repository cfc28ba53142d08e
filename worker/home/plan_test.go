package home

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"crier/internal/idset"
	"crier/job"
	"crier/presence/handoff"
	"crier/state/ledger"
	"crier/state/parked"
)

var (
	jobA, jobB = job.ID{0xa}, job.ID{0xb}
	g1, g2, g3 = job.Incarnation{Gateway: "g", Start: 1}, job.Incarnation{Gateway: "g", Start: 2}, job.Incarnation{Gateway: "h", Start: 1}
)

// names of jobs in what the tests print.
func nameOf(id job.ID) string { return string(rune('A' + id[0] - 0xa)) }

func setText(s *idset.Set) string {
	var out []string
	for id := range s.All() {
		out = append(out, fmt.Sprint(id))
	}
	return strings.Join(out, " ")
}

func settleText(m handoff.Settle) string {
	var jobs []string
	for _, id := range m.Jobs {
		jobs = append(jobs, nameOf(id))
	}
	return fmt.Sprintf("%s may forget %s at %s", m.Recipient, strings.Join(jobs, " "), m.Inc)
}

// text writes a verdict down, a line each.
func text(v Verdict) string {
	var out []string
	for i, e := range v.Entries {
		line := ""
		switch e := e.(type) {
		case *ledger.Decide:
			line = fmt.Sprintf("decide %s: delivered [%s] parked [%s] failed [%s]", nameOf(e.Job), setText(e.Delivered), setText(e.Parked), setText(e.Failed))
		case *ledger.Outcome:
			line = fmt.Sprintf("outcome %s: %s %s [%s]", nameOf(e.Job), e.Outcome, e.Reason, setText(e.Set))
		case *ledger.Drain:
			line = fmt.Sprintf("drain %s:", nameOf(e.Job))
			for k, inc := range e.Targets.Incs {
				line += fmt.Sprintf(" %s [%s]", inc, setText(e.Targets.Sets[k]))
			}
		}
		if v.Urgent[i] > 0 {
			line += fmt.Sprintf(" urgent %d", v.Urgent[i])
		}
		out = append(out, line)
	}
	for _, m := range v.Settle {
		out = append(out, "now: "+settleText(m))
	}
	for _, m := range v.After {
		out = append(out, "after: "+settleText(m))
	}
	if !v.More.IsEmpty() {
		out = append(out, "more: "+setText(v.More))
	}
	return strings.Join(out, "\n")
}

func login(who uint32, inc job.Incarnation, have ...job.ID) Login {
	return Login{handoff.Hello{Recipient: job.Recipient(who), Client: 7, Speaks: true, Have: have}, inc}
}

func item(id job.ID, seq uint64, who ...uint32) parked.Item {
	return parked.Item{Job: id, Number: parked.Number{Seq: seq}, Set: idset.Of(who...)}
}

func TestPlan(t *testing.T) {
	known := func(change func(*JobInfo)) map[job.ID]JobInfo {
		a := JobInfo{Known: true, Over: job.Parked}
		if change != nil {
			change(&a)
		}
		return map[job.ID]JobInfo{jobA: a, jobB: {Known: true, Over: job.Parked}}
	}
	sameKey := func(change func(a, b *JobInfo)) map[job.ID]JobInfo {
		a := JobInfo{Known: true, Over: job.Parked, Account: 1, CollapseKey: "k", Submitted: 10}
		b := a
		b.Submitted = 11
		if change != nil {
			change(&a, &b)
		}
		return map[job.ID]JobInfo{jobA: a, jobB: b}
	}
	doubt := func(change func(*parked.Doubt)) []parked.Doubt {
		d := parked.Doubt{Job: jobA, Inc: g1, Set: idset.Of(1, 2, 3)}
		if change != nil {
			change(&d)
		}
		return []parked.Doubt{d}
	}
	unanswered := doubt(func(d *parked.Doubt) { d.Unanswered = true })
	mute := doubt(func(d *parked.Doubt) { d.Mute = true })
	at := func(inc job.Incarnation, who ...uint32) Online { return Online{inc, idset.Of(who...)} }
	stands := func(where job.Outcome) []Standing { return []Standing{{0, jobA, where}} }
	silent := login(1, g2)
	silent.Speaks = false

	for _, c := range []struct {
		name string
		f    Findings
		jobs map[job.ID]JobInfo
		want string
	}{
		{"nothing", Findings{}, nil, ""},
		// What the clients have.
		{"has what is delivered", Findings{Logins: []Login{login(1, g2, jobA)}, Standing: stands(job.Delivered)}, nil, "now: 1 may forget A at g.2"},
		{"has what has expired", Findings{Logins: []Login{login(1, g2, jobA)}, Standing: stands(job.Expired)}, nil, "now: 1 may forget A at g.2"},
		{"has what is handed off", Findings{Logins: []Login{login(1, g2, jobA)}, Standing: stands(job.HandedOff)}, nil, ""},
		{"has what is parked", Findings{Logins: []Login{login(1, g2, jobA)}, Standing: stands(job.Parked)}, nil, ""},
		{"has what is parked, and is drained first", Findings{Logins: []Login{login(1, g2, jobB)}, Standing: []Standing{{0, jobB, job.Parked}}, Online: []Online{at(g2, 1, 2)},
			Items: []parked.Item{item(jobA, 5, 1), item(jobB, 6, 1, 2)}}, map[job.ID]JobInfo{jobA: {Known: true, Over: job.Parked, Urgent: 9}, jobB: {Known: true, Over: job.Parked}},
			"drain B: g.2 [1]\ndrain A: g.2 [1] urgent 9\ndrain B: g.2 [2]"},
		{"has what is parked, and only that waits", Findings{Logins: []Login{login(1, g2, jobB)}, Standing: []Standing{{0, jobB, job.Parked}}, Online: []Online{at(g2, 1, 2)},
			Items: []parked.Item{item(jobB, 6, 1, 2)}}, nil, "drain B: g.2 [1]\ndrain B: g.2 [2]"},
		{"has what is paused", Findings{Logins: []Login{login(1, g2, jobA)}, Standing: stands(job.Parked), Online: []Online{at(g2, 1)},
			Items: []parked.Item{item(jobA, 6, 1)}}, known(func(i *JobInfo) { i.Paused = true }), ""},
		{"has what is pending", Findings{Logins: []Login{login(1, g2, jobA)}, Standing: stands(job.Pending)}, nil, ""},
		{"has what no job is", Findings{Logins: []Login{login(1, g2, jobA)}, Standing: stands(job.Pending)}, map[job.ID]JobInfo{}, "now: 1 may forget A at g.2"},
		{"has what is in doubt for good", Findings{Logins: []Login{login(1, g2, jobA)}, Standing: stands(job.InDoubt), Doubts: doubt(nil)}, nil,
			"decide A: delivered [1] parked [] failed []\nafter: 1 may forget A at g.2"},
		{"has what is in doubt, and the incarnation may still write", Findings{Logins: []Login{login(1, g2, jobA)}, Standing: stands(job.InDoubt), Doubts: unanswered}, nil,
			"decide A: delivered [1] parked [] failed []"},
		{"has what was in doubt a moment ago", Findings{Logins: []Login{login(1, g2, jobA)}, Standing: stands(job.InDoubt)}, nil,
			"decide A: delivered [1] parked [] failed []"},
		{"has what is in doubt, mute", Findings{Logins: []Login{login(1, g2, jobA)}, Standing: stands(job.InDoubt), Doubts: mute}, nil,
			"decide A: delivered [1] parked [] failed []\nafter: 1 may forget A at g.2"},
		{"one client has it, another does not", Findings{Logins: []Login{login(1, g2, jobA), login(1, g2)}, Standing: stands(job.InDoubt), Doubts: doubt(nil)}, nil,
			"decide A: delivered [1] parked [] failed []\nafter: 1 may forget A at g.2"},
		{"has it when it expires", Findings{Logins: []Login{login(1, g2, jobA)}, Standing: stands(job.InDoubt), Doubts: doubt(nil)},
			known(func(i *JobInfo) { i.Over = job.Expired }), "decide A: delivered [1] parked [] failed [2 3]\nafter: 1 may forget A at g.2"},
		// What the clients lack.
		{"lacks it", Findings{Logins: []Login{login(1, g2), login(9, g2)}, Doubts: doubt(nil)}, nil, "decide A: delivered [] parked [1] failed []"},
		{"lacks it, the incarnation may still write", Findings{Logins: []Login{login(1, g2)}, Doubts: unanswered}, nil, ""},
		{"lacks it, written to a mute client", Findings{Logins: []Login{login(1, g2)}, Doubts: mute}, nil, ""},
		{"does not say", Findings{Logins: []Login{silent}, Doubts: doubt(nil)}, nil, ""},
		{"lacked it at the lost incarnation", Findings{Logins: []Login{login(1, g1)}, Doubts: doubt(nil)}, nil, ""},
		{"lacks it and has another", Findings{Logins: []Login{login(2, g2, jobB)}, Doubts: doubt(nil)}, nil, "decide A: delivered [] parked [2] failed []"},
		// The policy.
		{"hold", Findings{Online: []Online{at(g2, 1, 2)}, Doubts: mute}, nil, ""},
		{"resend", Findings{Online: []Online{at(g2, 1), at(g3, 3, 7)}, Doubts: mute}, known(func(i *JobInfo) { i.Resend = true }), "decide A: delivered [] parked [1 3] failed []"},
		{"resend, unanswered", Findings{Online: []Online{at(g2, 1)}, Doubts: unanswered}, known(func(i *JobInfo) { i.Resend = true }), ""},
		{"resend, nobody online", Findings{Online: []Online{at(g2, 8)}, Doubts: mute}, known(func(i *JobInfo) { i.Resend = true }), ""},
		{"resend, and it has it", Findings{Online: []Online{at(g2, 1, 2)}, Logins: []Login{login(1, g2, jobA)}, Standing: stands(job.InDoubt), Doubts: mute},
			known(func(i *JobInfo) { i.Resend = true }), "decide A: delivered [1] parked [2] failed []\nafter: 1 may forget A at g.2"},
		{"dropped by an operator", Findings{Doubts: doubt(nil)}, known(func(i *JobInfo) { i.Drop = true }), "decide A: delivered [] parked [] failed [1 2 3]"},
		{"dropped by an operator, unanswered", Findings{Doubts: unanswered}, known(func(i *JobInfo) { i.Drop = true }), ""},
		{"cancelled", Findings{Doubts: doubt(nil)}, known(func(i *JobInfo) { i.Over = job.Cancelled }), "decide A: delivered [] parked [] failed [1 2 3]"},
		{"cancelled, unanswered", Findings{Doubts: unanswered}, known(func(i *JobInfo) { i.Over = job.Cancelled }), ""},
		{"recalled", Findings{Doubts: doubt(nil)}, known(func(i *JobInfo) { i.Over = job.Recalled }), "decide A: delivered [] parked [] failed [1 2 3]"},
		{"recalled, unanswered", Findings{Doubts: unanswered}, known(func(i *JobInfo) { i.Over = job.Recalled }), ""},
		{"recalled, and it has it", Findings{Logins: []Login{login(1, g2, jobA)}, Standing: stands(job.InDoubt), Doubts: doubt(nil)},
			known(func(i *JobInfo) { i.Over = job.Recalled }), "decide A: delivered [1] parked [] failed [2 3]\nafter: 1 may forget A at g.2"},
		{"recalled and resend", Findings{Doubts: mute, Online: []Online{at(g2, 1)}}, known(func(i *JobInfo) { i.Over = job.Recalled; i.Resend = true }),
			"decide A: delivered [] parked [] failed [1 2 3]"},
		{"expired, unanswered", Findings{Doubts: unanswered}, known(func(i *JobInfo) { i.Over = job.Expired }), "decide A: delivered [] parked [] failed [1 2 3]"},
		{"cancelled and resend", Findings{Doubts: mute, Online: []Online{at(g2, 1)}}, known(func(i *JobInfo) { i.Over = job.Cancelled; i.Resend = true }),
			"decide A: delivered [] parked [] failed [1 2 3]"},
		// The end.
		{"cancelled while parked", Findings{Ending: []Ended{{jobA, idset.Of(4, 5)}}}, known(func(i *JobInfo) { i.Over = job.Cancelled }), "outcome A: cancelled  [4 5]"},
		{"recalled while parked and online", Findings{Items: []parked.Item{item(jobA, 5, 4, 5)}, Online: []Online{at(g2, 4)}, Ending: []Ended{{jobA, idset.Of(4, 5)}}},
			known(func(i *JobInfo) { i.Over = job.Recalled }), "outcome A: recalled  [4 5]"},
		{"expired while parked, told twice", Findings{Ending: []Ended{{jobA, idset.Of(4)}, {jobA, idset.Of(4)}}}, known(func(i *JobInfo) { i.Over = job.Expired }), "outcome A: expired  [4]"},
		{"nobody is parked", Findings{Ending: []Ended{{jobA, idset.New(0)}}}, known(func(i *JobInfo) { i.Over = job.Expired }), ""},
		{"only its doubt ends", Findings{Ending: []Ended{{jobA, idset.Of(4)}}}, nil, ""},
		// Drains.
		{"parked and online", Findings{Items: []parked.Item{item(jobA, 5, 1, 2, 3)}, Online: []Online{at(g2, 1, 9), at(g3, 3)}}, nil, "drain A: g.2 [1] h.1 [3]"},
		{"online at two", Findings{Items: []parked.Item{item(jobA, 5, 1)}, Online: []Online{at(g2, 1), at(g3, 1)}}, nil, "drain A: g.2 [1]"},
		{"nobody online", Findings{Items: []parked.Item{item(jobA, 5, 1)}}, nil, ""},
		{"in the order of parking", Findings{Items: []parked.Item{item(jobB, 3, 1), item(jobA, 5, 1), item(jobB, 7, 2)}, Online: []Online{at(g2, 1, 2)}}, nil, "drain B: g.2 [1 2]\ndrain A: g.2 [1]"},
		{"urgent first", Findings{Items: []parked.Item{item(jobB, 3, 1), item(jobA, 5, 1)}, Online: []Online{at(g2, 1)}}, known(func(i *JobInfo) { i.Urgent = 9 }), "drain A: g.2 [1] urgent 9\ndrain B: g.2 [1]"},
		{"paused", Findings{Items: []parked.Item{item(jobA, 5, 1)}, Online: []Online{at(g2, 1)}}, known(func(i *JobInfo) { i.Paused = true }), ""},
		{"over", Findings{Items: []parked.Item{item(jobA, 5, 1)}, Online: []Online{at(g2, 1)}}, known(func(i *JobInfo) { i.Over = job.Expired }), ""},
		{"unknown", Findings{Items: []parked.Item{item(jobA, 5, 1)}, Online: []Online{at(g2, 1)}}, map[job.ID]JobInfo{}, ""},
		{"suppressed meanwhile", Findings{Items: []parked.Item{item(jobA, 5, 1, 2), item(jobB, 6, 1)}, Online: []Online{at(g2, 1, 2)}},
			known(func(i *JobInfo) { i.Suppress = idset.Of(1, 8) }), "outcome A: dropped suppressed [1]\ndrain A: g.2 [2]\ndrain B: g.2 [1]"},
		{"erased", Findings{Items: []parked.Item{item(jobA, 5, 1, 2), item(jobB, 6, 1)}, Online: []Online{at(g2, 1, 2)}},
			known(func(i *JobInfo) { i.Erased = idset.Of(1, 8) }), "outcome A: dropped suppressed [1]\ndrain A: g.2 [2]\ndrain B: g.2 [1]"},
		{"erased and offline, of a paused job", Findings{Items: []parked.Item{item(jobA, 5, 1, 2)}},
			known(func(i *JobInfo) { i.Erased, i.Suppress, i.Paused = idset.Of(1), idset.Of(2), true }), "outcome A: dropped suppressed [1]"},
		{"erased, and another suppressed", Findings{Items: []parked.Item{item(jobA, 5, 1, 2, 3)}},
			known(func(i *JobInfo) { i.Erased, i.Suppress = idset.Of(1, 2), idset.Of(2, 3) }), "outcome A: dropped suppressed [1 2]\noutcome A: dropped suppressed [3]"},
		{"erased and in doubt: first it is parked again", Findings{Doubts: doubt(nil), Logins: []Login{login(1, g2)}},
			known(func(i *JobInfo) { i.Erased = idset.Of(1) }), "decide A: delivered [] parked [1] failed []"},
		{"suppressed and offline", Findings{Items: []parked.Item{item(jobA, 5, 1)}}, known(func(i *JobInfo) { i.Suppress = idset.Of(1) }), "outcome A: dropped suppressed [1]"},
		{"suppressed and over", Findings{Items: []parked.Item{item(jobA, 5, 1)}, Ending: []Ended{{jobA, idset.Of(1)}}},
			known(func(i *JobInfo) { i.Suppress = idset.Of(1); i.Over = job.Cancelled }), "outcome A: cancelled  [1]"},
		// Collapse keys: B is newer than A.
		{"replaced, offline", Findings{Items: []parked.Item{item(jobA, 5, 1, 2), item(jobB, 6, 2, 3)}}, sameKey(nil), "outcome A: dropped collapsed [2]"},
		{"replaced, and the rest drained", Findings{Items: []parked.Item{item(jobA, 5, 1, 2), item(jobB, 6, 2, 3)}, Online: []Online{at(g2, 1, 2)}}, sameKey(nil),
			"outcome A: dropped collapsed [2]\ndrain A: g.2 [1]\ndrain B: g.2 [2]"},
		{"the newer was parked first", Findings{Items: []parked.Item{item(jobB, 5, 1), item(jobA, 6, 1)}}, sameKey(nil), "outcome A: dropped collapsed [1]"},
		{"the newer is paused", Findings{Items: []parked.Item{item(jobA, 5, 1), item(jobB, 6, 1)}, Online: []Online{at(g2, 1)}}, sameKey(func(_, b *JobInfo) { b.Paused = true }), "drain A: g.2 [1]"},
		{"the newer is over", Findings{Items: []parked.Item{item(jobA, 5, 1), item(jobB, 6, 1)}}, sameKey(func(_, b *JobInfo) { b.Over = job.Cancelled }), ""},
		{"the older is paused", Findings{Items: []parked.Item{item(jobA, 5, 1), item(jobB, 6, 1)}}, sameKey(func(a, _ *JobInfo) { a.Paused = true }), "outcome A: dropped collapsed [1]"},
		{"the older is over", Findings{Items: []parked.Item{item(jobA, 5, 1), item(jobB, 6, 1)}, Ending: []Ended{{jobA, idset.Of(1)}}}, sameKey(func(a, _ *JobInfo) { a.Over = job.Expired }), "outcome A: expired  [1]"},
		{"who must not get the newer keeps the older", Findings{Items: []parked.Item{item(jobA, 5, 1), item(jobB, 6, 1)}}, sameKey(func(_, b *JobInfo) { b.Suppress = idset.Of(1) }), "outcome B: dropped suppressed [1]"},
		{"two accounts, one key", Findings{Items: []parked.Item{item(jobA, 5, 1), item(jobB, 6, 1)}}, sameKey(func(a, _ *JobInfo) { a.Account = 2 }), ""},
		{"one account, two keys", Findings{Items: []parked.Item{item(jobA, 5, 1), item(jobB, 6, 1)}}, sameKey(func(a, _ *JobInfo) { a.CollapseKey = "l" }), ""},
		{"no keys", Findings{Items: []parked.Item{item(jobA, 5, 1), item(jobB, 6, 1)}}, sameKey(func(a, b *JobInfo) { a.CollapseKey, b.CollapseKey = "", "" }), ""},
		// The cap.
		{"one too much", Findings{Cap: 1, Items: []parked.Item{item(jobA, 5, 1, 2), item(jobB, 6, 2, 3)}}, nil, "outcome A: dropped park_cap [2]"},
		{"what was parked last stays", Findings{Cap: 1, Items: []parked.Item{item(jobB, 5, 1), item(jobA, 6, 1), item(jobB, 7, 2)}}, nil, "outcome B: dropped park_cap [1]"},
		{"as many as may be", Findings{Cap: 2, Items: []parked.Item{item(jobA, 5, 1), item(jobB, 6, 1)}}, nil, ""},
		{"any number", Findings{Items: []parked.Item{item(jobA, 5, 1), item(jobB, 6, 1)}}, nil, ""},
		{"what collapses is not counted", Findings{Cap: 1, Items: []parked.Item{item(jobB, 5, 1), item(jobA, 6, 1)}}, sameKey(nil), "outcome A: dropped collapsed [1]"},
		{"what is over is not counted", Findings{Cap: 1, Items: []parked.Item{item(jobB, 5, 1), item(jobA, 6, 1)}}, known(func(i *JobInfo) { i.Over = job.Cancelled }), ""},
		{"what withdraws is neither counted nor dropped", Findings{Cap: 1, Items: []parked.Item{item(jobA, 5, 1), item(jobB, 6, 1)}}, known(func(i *JobInfo) { i.Withdraws = true }), ""},
		{"too much of what is paused", Findings{Cap: 1, Items: []parked.Item{item(jobA, 5, 1), item(jobB, 6, 1)}}, known(func(i *JobInfo) { i.Paused = true }), "outcome A: dropped park_cap [1]"},
	} {
		t.Run(c.name, func(t *testing.T) {
			jobs := c.jobs
			if jobs == nil {
				jobs = known(nil)
			}
			c.f.Job = func(id job.ID) JobInfo {
				if info, ok := jobs[id]; ok {
					return info
				}
				return JobInfo{Over: job.Parked}
			}
			before := fmt.Sprint(textOfFindings(c.f))
			if got := text(Plan(c.f)); got != c.want {
				t.Errorf("got\n%s\nwant\n%s", got, c.want)
			}
			if now := fmt.Sprint(textOfFindings(c.f)); now != before {
				t.Errorf("the findings were changed:\n%s\nbefore\n%s", now, before)
			}
		})
	}
}

func textOfFindings(f Findings) (out []string) {
	for _, it := range f.Items {
		out = append(out, setText(it.Set))
	}
	for _, d := range f.Doubts {
		out = append(out, setText(d.Set))
	}
	for _, o := range f.Online {
		out = append(out, setText(o.Set))
	}
	for _, e := range f.Ending {
		out = append(out, setText(e.Parked))
	}
	return out
}

func TestOnePassDrainsAtMostItsLimit(t *testing.T) {
	const jobs = 3 * PassLimit
	f := Findings{Online: []Online{{g1, idset.Of(1, 2)}}, Job: func(id job.ID) JobInfo { return JobInfo{Known: true, Over: job.Parked, Urgent: id[1]} }}
	for i := range jobs {
		who := []uint32{1}
		if i%2 == 0 {
			who = []uint32{1, 2, 3}
		}
		urgent := byte(0)
		if i == jobs-1 {
			urgent = 5 // parked last, drained first
		}
		f.Items = append(f.Items, item(job.ID{byte(i), urgent}, uint64(i), who...))
	}
	v := Plan(f)
	got := map[uint32][]byte{}
	for _, e := range v.Entries {
		d := e.(*ledger.Drain)
		for id := range d.Targets.Union(0).All() {
			got[id] = append(got[id], d.Job[0])
		}
	}
	first := []byte{jobs - 1}
	for i := range PassLimit - 1 {
		first = append(first, byte(i))
	}
	if !slices.Equal(got[1], first) {
		t.Errorf("recipient 1 gets jobs %v, want the urgent one and the oldest: %v", got[1], first)
	}
	if len(got[2]) != PassLimit || len(got[3]) != 0 {
		t.Errorf("recipient 2 gets %d jobs, 3 (offline) %d", len(got[2]), len(got[3]))
	}
	if setText(v.More) != "1 2" {
		t.Errorf("more: %s", setText(v.More))
	}
}

// Later turns are planned for few recipients only: for many it would take a step for each of
// their messages, in a loop that must not stand.
func TestTurnsArePlannedForFew(t *testing.T) {
	for n, turns := range map[uint32]int{aheadMost: 2, aheadMost + 1: 0} {
		who := idset.New(0)
		for id := range n {
			who.Add(id)
		}
		f := Findings{Online: []Online{{g1, who}}, Job: func(job.ID) JobInfo { return JobInfo{Known: true, Over: job.Parked} }}
		for i := range 2*PassLimit + 1 {
			f.Items = append(f.Items, parked.Item{Job: job.ID{byte(i)}, Number: parked.Number{Seq: uint64(i)}, Set: who})
		}
		v := Plan(f)
		if len(v.Entries) != PassLimit || len(v.Rest) != turns || !v.More.Equal(who) {
			t.Errorf("%d recipients: %d entries, %d turns later, %d have more", n, len(v.Entries), len(v.Rest), v.More.Card())
		}
	}
}
