package check

import (
	"errors"
	"testing"
	"time"

	"crier/api"
	"crier/job"
)

var now = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)

var limits = Thresholds{LedgerWarn: 70, LedgerCrit: 85, MembersMin: 2, IndexLag: 10 * time.Second, Stuck: time.Hour, Disagree: 30 * time.Second,
	Unreachable: 10 * time.Second, Unsealed: 10 * time.Second}

// good is a cluster of which everything is known and well.
func good() Seen {
	lag := uint64(0)
	return Seen{Now: now, Status: api.Status{Healthy: true, IndexLag: &lag, Stores: []api.Store{{Name: "ledger", Bytes: 69, Limit: 100, Replicas: 3}, {Name: "controls", Limit: 100, Replicas: 1}},
		Disks: []api.Disk{{Member: "a", Of: []string{"data"}, Percent: 59.9, Warn: 60, Crit: 80}, {Member: "b", Of: []string{"data"}, Percent: 69.9, Warn: 70, Crit: 85}}},
		Members: []api.Member{{ID: "a", State: "WORKING", Lease: true, Holds: api.Holdings{Duties: []string{"audit", "folder", "mirror"}}},
			{ID: "b", State: "WORKING", Lease: true, Holds: api.Holdings{Duties: []string{"recorder", "sweep"}}}}}
}

// Each case is the good cluster with one thing wrong, and the one verdict that differs.
func TestJudge(t *testing.T) {
	for _, r := range Judge(good(), limits) {
		if r.State != OK || r.Text == "" {
			t.Errorf("the good cluster: %+v", r)
		}
	}
	ms := func(n uint64) *uint64 { return &n }
	for _, c := range []struct {
		what   string
		change func(*Seen)
		name   string
		want   State
	}{
		{"a problem", func(s *Seen) { s.Status.Healthy = false }, "health", Critical},
		{"ledger at 70 %", func(s *Seen) { s.Status.Stores[0].Bytes = 70 }, "ledger", Warning},
		{"ledger at 85 %", func(s *Seen) { s.Status.Stores[0].Bytes = 85 }, "ledger", Critical},
		{"controls at 90 %", func(s *Seen) { s.Status.Stores[1].Bytes = 90 }, "controls", Critical},
		{"controls of no limit", func(s *Seen) { s.Status.Stores[1].Limit = 0 }, "controls", Unknown},
		{"no limit", func(s *Seen) { s.Status.Stores[0].Limit = 0 }, "ledger", Unknown},
		{"a server that does not keep the ledger", func(s *Seen) { s.Status.Stores[0].Missing = []string{"n2 is offline"} }, "ledger_replicas", Warning},
		{"a server that does not keep the controls", func(s *Seen) { s.Status.Stores[1].Replicas, s.Status.Stores[1].Missing = 3, []string{"n2 is offline"} }, "controls_replicas", Warning},
		{"nobody tells who keeps the ledger", func(s *Seen) { s.Status.Stores[0].Replicas = 0 }, "ledger_replicas", Unknown},
		{"a disk at its 60 %", func(s *Seen) { s.Status.Disks[0].Percent = 60 }, "disk", Warning},
		{"a disk at its 80 %", func(s *Seen) { s.Status.Disks[0].Percent = 80 }, "disk", Critical},
		{"another disk at 85 %", func(s *Seen) { s.Status.Disks[1].Percent = 85 }, "disk", Critical},
		{"one disk critical, a fuller one only a warning", func(s *Seen) { s.Status.Disks[0].Percent, s.Status.Disks[1].Percent = 81, 84 }, "disk", Critical},
		{"no disks", func(s *Seen) { s.Status.Disks = nil }, "disk", Unknown},
		{"a member that does not tell of its disks", func(s *Seen) { s.Status.Silent = []api.Silent{{Name: "c"}} }, "disk", Unknown},
		{"a full disk beside one that does not tell", func(s *Seen) { s.Status.Silent, s.Status.Disks[1].Percent = []api.Silent{{Name: "c"}}, 86 }, "disk", Critical},
		{"index 10 s behind", func(s *Seen) { s.Status.IndexLag = ms(10_000) }, "index_lag", Critical},
		{"index 9.999 s behind", func(s *Seen) { s.Status.IndexLag = ms(9999) }, "", OK},
		{"index unknown", func(s *Seen) { s.Status.IndexLag = nil }, "index_lag", Unknown},
		{"a job blocked for an hour", func(s *Seen) { s.Status.Oldest = &api.Waiting{Since: now.Add(-time.Hour), Blocked: true} }, "blocked_job", Critical},
		{"a job blocked for less", func(s *Seen) { s.Status.Oldest = &api.Waiting{Since: now.Add(-59 * time.Minute), Blocked: true} }, "", OK},
		{"jobs that overstay their state", func(s *Seen) { s.Status.Overstayed = 2 }, "overstayed_jobs", Critical},
		{"a job that is quarantined", func(s *Seen) { s.Status.Jobs = map[job.State]uint64{job.Quarantined: 1, job.Paused: 3} }, "quarantined_jobs", Warning},
		{"a job that waits for logins for a week", func(s *Seen) { s.Status.Oldest = &api.Waiting{Since: now.Add(-7 * 24 * time.Hour)} }, "", OK},
		{"one works only", func(s *Seen) { s.Members[1].State = "ONLINE" }, "members_working", Critical},
		{"one is silent", func(s *Seen) { s.Members[1].State = "SILENCE" }, "members_working", Critical},
		{"another view for 30 s", func(s *Seen) { s.Members[1].DiffersFor = api.Duration(30 * time.Second) }, "members_disagree", Critical},
		{"another view for a moment", func(s *Seen) { s.Members[1].DiffersFor = api.Duration(time.Second) }, "", OK},
		{"unreachable at once", func(s *Seen) {
			s.Members = append(s.Members, api.Member{ID: "c", State: api.Unreachable, Lease: true, Since: now})
		}, "members_unreachable", Warning},
		{"unreachable, nobody knows since when", func(s *Seen) { s.Members = append(s.Members, api.Member{ID: "c", State: api.Unreachable, Lease: true}) }, "members_unreachable", Warning},
		{"unreachable for 10 s", func(s *Seen) {
			s.Members = append(s.Members, api.Member{ID: "c", State: api.Unreachable, Lease: true, Since: now.Add(-10 * time.Second)})
		}, "members_unreachable", Critical},
		{"lapsed", func(s *Seen) { s.Members = append(s.Members, api.Member{ID: "c", State: api.Lapsed}) }, "", OK},
		{"gone without having left", func(s *Seen) { s.Members = append(s.Members, api.Member{ID: "c", State: api.Lapsed, Gone: true}) }, "members_gone", Warning},
		{"unsealed for 10 s", func(s *Seen) { s.Journals = api.JournalList{Unsealed: 1, Longest: api.Duration(10 * time.Second)} }, "journals_unsealed", Critical},
		{"unsealed for a moment", func(s *Seen) { s.Journals = api.JournalList{Unsealed: 1, Longest: 1} }, "", OK},
		{"journals unknown", func(s *Seen) { s.JournalErr = errors.New("x") }, "journals_unsealed", Unknown},
		{"nobody records", func(s *Seen) { s.Members[1].Holds.Duties = []string{"sweep"} }, "duty_recorder", Critical},
		{"who records has another incarnation", func(s *Seen) { s.Members[1].Incarnation = 9 }, "", OK},
	} {
		s := good()
		c.change(&s)
		all := Judge(s, limits)
		found := c.name == ""
		for _, r := range all {
			want := OK
			if r.Name == c.name {
				want, found = c.want, true
			}
			if r.State != want {
				t.Errorf("%s: %s is %s (%s), want %s", c.what, r.Name, r.State, r.Text, want)
			}
			if r.State == Unknown && r.Value != nil {
				t.Errorf("%s: %s is not known and has the value %v", c.what, r.Name, *r.Value)
			}
		}
		if worst := Worst(all); !found || worst != c.want {
			t.Errorf("%s: %s in all, want %s of %q", c.what, worst, c.want, c.name)
		}
	}
}

