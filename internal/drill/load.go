package drill

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"crier/api"
	"crier/api/client"
	"crier/internal/auth"
	"crier/internal/cluster"
	"crier/internal/crowd"
	"crier/internal/drill/verdict"
	"crier/internal/proc"
	"crier/job"
)

// crowdOf is clients in a process of their own.
type crowdOf struct {
	child   *proc.Child
	members []job.Recipient
	seen    int // receipts taken over
}

func (r *run) connectAPI() error {
	key, err := auth.ReadAdminKey(r.cluster.Keys())
	if err != nil {
		return err
	}
	processes, err := r.cluster.Role("api")
	if err != nil {
		return err
	}
	for _, p := range processes {
		svc, err := client.New(client.Config{Server: p.Addresses[cluster.AddrAPI], Key: key, Timeout: 10 * time.Second})
		if err != nil {
			return err
		}
		r.onEnd(func() error { svc.Close(); return nil })
		r.api.list = append(r.api.list, svc)
	}
	return nil
}

// populations is how many ranges of ids the followers are in, as those who were given
// ids in the order of registration are; each is at home with some worker.
const populations = 32

// accountsMost bounds the accounts that are looked at.
const accountsMost = 100

// takeAccount finds an account for a drill that nobody follows, or makes one. An account
// stays for good, for the ledger and the lists of jobs name it, so that drills share one;
// there is another only while somebody follows that: another drill is at work, or could not
// clean up after itself.
func (r *run) takeAccount(ctx context.Context) error {
	for n := range accountsMost {
		name := "drill"
		if n > 0 {
			name = fmt.Sprintf("drill-%d", n+1)
		}
		var a api.Account
		err := r.api.do(ctx, func(ctx context.Context, svc api.Service) (err error) {
			if a, err = svc.CreateAccount(ctx, api.CreateAccount{Name: name}); job.CodeOf(err) == job.CodeConflict {
				a, err = svc.GetAccount(ctx, name)
			}
			return err
		})
		if err != nil {
			return fmt.Errorf("making account %s: %w", name, err)
		}
		if a.Followers == 0 {
			r.account = name
			return nil
		}
	}
	return fmt.Errorf("all of the accounts drill to drill-%d have followers: crier followers rm takes them out", accountsMost)
}

// dismiss takes the followers out of the account when the drill is over, however it ended.
// It takes no verdict away, and an interrupted drill does not wait for it for long: a second for
// each request beside the rest.
func (r *run) dismiss(ctx context.Context) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), cancelWithin+time.Duration(len(r.people)/api.MaxIDs)*time.Second)
	defer cancel()
	for ids := range slices.Chunk(r.people, api.MaxIDs) {
		if err := r.forget(ctx, ids); err != nil {
			r.cfg.Say("account %s keeps its followers: %v", r.account, err)
			return
		}
	}
}

// populate gives an account followers: who is connected, who comes later, who never
// does.
func (r *run) populate(ctx context.Context) error {
	rng := rand.New(rand.NewPCG(r.cfg.Seed, 7))
	set := map[job.Recipient]bool{}
	var ranges [populations]uint32
	for i := range ranges {
		ranges[i] = rng.Uint32() >> job.RangeBits << job.RangeBits
	}
	for len(set) < r.cfg.Online+r.cfg.Late+r.cfg.Parked {
		set[job.Recipient(ranges[rng.IntN(populations)]+rng.Uint32N(1<<job.RangeBits))] = true
	}
	people := slices.Sorted(maps.Keys(set))
	rng.Shuffle(len(people), func(i, j int) { people[i], people[j] = people[j], people[i] })
	r.online.members, r.late.members = people[:r.cfg.Online], people[r.cfg.Online:r.cfg.Online+r.cfg.Late]
	if err := r.takeAccount(ctx); err != nil {
		return err
	}
	r.people = people
	if err := r.choose(ctx); err != nil {
		return err
	}
	var ids strings.Builder
	for _, id := range people {
		ids.WriteString(strconv.FormatUint(uint64(id), 10) + "\n")
	}
	return r.api.do(ctx, func(ctx context.Context, svc api.Service) error {
		_, err := svc.ImportFollowers(ctx, api.ImportFollowers{Format: api.FormatIDs, Account: r.account}, strings.NewReader(ids.String()))
		return err
	})
}

// gather starts the process of a crowd, and tells it where the gateways are.
func (r *run) gather(c *crowdOf) (err error) {
	if c.child, err = proc.StartChild(r.cfg.Binary, "demo", "crowd"); err != nil {
		return err
	}
	r.onEnd(c.child.Stop)
	gateways, err := r.cluster.Role("gateway")
	if err != nil {
		return err
	}
	var urls []string
	for _, p := range gateways {
		urls = append(urls, p.Addresses[cluster.AddrGateway])
	}
	var hello crowd.Report
	return c.child.Ask(crowd.Request{Gateway: urls[0], Others: urls[1:]}, &hello)
}

