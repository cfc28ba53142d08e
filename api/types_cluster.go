package api

import (
	"fmt"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"crier/job"
)

// States of a member that it does not have itself but is seen in.
const (
	// Unreachable is a member whose lease is live and whom the process that answers
	// does not reach.
	Unreachable = "unreachable"
	// Lapsed is a member that is over for all that can be known: what it holds is
	// taken over.
	Lapsed = "lapsed"
	// Unknown is a member of which nothing is known but what it holds.
	Unknown = "unknown"
)

// Duties are what one process at a time does for all.
var Duties = []string{"recorder", "folder", "mirror", "audit", "sweep"}

// Member is a process of the cluster, as the process that answers sees it.
type Member struct {
	ID    string    `json:"id"`
	Self  bool      `json:"self" doc:"It is the process that answers."`
	State string    `json:"state" enum:"JOINING,ONLINE,WORKING,SILENCE,OFFLINE,unreachable,lapsed,unknown" doc:"What it says of itself, in capitals; or, in small letters, what is seen of it: unreachable has a live lease but nobody reaches it, lapsed is over, unknown only holds something."`
	Since time.Time `json:"since,omitzero" doc:"Since when it is in this state, as it says itself; else since when that is seen."`
	// Reason is in the member's own words, so that it is there only if it answered.
	Reason      string            `json:"reason,omitzero" doc:"Why it is in this state, in its own words."`
	Roles       map[string]uint16 `json:"roles" doc:"Its share in each role that it plays."`
	Incarnation uint32            `json:"incarnation" doc:"Which start of the process it is."`
	Address     string            `json:"address,omitzero" doc:"Where other members reach it."`
	Away        *int              `json:"away,omitzero" doc:"Over how many links the process that answers reaches it; absent: it does not."`
	Neighbours  []string          `json:"neighbours,omitzero" doc:"The members it has a link with, as it says itself."`
	Lease       bool              `json:"lease" doc:"Its lease in the coordination store is live, or may be."`
	View        string            `json:"view,omitzero" doc:"Hash of who takes work, as it sees it."`
	Agrees      bool              `json:"agrees" doc:"Its view is that of the process that answers."`
	DiffersFor  Duration          `json:"differs_for,omitzero" doc:"For how long its view has been another one."`
	Frozen      bool              `json:"frozen" doc:"It takes nothing new, because the coordination store answers nobody."`
	Answered    bool              `json:"answered" doc:"It was asked just now, and answered."`
	Gone        bool              `json:"gone,omitzero" doc:"It was there and has not left: it was ended, or its machine, its disk or its network is at fault. This is told until it is back, for a day."`
	Holds       Holdings          `json:"holds"`
}

// Holdings is what a member holds by the claims in the ledger.
type Holdings struct {
	Ranges   uint64   `json:"ranges" doc:"Ranges of recipients that it is home to."`
	Slices   uint64   `json:"slices" doc:"Slices of jobs that are not over, which it sends."`
	Jobs     uint64   `json:"jobs" doc:"Jobs that are not over, which it moves on."`
	Journals uint64   `json:"journals" doc:"Sealed journals of others that it closes."`
	Duties   []string `json:"duties,omitzero" doc:"What it does for all: recorder, folder, mirror, audit, sweep."`
}

// MemberList is all members, by id.
type MemberList struct {
	Members []Member `json:"members"`
}

// Operate asks a member to be silent, or to resume.
type Operate struct {
	Reason string `json:"reason,omitzero" doc:"Why, in words: printable text of at most 256 bytes."`
}

// Validate refuses a reason that cannot stand on a terminal.
func (r Operate) Validate() error { return validateReason(r.Reason) }

func validateReason(reason string) error {
	switch {
	case len(reason) > 256:
		return job.Invalid("reason", fmt.Sprintf("a reason of %d bytes is over 256", len(reason)), nil)
	case !utf8.ValidString(reason):
		return job.Invalid("reason", "a reason is UTF-8, this one is not", nil)
	}
	for _, c := range reason {
		if !unicode.IsPrint(c) {
			return job.Invalid("reason", fmt.Sprintf("a reason is printable text; %q is not", c), nil)
		}
	}
	return nil
}

// Kinds of things in a ring.
const (
	RingRange   = "range"
	RingJob     = "job"
	RingSlice   = "slice"
	RingJournal = "journal"
)

// RingKinds lists them.
var RingKinds = []string{RingRange, RingJob, RingSlice, RingJournal}

// AskRing asks who should hold what, and who does.
type AskRing struct {
	Page // of the differences
	// Kind is of RingKinds; empty is RingRange.
	Kind string
	// Diff asks for the list of what differs.
	Diff bool
}

// Validate refuses a kind that there is not.
func (r AskRing) Validate() error {
	switch r.Kind {
	case "", RingRange, RingJob, RingSlice, RingJournal:
		return r.Page.Validate()
	}
	return job.Invalid("kind", fmt.Sprintf("kind %q: want one of %s", Printable(r.Kind), strings.Join(RingKinds, ", ")), nil)
}

