// Package check is the command that judges a cluster for a monitoring system.
//
// It guarantees that what cannot be known is never told as good: it is UNKNOWN. The
// judgement is a function of what the server told and of the thresholds alone.
package check

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"crier/api"
	"crier/job"
)

// State is a verdict; its numbers are the exit codes of Nagios.
type State int

// The verdicts.
const (
	OK State = iota
	Warning
	Critical
	Unknown
)

var stateNames = [...]string{"OK", "WARNING", "CRITICAL", "UNKNOWN"}

// String gives the verdict's name.
func (s State) String() string { return stateNames[s] }

// MarshalText writes what String gives.
func (s State) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// worse orders verdicts: what is known to be bad comes before what is not known.
func (s State) worse(o State) bool {
	rank := [...]int{OK: 0, Warning: 1, Unknown: 2, Critical: 3}
	return rank[s] > rank[o]
}

// Result is the verdict about one thing.
type Result struct {
	Name  string   `json:"name"`
	State State    `json:"state"`
	Value *float64 `json:"value,omitempty"` // absent: not known
	Unit  string   `json:"unit,omitempty"`  // s, %, or none for a number of things
	Warn  *float64 `json:"warn,omitempty"`
	Crit  *float64 `json:"crit,omitempty"`
	Text  string   `json:"text"`
}

// Thresholds say from when on something is bad.
type Thresholds struct {
	LedgerWarn, LedgerCrit float64 // percent of the limit of the ledger, and of the controls
	DiskWarn, DiskCrit     float64 // percent of a disk; 0 is what the disk's process has
	MembersMin             int     // that work
	IndexLag               time.Duration
	Stuck                  time.Duration // for the job that has been blocked longest
	Disagree               time.Duration // for a member with another view
	Unreachable            time.Duration // for a member whose lease is live
	Unsealed               time.Duration // for a journal whose owner is over
}

// Seen is what the server told, and why it did not.
type Seen struct {
	Now                               time.Time
	Status                            api.Status
	Members                           []api.Member
	Journals                          api.JournalList
	StatusErr, MembersErr, JournalErr error
}

// Judge gives the verdicts.
func Judge(s Seen, t Thresholds) []Result {
	all := []Result{reachable(s)}
	all = append(all, health(s), fill(s, t, "ledger"), fill(s, t, "controls"), replicas(s, "ledger"), replicas(s, "controls"), disks(s, t), indexLag(s, t), oldest(s, t), overstayed(s), quarantined(s))
	all = append(all, working(s, t), disagree(s, t), unreachable(s, t), gone(s))
	all = append(all, unsealed(s, t))
	for _, d := range api.Duties {
		all = append(all, duty(s, d))
	}
	return all
}

// Worst is the verdict about all.
func Worst(all []Result) State {
	worst := OK
	for _, r := range all {
		if r.State.worse(worst) {
			worst = r.State
		}
	}
	return worst
}

func number(n float64) *float64 { return &n }

func unknown(r Result, err error) Result {
	r.State, r.Text = Unknown, message(err)
	return r
}

// message is what an error says to users, without its causes.
func message(err error) string {
	var e *job.Error
	if errors.As(err, &e) {
		return e.Message
	}
	return err.Error()
}

// isFull reports whether the server does nothing but tell that its disk is full.
func isFull(err error) bool { return job.CodeOf(err) == job.CodeFull }

// reachable judges whether the API answers at all. A key that is refused says nothing
// about the cluster.
func reachable(s Seen) Result {
	r := Result{Name: "api", Text: "it answers"}
	err := s.StatusErr
	switch code := job.CodeOf(err); {
	case err == nil:
	case code == job.CodeUnavailable, isFull(err), errors.Is(err, context.DeadlineExceeded):
		r.State, r.Text = Critical, message(err)
	default:
		return unknown(r, err)
	}
	return r
}

func health(s Seen) Result {
	r := Result{Name: "health", Text: "healthy"}
	switch {
	case isFull(s.StatusErr):
		r.State, r.Text = Critical, message(s.StatusErr)
	case s.StatusErr != nil:
		return unknown(r, s.StatusErr)
	case !s.Status.Healthy:
		r.State, r.Text = Critical, "not healthy: "+strings.Join(s.Status.Problems, "; ")
	}
	return r
}

// fill judges how full a stream is.
func fill(s Seen, t Thresholds, name string) Result {
	r := Result{Name: name, Unit: "%", Warn: number(t.LedgerWarn), Crit: number(t.LedgerCrit)}
	if s.StatusErr != nil {
		return unknown(r, s.StatusErr)
	}
	i := slices.IndexFunc(s.Status.Stores, func(x api.Store) bool { return x.Name == name })
	if i < 0 || s.Status.Stores[i].Limit == 0 {
		return unknown(r, fmt.Errorf("the server does not tell how full the %s is", name))
	}
	share := 100 * float64(s.Status.Stores[i].Bytes) / float64(s.Status.Stores[i].Limit)
	r.Value, r.Text = number(share), fmt.Sprintf("%.1f %% full", share)
	switch {
	case share >= t.LedgerCrit:
		r.State = Critical
	case share >= t.LedgerWarn:
		r.State = Warning
	}
	return r
}

