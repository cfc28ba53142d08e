package job

// What the words of outcomes, reasons and states mean, each in a sentence. Whoever adds a
// word adds a sentence.
var (
	outcomeMeans = [...]string{
		Pending:   "Nothing is decided of the recipient yet: it is not its turn.",
		HandedOff: "The message was handed to the recipient's gateway, and is not acknowledged yet.",
		Parked:    "The message waits until the recipient logs in, or its time to live ends.",
		InDoubt:   "Nobody can know whether the recipient was shown the message; on_unknown of the job decides, or crier job resolve.",
		Delivered: "The recipient's client acknowledged the message.",
		Dropped:   "The recipient was left out, for a reason such as relation.",
		Expired:   "The time to live ended before the recipient got the message.",
		Recalled:  "The job was recalled before the recipient acknowledged the message; who was handed it may have been shown it.",
		Cancelled: "The job was cancelled before the recipient acknowledged the message; who was handed it may have been shown it.",
		Failed:    "The recipient cannot be given the message, for a reason: refused, tries or unknown.",
	}
	reasonMeans = [...]string{
		ReasonRelation:   "The recipient does not follow the account.",
		ReasonSuppressed: "The recipient was on a suppression list when it was its turn.",
		ReasonTargeting:  "The recipient is in none of the segments to include, or in one of those to exclude.",
		ReasonControl:    "The recipient is in the account's control group, which is held out.",
		ReasonSendOnce:   "The recipient got the same message before, within the window of --send-once.",
		ReasonFrequency:  "The recipient has had as many messages as frequency.cap or frequency.account_cap allows in a day.",
		ReasonParkCap:    "More messages waited for the recipient than parking.cap allows; the oldest are dropped.",
		ReasonCollapsed:  "A newer message with the same collapse key took the place of this one while it waited.",
		SuppressedParked: "The recipient was put on a suppression list, or erased, while the message waited for it.",
		ReasonRefused:    "The recipient's gateway or client refused the message for good; a withdrawal: its client cannot take a message back.",
		ReasonTries:      "Five tries to hand the message over did not work.",
		ReasonUnknown:    "The recipient was in doubt until the time to live ended, or an operator gave it up.",
	}
	stateMeans = [...]string{
		Submitted:        "The job is accepted, and in the ledger; a scheduler takes it next.",
		Scheduled:        "The job waits for the time at which it is to begin.",
		AwaitingApproval: "Somebody has to approve the job before it goes on.",
		Held:             "The job is set aside before it is sent, until somebody releases it.",
		Packing:          "The job's package is being made.",
		Packed:           "The job's package is sealed; a scheduler queues the job next.",
		Queued:           "The job waits for its turn, behind more urgent ones.",
		Preparing:        "The job's package is being verified; nothing is sent yet.",
		Prepared:         "The job's package is verified; its slices are offered to workers next.",
		Sending:          "Workers hand the message to who is online, and park it for the others.",
		Paused:           "New hand-offs were stopped, by an operator or by the restore of a backup, until crier job resume.",
		Preempted:        "More urgent jobs go first; the job goes on by itself.",
		Sent:             "Everybody who was online is handled; for the rest the message waits until they log in or its time to live ends.",
		Completed:        "The job is over: nobody is pending, parked, handed off or in doubt.",
		Cancelling:       "The job was cancelled: nothing new is sent, and what is open is being closed.",
		JobCancelled:     "The job was cancelled, and is over; who waited for it gets nothing.",
		Recalling:        "The job was recalled: what is open is being closed, then a withdrawal is made of who may have seen it.",
		JobRecalled:      "The job was recalled, and is over; its withdrawal asks who may have seen the message to take it off the display.",
		JobFailed:        "The job cannot be sent to its end, and is over; crier job info has the reason.",
		JobExpired:       "The job is over: its time to live ended before anybody got the message.",
		Quarantined:      "The job broke what works on it five times, and is set aside, until crier job resume or crier job cancel.",
		FailedOver:       "The job comes from another centre; a scheduler of this one goes on with it.",
	}
	// otherMeans are words beside a state, and states of members, which no type here has.
	otherMeans = []Word{
		{"withdrawn", "count of a recalled job", "How many recipients' clients took the message off the display; they stay delivered."},
		{"being_withdrawn", "count of a recalled job", "From how many recipients the message is still to be taken back, at once or at their next login."},
		{"withdrawal_refused", "count of a recalled job", "How many recipients' clients cannot take a message back, and keep it."},
		{"withdrawal", "mark of a job", "The job has no message: it takes back what a recalled job delivered; crier job info shows which."},
		{"paused", "mark of a job that is sent", "Nothing of what is parked is handed over until crier job resume; what is sent has no state of its own for that."},
		{"overstayed", "mark of a job", "The job is in its state for longer than that is meant to last; crier job ls --stuck lists such jobs."},
		{"JOINING", "state of a member", "The member has begun, and waits until it and the others see each other."},
		{"ONLINE", "state of a member", "The member is among the others, and takes no work yet."},
		{"WORKING", "state of a member", "The member takes work."},
		{"SILENCE", "state of a member", "The member hands over what it holds and takes nothing new: it was asked to be silent, or stops, or is not healthy; crier member info has the reason."},
		{"OFFLINE", "state of a member", "The member reaches no other member, and not the ledger; it begins anew when it does."},
		{"unreachable", "state of a member", "The member's lease is live, but the process that answers does not reach it; nobody takes over from it yet."},
		{"lapsed", "state of a member", "The member ended without leaving, and its lease is over: what it holds is taken over. It is listed until it is back, for a day."},
		{"unknown", "state of a member", "Nothing is known of the member but what it holds."},
		{"no_answer", "mark of a member", "The others saw the member a moment ago, and it did not answer when it was asked; it may be gone."},
		{"open", "state of a journal", "The worker whose journal it is may write into it; in the column OPEN is how many recipients' fates it leaves open."},
		{"sealed", "state of a journal", "Another worker has closed the journal, whose worker is gone or began anew; nothing that comes into it later counts."},
		{"frozen", "mark of a member", "The member takes nothing new, because the coordination store answers nobody."},
	}
	sliceMeans = [...]string{
		SlicePlanned:   "The slice is cut, and not offered to a worker yet.",
		SliceOffered:   "The slice is offered, and no worker has claimed it yet.",
		SliceClaimed:   "A worker has claimed the slice, and begins with it next.",
		SliceSending:   "The slice's worker hands over its blocks.",
		SlicePaused:    "The slice's job is paused.",
		SliceSent:      "Everybody in the slice is handled or parked.",
		SliceFolded:    "The slice is sent, and its records are in reports.",
		SliceInDoubt:   "The slice's worker is gone, and another one is to claim it.",
		SliceReleased:  "The slice's worker gave it up; it is offered again.",
		SliceAbandoned: "The slice's job was stopped before the slice was sent.",
	}
)