// Ring compares the hint, which is computed from the view of the process that answers,
// with the claims in the ledger. A difference is nothing wrong: a valid claim is never
// stolen, and what nobody needs is claimed by nobody.
type Ring struct {
	Kind      string       `json:"kind" enum:"range,job,slice,journal"`
	View      string       `json:"view" doc:"Hash of the view that the hint is computed from."`
	Frozen    bool         `json:"frozen" doc:"Nothing new is taken now by the process that answers."`
	Things    uint64       `json:"things" doc:"How many there are."`
	Claimed   uint64       `json:"claimed" doc:"How many of them somebody holds."`
	Differ    uint64       `json:"differ" doc:"How many of those another holds than the hint says."`
	Disagree  []string     `json:"disagree,omitzero" doc:"Reachable members whose view is another one."`
	Members   []RingMember `json:"members"`
	Different []Different  `json:"different,omitzero" doc:"What somebody else holds than the hint says, and, but for ranges, what nobody holds; a page of it."`
	Next      string       `json:"next,omitzero" doc:"Cursor of the next page of what differs; absent on the last."`
}

// RingMember is one member's part of a ring.
type RingMember struct {
	ID      string `json:"id"`
	Weight  uint16 `json:"weight" doc:"Its share in the role that takes such things; 0: it takes none now."`
	Hinted  uint64 `json:"hinted" doc:"What it should hold by the hint."`
	Holds   uint64 `json:"holds" doc:"What it holds by the claims."`
	Both    uint64 `json:"both" doc:"What it holds as the hint says."`
	Others  uint64 `json:"others" doc:"What others hold that it should."`
	Nobodys uint64 `json:"nobodys" doc:"What nobody holds that it should."`
}

// Different is a thing whose holder is not who the hint says.
type Different struct {
	Thing  string    `json:"thing" doc:"A range, a job, a slice (job-number) or a journal."`
	Hint   string    `json:"hint,omitzero" doc:"The member that should hold it; absent: nobody takes such things."`
	Holder string    `json:"holder,omitzero" doc:"The member that holds it; absent: nobody."`
	Epoch  uint64    `json:"epoch,omitzero" doc:"How often it was claimed or released."`
	Since  time.Time `json:"since,omitzero" doc:"When it was claimed, or released."`
}

// Journal is one journal of a worker in the ledger.
type Journal struct {
	Journal  string    `json:"journal" doc:"The worker and its incarnation."`
	Worker   string    `json:"worker"`
	Member   string    `json:"member" doc:"The member that the worker is a part of."`
	Records  uint64    `json:"records" doc:"How many it had, those that are folded by now among them."`
	Last     uint64    `json:"last,omitzero" doc:"Sequence of its last record; absent: it could not be read."`
	LastAt   time.Time `json:"last_at,omitzero"`
	Sealed   bool      `json:"sealed"`
	SealedBy string    `json:"sealed_by,omitzero" doc:"Journal of the worker that sealed it, or itself."`
	Open     uint64    `json:"open" doc:"Its reserves that are not closed, counted at each gateway."`
	Lapsed   bool      `json:"lapsed" doc:"Its owner is over for all that can be known."`
	// LapsedFor is told only of journals that should be sealed and are not.
	LapsedFor Duration `json:"lapsed_for,omitzero" doc:"For how long it has been unsealed although its owner is over."`
}

// JournalList is one page of journals, by name.
type JournalList struct {
	Journals []Journal `json:"journals"`
	// Unsealed counts over all pages.
	Unsealed uint64   `json:"unsealed" doc:"How many journals of all pages are not sealed although their owners are over."`
	Longest  Duration `json:"longest,omitzero" doc:"The longest lapsed_for of all pages."`
	Next     string   `json:"next,omitzero" doc:"Cursor of the next page; absent on the last."`
}

// Lane is what one lane of a worker is at.
type Lane struct {
	Worker  string    `json:"worker"`
	Lane    int       `json:"lane"`
	Phase   string    `json:"phase" enum:"idle,preparing,reserving,handing"`
	Job     job.ID    `json:"job,omitzero"`
	Slice   *uint32   `json:"slice,omitzero"`
	First   *uint64   `json:"first,omitzero" doc:"First recipient of its block."`
	Last    *uint64   `json:"last,omitzero" doc:"Last recipient of its block."`
	Targets uint64    `json:"targets,omitzero" doc:"How many of them are handed over."`
	Since   time.Time `json:"since,omitzero" doc:"Since when it is in this phase."`
}

// LaneList is the lanes of all workers, and the workers that did not answer.
type LaneList struct {
	Lanes  []Lane   `json:"lanes"`
	Silent []Silent `json:"silent,omitzero" doc:"Who was asked and did not answer in time."`
}

// Silent is a process, or a part of one, that did not answer.
type Silent struct {
	Name string `json:"name"`
	Why  string `json:"why"`
}

// Printable keeps what bad input had to say short and valid UTF-8.
func Printable(s string) string {
	const limit = 200
	return strings.ToValidUTF8(s[:min(len(s), limit)], "?")
}
