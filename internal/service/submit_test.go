package service

import (
	"context"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"crier/api"
	"crier/job"
	"crier/state/ledger"
)

// A job that is accepted is in the ledger as it was asked for, and everything
// that sending needs can be opened.
func TestSubmitStoresWhatSendingNeeds(t *testing.T) {
	f := newFixture(t)
	display := time.Now().UTC().Add(30 * time.Minute).Truncate(time.Second)
	got := f.submit(toFollowers("k", func(r *api.SubmitJob) {
		r.Class, r.Priority, r.Rate, r.TTL, r.OnUnknown, r.CollapseKey, r.DisplayAt = job.Realtime, 99, 7, api.Duration(time.Hour), job.Resend, "c", display
	}))
	records := f.accepted()
	if len(records) != 1 || records[0].State != job.Submitted || records[0].Version != 1 || records[0].Job != got.Job {
		t.Fatalf("the ledger has %+v", records)
	}
	s := records[0].Spec
	if s.Account != f.news.ID || s.Class != job.Realtime || s.Priority != 99 || s.Rate != 7 || s.OnUnknown != job.Resend || s.CollapseKey != "c" ||
		s.IdempotencyKey != "k" || !s.DisplayAt.Equal(display) || s.ExpiresAt.Sub(s.SubmittedAt) != time.Hour || s.Recipients != 1000 || s.FollowersRev != 1 {
		t.Errorf("the spec is %+v", s)
	}
	body, err := f.cfg.Blobs.Open(asked(t), s.Body)
	f.must(err)
	defer body.Close()
	text, err := io.ReadAll(io.NewSectionReader(body, 0, 100))
	if err != nil || string(text) != "Hello" || s.BodyBytes != 5 {
		t.Errorf("the body is %q, %d bytes, %v", text, s.BodyBytes, err)
	}
	for name, d := range map[string]job.Digest{"package": s.Package, "followers": s.Followers} {
		set, err := f.set(asked(t), d)
		f.must(err)
		if set.Cardinality() != 1000 || set.Info().SHA256 != s.Set {
			t.Errorf("the %s has %d recipients", name, set.Cardinality())
		}
	}
	if got.Priority != 99 || got.Package != s.Set || got.Recipients != 1000 || got.Counts.Pending != 1000 || got.Counts.Sum() != 1000 || got.Account != "news" {
		t.Errorf("told is %+v", got)
	}
	plain := f.submit(toFollowers(""))
	if plain.Priority != 50 || plain.ExpiresAt.Sub(plain.SubmittedAt) != 7*24*time.Hour || plain.Class != job.Normal || plain.OnUnknown != job.Hold {
		t.Errorf("the defaults are %+v", plain)
	}
}

// A message that expires before it may be displayed would be delivered to be seen by
// nobody.
func TestSubmitRefusesToDisplayAfterTheEnd(t *testing.T) {
	f := newFixture(t)
	_, err := f.SubmitJob(asked(t), toFollowers("", func(r *api.SubmitJob) {
		r.TTL, r.DisplayAt = api.Duration(time.Hour), time.Now().Add(2*time.Hour)
	}))
	wantError(t, "a display after the end", err, job.CodeInvalid, "display_at")
}

// The followers of a job are those at its submit, whatever happens later.
func TestSubmitFixesTheFollowers(t *testing.T) {
	f := newFixture(t)
	first := f.submit(toFollowers(""))
	_, err := f.AddFollowers(asked(t), "news", []job.Recipient{5})
	f.must(err)
	second := f.submit(toFollowers(""))
	if first.Recipients != 1000 || second.Recipients != 1001 || first.Package == second.Package || second.Revision != 2 {
		t.Errorf("%d, then %d recipients", first.Recipients, second.Recipients)
	}
	if again, err := f.GetJob(asked(t), first.Job); err != nil || again.Recipients != 1000 || again.Revision != 1 {
		t.Errorf("the first job has %d recipients at revision %d, %v", again.Recipients, again.Revision, err)
	}
	nobody := f.submit(toFollowers("", func(r *api.SubmitJob) { r.Account = "empty" }))
	if nobody.Recipients != 0 || nobody.Counts.Sum() != 0 {
		t.Errorf("a job to nobody has %+v", nobody.Counts)
	}
}

