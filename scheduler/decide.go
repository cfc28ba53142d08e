package scheduler

import (
	"cmp"
	"fmt"
	"slices"

	"crier/job"
	"crier/state/jobs"
	"crier/state/parked"
)

// MaxSending is the number of normal jobs that may be sending at a time; the rest
// waits in the queue. Real-time jobs do not wait, and neither does a job that was
// paused: it gives its place up meanwhile, and goes on at once when it is resumed.
const MaxSending = 64

// queued orders jobs: real-time first, by priority, 99 first, then by age; normal
// ones by age.
func queued(a, b jobs.Job) int {
	return cmp.Or(cmp.Compare(urgency(b.Spec), urgency(a.Spec)), a.Spec.SubmittedAt.Compare(b.Spec.SubmittedAt),
		slices.Compare(a.Spec.ID[:], b.Spec.ID[:]))
}

func urgency(s job.Spec) uint8 {
	if s.Class == job.Realtime {
		return s.Priority
	}
	return 0
}

// view is what a decision about a job is made of.
type view struct {
	job      jobs.Job
	total    parked.Tally
	prepared bool // its package is verified and cut into slices
	failure  string
	broken   string // why the job is to be set aside; "" if it is not
	settled  bool   // with a failure: its totals did not move for a while
	unsent   int    // slices that are not sent
	why      string // the first of them was not taken, or the package was not read; "" if that goes well
	room     bool
	// Of a job that is being recalled: its withdrawal is accepted, or nobody can have seen
	// its message; or why that is not so yet.
	withdrawn bool
	unmade    string
}

// open counts the recipients who are not at an end, but were reserved.
func (v view) open() uint64 { return v.total.Parked + v.total.HandedOff + v.total.InDoubt }

// pending counts those whom no reserve covers.
func (v view) pending() uint64 {
	return v.job.Spec.Recipients - min(v.total.Reserved, v.job.Spec.Recipients)
}

// allSent reports whether nothing is left to offer. When everybody is reserved, that
// is so whatever has become of the package.
func (v view) allSent() bool {
	return v.prepared && v.unsent == 0 || v.failure != "" && v.pending() == 0
}

// stuck reports whether nothing of the job can go on: what is pending cannot be read
// from its package, and nobody is open. Before anything was offered that is so at
// once; later the totals, which may lag behind the ledger, must have come to rest.
func (v view) stuck() bool {
	return v.failure != "" && (v.job.State < job.Sending || v.open() == 0 && v.settled && !v.allSent())
}

// closed reports whether everybody is reserved and nobody is open. The totals may lag
// behind the ledger: nothing is closed before all of the package is in them.
func (v view) closed() bool {
	return v.total.Reserved == v.job.Spec.Recipients && v.open() == 0
}

// mayWithdraw reports whether it is known for good who can have seen the message of a
// job that is being recalled.
func (v view) mayWithdraw() bool {
	return v.job.State == job.Recalling && (v.closed() || v.stuck())
}

// step is what to do about a job: become another state, for a reason.
type step struct {
	to     job.State
	reason string
}

// decide says what a job becomes next; ok is false if it stays what it is.
func decide(v view) (s step, ok bool) {
	c := v.job.Controls
	closed, allSent := v.closed(), v.allSent()
	if c.Recalled && v.job.State != job.Recalling && v.job.State.CanBecome(job.Recalling) {
		return step{job.Recalling, c.RecallReason()}, true
	}
	if c.Cancelled && v.job.State != job.Cancelling && v.job.State.CanBecome(job.Cancelling) {
		return step{job.Cancelling, "cancel was asked for"}, true
	}
	switch v.job.State {
	case job.Sending:
		if allSent {
			return step{job.Sent, "every online recipient is handled, the rest is parked"}, true
		}
		if v.stuck() {
			return fail(v), true
		}
		if v.broken != "" {
			return step{job.Quarantined, v.broken}, true
		}
		if c.Paused {
			return step{job.Paused, c.PauseReason()}, true
		}
	case job.Paused:
		if v.stuck() {
			return fail(v), true
		}
		if !c.Paused {
			return step{job.Sending, "resume was asked for"}, true
		}
		if allSent { // it expired meanwhile, or the pause came too late
			return step{job.Sending, "nothing is left to pause"}, true
		}
	case job.Sent:
		switch {
		case closed && v.total.Expired > 0 && v.total.Delivered == 0:
			return step{job.JobExpired, "its time to live ended before anybody got the message"}, true
		case closed:
			return step{job.Completed, "nobody is pending, parked, handed off or in doubt"}, true
		}
	case job.Recalling:
		if v.mayWithdraw() && v.withdrawn {
			return recalled(v), true
		}
	case job.Cancelling:
		if allSent && closed {
			return step{job.JobCancelled, "nothing of it is open"}, true
		}
		if v.stuck() {
			return fail(v), true
		}
	default:
		return begin(v)
	}
	return step{}, false
}

// begin decides about a job of which nothing is sent, or not now.
func begin(v view) (s step, ok bool) {
	switch v.job.State {
	case job.Submitted:
		return step{job.Packed, "its package is sealed"}, true
	case job.Packed:
		return step{job.Queued, "waits for its turn"}, true
	case job.Queued:
		if v.room {
			return step{job.Preparing, "its package is verified"}, true
		}
	case job.Preparing:
		if v.stuck() {
			return fail(v), true
		}
		if v.broken != "" {
			return step{job.Quarantined, v.broken}, true
		}
		if v.prepared {
			return step{job.Prepared, "its slices are planned"}, true
		}
	case job.Prepared:
		if v.job.Controls.Paused {
			return step{job.Paused, v.job.Controls.PauseReason()}, true
		}
		return step{job.Sending, "its slices are offered"}, true
	case job.Quarantined:
		if v.job.Controls.Again >= v.job.Version {
			return step{job.Queued, "resume was asked for"}, true
		}
	}
	return step{}, false
}

