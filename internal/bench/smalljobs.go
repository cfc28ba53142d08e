package bench

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"golang.org/x/sync/errgroup"

	"crier/api"
	"crier/internal/bench/feed"
	"crier/internal/idset"
	"crier/internal/proc"
	"crier/job"
)

// SmallJobs is a run of many jobs to few recipients each: what a job costs, and not what a
// recipient does. The jobs take turns with the packages. 30 % of the recipients are online
// at the simulated gateways; the others are parked.
type SmallJobs struct {
	Pipeline        // its Recipients are those among whom the packages are drawn
	Jobs     int    // in all
	Each     uint64 // recipients of a package
	Packages int    // distinct ones
	UnderWay int    // jobs at a time, each from its submit until it is sent
}

// SmallResult is what a run of small jobs measured.
type SmallResult struct {
	Jobs           int      `json:"jobs"`
	RecipientsEach uint64   `json:"recipients_each"`
	Among          uint64   `json:"among"` // recipients from whom the packages are drawn
	Packages       int      `json:"packages"`
	UnderWay       int      `json:"under_way"`
	Seconds        float64  `json:"seconds"` // from the first submit to the last sent
	JobsPerS       float64  `json:"jobs_per_s"`
	P50Ms          float64  `json:"p50_ms"` // from a job's submit to its being sent, both as the client sees them
	P99Ms          float64  `json:"p99_ms"`
	LedgerPerJob   uint64   `json:"ledger_bytes_per_job"`
	Delivered      uint64   `json:"delivered"` // as the gateways counted
	Reconciled     int      `json:"reconciled"`
	Conserved      bool     `json:"conserved"`
	RSSMaxBytes    uint64   `json:"rss_max_bytes"`
	Violations     []string `json:"violations,omitempty"`
}

// Bounds of a run of small jobs.
const (
	maxPackages   = 200
	maxSmallJobs  = 100_000
	maxUnderWay   = 64
	reconcileSome = 20 // jobs
)

// Validate names the first field that cannot be.
func (b SmallJobs) Validate() error {
	for _, x := range []struct {
		name        string
		value, most uint64
	}{{"jobs", uint64(max(0, b.Jobs)), maxSmallJobs}, {"recipients", b.Each, 1 << 20}, {"packages", uint64(max(0, b.Packages)), maxPackages},
		{"under-way", uint64(max(0, b.UnderWay)), maxUnderWay}, {"among", b.Recipients, 1 << 30}} {
		if x.value < 1 || x.value > x.most {
			return job.Invalid(x.name, fmt.Sprintf("%s: want 1 to %d", x.name, x.most), nil)
		}
	}
	if b.Each > b.Recipients {
		return job.Invalid("among", fmt.Sprintf("among: %d recipients cannot be drawn from %d", b.Each, b.Recipients), nil)
	}
	return nil
}

// Run measures. Packages, followers and presence are prepared before.
func (b *SmallJobs) Run(ctx context.Context) (res SmallResult, err error) {
	if err := b.Validate(); err != nil {
		return res, err
	}
	srv, svc, err := b.serve(ctx)
	if err != nil {
		return res, err
	}
	defer func() { svc.Close(); err = errors.Join(err, srv.Stop()) }()
	packages, err := b.importParts(ctx, svc)
	if err != nil {
		return res, fmt.Errorf("importing packages: %w", err)
	}
	children, err := b.startGateways(srv, true)
	defer func() {
		for _, c := range children {
			err = errors.Join(err, c.Stop())
		}
	}()
	if err != nil {
		return res, err
	}
	before, err := ledgerBytes(ctx, svc)
	if err != nil {
		return res, err
	}
	b.say("sending %d jobs", b.Jobs)
	ids, times, err := b.send(ctx, svc, packages, &res)
	if err != nil {
		return res, err
	}
	for _, id := range ids {
		if err := b.settle(ctx, svc, id); err != nil {
			return res, err
		}
	}
	after, err := ledgerBytes(ctx, svc)
	if err != nil {
		return res, err
	}
	b.fill(&res, times, after-min(before, after))
	if res.RSSMaxBytes, err = srv.HighWater(); err != nil {
		return res, err
	}
	return res, b.judgeAll(ctx, svc, ids, children, &res)
}

