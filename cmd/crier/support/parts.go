package support

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"path/filepath"
	"strings"
	"time"

	"crier/api"
	"crier/cmd/crier/check"
	"crier/cmd/crier/cli"
	"crier/internal/bundle"
	"crier/job"
)

// The end of a log that is taken.
const (
	logLines = 2000
	logBytes = 1 << 20
)

// mostJournals is how many journals are told of.
const mostJournals = 2000

// parts lists all that is packed.
func (s *source) parts() []bundle.Part {
	all := []bundle.Part{
		{File: "version.json", About: "the program that made this", Get: s.program},
		{File: "settings/running.json", About: "settings of the server's last start", Get: s.settingsLeft},
		{File: "settings/here.json", About: "settings that a start here would have", Get: s.settingsHere},
		s.logged(),
		{File: "disk/data.json", About: "what the data directory takes", Get: disk(s.data, ours)},
	}
	if s.blobs != "" && filepath.Clean(s.blobs) != filepath.Join(s.data, "blobs") {
		all = append(all, bundle.Part{File: "disk/blobs.json", About: "what the directory of blobs takes", Get: disk(s.blobs, nil)})
	}
	all = append(all,
		s.asked("status.json", "what the server says of itself", func(ctx context.Context) (any, error) { return s.svc.Status(ctx) }),
		bundle.Part{File: "check.json", About: "the verdicts of crier check", Get: s.check},
		s.asked("members.json", "the members, as the server sees them", func(ctx context.Context) (any, error) { return s.svc.ListMembers(ctx) }),
	)
	for _, kind := range api.RingKinds {
		all = append(all, s.asked("ring/"+kind+".json", "who should hold each "+kind+", and who does", func(ctx context.Context) (any, error) {
			return s.svc.Ring(ctx, api.AskRing{Kind: kind, Diff: true, Page: api.Page{Limit: api.MaxPage}})
		}))
	}
	return append(all,
		s.asked("journals.json", "what the workers wrote into the ledger", s.journals),
		s.asked("lanes.json", "what the workers are at", s.lanes),
		s.asked("jobs/stuck.json", "jobs that overstay their state", func(ctx context.Context) (any, error) { return s.jobs(ctx, mostJobs, api.ListJobs{Stuck: true}) }),
		s.lastJobs(),
		s.fetched("metrics.txt", "the metrics", "/metrics"),
		s.fetched("ready.txt", "whether it is ready", "/readyz"),
		bundle.Part{File: "profiles", About: "goroutines and heap of the server", Without: "the server serves none, and has no setting for that"},
	)
}

func (s *source) logged() bundle.Part {
	p := bundle.Part{File: "log.txt", About: "the end of the server's log", Get: func(context.Context) ([]byte, error) { return bundle.Tail(s.log, logLines, logBytes) }}
	if s.log == "" {
		p.Without = "it is not known to go to a file; name one with --log"
	}
	return p
}

// asked is a part that an operation of the API gives.
func (s *source) asked(file, about string, ask func(context.Context) (any, error)) bundle.Part {
	return bundle.Part{File: file, About: about, Get: func(ctx context.Context) ([]byte, error) {
		if s.svcErr != nil {
			return nil, s.svcErr
		}
		v, err := ask(ctx)
		if err != nil {
			return nil, err
		}
		return pretty(v)
	}}
}

// check judges by the usual thresholds. Whoever does not answer is a verdict, too, so that
// it ends before its time is over.
func (s *source) check(ctx context.Context) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, s.within*9/10)
	defer cancel()
	var b bytes.Buffer
	err := check.WriteJSON(&b, check.Judge(check.Look(ctx, s.c), check.Defaults()))
	return b.Bytes(), err
}

func (s *source) journals(ctx context.Context) (any, error) {
	all, _, err := cli.Pages(mostJournals, func(page api.Page) ([]api.Journal, string, error) {
		list, err := s.svc.ListJournals(ctx, page)
		return list.Journals, list.Next, err
	})
	return all, err
}

// lanes leaves out between which recipients a block lies.
func (s *source) lanes(ctx context.Context) (any, error) {
	list, err := s.svc.ListLanes(ctx)
	for i := range list.Lanes {
		list.Lanes[i].First, list.Lanes[i].Last = nil, nil
	}
	return list, err
}