// recalled ends a job of which nothing is left but its withdrawal. How far that is changes
// after it, so that the reason does not say it.
func recalled(v view) step {
	reason := "nothing of it is open"
	if !v.closed() {
		reason = fmt.Sprintf("%s recipients were never handled: %s", job.Exact(v.pending()), v.failure)
	}
	return step{job.JobRecalled, v.job.Controls.RecallReason() + "; " + reason}
}

// fail ends a job whose package cannot be used, and says how many nobody was told of.
func fail(v view) step {
	reason := v.failure
	if v.total.Reserved > 0 {
		reason += fmt.Sprintf("; %s of %s recipients were handled before, %s never", job.Exact(v.total.Reserved), job.Exact(v.job.Spec.Recipients), job.Exact(v.pending()))
	}
	return step{job.JobFailed, reason}
}

// waitingOn says, in words, what a job in its state waits on; "" once it is over.
func waitingOn(v view, ahead int) string {
	state, open := v.job.State, v.open()
	if next, ok := decide(v); ok {
		return "the ledger to take down that it is " + next.to.String()
	}
	if state.Terminal() {
		return ""
	}
	if v.mayWithdraw() {
		return "the withdrawal of what was delivered to be made" + because(v.unmade)
	}
	if v.failure != "" && state != job.Sent && !v.allSent() {
		return stuckOn(v)
	}
	switch state {
	case job.Queued:
		return fmt.Sprintf("its turn; %d jobs are ahead", ahead)
	case job.Paused:
		return "resume"
	case job.Quarantined:
		return "an operator, who finds out what is wrong with it and resumes it, or cancels it"
	case job.Preparing, job.Sending, job.Cancelling, job.Recalling:
		if !v.prepared && !v.allSent() {
			return "its package to be verified" + because(v.why)
		}
	case job.Sent:
	default:
		return cmp.Or(state.Rule().WaitsOn, "somebody to move it on") + "; no scheduler of this version moves on what is " + state.String()
	}
	switch {
	case state == job.Sending:
		return slicesOf(v.unsent) + " to be sent" + because(v.why)
	case open == 0 && (state == job.Sent || v.unsent == 0):
		return fmt.Sprintf("the index, which has counted %s of %s recipients", job.Exact(v.total.Reserved), job.Exact(v.job.Spec.Recipients))
	case state == job.Cancelling || state == job.Recalling:
		return fmt.Sprintf("%s and %s to be closed", slicesOf(v.unsent), recipientsOf(open)) + because(v.why)
	}
	return v.total.Counts(v.job.Spec.Recipients).Waits(state == job.Sent && v.job.Controls.Paused)
}

func slicesOf(n int) string {
	if n == 1 {
		return "1 slice"
	}
	return fmt.Sprintf("%d slices", n)
}

func recipientsOf(n uint64) string {
	if n == 1 {
		return "1 recipient"
	}
	return job.Exact(n) + " recipients"
}

func because(why string) string {
	if why == "" {
		return ""
	}
	return ": " + why
}

// stuckOn says what a job whose package cannot be used waits on, and what an operator
// can do.
func stuckOn(v view) string {
	words := fmt.Sprintf("its package, which cannot be used: %s; for %s recipients", v.failure, job.Exact(v.pending()))
	if v.open() > 0 {
		words += fmt.Sprintf(", while %s parked, %s handed off and %s in doubt are settled", job.Exact(v.total.Parked), job.Exact(v.total.HandedOff), job.Exact(v.total.InDoubt))
	}
	if v.job.State == job.Recalling {
		return words + "; then what was delivered is withdrawn"
	}
	words += "; then it fails, unless the package is imported again and the server restarted"
	if v.job.State != job.Cancelling {
		words += "; a cancel ends it sooner"
	}
	return words
}

// Slice is a contiguous part of a job's ids, cut between ranges.
type Slice struct {
	Number uint32
	Span   job.Span
	State  job.SliceState
}

const (
	maxSlices   = 64
	sliceTarget = 4 << 20  // recipients, and what its ranges weigh
	rangeWeight = 64 << 10 // a block costs about as much as so many recipients of one
)

// cut divides a package into at most 64 slices of whole ranges, each of about the
// same work. It depends on the package only, so that every scheduler cuts a job in
// the same way.
func cut(ranges []job.Range, sizes []int) []Slice {
	var total int
	for _, n := range sizes {
		total += n + rangeWeight
	}
	n := min(maxSlices, total/sliceTarget+1)
	want := (total + n - 1) / n // n slices of so much are all of it
	var out []Slice
	have, full := 0, true
	for i, r := range ranges {
		if full {
			out = append(out, Slice{Number: uint32(len(out)), Span: job.Span{Lo: uint64(r.Lo())}})
			have = 0
		}
		out[len(out)-1].Span.Hi = uint64(r.Lo()) + 1<<job.RangeBits
		have += sizes[i] + rangeWeight
		full = have >= want
	}
	return out
}
