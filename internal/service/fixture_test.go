package service

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"crier/api"
	"crier/audience"
	"crier/audience/members"
	"crier/internal/idset"
	"crier/job"
	"crier/state/blob"
	"crier/state/erased"
	"crier/state/jobs"
	"crier/state/ledger"
	"crier/state/overstay"
	"crier/state/parked"
	"crier/state/parked/kv"
	"crier/state/proof"
	"crier/state/sql"
)

// fixture is a service with its stores in a temporary directory, and its ledger,
// controls and index in memory. Its accounts are "news", with followers 0 to 999
// in range 3, and "empty".
type fixture struct {
	*Service
	t             *testing.T
	log, controls *ledger.Memory
	dir           string
	limits        limits
	news          api.Account
	waiting       map[job.ID]string
	filters       []proof.Filter
	records       uint64 // in the journal that entries writes to
	// What the table of jobs has taken in; each holds more than a test causes.
	seenJobs, seenControls chan job.ID
}

// asked is a context in which the admin of everything asks.
func asked(t *testing.T) context.Context { return api.WithCaller(t.Context(), api.Operator()) }

// limits are what tenants may do in a test.
type limits map[string]job.Limits

func (l limits) Limits(tenant string) job.Limits { return l[tenant] }
func (limits) Refresh(context.Context) error     { return nil }

func newFixture(t *testing.T) *fixture {
	f := &fixture{t: t, log: ledger.NewMemory(ledger.MemoryConfig{}), controls: ledger.NewMemory(ledger.MemoryConfig{}), dir: t.TempDir(), limits: limits{},
		waiting: map[job.ID]string{}, seenJobs: make(chan job.ID, 10000), seenControls: make(chan job.ID, 10000)}
	store, err := sql.Open(asked(t), sql.Config{Path: filepath.Join(f.dir, "crier.db")})
	f.must(err)
	t.Cleanup(func() { store.Close() })
	blobs, err := blob.OpenDir(filepath.Join(f.dir, "blobs"))
	f.must(err)
	m, err := members.New(members.Config{Sets: store.Sets, Blobs: blobs, Scratch: filepath.Join(f.dir, "scratch")})
	f.must(err)
	table := jobs.New(f.log, f.controls)
	index, err := parked.New(asked(t), kv.NewMemory(), f, f.log)
	f.must(err)
	f.Service = New(Config{Log: f.log, Controls: f.controls, Store: store, Authority: f.limits, Blobs: blobs, Members: m, Jobs: table, Erased: erased.New(f.log), Index: index, Set: f.set,
		WaitingOn: func(id job.ID) string { return f.waiting[id] }, Status: func(context.Context) api.Status { return api.Status{Healthy: true} },
		Stays:   overstay.NewWatch(table, index, f, time.Now),
		Filters: func(context.Context, job.Spec) ([]proof.Filter, error) { return f.filters, nil },
		Why: func(_ context.Context, spec job.Spec, reason job.Reason, who job.Recipient) (string, error) {
			return fmt.Sprintf("%s of %s in %d segments", reason, who, len(spec.Include)+len(spec.Exclude)), nil
		},
		Scratch: filepath.Join(f.dir, "scratch")})
	table.OnJob = func(j jobs.Job) {
		f.JobChanged(j.Spec.ID)
		f.seenJobs <- j.Spec.ID
	}
	table.OnControls = func(id job.ID, _ job.Controls) { f.seenControls <- id }
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() {
		if err := table.Run(ctx); !errors.Is(err, context.Canceled) {
			t.Errorf("the table: %v", err)
		}
	})
	t.Cleanup(func() { cancel(); wg.Wait() })
	<-table.Ready()
	_, err = f.CreateAccount(asked(t), api.CreateAccount{Name: "empty"})
	f.must(err)
	_, err = f.CreateAccount(asked(t), api.CreateAccount{Name: "news"})
	f.must(err)
	ids := make([]job.Recipient, 1000)
	for i := range ids {
		ids[i] = job.Recipient(3<<20 + i)
	}
	_, err = f.AddFollowers(asked(t), "news", ids)
	f.must(err)
	f.news, err = f.GetAccount(asked(t), "news")
	f.must(err)
	return f
}

func (f *fixture) must(err error) {
	f.t.Helper()
	if err != nil {
		f.t.Fatal(err)
	}
}

func (f *fixture) set(ctx context.Context, digest job.Digest) (*audience.Set, error) {
	h, err := f.cfg.Blobs.Open(ctx, digest)
	if err != nil {
		return nil, err
	}
	defer h.Close()
	s, err := audience.Open(h.Path())
	if err == nil {
		f.t.Cleanup(func() { s.Close() })
	}
	return s, err
}