func (b *SmallJobs) fill(res *SmallResult, times []time.Duration, ledger uint64) {
	res.Jobs, res.RecipientsEach, res.Among, res.Packages, res.UnderWay = b.Jobs, b.Each, b.Recipients, b.Packages, b.UnderWay
	res.JobsPerS = float64(b.Jobs) / res.Seconds
	res.P50Ms, res.P99Ms = percentile(times, 50), percentile(times, 99)
	res.LedgerPerJob = ledger / uint64(b.Jobs)
}

// percentile is the time, in ms, that so many percent took at most.
func percentile(times []time.Duration, percent int) float64 {
	sorted := slices.Sorted(slices.Values(times))
	at := (len(sorted)*percent+99)/100 - 1
	return float64(sorted[max(0, at)]) / float64(time.Millisecond)
}

// part calls fn with the recipients of one package, range by range.
func (b *SmallJobs) part(i int, fn func(*idset.Set) error) error {
	left := b.Each
	share := int(min(256, 1+b.Each*256*11/10/b.Recipients)) // some more than are needed
	err := b.Ranges(func(all *idset.Set) error {
		if left == 0 {
			return nil
		}
		s := all.Clone()
		defer s.Release()
		if share < 256 {
			some := fill(all.Range, func(w uint64) uint64 { return b.word(w, firstPart+i, share) })
			s.And(some)
			some.Release()
		}
		keepFirst(s, left)
		left -= uint64(s.Card())
		if s.Card() == 0 {
			return nil
		}
		return fn(s)
	})
	if err == nil && left > 0 {
		err = fmt.Errorf("package %d lacks %d recipients: draw them from more", i, left)
	}
	return err
}

// keepFirst keeps n recipients at most, the first ones. (Cut ends at words.)
func keepFirst(s *idset.Set, n uint64) {
	for id := range s.All() {
		if n == 0 {
			s.KeepSpan(job.Span{Lo: uint64(s.Range.Lo()), Hi: uint64(id)})
			return
		}
		n--
	}
}

// importParts imports the packages in their order.
func (b *SmallJobs) importParts(ctx context.Context, svc api.Service) ([]job.Digest, error) {
	b.say("importing %d packages of %d", b.Packages, b.Each)
	out := make([]job.Digest, b.Packages)
	for i := range out {
		var err error
		if out[i], err = feed.Package(ctx, svc, b.Dir, account, fmt.Sprint("part-", i), func(add func(*idset.Set) error) error { return b.part(i, add) }); err != nil {
			return nil, fmt.Errorf("package %d: %w", i, err)
		}
	}
	return out, nil
}

// send submits the jobs, so many at a time, and waits for each.
func (b *SmallJobs) send(ctx context.Context, svc api.Service, packages []job.Digest, res *SmallResult) ([]job.ID, []time.Duration, error) {
	ids, times := make([]job.ID, b.Jobs), make([]time.Duration, b.Jobs)
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(b.UnderWay)
	began := time.Now()
	for i := range b.Jobs {
		g.Go(func() error {
			submitted := time.Now()
			j, err := svc.SubmitJob(ctx, api.SubmitJob{Account: account, Package: packages[i%len(packages)], Body: "benchmark", IdempotencyKey: fmt.Sprint("small-", i)})
			if err != nil {
				return err
			}
			if j, err = svc.WaitJob(ctx, j.Job, api.WaitJob{For: job.Sent}); err != nil {
				return err
			}
			if j.State != job.Sent && j.State != job.Completed {
				return fmt.Errorf("job %s is %s: %s", j.Job, j.State, j.Reason)
			}
			ids[i], times[i] = j.Job, time.Since(submitted)
			return nil
		})
	}
	err := g.Wait()
	res.Seconds = time.Since(began).Seconds()
	return ids, times, err
}

// Expected is what must become of a package, worked out from the population alone.
type Expected struct {
	Tally             // who is online
	Parked     uint64 // who is not
	Relation   uint64 // who does not follow
	Suppressed uint64 // who follows and is suppressed
}

