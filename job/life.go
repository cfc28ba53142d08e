package job

import "time"

// Owner is the role that moves a job or a slice on.
type Owner uint8

// The owners.
const (
	Nobody    Owner = iota // it is over
	API                    // who accepted it
	Scheduler              // the one that has claimed the job
	Workers                // those who send its slices, and the homes of its recipients
	Operator               // a person
)

var ownerNames = [...]string{"", "api", "scheduler", "workers", "operator"}

// String is the word used in the API and the CLI.
func (o Owner) String() string { return ownerNames[o] }

// Needs says whether a job in a state goes on by itself, and if not, what it needs.
type Needs uint8

// What a job may need to go on.
const (
	NeedsNothing    Needs = iota // it is over
	NeedsOwner                   // only that its owner does its work
	NeedsWork                    // time in proportion to its recipients
	NeedsRecipients              // that they log in or acknowledge, or that it expires
	NeedsOperator                // somebody's decision
	NeedsTime                    // a time that is set
)

// Count says from when on a deadline counts.
type Count uint8

// The beginnings of deadlines.
const (
	FromEntry    Count = iota // since the state was entered
	FromProgress              // since then, or since anything of it was done last
	FromExpiry                // since the job's time to live has ended
)

// Rule is what is so for a job in one state.
type Rule struct {
	Name     string
	Owner    Owner
	Deadline time.Duration // longer, and the state is overstayed; 0: it may last
	Counts   Count         // from when on
	Needs    Needs
	WaitsOn  string // in words, where nobody knows better
	// Take says that the sweep may take an overstayed job from its owner: who takes it
	// then begins anew with what the ledger says.
	Take bool
	// Next is what it may become, beside what CanBecome adds.
	Next []State
}

// prompt is the deadline of what takes an append or two; the clock that stamped the state
// may be two minutes off.
const prompt = 5 * time.Minute

// life is the one table of a job's states. Cancelling, recalling, failure
// and quarantine are possible from every state that is not terminal. A job that is
// over can be recalled once: what it delivered is still there.
var life = [...]Rule{
	Submitted:        {"submitted", Scheduler, prompt, FromEntry, NeedsOwner, "a scheduler to take it", true, []State{Scheduled, AwaitingApproval, Held, Packing, Packed}},
	Scheduled:        {"scheduled", Scheduler, 0, FromEntry, NeedsTime, "its time", false, []State{AwaitingApproval, Held, Packing, Packed, Queued}},
	AwaitingApproval: {"awaiting-approval", Operator, 0, FromEntry, NeedsOperator, "approval", false, []State{Scheduled, Held, Packing, Packed}},
	Held:             {"held", Operator, 0, FromEntry, NeedsOperator, "its release", false, []State{Scheduled, AwaitingApproval, Packing, Packed, Queued}},
	Packing:          {"packing", API, 10 * time.Minute, FromEntry, NeedsOwner, "its package to be sealed", false, []State{Packed}},
	Packed:           {"packed", Scheduler, prompt, FromEntry, NeedsOwner, "a scheduler to queue it", true, []State{Queued, Held}},
	Queued:           {"queued", Scheduler, time.Hour, FromEntry, NeedsOwner, "its turn", false, []State{Preparing, Held}},
	Preparing:        {"preparing", Scheduler, 10 * time.Minute, FromEntry, NeedsOwner, "its package to be verified", true, []State{Prepared, Queued}},
	Prepared:         {"prepared", Scheduler, prompt, FromEntry, NeedsOwner, "a scheduler to offer its slices", true, []State{Sending, Paused, Queued}},
	Sending:          {"sending", Workers, 10 * time.Minute, FromProgress, NeedsWork, "its slices to be sent", true, []State{Paused, Preempted, Sent, FailedOver}},
	Paused:           {"paused", Operator, 0, FromEntry, NeedsOperator, "resume", false, []State{Sending, Preempted, FailedOver}},
	Preempted:        {"preempted", Scheduler, 10 * time.Minute, FromEntry, NeedsOwner, "more urgent jobs", true, []State{Queued, Sending, FailedOver}},
	Sent:             {"sent", Workers, 10 * time.Minute, FromExpiry, NeedsRecipients, "logins, acknowledgements, or its end", false, []State{Completed, JobExpired, FailedOver}},
	Completed:        {Name: "completed", Next: []State{Recalling}},
	Cancelling:       {"cancelling", Workers, 10 * time.Minute, FromProgress, NeedsOwner, "what is open to be closed", true, []State{JobCancelled, FailedOver}},
	JobCancelled:     {Name: "cancelled", Next: []State{Recalling}},
	Recalling:        {"recalling", Workers, 10 * time.Minute, FromProgress, NeedsOwner, "what is open to be closed, and its withdrawal to be made", true, []State{JobRecalled, FailedOver}},
	JobRecalled:      {Name: "recalled"},
	JobFailed:        {Name: "failed", Next: []State{Recalling}},
	JobExpired:       {Name: "expired", Next: []State{Recalling}},
	Quarantined:      {"quarantined", Operator, 0, FromEntry, NeedsOperator, "resume or cancel", false, []State{Queued}},
	FailedOver:       {"failed-over", Scheduler, 10 * time.Minute, FromEntry, NeedsOwner, "a scheduler of this centre to go on with it", true, []State{Queued, Sending, Sent, Cancelling, Recalling}},
}