// PackageRange implements parked.Packages.
func (f *fixture) PackageRange(ctx context.Context, id job.ID, r job.Range) (*idset.Set, error) {
	j, err := f.cfg.Jobs.Get(ctx, id)
	if err != nil {
		return nil, err
	}
	s, err := f.set(ctx, j.Spec.Package)
	if err != nil {
		return nil, err
	}
	return s.Range(r)
}

// toFollowers asks for a job to the followers of news.
func toFollowers(key string, change ...func(*api.SubmitJob)) api.SubmitJob {
	req := api.SubmitJob{Account: "news", Audience: api.AudienceFollowers, Body: "Hello", IdempotencyKey: key}
	for _, c := range change {
		c(&req)
	}
	return req
}

func (f *fixture) submit(req api.SubmitJob) api.Job {
	f.t.Helper()
	j, err := f.SubmitJob(asked(f.t), req)
	f.must(err)
	return j
}

// submitSeen submits a job and waits until the table of jobs has it.
func (f *fixture) submitSeen(req api.SubmitJob) job.ID {
	f.t.Helper()
	id := f.submit(req).Job
	for <-f.seenJobs != id {
	}
	return id
}

// accepted lists the records of all jobs in the ledger.
func (f *fixture) accepted() (out []job.Transition) {
	f.t.Helper()
	f.must(ledger.ReadAll(asked(f.t), f.log, 1, ledger.AllJobs, func(st ledger.Stored) error {
		var tr job.Transition
		err := json.Unmarshal(st.Data, &tr)
		out = append(out, tr)
		return err
	}))
	return out
}

// move makes a job pass through states.
func (f *fixture) move(id job.ID, states ...job.State) {
	f.t.Helper()
	for _, s := range states {
		j, err := f.cfg.Jobs.Transition(asked(f.t), id, s, "because", now())
		f.must(err)
		if j.State != s {
			f.t.Fatalf("the job is %s, not %s", j.State, s)
		}
	}
}

var toSent = []job.State{job.Packed, job.Queued, job.Preparing, job.Prepared, job.Sending, job.Sent}

// project brings the SQL store up to the ledger, as the recorder does.
func (f *fixture) project() {
	f.t.Helper()
	f.must(f.cfg.Store.Jobs.Project(asked(f.t), sql.Projection{Recorder: "test", Through: 1, Transitions: f.accepted()}))
}

// reserve records, in the journal of worker w.1, that a span of a job is sent: who
// is neither dropped nor a target is parked.
func (f *fixture) reserve(n uint64, r *ledger.Reserve) {
	f.t.Helper()
	subject := ledger.JournalSubject(job.Journal{Worker: "w", Incarnation: 1})
	rec := ledger.Record{Journal: job.Journal{Worker: "w", Incarnation: 1}, N: n, Nonce: [16]byte{byte(n)}, Entries: []ledger.Entry{r}}
	var last uint64
	if n == 0 {
		rec.Entries = []ledger.Entry{ledger.Open{Boot: "boot"}}
	} else {
		st, err := f.log.Last(asked(f.t), subject)
		f.must(err)
		last, rec.Prev = st.Seq, ledger.HashOf(st.Data)
	}
	seq, err := f.log.Append(asked(f.t), subject, last, rec.Bytes())
	f.must(err)
	st, err := f.log.Get(asked(f.t), seq)
	f.must(err)
	_, err = f.cfg.Index.Apply(asked(f.t), st)
	f.must(err)
}

// kept lists everything that the service keeps: records, blobs, files under way,
// and what the accounts say.
func (f *fixture) kept() []string {
	f.t.Helper()
	var out []string
	for _, l := range []*ledger.Memory{f.log, f.controls} {
		f.must(ledger.ReadAll(asked(f.t), l, 1, ">", func(st ledger.Stored) error {
			out = append(out, st.Subject)
			return nil
		}))
	}
	f.must(filepath.WalkDir(f.dir, func(path string, d fs.DirEntry, err error) error {
		if !strings.HasPrefix(d.Name(), "crier.db") && !d.IsDir() {
			out = append(out, path)
		}
		return err
	}))
	list, err := f.ListAccounts(asked(f.t), api.Page{})
	f.must(err)
	b, err := json.Marshal(list)
	f.must(err)
	slices.Sort(out)
	return append(out, string(b))
}

// files reads all files that the service keeps.
func (f *fixture) files() map[string]string {
	f.t.Helper()
	all := map[string]string{}
	f.must(filepath.WalkDir(f.dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		b, err := os.ReadFile(path)
		all[path] = string(b)
		return err
	}))
	return all
}

// wantError holds an error to a code and a field.
func wantError(t *testing.T, what string, err error, code job.Code, field string) {
	t.Helper()
	var e *job.Error
	if !errors.As(err, &e) || e.Code != code || e.Field != field || e.Message == "" {
		t.Errorf("%s: %v; want code %s, field %q", what, err, code, field)
	}
}