func TestAThousandSubmitsOfOneKey(t *testing.T) {
	f := newFixture(t)
	f.log.Inject(ledger.AllJobs, ledger.FaultLost, ledger.FaultStored)
	ids := make([]job.ID, 1000)
	var wg sync.WaitGroup
	for i := range ids {
		wg.Go(func() {
			req := toFollowers("key")
			switch i % 4 {
			case 1:
				req.Account = fmt.Sprint(f.news.ID) // the same account, by its number
			case 2:
				req.Body, req.BodyBase64 = "", []byte("Hello") // the same body
			}
			j, err := f.SubmitJob(asked(t), req)
			if err != nil {
				t.Errorf("submit %d: %v", i, err)
			}
			ids[i] = j.Job
		})
	}
	wg.Wait()
	if one := slices.Compact(ids); len(one) != 1 || one[0].IsZero() {
		t.Errorf("the jobs are %v", one)
	}
	if records := f.accepted(); len(records) != 1 {
		t.Errorf("%d records", len(records))
	}
}

// One key of two requests belongs to one of them: the others are told which.
func TestOneKeyForTwoRequests(t *testing.T) {
	f := newFixture(t)
	bodies := []string{"one", "two", "three"}
	answers := make([]error, 60)
	var wg sync.WaitGroup
	for i := range answers {
		wg.Go(func() {
			_, answers[i] = f.SubmitJob(asked(t), toFollowers("key", func(r *api.SubmitJob) { r.Body = bodies[i%3] }))
		})
	}
	wg.Wait()
	records := f.accepted()
	if len(records) != 1 {
		t.Fatalf("%d records", len(records))
	}
	won := -1
	for i, err := range answers {
		if err == nil && won >= 0 && won != i%3 {
			t.Errorf("both %s and %s are accepted", bodies[won], bodies[i%3])
		}
		if err == nil {
			won = i % 3
		}
	}
	for i, err := range answers {
		if i%3 != won {
			wantError(t, bodies[i%3], err, job.CodeConflict, "Idempotency-Key")
			if !strings.Contains(fmt.Sprint(err), records[0].Job.String()) {
				t.Errorf("the conflict does not name the job: %v", err)
			}
		} else if err != nil {
			t.Errorf("%s won, but: %v", bodies[won], err)
		}
	}
	for name, change := range map[string]func(*api.SubmitJob){
		"rate": func(r *api.SubmitJob) { r.Rate = 9 }, "class": func(r *api.SubmitJob) { r.Class = job.Realtime },
		"ttl": func(r *api.SubmitJob) { r.TTL = 1 << 40 }, "collapse key": func(r *api.SubmitJob) { r.CollapseKey = "c" },
	} {
		_, err := f.SubmitJob(asked(t), toFollowers("key", func(r *api.SubmitJob) { r.Body = bodies[won] }, change))
		wantError(t, "another "+name, err, job.CodeConflict, "Idempotency-Key")
	}
	// Another account's key is another key, and a key is known after its job is over.
	if other := f.submit(toFollowers("key", func(r *api.SubmitJob) { r.Account = "empty" })); other.Job == records[0].Job {
		t.Error("two accounts share a key")
	}
	f.move(records[0].Job, job.Cancelling, job.JobCancelled)
	again := f.submit(toFollowers("key", func(r *api.SubmitJob) { r.Body = bodies[won] }))
	if again.Job != records[0].Job || again.State != job.JobCancelled {
		t.Errorf("the repetition gives job %s, %s", again.Job, again.State)
	}
}