// Rule is what the table says of a state; of one that it does not know, nothing.
func (s State) Rule() Rule {
	if int(s) < len(life) {
		return life[s]
	}
	return Rule{}
}

// Due is when a job overstays its state: it came there at since, something of it was done
// last at progress, and its time to live ends at expires. ok is false if it may stay.
func (s State) Due(since, progress, expires time.Time) (due time.Time, ok bool) {
	r := s.Rule()
	if r.Deadline == 0 {
		return due, false
	}
	from := since
	switch {
	case r.Counts == FromProgress && progress.After(from):
		from = progress
	case r.Counts == FromExpiry && expires.After(from):
		from = expires
	}
	return from.Add(r.Deadline), true
}

// MaxTries is how often something of a job may break whoever works on it: then the job is
// quarantined.
const MaxTries = 5

// SliceRule is what is so for a slice in one state. A slice has no deadline of its own: if
// none of a job's slices goes on, the job overstays its state.
type SliceRule struct {
	Name    string
	Owner   Owner
	WaitsOn string
	Next    []SliceState
}

// sliceLife is the one table of a slice's states.
var sliceLife = [...]SliceRule{
	SlicePlanned:   {"planned", Scheduler, "an offer", []SliceState{SliceOffered, SliceAbandoned}},
	SliceOffered:   {"offered", Workers, "a worker to claim it", []SliceState{SliceClaimed, SlicePlanned, SliceAbandoned}},
	SliceClaimed:   {"claimed", Workers, "its worker's lanes", []SliceState{SliceSending, SliceReleased, SliceInDoubt, SliceAbandoned}},
	SliceSending:   {"sending", Workers, "its blocks to be handed over", []SliceState{SlicePaused, SliceSent, SliceReleased, SliceInDoubt, SliceAbandoned}},
	SlicePaused:    {"paused", Operator, "resume", []SliceState{SliceSending, SliceReleased, SliceInDoubt, SliceAbandoned}},
	SliceSent:      {"sent", Workers, "the ledger to be folded", []SliceState{SliceFolded, SliceInDoubt}},
	SliceFolded:    {Name: "folded"},
	SliceInDoubt:   {"in-doubt", Workers, "a worker to claim it", []SliceState{SliceClaimed}},
	SliceReleased:  {"released", Scheduler, "an offer", []SliceState{SliceOffered, SliceClaimed}},
	SliceAbandoned: {Name: "abandoned"},
}

// Rule is what the table says of a state; of one that it does not know, nothing.
func (s SliceState) Rule() SliceRule {
	if int(s) < len(sliceLife) {
		return sliceLife[s]
	}
	return SliceRule{}
}