// replicas judges how many servers keep a stream. It goes on without some of them, until
// one more is gone.
func replicas(s Seen, name string) Result {
	r := Result{Name: name + "_replicas"}
	if s.StatusErr != nil {
		return unknown(r, s.StatusErr)
	}
	i := slices.IndexFunc(s.Status.Stores, func(x api.Store) bool { return x.Name == name })
	if i < 0 || s.Status.Stores[i].Replicas == 0 {
		return unknown(r, fmt.Errorf("the server does not tell who keeps the %s", name))
	}
	x := s.Status.Stores[i]
	n := x.Replicas - len(x.Missing)
	r.Value, r.Warn, r.Text = number(float64(n)), number(float64(x.Replicas)), fmt.Sprintf("%d of %d servers keep it", n, x.Replicas)
	if len(x.Missing) > 0 {
		r.State, r.Text = Warning, r.Text+": "+strings.Join(x.Missing, ", ")
	}
	return r
}

// disks judges the fullest disk, by how far it is from its limits, and names all that
// are too full. Those of a member that does not answer are not known.
func disks(s Seen, t Thresholds) Result {
	r := Result{Name: "disk", Unit: "%"}
	switch {
	case isFull(s.StatusErr):
		r.State, r.Text = Critical, message(s.StatusErr)
		return r
	case s.StatusErr != nil:
		return unknown(r, s.StatusErr)
	}
	if len(s.Status.Disks) == 0 {
		return unknown(r, fmt.Errorf("the server does not tell how full its disks are"))
	}
	var full []string
	for _, d := range s.Status.Disks {
		warn, crit := cmp.Or(t.DiskWarn, d.Warn), cmp.Or(t.DiskCrit, d.Crit)
		state := OK
		switch {
		case d.Percent >= crit:
			state = Critical
		case d.Percent >= warn:
			state = Warning
		}
		if state != OK {
			full = append(full, fmt.Sprintf("%s of %s is %.1f %% full", strings.Join(d.Of, ", "), d.Member, d.Percent))
		}
		if r.Value == nil || state.worse(r.State) || state == r.State && d.Percent > *r.Value {
			r.State, r.Value, r.Warn, r.Crit = state, number(d.Percent), number(warn), number(crit)
			r.Text = fmt.Sprintf("the fullest is %.1f %% full", d.Percent)
		}
	}
	if len(full) > 0 {
		r.Text = strings.Join(full, "; ")
	}
	if r.State == OK && len(s.Status.Silent) > 0 {
		return unknown(Result{Name: r.Name, Unit: r.Unit, Warn: r.Warn, Crit: r.Crit}, fmt.Errorf("member %s does not tell how full its disks are", s.Status.Silent[0].Name))
	}
	return r
}

// within judges an age, which is bad from a limit on.
func within(r Result, age, limit time.Duration) Result {
	r.Value = number(max(age, 0).Seconds())
	if age >= limit {
		r.State = Critical
	}
	return r
}

func seconds(name string, crit time.Duration) Result {
	return Result{Name: name, Unit: "s", Crit: number(crit.Seconds())}
}

func indexLag(s Seen, t Thresholds) Result {
	r := seconds("index_lag", t.IndexLag)
	switch {
	case s.StatusErr != nil:
		return unknown(r, s.StatusErr)
	case s.Status.IndexLag == nil:
		return unknown(r, fmt.Errorf("the server does not tell how far its index is behind"))
	}
	lag := time.Duration(*s.Status.IndexLag) * time.Millisecond
	r.Text = fmt.Sprintf("the index is %s behind", lag)
	return within(r, lag, t.IndexLag)
}

func oldest(s Seen, t Thresholds) Result {
	r := seconds("blocked_job", t.Stuck)
	if s.StatusErr != nil {
		return unknown(r, s.StatusErr)
	}
	w := s.Status.Oldest
	if w == nil || !w.Blocked {
		r.Text = "no job is blocked"
		return within(r, 0, t.Stuck)
	}
	r.Text = fmt.Sprintf("%s is %s", w.Job, w.State)
	if w.WaitingOn != "" {
		r.Text += ", waiting on " + w.WaitingOn
	}
	return within(r, s.Now.Sub(w.Since), t.Stuck)
}

func overstayed(s Seen) Result {
	r := Result{Name: "overstayed_jobs", Crit: number(1), Text: "no job overstays its state"}
	if s.StatusErr != nil {
		return unknown(r, s.StatusErr)
	}
	if r.Value = number(float64(s.Status.Overstayed)); s.Status.Overstayed > 0 {
		r.State, r.Text = Critical, fmt.Sprintf("%d: see crier job ls --stuck", s.Status.Overstayed)
	}
	return r
}

