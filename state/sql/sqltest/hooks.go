package sqltest

import (
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"crier/internal/webhook"
	"crier/job"
	"crier/state/sql"
)

// RunHooks holds stores that open makes, each empty and with the clock given, to the
// suite of webhooks.
func RunHooks(t *testing.T, open func(t *testing.T, clock *Clock) *sql.DB) {
	for name, test := range map[string]func(*testing.T, *sql.DB, *Clock){
		"who is told of what":              hooksTold,
		"leases":                           hooksLeases,
		"hosts leave room for each other":  hooksFair,
		"what is over stays so":            hooksOver,
		"gone":                             hooksGone,
		"secrets":                          hooksSecrets,
		"takers at once":                   hooksAtOnce,
		"a transition that is rolled back": hooksAtomic,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			clock := &Clock{}
			test(t, open(t, clock), clock)
		})
	}
}

// hooked is the spec of job i with a webhook at a host.
func hooked(i int, host string, on ...job.State) *job.Spec {
	s := spec(i, 7, byte(i))
	s.Tenant = "acme"
	s.Webhook = &job.Webhook{URL: "https://" + host + "/größer?x=1"}
	for _, state := range on {
		s.Webhook.On = append(s.Webhook.On, state.String())
	}
	return s
}

func move(t *testing.T, db *sql.DB, s *job.Spec, states ...job.State) {
	t.Helper()
	var p sql.Projection
	p.Recorder = "r"
	for i, state := range states {
		p.Transitions = append(p.Transitions, step(s, uint64(i+1), state))
	}
	must(t, db.Jobs.Project(t.Context(), p))
}

func lease(owner string) webhook.Lease {
	return webhook.Lease{Owner: owner, For: 3 * time.Second, Limit: 100, PerHost: 100}
}

func takeHooks(t *testing.T, db *sql.DB, l webhook.Lease) []webhook.Task {
	t.Helper()
	tasks, err := db.Hooks.Take(t.Context(), l)
	must(t, err)
	return tasks
}

func wantTasks(t *testing.T, what string, got []webhook.Task, want ...string) {
	t.Helper()
	var have []string
	for _, x := range got {
		have = append(have, fmt.Sprintf("%s %s %d", x.Event.ID(), x.Event.State, x.Attempts))
	}
	slices.Sort(have)
	slices.Sort(want)
	if !slices.Equal(have, want) {
		t.Errorf("%s: %q, want %q", what, have, want)
	}
}

func hooksTold(t *testing.T, db *sql.DB, _ *Clock) {
	usual, chosen, none := hooked(1, "A.example:8443"), hooked(2, "b.example", job.Submitted, job.Sending), spec(3, 7, 3)
	for range 2 { // a projection is repeated
		move(t, db, usual, job.Submitted, job.Sending, job.Sent, job.Completed, job.Recalling, job.JobRecalled)
		move(t, db, chosen, job.Submitted, job.Sending, job.Sent, job.Completed)
		move(t, db, none, job.Submitted, job.Completed)
	}
	tasks := takeHooks(t, db, lease("a"))
	wantTasks(t, "told", tasks, usual.ID.String()+"/4 completed 0", usual.ID.String()+"/6 recalled 0", chosen.ID.String()+"/1 submitted 0", chosen.ID.String()+"/2 sending 0")
	for _, x := range tasks {
		s, host := usual, "a.example"
		if x.Event.Job == chosen.ID {
			s, host = chosen, "b.example"
		}
		if x.URL != s.Webhook.URL || x.Host != host || x.Tenant != "acme" || !x.First.IsZero() || !x.Event.At.Equal(stepAt(s, x.Event.Version)) || x.Event.Slice != nil || x.Event.Set != nil {
			t.Errorf("%+v, want the webhook of %+v", x, s.Webhook)
		}
	}
	if all, err := db.Hooks.Of(t.Context(), none.ID); len(all) != 0 || err != nil {
		t.Errorf("of a job without a webhook: %+v, %v", all, err)
	}
}

func hooksAtomic(t *testing.T, db *sql.DB, _ *Clock) {
	s := hooked(1, "a.example", job.Submitted, job.Packed)
	move(t, db, s, job.Submitted)
	var gap *sql.GapError
	err := db.Jobs.Project(t.Context(), sql.Projection{Recorder: "r", Transitions: []job.Transition{step(s, 2, job.Packed), step(s, 4, job.Sending)}})
	if !errors.As(err, &gap) {
		t.Fatal(err)
	}
	wantTasks(t, "told", takeHooks(t, db, lease("a")), s.ID.String()+"/1 submitted 0")
}