// Whatever becomes of the answers of the ledger, an accepted job is there once,
// and a job that is not there was not accepted.
func TestTheLedgersAnswerToASubmitGetsLost(t *testing.T) {
	lost, stored, full := ledger.FaultLost, ledger.FaultStored, ledger.FaultFull
	f := newFixture(t)
	for _, key := range []string{"", "key"} {
		for i, c := range []struct {
			faults []ledger.Fault
			code   job.Code // "": accepted
		}{
			{nil, ""}, {[]ledger.Fault{stored}, ""}, {[]ledger.Fault{lost}, ""}, {[]ledger.Fault{lost, stored}, ""}, {[]ledger.Fault{lost, lost, lost, stored}, ""},
			{[]ledger.Fault{full}, job.CodeFull}, {[]ledger.Fault{lost, full}, job.CodeFull},
		} {
			if key != "" {
				key = fmt.Sprint("key", i)
			}
			before := len(f.accepted())
			f.log.Inject(ledger.AllJobs, c.faults...)
			j, err := f.SubmitJob(asked(t), toFollowers(key))
			records := f.accepted()[before:]
			switch {
			case c.code != "":
				if job.CodeOf(err) != c.code || len(records) != 0 {
					t.Errorf("%v, key %q: %v, %d records", c.faults, key, err, len(records))
				}
			case err != nil || len(records) != 1 || records[0].Job != j.Job || j.Version != 1:
				t.Errorf("%v, key %q: %v, %d records", c.faults, key, err, len(records))
			}
			if key != "" && c.code == "" {
				if again := f.submit(toFollowers(key)); again.Job != j.Job {
					t.Errorf("%v, key %q: again is another job", c.faults, key)
				}
			}
		}
	}
	// An answer that never comes is no acceptance; with the key it can be had later.
	ctx, cancel := context.WithTimeout(asked(t), 20*time.Millisecond)
	defer cancel()
	f.log.Inject(ledger.AllJobs, slices.Repeat([]ledger.Fault{lost}, 5)...)
	if _, err := f.SubmitJob(ctx, toFollowers("late")); err == nil {
		t.Error("a job is accepted that the ledger does not have")
	}
	j := f.submit(toFollowers("late"))
	if records := f.accepted(); records[len(records)-1].Job != j.Job {
		t.Errorf("job %s is not the ledger's last", j.Job)
	}
}

func TestSubmitRefusals(t *testing.T) {
	f := newFixture(t)
	before := f.kept()
	for _, c := range []struct {
		field  string
		code   job.Code
		change func(*api.SubmitJob)
	}{
		{"account", job.CodeInvalid, func(r *api.SubmitJob) { r.Account = "" }},
		{"account", job.CodeNotFound, func(r *api.SubmitJob) { r.Account = "nobody" }},
		{"account", job.CodeNotFound, func(r *api.SubmitJob) { r.Account = "77" }},
		{"package", job.CodeNotFound, func(r *api.SubmitJob) { r.Audience, r.Package = "", job.Digest{1} }},
		{"priority", job.CodeInvalid, func(r *api.SubmitJob) { r.Priority = 100 }},
		{"ttl", job.CodeInvalid, func(r *api.SubmitJob) { r.TTL = -1 }},
		{"ttl", job.CodeInvalid, func(r *api.SubmitJob) { r.TTL = api.Duration(job.MaxTTL + 1) }},
		{"collapse_key", job.CodeInvalid, func(r *api.SubmitJob) { r.CollapseKey = strings.Repeat("c", 129) }},
		{"body", job.CodeTooLarge, func(r *api.SubmitJob) { r.Body = strings.Repeat("b", job.MaxBody+1) }},
	} {
		_, err := f.SubmitJob(asked(t), toFollowers("key", c.change))
		wantError(t, fmt.Sprint(c.code, " ", c.field), err, c.code, c.field)
		if after := f.kept(); !slices.Equal(after, before) {
			t.Fatalf("%s: it leaves %v, there was %v", c.field, after, before)
		}
	}
	if j := f.submit(toFollowers("key")); j.Version != 1 { // the key is not used up
		t.Errorf("the job is %+v", j)
	}
}