// quarantined judges what is set aside until somebody looks at it.
func quarantined(s Seen) Result {
	r := Result{Name: "quarantined_jobs", Warn: number(1), Text: "no job is quarantined"}
	if s.StatusErr != nil {
		return unknown(r, s.StatusErr)
	}
	n := s.Status.Jobs[job.Quarantined]
	if r.Value = number(float64(n)); n > 0 {
		r.State, r.Text = Warning, fmt.Sprintf("%d: see crier job ls --state quarantined", n)
	}
	return r
}

func working(s Seen, t Thresholds) Result {
	r := Result{Name: "members_working", Crit: number(float64(t.MembersMin))}
	if s.MembersErr != nil {
		return unknown(r, s.MembersErr)
	}
	n := 0
	var idle []string
	for _, m := range s.Members {
		if m.State == "WORKING" {
			n++
		} else {
			idle = append(idle, m.ID+" is "+m.State)
		}
	}
	r.Value, r.Text = number(float64(n)), fmt.Sprintf("%d of %d work, %d are needed", n, len(s.Members), t.MembersMin)
	if len(idle) > 0 {
		r.Text += ": " + strings.Join(idle, ", ")
	}
	if n < t.MembersMin {
		r.State = Critical
	}
	return r
}

func disagree(s Seen, t Thresholds) Result {
	r := seconds("members_disagree", t.Disagree)
	if s.MembersErr != nil {
		return unknown(r, s.MembersErr)
	}
	var longest time.Duration
	var who []string
	for _, m := range s.Members {
		if m.DiffersFor > 0 {
			who = append(who, m.ID)
			longest = max(longest, time.Duration(m.DiffersFor))
		}
	}
	r.Text = "all have the same view"
	if len(who) > 0 {
		r.Text = "another view: " + strings.Join(who, ", ")
	}
	return within(r, longest, t.Disagree)
}

// unreachable judges members that hold what nobody may take over, and that nobody
// reaches. For as long as a lease lasts that is what every crash looks like.
func unreachable(s Seen, t Thresholds) Result {
	r := Result{Name: "members_unreachable", Unit: "s", Warn: number(0), Crit: number(t.Unreachable.Seconds())}
	if s.MembersErr != nil {
		return unknown(r, s.MembersErr)
	}
	var longest time.Duration
	var who []string
	for _, m := range s.Members {
		if m.State == api.Unreachable && m.Lease {
			who = append(who, m.ID)
			if !m.Since.IsZero() {
				longest = max(longest, s.Now.Sub(m.Since))
			}
		}
	}
	r.Text = "none whose lease is live"
	if r = within(r, longest, t.Unreachable); len(who) == 0 {
		r.State = OK
		return r
	}
	r.Text = "lease live, but nobody reaches: " + strings.Join(who, ", ")
	if r.State == OK {
		r.State = Warning
	}
	return r
}

// gone judges members that were there and have not left. Others have taken over from them,
// so that nothing waits; but nobody is told why each of them went.
func gone(s Seen) Result {
	r := Result{Name: "members_gone", Warn: number(1), Text: "who is not there has left"}
	if s.MembersErr != nil {
		return unknown(r, s.MembersErr)
	}
	var who []string
	for _, m := range s.Members {
		if m.Gone {
			who = append(who, fmt.Sprintf("%s (%s)", m.ID, strings.Join(slices.Sorted(maps.Keys(m.Roles)), ", ")))
		}
	}
	if r.Value = number(float64(len(who))); len(who) > 0 {
		r.State = Warning
		r.Text = "gone without having left: " + strings.Join(who, ", ") + "; see whether they run, and whether their disks are full"
	}
	return r
}

func unsealed(s Seen, t Thresholds) Result {
	r := seconds("journals_unsealed", t.Unsealed)
	if s.JournalErr != nil {
		return unknown(r, s.JournalErr)
	}
	r.Text = "every journal whose owner is gone is sealed"
	if s.Journals.Unsealed > 0 {
		r.Text = fmt.Sprintf("%d whose owners are gone are not sealed", s.Journals.Unsealed)
	}
	return within(r, time.Duration(s.Journals.Longest), t.Unsealed)
}

func duty(s Seen, name string) Result {
	r := Result{Name: "duty_" + name}
	if s.MembersErr != nil {
		return unknown(r, s.MembersErr)
	}
	for _, m := range s.Members {
		if !slices.Contains(m.Holds.Duties, name) {
			continue
		}
		r.Text = m.ID + " has it"
		if m.State == api.Unreachable || m.State == api.Unknown || m.State == "OFFLINE" {
			r.State, r.Text = Warning, r.Text+", which is "+m.State
		}
		return r
	}
	r.State, r.Text = Critical, "nobody has it"
	return r
}