func hooksLeases(t *testing.T, db *sql.DB, clock *Clock) {
	s := hooked(1, "a.example")
	move(t, db, s, job.Submitted, job.JobFailed)
	id := s.ID.String() + "/2 failed "
	first := takeHooks(t, db, lease("a"))
	wantTasks(t, "a takes it", first, id+"0")
	wantTasks(t, "and no more", takeHooks(t, db, lease("a")))
	wantTasks(t, "nor does b", takeHooks(t, db, lease("b")))
	for range 4 {
		clock.advance()
	}
	wantTasks(t, "the lease of a lapses", takeHooks(t, db, lease("b")), id+"0")
	later := webhook.Verdict{Answer: webhook.Answer{Status: 500, Error: "größer"}, Outcome: job.DeliveryOpen, First: clock.Now(), Due: clock.Now().Add(2 * time.Second)}
	must(t, db.Hooks.Record(t.Context(), "a", first[0], later)) // it is not a's any more
	if all, err := db.Hooks.Of(t.Context(), s.ID); err != nil || len(all) != 1 || all[0].Attempts != 0 {
		t.Errorf("a record without the lease: %+v, %v", all, err)
	}
	for range 2 {
		must(t, db.Hooks.Record(t.Context(), "b", first[0], later))
	}
	want := []job.Delivery{{Version: 2, State: "failed", Outcome: job.DeliveryOpen, Attempts: 1, Status: 500, Error: "größer", Due: later.Due}}
	if all, err := db.Hooks.Of(t.Context(), s.ID); err != nil || !slices.Equal(all, want) {
		t.Errorf("%+v, %v; want %+v", all, err, want)
	}
	clock.advance()
	wantTasks(t, "before it is due", takeHooks(t, db, lease("a")))
	clock.advance()
	again := takeHooks(t, db, lease("a"))
	wantTasks(t, "when it is due", again, id+"1")
	if !again[0].First.Equal(later.First) {
		t.Errorf("it was tried first at %s, want %s", again[0].First, later.First)
	}
}

func hooksFair(t *testing.T, db *sql.DB, _ *Clock) {
	for i := range 30 {
		move(t, db, hooked(i, "crowded.example"), job.Submitted, job.JobFailed)
	}
	for i := range 3 {
		move(t, db, hooked(40+i, fmt.Sprintf("h%d.example", i)), job.Submitted, job.JobFailed)
	}
	hosts := func(tasks []webhook.Task) map[string]int {
		n := map[string]int{}
		for _, x := range tasks {
			n[x.Host]++
		}
		return n
	}
	l := lease("a")
	l.PerHost, l.Busy = 4, map[string]int{"h0.example": 4, "crowded.example": 1}
	if got := hosts(takeHooks(t, db, l)); got["crowded.example"] != 3 || got["h0.example"] != 0 || got["h1.example"] != 1 || got["h2.example"] != 1 {
		t.Errorf("taken by hosts: %v", got)
	}
	l.Limit, l.Busy = 2, nil
	if got := takeHooks(t, db, l); len(got) != 2 {
		t.Errorf("%d were taken, want 2", len(got))
	}
}

func hooksOver(t *testing.T, db *sql.DB, clock *Clock) {
	s := hooked(1, "a.example")
	move(t, db, s, job.Submitted, job.JobFailed)
	x := takeHooks(t, db, lease("a"))[0]
	for range 4 {
		clock.advance()
	}
	takeHooks(t, db, lease("b"))
	// The receiver has it from the one whose lease is over.
	must(t, db.Hooks.Record(t.Context(), "a", x, webhook.Verdict{Answer: webhook.Answer{Status: 204}, Outcome: job.DeliveryDelivered, First: clock.Now()}))
	want := []job.Delivery{{Version: 2, State: "failed", Outcome: job.DeliveryDelivered, Attempts: 1, Status: 204, Ended: clock.Now()}}
	for _, outcome := range []string{job.DeliveryOpen, job.DeliveryGivenUp, job.DeliveryGone, job.DeliveryDelivered} {
		clock.advance()
		must(t, db.Hooks.Record(t.Context(), "b", x, webhook.Verdict{Answer: webhook.Answer{Status: 500}, Outcome: outcome, First: clock.Now(), Due: clock.Now()}))
		if all, err := db.Hooks.Of(t.Context(), s.ID); err != nil || !slices.Equal(all, want) {
			t.Errorf("after %s: %+v, %v; want %+v", outcome, all, err, want)
		}
	}
	wantTasks(t, "over", takeHooks(t, db, lease("c")))
}