// One of so many clients is slow, if any are to be, and one reads server-sent events.
const (
	slowOf   = 8
	streamOf = 4
)

// tokens gives a crowd's members tokens.
func (r *run) tokens(ctx context.Context, c *crowdOf) ([]crowd.Member, error) {
	members := make([]crowd.Member, len(c.members))
	g, gctx := errgroup.WithContext(ctx)
	g.SetLimit(8)
	for i, id := range c.members {
		g.Go(func() error {
			t, err := r.api.list[i%len(r.api.list)].MintToken(gctx, api.MintToken{Recipient: &id})
			members[i] = crowd.Member{Recipient: id, Token: t.Token, Kind: r.kind(i)}
			return err
		})
	}
	if err := g.Wait(); err != nil {
		return nil, fmt.Errorf("minting tokens: %w", err)
	}
	return members, nil
}

// submit submits a job to all followers; a rate of 0 is unlimited.
func (r *run) submit(ctx context.Context, name string, rate uint32, class job.Class, but ...func(*api.SubmitJob)) error {
	req := r.request(name, rate, class)
	for _, change := range but {
		change(&req)
	}
	var j api.Job
	err := r.api.do(ctx, func(ctx context.Context, svc api.Service) (err error) {
		j, err = svc.SubmitJob(ctx, req)
		return err
	})
	if err != nil {
		return fmt.Errorf("submitting job %s: %w", name, err)
	}
	r.add(j.Job, req)
	return nil
}

// cancelWithin bounds how long the end of a drill waits for its jobs to be cancelled.
const cancelWithin = 15 * time.Second

// cancelJobs stops what goes on of a drill's jobs when it is over, however it ended, for
// nobody looks at what becomes of them. That takes no verdict away: only who interrupts a
// drill has an error of it.
func (r *run) cancelJobs(ctx context.Context) error {
	interrupted := ctx.Err() != nil
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), cancelWithin)
	defer cancel()
	var errs []error
	for _, id := range r.jobs {
		err := r.api.do(ctx, func(ctx context.Context, svc api.Service) error {
			_, err := svc.CancelJob(ctx, id)
			return err
		})
		if err != nil && job.CodeOf(err) != job.CodeConflict { // it is over
			r.cfg.Say("job %s goes on: %v", id, err)
			errs = append(errs, fmt.Errorf("cancelling job %s: %w", id, err))
		}
	}
	if !interrupted {
		return nil
	}
	return errors.Join(errs...)
}

func (r *run) request(name string, rate uint32, class job.Class) api.SubmitJob {
	return api.SubmitJob{Account: r.account, Audience: api.AudienceFollowers, Body: "drill " + name, Rate: rate, Class: class, ExcludeSegments: []string{r.segment("out")}, ControlGroup: verdict.HeldOut,
		IdempotencyKey: fmt.Sprintf("drill-%s-%d-%s", r.drill.Name, r.cfg.Seed, name)}
}

// look takes over what the clients have seen since.
func (r *run) look() error {
	for _, c := range []*crowdOf{&r.online, &r.late} {
		if c == &r.late && !r.lateIn.Load() {
			continue
		}
		var rep crowd.Report
		if err := c.child.Ask(crowd.Request{Since: &c.seen}, &rep); err != nil {
			return err
		}
		c.seen += len(rep.Receipts)
		r.receipts = append(r.receipts, rep.Receipts...)
		if c == &r.online {
			r.lost = rep.Lost
		}
	}
	slices.SortStableFunc(r.receipts, func(a, b crowd.Receipt) int { return int(a.At - b.At) })
	return nil
}

// lookEvery is between looks at the clients.
const lookEvery = 200 * time.Millisecond

// until looks at the clients until something is so, and reports whether it was in time.
func (r *run) until(ctx context.Context, within time.Duration, so func() bool) (bool, error) {
	limit := time.NewTimer(within)
	defer limit.Stop()
	t := time.NewTicker(lookEvery)
	defer t.Stop()
	for {
		if err := r.look(); err != nil {
			return false, err
		}
		if so() {
			return true, nil
		}
		select {
		case <-ctx.Done():
			return false, ctx.Err()
		case <-limit.C:
			return false, nil
		case <-t.C:
		}
	}
}

// claimsWithin bounds one look at the claims; the machine may be busy.
const claimsWithin = 8 * time.Second

// readClaims reads on in the ledger's claims, as far as somebody answers now.
func (r *run) readClaims(ctx context.Context) {
	if r.claims.Kind == "" {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, claimsWithin)
	defer cancel()
	svc := r.api.list[r.api.at]
	if err := r.claims.Read(ctx, svc); err != nil {
		r.api.at = (r.api.at + 1) % len(r.api.list) // the next look asks another one
	}
}