func (b *SmallJobs) expected(i int) (x Expected, err error) {
	err = b.part(i, func(s *idset.Set) error {
		all := uint64(s.Card())
		keep(s, b.Followers(s.Range))
		x.Relation += all - uint64(s.Card())
		follow := uint64(s.Card())
		drop := b.Suppressed(s.Range)
		s.AndNot(drop)
		drop.Release()
		x.Suppressed += follow - uint64(s.Card())
		wanted := uint64(s.Card())
		at := idset.New(s.Range)
		for g := range b.Gateways {
			some := b.At(s.Range, g)
			at.Or(some)
			some.Release()
		}
		keep(s, at)
		x.Parked += wanted - uint64(s.Card())
		x.add(s)
		return nil
	})
	return x, err
}

func keep(s, of *idset.Set) {
	s.And(of)
	of.Release()
}

// judgeAll compares, for every job, whom the gateways got with who is due, and for some
// what the ledger proves.
func (b *SmallJobs) judgeAll(ctx context.Context, svc api.Service, ids []job.ID, children []*proc.Child, res *SmallResult) error {
	b.say("reconciling")
	got := map[string]Tally{}
	for _, c := range children {
		var r GatewayResult
		if err := c.Ask(struct{}{}, &r); err != nil {
			return err
		}
		for id, t := range r.Jobs {
			sum := got[id]
			sum.N, sum.Sum = sum.N+t.N, sum.Sum+t.Sum
			got[id] = sum
		}
		if r.Strange > 0 {
			res.Violations = append(res.Violations, fmt.Sprintf("a gateway got %d recipients who are not there, or should get nothing", r.Strange))
		}
	}
	due := make([]Expected, b.Packages)
	for i := range due {
		var err error
		if due[i], err = b.expected(i); err != nil {
			return err
		}
	}
	if len(got) > len(ids) {
		res.Violations = append(res.Violations, fmt.Sprintf("the gateways got %d jobs, %d were submitted", len(got), len(ids)))
	}
	every := max(1, len(ids)/reconcileSome)
	for i, id := range ids {
		want, have := due[i%b.Packages], got[id.String()]
		res.Delivered += have.N
		if have != want.Tally {
			res.Violations = append(res.Violations, fmt.Sprintf("job %s: the gateways got %d recipients, due are %d, or others", id, have.N, want.N))
		}
		if i%every > 0 {
			continue
		}
		rec, err := svc.ReconcileJob(ctx, id)
		if err != nil {
			return err
		}
		res.Reconciled++
		res.Violations = append(res.Violations, want.differ(rec)...)
	}
	if err := b.countSent(ctx, svc, res); err != nil {
		return err
	}
	res.Conserved = len(res.Violations) == 0
	return nil
}

// differ says in which outcomes a proof is not as expected.
func (x Expected) differ(rec api.Reconciliation) (all []string) {
	if !rec.Conserved {
		all = append(all, fmt.Sprintf("job %s is not conserved: %q", rec.Job, rec.Violations))
	}
	for _, o := range []struct {
		name      string
		got, want uint64
	}{{"delivered", rec.Delivered, x.N}, {"parked", rec.Parked, x.Parked}, {"dropped: relation", rec.Dropped[job.ReasonRelation], x.Relation},
		{"dropped: suppression", rec.Dropped[job.ReasonSuppressed], x.Suppressed}} {
		if o.got != o.want {
			all = append(all, fmt.Sprintf("job %s: %d are %s, expected are %d", rec.Job, o.got, o.name, o.want))
		}
	}
	return all
}

// countSent compares the number of jobs that the server says are sent.
func (b *SmallJobs) countSent(ctx context.Context, svc api.Service, res *SmallResult) error {
	st, err := svc.Status(ctx)
	if err != nil {
		return err
	}
	if n := st.Jobs[job.Sent] + st.Jobs[job.Completed]; n != uint64(b.Jobs) {
		res.Violations = append(res.Violations, fmt.Sprintf("the server says that %d jobs are sent, submitted were %d", n, b.Jobs))
	}
	return nil
}

func ledgerBytes(ctx context.Context, svc api.Service) (uint64, error) {
	st, err := svc.Status(ctx)
	if err != nil {
		return 0, err
	}
	for _, s := range st.Stores {
		if s.Name == "ledger" {
			return s.Bytes, nil
		}
	}
	return 0, errors.New("the server does not tell the size of its ledger")
}