// Means says what the outcome is, in a sentence.
func (o Outcome) Means() string { return outcomeMeans[o] }

// Means says what the reason is, in a sentence; "" for none.
func (r Reason) Means() string { return reasonMeans[r] }

// Means says what the state is, in a sentence.
func (s State) Means() string { return stateMeans[s] }

// Means says what the state is, in a sentence.
func (s SliceState) Means() string { return sliceMeans[s] }

// Word is a word that says where a recipient, a job, a slice or a member stands.
type Word struct {
	Word  string `json:"word"`
	Is    string `json:"is"` // what it is a word for
	Means string `json:"means"`
}

// Words lists all of them: of recipients, of jobs, of slices, of members. A word may be in it for two.
func Words() (all []Word) {
	for o := range Outcome(len(outcomeNames)) {
		all = append(all, Word{o.String(), "outcome of a recipient", o.Means()})
	}
	for r := ReasonRelation; r <= ReasonUnknown; r++ {
		all = append(all, Word{r.String(), "reason of a recipient who is " + r.Outcome().String(), r.Means()})
	}
	for s := range State(len(life)) {
		all = append(all, Word{s.String(), "state of a job", s.Means()})
	}
	for s := range SliceState(len(sliceLife)) {
		all = append(all, Word{s.String(), "state of a slice", s.Means()})
	}
	return append(all, otherMeans...)
}