// A server that tells nothing of a stream is not well for all that is known of that.
func TestAStreamThatIsNotToldOf(t *testing.T) {
	s := good()
	s.Status.Stores = s.Status.Stores[:1]
	for _, r := range Judge(s, limits) {
		if want := r.Name == "controls" || r.Name == "controls_replicas"; (r.State == Unknown) != want {
			t.Errorf("%+v", r)
		}
	}
}

// Who has a duty and is not reached may do it or not.
func TestADutyOfWhoIsNotReached(t *testing.T) {
	s := good()
	s.Members[1].State, s.Members[1].Since = api.Unreachable, now
	for _, r := range Judge(s, limits) {
		if r.Name == "duty_recorder" && r.State != Warning {
			t.Errorf("%+v", r)
		}
	}
}

// Nothing that was not told is judged to be well.
func TestWhatIsNotKnownIsNotWell(t *testing.T) {
	for _, c := range []struct {
		err  error
		api  State
		want State
	}{
		{job.Unavailable("no server"), Critical, Critical},
		{&job.Error{Code: job.CodeDenied, Message: "not a valid admin key"}, Unknown, Unknown},
		{errors.New("the inside"), Unknown, Unknown},
		{&job.Error{Code: job.CodeFull, Message: "the disk is full"}, Critical, Critical},
	} {
		s := good()
		s.StatusErr, s.MembersErr, s.JournalErr = c.err, c.err, c.err
		all := Judge(s, limits)
		if all[0].Name != "api" || all[0].State != c.api || Worst(all) != c.want {
			t.Errorf("%v: %+v, %s in all", c.err, all[0], Worst(all))
		}
		for _, r := range all[1:] {
			want := Unknown
			if job.CodeOf(c.err) == job.CodeFull && (r.Name == "health" || r.Name == "disk") {
				want = Critical // that much is known
			}
			if r.State != want || r.Value != nil {
				t.Errorf("%v: %+v", c.err, r)
			}
		}
	}
}