func (s *source) lastJobs() bundle.Part {
	if s.options.jobs == 0 {
		return bundle.Part{File: "jobs/last.json", About: "the last jobs", Without: "--jobs is 0"}
	}
	return s.asked("jobs/last.json", "the last jobs", func(ctx context.Context) (any, error) { return s.jobs(ctx, s.options.jobs, api.ListJobs{}) })
}

// summary is what is told of a job: nothing of what it says, nor of whom it is for.
type summary struct {
	Job          job.ID        `json:"job"`
	State        job.State     `json:"state"`
	Version      uint64        `json:"version"`
	Reason       string        `json:"reason,omitzero"`
	WaitingOn    string        `json:"waiting_on,omitzero"`
	Owner        string        `json:"owner,omitzero"`
	Due          time.Time     `json:"due,omitzero"`
	Overstayed   bool          `json:"overstayed,omitzero"`
	Tries        uint32        `json:"tries,omitzero"`
	Paused       bool          `json:"paused,omitzero"`
	AccountID    uint32        `json:"account_id"`
	Tenant       string        `json:"tenant"`
	Class        job.Class     `json:"class"`
	Priority     uint8         `json:"priority"`
	Rate         uint32        `json:"rate"`
	OnUnknown    job.OnUnknown `json:"on_unknown"`
	Decision     string        `json:"decision,omitzero"`
	Recipients   uint64        `json:"recipients"`
	Segments     int           `json:"segments,omitzero"` // how many it aims at or leaves out
	ControlGroup float64       `json:"control_group,omitzero"`
	BodyBytes    uint32        `json:"body_bytes"`
	SubmittedAt  time.Time     `json:"submitted_at"`
	UpdatedAt    time.Time     `json:"updated_at"`
	DisplayAt    time.Time     `json:"display_at,omitzero"`
	ExpiresAt    time.Time     `json:"expires_at"`
	Withdraws    job.ID        `json:"withdraws,omitzero"`
	Counts       job.Counts    `json:"counts"`
	api.Withdrawal
}

func summaryOf(j api.Job) summary {
	return summary{Job: j.Job, State: j.State, Version: j.Version, Reason: j.Reason, WaitingOn: j.WaitingOn, Owner: j.Owner, Due: j.Due, Overstayed: j.Overstayed,
		Tries: j.Tries, Paused: j.Paused, AccountID: j.AccountID, Tenant: j.Tenant, Class: j.Class, Priority: j.Priority, Rate: j.Rate, OnUnknown: j.OnUnknown,
		Decision: j.Decision, Recipients: j.Recipients, Segments: len(j.Include) + len(j.Exclude), ControlGroup: j.ControlGroup, BodyBytes: j.BodyBytes,
		SubmittedAt: j.SubmittedAt, UpdatedAt: j.UpdatedAt, DisplayAt: j.DisplayAt, ExpiresAt: j.ExpiresAt, Withdraws: j.Withdraws, Counts: j.Counts, Withdrawal: j.Withdrawal}
}

func (s *source) jobs(ctx context.Context, most int, req api.ListJobs) (any, error) {
	all, _, err := cli.Pages(most, func(page api.Page) (some []summary, next string, err error) {
		req.Page = page
		list, err := s.svc.ListJobs(ctx, req)
		for _, j := range list.Jobs {
			some = append(some, summaryOf(j))
		}
		return some, list.Next, err
	})
	return all, err
}

// fetched is a part that the server gives to anybody.
func (s *source) fetched(file, about, path string) bundle.Part {
	return bundle.Part{File: file, About: about, Get: func(ctx context.Context) ([]byte, error) {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, strings.TrimRight(s.server, "/")+path, nil)
		if err != nil {
			return nil, err
		}
		res, err := http.DefaultClient.Do(req)
		if err != nil {
			return nil, err
		}
		defer res.Body.Close()
		data, err := io.ReadAll(io.LimitReader(res.Body, bundle.Most))
		if res.StatusCode != http.StatusOK {
			err = errors.Join(fmt.Errorf("the server answers %s", res.Status), err)
		}
		return data, err
	}}
}