func hooksGone(t *testing.T, db *sql.DB, clock *Clock) {
	s, other := hooked(1, "a.example", job.Submitted, job.Sending, job.Sent), hooked(2, "a.example", job.Submitted)
	move(t, db, s, job.Submitted, job.Sending)
	move(t, db, other, job.Submitted)
	l := lease("a")
	l.Limit = 1
	x := takeHooks(t, db, l)[0]
	must(t, db.Hooks.Record(t.Context(), "a", x, webhook.Verdict{Answer: webhook.Answer{Status: 410, Error: "gone"}, Outcome: job.DeliveryGone, First: clock.Now()}))
	move(t, db, s, job.Submitted, job.Sending, job.Sent)
	all, err := db.Hooks.Of(t.Context(), s.ID)
	must(t, err)
	if len(all) != 2 || all[0].Outcome != job.DeliveryGone || all[1].Outcome != job.DeliveryGone || all[0].Attempts+all[1].Attempts != 1 || !all[1].Ended.Equal(clock.Now()) {
		t.Errorf("after 410: %+v", all)
	}
	wantTasks(t, "another job's", takeHooks(t, db, lease("a")), other.ID.String()+"/1 submitted 0")
	if j, err := db.Jobs.Get(t.Context(), s.ID); err != nil || j.Version != 3 || j.Spec.Webhook == nil {
		t.Errorf("the job is %+v, %v", j, err)
	}
}

func hooksSecrets(t *testing.T, db *sql.DB, clock *Clock) {
	ctx := t.Context()
	want := func(what, tenant string, secrets ...string) {
		t.Helper()
		all, err := db.Hooks.Secrets(ctx, tenant)
		must(t, err)
		var got []string
		for _, s := range all {
			got = append(got, string(s))
		}
		if !slices.Equal(got, secrets) {
			t.Errorf("%s: %q, want %q", what, got, secrets)
		}
	}
	made := func(tenant, secret string, former bool) {
		t.Helper()
		if got, err := db.Hooks.MakeSecret(ctx, tenant, webhook.Secret(secret)); err != nil || got != former {
			t.Errorf("there is a former secret of %s: %v, %v", tenant, got, err)
		}
	}
	want("none", "acme")
	made("acme", "first\x00\xff", false)
	made("other", "other", false)
	clock.advance()
	made("acme", "second", true)
	want("the former is in force, too", "acme", "second", "first\x00\xff")
	clock.at.Add(int64(24*time.Hour - time.Second))
	want("shortly before a day is over", "acme", "second", "first\x00\xff")
	clock.advance()
	want("after a day", "acme", "second")
	for i := range 9 {
		clock.advance()
		made("acme", fmt.Sprint(i), true)
	}
	_, err := db.Hooks.MakeSecret(ctx, "acme", webhook.Secret("more"))
	wantCode(t, "too many", err, job.CodeConflict)
	want("another tenant's", "other", "other")
	if all, err := db.Hooks.Secrets(ctx, "acme"); err != nil || len(all) != 10 || string(all[0]) != "8" || string(all[9]) != "second" {
		t.Errorf("after a refusal: %q, %v", all, err)
	}
}

func hooksAtOnce(t *testing.T, db *sql.DB, _ *Clock) {
	const jobs = 60
	for i := range jobs {
		move(t, db, hooked(i, fmt.Sprintf("h%d.example", i%5)), job.Submitted, job.JobFailed)
	}
	got := make([][]string, 3)
	for i, err := range together(3, func(i int) error {
		l := lease(fmt.Sprint(i))
		l.Limit, l.PerHost = 4, 2
		for {
			tasks, err := db.Hooks.Take(t.Context(), l)
			if err != nil || len(tasks) == 0 {
				return err
			}
			for _, x := range tasks {
				got[i] = append(got[i], x.Event.ID())
				err := db.Hooks.Record(t.Context(), l.Owner, x, webhook.Verdict{Answer: webhook.Answer{Status: 200}, Outcome: job.DeliveryDelivered})
				if err != nil {
					return err
				}
			}
		}
	}) {
		if err != nil {
			t.Errorf("taker %d: %v", i, err)
		}
	}
	// Who finds what others have in their hands finds nothing: the rest is there for later.
	for rest := lease("last"); ; {
		tasks := takeHooks(t, db, rest)
		if len(tasks) == 0 {
			break
		}
		for _, x := range tasks {
			got[0] = append(got[0], x.Event.ID())
		}
	}
	all := slices.Concat(got...)
	slices.Sort(all)
	if n := len(slices.Compact(slices.Clone(all))); n != jobs || len(all) != jobs {
		t.Errorf("%d deliveries were taken, %d of them different; want %d", len(all), n, jobs)
	}
}
