package job_test

import (
	"slices"
	"strings"
	"testing"

	"crier/job"
)

// The states as the architecture lists them; every word that is one counts.
const jobLife = `submitted → scheduled | awaiting-approval | held → packing → packed → queued → preparing → prepared → sending ⇄
paused / preempted → sent → completed | cancelling → cancelled | recalling → recalled | failed | expired |
quarantined | failed-over`

const sliceLife = `planned → offered → claimed → sending ⇄ paused → sent → folded | in-doubt → claimed | released | abandoned`

func words(s string) []string {
	w := strings.FieldsFunc(s, func(r rune) bool { return strings.ContainsRune("→⇄|/ \n", r) })
	slices.Sort(w)
	return slices.Compact(w)
}

func jobStates() (all []job.State) {
	for s := job.State(0); !strings.HasPrefix(s.String(), "state("); s++ {
		all = append(all, s)
	}
	return all
}

func sliceStates() (all []job.SliceState) {
	for s := job.SliceState(0); !strings.HasPrefix(s.String(), "slice state("); s++ {
		all = append(all, s)
	}
	return all
}

func names[S interface{ String() string }](states []S) (out []string) {
	for _, s := range states {
		out = append(out, s.String())
	}
	slices.Sort(out)
	return out
}

func TestStatesAreTheArchitectures(t *testing.T) {
	if got, want := names(jobStates()), words(jobLife); !slices.Equal(got, want) {
		t.Errorf("a job's states are %v, want %v", got, want)
	}
	if got, want := names(sliceStates()), words(sliceLife); !slices.Equal(got, want) {
		t.Errorf("a slice's states are %v, want %v", got, want)
	}
}

// reach gives all that can follow a state, over any number of steps.
func reach[S comparable](from S, all []S, can func(a, b S) bool) map[S]bool {
	seen := map[S]bool{}
	for next := []S{from}; len(next) > 0; next = next[1:] {
		for _, s := range all {
			if can(next[0], s) && !seen[s] {
				seen[s] = true
				next = append(next, s)
			}
		}
	}
	return seen
}

func TestEveryJobCanEnd(t *testing.T) {
	all := jobStates()
	var terminal []string
	from := reach(job.Submitted, all, job.State.CanBecome)
	for _, s := range all {
		if s != job.Submitted && !from[s] {
			t.Errorf("no job ever becomes %s", s)
		}
		if s.CanBecome(s) {
			t.Errorf("%s is followed by itself", s)
		}
		after := reach(s, all, job.State.CanBecome)
		if s.Terminal() {
			terminal = append(terminal, s.String())
			// Once, and to an end: by a recall.
			delete(after, job.JobRecalled)
			for next := range after {
				if s == job.JobRecalled || s.CanBecome(next) && next != job.Recalling {
					t.Errorf("%s is terminal and followed by %s", s, next)
				}
			}
			continue
		}
		if !slices.ContainsFunc(all, func(e job.State) bool { return e.Terminal() && after[e] }) {
			t.Errorf("a job that is %s never ends", s)
		}
		if !after[job.JobCancelled] && s != job.Recalling {
			t.Errorf("a job that is %s cannot be cancelled", s)
		}
	}
	slices.Sort(terminal)
	if want := []string{"cancelled", "completed", "expired", "failed", "recalled"}; !slices.Equal(terminal, want) {
		t.Errorf("terminal are %v, want %v", terminal, want)
	}
}

func TestTransitionsOfJobs(t *testing.T) {
	state := func(s string) (st job.State) {
		if err := st.UnmarshalText([]byte(s)); err != nil {
			t.Fatal(err)
		}
		return st
	}
	for _, c := range []struct {
		from    string
		to      string
		allowed bool
	}{
		{"submitted", "scheduled awaiting-approval held packing packed", true},
		{"scheduled awaiting-approval held", "packing", true},
		{"packing", "packed", true},
		{"packed", "queued", true},
		{"queued", "preparing", true},
		{"preparing", "prepared", true},
		{"prepared", "sending", true},
		{"sending", "paused preempted sent", true},
		{"paused preempted", "sending", true},
		{"sent", "completed", true},
		{"cancelling", "cancelled", true},
		{"recalling", "recalled", true},
		{"submitted queued sending paused sent cancelling failed-over", "recalling failed quarantined", true},
		{"completed cancelled failed expired", "recalling", true},
		{"submitted queued preparing sending paused sent failed-over quarantined", "cancelling", true},
		// Nothing is sent of what is not prepared, nor again of what is sent.
		{"submitted packed queued preparing", "sending sent completed", false},
		{"sent", "sending queued paused", false},
		{"sending paused", "completed cancelled recalled", false},
		{"cancelling recalling", "sending queued sent completed paused", false},
		{"recalling", "cancelling cancelled", false},
		{"completed cancelled recalled failed expired", "queued sending cancelling failed quarantined failed-over", false},
		{"recalled", "recalling", false},
	} {
		for _, from := range strings.Fields(c.from) {
			for _, to := range strings.Fields(c.to) {
				if from != to && state(from).CanBecome(state(to)) != c.allowed {
					t.Errorf("%s → %s: allowed is %v", from, to, !c.allowed)
				}
			}
		}
	}
	for _, s := range []job.State{22, 255} {
		if s.CanBecome(job.Sending) || job.Sending.CanBecome(s) {
			t.Errorf("the table knows %s", s)
		}
	}
}

// Whoever waits for sent is told when it can no longer come, too.
func TestReached(t *testing.T) {
	for _, s := range jobStates() {
		for _, want := range []job.State{job.Sent, job.Completed} {
			over := s == want || slices.Contains([]string{"completed", "cancelled", "recalled", "failed", "expired"}, s.String()) ||
				want == job.Sent && s == job.FailedOver
			if s.Reached(want) != over {
				t.Errorf("%s has reached %s: %v", s, want, !over)
			}
		}
	}
}

func TestEverySliceCanEnd(t *testing.T) {
	all := sliceStates()
	from := reach(job.SlicePlanned, all, job.SliceState.CanBecome)
	ends := map[job.SliceState]bool{job.SliceFolded: true, job.SliceAbandoned: true}
	for _, s := range all {
		if s != job.SlicePlanned && !from[s] {
			t.Errorf("no slice ever becomes %s", s)
		}
		after := reach(s, all, job.SliceState.CanBecome)
		if ends[s] != (len(after) == 0) {
			t.Errorf("%s is followed by %v", s, after)
		}
		if !ends[s] && !after[job.SliceFolded] {
			t.Errorf("a slice that is %s is never folded", s)
		}
	}
	for _, c := range []struct {
		from, to job.SliceState
		allowed  bool
	}{
		{job.SlicePlanned, job.SliceOffered, true}, {job.SliceOffered, job.SliceClaimed, true}, {job.SliceClaimed, job.SliceSending, true},
		{job.SliceSending, job.SlicePaused, true}, {job.SlicePaused, job.SliceSending, true}, {job.SliceSending, job.SliceSent, true},
		{job.SliceSent, job.SliceFolded, true}, {job.SliceInDoubt, job.SliceClaimed, true}, {job.SliceReleased, job.SliceClaimed, true},
		{job.SlicePlanned, job.SliceSending, false}, {job.SliceOffered, job.SliceSent, false}, {job.SliceSent, job.SliceSending, false},
		{job.SliceInDoubt, job.SliceSent, false}, {job.SliceReleased, job.SliceSending, false},
	} {
		if c.from.CanBecome(c.to) != c.allowed {
			t.Errorf("%s → %s: allowed is %v", c.from, c.to, !c.allowed)
		}
	}
}
