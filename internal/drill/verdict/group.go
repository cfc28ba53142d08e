package verdict

import (
	"fmt"

	"crier/api"
	"crier/job"
)

// Aim is a job and whom it is for, by the sets that the drill made: what Crier's filters
// say is not asked.
type Aim struct {
	Job    job.ID
	Barred map[job.Recipient]bool // excluded, suppressed or held out
	Only   map[job.Recipient]bool // who is in the segment that it aims at; nil: it aims at none
}

// For reports whether somebody may get it.
func (a Aim) For(r job.Recipient) bool { return !a.Barred[r] && (a.Only == nil || a.Only[r]) }

// Group is jobs of which a recipient gets those that are for him, but so many at most: by
// the cap of a day, by what is sent once, or one job by itself.
type Group struct {
	Name        string
	Jobs        []Aim
	Least, Most int
	Recalled    bool // none is due, and who was shown one is to take it back
}

// may is how many of the group are for somebody.
func (g Group) may(r job.Recipient) (n int) {
	for _, a := range g.Jobs {
		if a.For(r) {
			n++
		}
	}
	return n
}

// Due is how many messages are due to some.
func Due(groups []*Group, who []job.Recipient) (n int) {
	for _, g := range groups {
		for _, r := range who {
			n += min(g.may(r), g.Least)
		}
	}
	return n
}

// Seen is what clients showed of a job, and took back.
type Seen struct {
	Shown    map[job.Recipient]int
	Withdrew map[job.Recipient]bool
}

// See compares what clients showed with what was due. Away are members who are not
// connected, of whom nothing is asked.
func See(groups []*Group, seen map[job.ID]Seen, members, away []job.Recipient) (o Oracle) {
	gone, member := map[job.Recipient]bool{}, map[job.Recipient]bool{}
	for _, r := range away {
		gone[r] = true
	}
	for _, r := range members {
		member[r] = true
	}
	o.Away = len(away)
	for _, g := range groups {
		got := map[job.Recipient]int{}
		for _, a := range g.Jobs {
			for r, n := range seen[a.Job].Shown {
				switch {
				case !member[r]:
					o.Strange++
				case !a.For(r):
					o.Barred++
				default:
					got[r]++
				}
				if n > 1 && member[r] {
					o.Twice++
				}
				if g.Recalled && !gone[r] && !seen[a.Job].Withdrew[r] {
					o.Kept++
				}
			}
		}
		for _, r := range members {
			may := g.may(r)
			o.Over += max(0, got[r]-min(may, g.Most))
			if due := min(may, g.Least); !gone[r] {
				o.Due += due
				o.Shown += min(got[r], due)
				o.Lost += max(0, due-got[r])
			}
		}
	}
	return o
}

// Proved compares the ledger's proofs of the jobs of a group with what clients showed;
// parked are those who follow and never log in, members the others.
func (g Group) Proved(recs map[job.ID]api.Reconciliation, seen map[job.ID]Seen, members, parked []job.Recipient) (bad []string) {
	var waiting uint64
	for _, a := range g.Jobs {
		barred := 0
		for _, r := range members {
			barred += one(!a.For(r))
		}
		for _, r := range parked {
			barred += one(!a.For(r))
		}
		waiting += recs[a.Job].Parked
		bad = append(bad, g.proved(recs[a.Job], len(members)+len(parked), barred, len(seen[a.Job].Shown))...)
	}
	least, most := 0, 0
	for _, r := range parked {
		may := g.may(r)
		least, most = least+min(may, g.Least), most+min(may, g.Most)
	}
	if g.Recalled {
		most = 0
	}
	if waiting < uint64(least) || waiting > uint64(most) {
		bad = append(bad, fmt.Sprintf("%s: %d are parked, and by who never logged in it should be %d to %d", g.Name, waiting, least, most))
	}
	return bad
}

func one(is bool) int {
	if is {
		return 1
	}
	return 0
}

// proved is that of one job.
func (g Group) proved(r api.Reconciliation, recipients, barred, shown int) (bad []string) {
	say := func(format string, args ...any) {
		bad = append(bad, fmt.Sprintf("%s: ", r.Job)+fmt.Sprintf(format, args...))
	}
	if !r.Conserved {
		say("the ledger does not prove that it is conserved: %v", r.Violations)
	}
	for _, x := range []struct {
		what string
		n    uint64
	}{{"pending", r.Pending}, {"handed off", r.HandedOff}, {"in doubt", r.InDoubt}, {"failed", r.Failed}, {"expired or cancelled", r.Expired + r.Cancelled}} {
		if x.n > 0 {
			say("%d recipients are %s", x.n, x.what)
		}
	}
	if r.Recalled > 0 && !g.Recalled {
		say("%d recipients are recalled", r.Recalled)
	}
	if r.Package != uint64(recipients) {
		say("its package has %d recipients, and %d follow", r.Package, recipients)
	}
	if sum := r.Delivered + r.Parked + r.Recalled + r.DroppedTotal(); sum != r.Package {
		say("delivered, parked, recalled and dropped are %d of %d", sum, r.Package)
	}
	if r.Delivered != uint64(shown) {
		say("the ledger says delivered to %d, clients showed it to %d", r.Delivered, shown)
	}
	charged := r.Dropped[job.ReasonSendOnce] + r.Dropped[job.ReasonFrequency]
	if dropped := r.DroppedTotal() - charged; dropped > uint64(barred) || dropped < uint64(barred) && !g.Recalled { // before its turn
		say("%d are dropped, and it was not for %d: %v", dropped, barred, r.Dropped)
	}
	if charged > 0 && len(g.Jobs) == 1 {
		say("%d are dropped for a cap, and it has none: %v", charged, r.Dropped)
	}
	return bad
}
