package logins

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"crier/internal/bus"
	"crier/internal/pause"
	"crier/job"
	"crier/presence/handoff"
)

// received is what gateways got. Nothing in it comes from the server.
type received struct {
	Received uint64 // recipients of a job, each the first time
	Twice    uint64
	Strange  uint64 // should not have got it
	Missing  uint64 // should have and did not
	Errors   uint64 // sending failed
}

// arrivals lets recipients come to gateways, and checks each message that these get for them.
type arrivals struct {
	Members
	gateways []*gateway
	signal   chan struct{} // somebody was served

	mu struct {
		sync.Mutex
		jobs   map[job.ID]int // of the round
		order  uint64         // how many came in the order that jumps about
		rest   uint64         // before whom everybody came
		came   []uint64       // who did in this round, a bit each
		visits map[uint64]*visit
		served []*visit // not collected yet
		result received
	}
}

// visit is a recipient who came and does not have everything yet.
type visit struct {
	started, first, last time.Time
	got                  []uint16 // jobs
	left                 int
}

func newArrivals(m Members) *arrivals {
	a := &arrivals{Members: m, signal: make(chan struct{}, 1)}
	a.mu.visits = map[uint64]*visit{}
	return a
}

// begin begins a round: nobody is there.
func (a *arrivals) begin(ids []job.ID) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.mu.jobs, a.mu.order, a.mu.rest, a.mu.came = map[job.ID]int{}, 0, 0, make([]uint64, a.Recipients/64+1)
	for n, id := range ids {
		a.mu.jobs[id] = n
	}
}

// next lets the next recipient come, in an order that jumps about; false if all have but
// those with most parked.
func (a *arrivals) next(at time.Time) bool {
	const step = 2_654_435_761 // a prime
	light := a.Recipients - uint64(a.Heavy)
	a.mu.Lock()
	n := a.mu.order
	a.mu.order = min(n+1, light)
	a.mu.Unlock()
	if n == light {
		return false
	}
	a.come(n*step%light, at)
	return true
}

// neighbour lets the next of those come who have not, in the order of their ids; false if all have.
func (a *arrivals) neighbour(at time.Time) bool {
	a.mu.Lock()
	for a.mu.rest < a.Recipients && a.mu.came[a.mu.rest/64]>>(a.mu.rest%64)&1 == 1 {
		a.mu.rest++
	}
	i := a.mu.rest
	a.mu.Unlock()
	if i == a.Recipients {
		return false
	}
	a.come(i, at)
	return true
}

// come lets a recipient come.
func (a *arrivals) come(i uint64, at time.Time) {
	a.mu.Lock()
	a.mu.came[i/64] |= 1 << (i % 64)
	a.mu.visits[i] = &visit{started: at, left: a.due(i)}
	a.mu.Unlock()
	a.gateways[i/neighbours%uint64(len(a.gateways))].join(a.id(i))
}

// neighbours is how many recipients with ids beside each other come to one gateway. It is a few containers.
const neighbours = 1000

// take takes a hand-off's message for one recipient.
func (a *arrivals) take(id job.ID, who uint32, now time.Time) {
	i, ok := a.indexOf(who)
	n, known := a.mu.jobs[id]
	if !ok || !known || !a.in(i, n) || a.mu.came[i/64]>>(i%64)&1 == 0 {
		a.mu.result.Strange++
		return
	}
	v := a.mu.visits[i]
	if v == nil || slices.Contains(v.got, uint16(n)) {
		a.mu.result.Twice++
		return
	}
	a.mu.result.Received++
	if len(v.got) == 0 {
		v.first = now
	}
	v.got = append(v.got, uint16(n))
	if v.left--; v.left > 0 {
		return
	}
	v.last = now
	delete(a.mu.visits, i)
	a.mu.served = append(a.mu.served, v)
	select {
	case a.signal <- struct{}{}:
	default:
	}
}

// stalled is how long nobody may be served while somebody waits.
const stalled = time.Minute

// collect waits until somebody was served, or until the given time; it gives the visits.
func (a *arrivals) collect(ctx context.Context, wait time.Duration) ([]*visit, error) {
	t, late := time.NewTimer(wait), false
	defer t.Stop()
	select {
	case <-ctx.Done():
		return nil, ctx.Err()
	case <-a.signal:
	case <-t.C:
		late = true
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	served := a.mu.served
	a.mu.served = nil
	if len(served) == 0 && late && wait == stalled {
		return nil, fmt.Errorf("%d recipients are not served, and nobody was within %s", len(a.mu.visits), stalled)
	}
	return served, nil
}

// closed lets so many recipients wait at a time, for so long, or until next has nobody left. It gives
// how long each took, of those who were served meanwhile, and how long that was.
func (a *arrivals) closed(ctx context.Context, next func(time.Time) bool, window int, lasts time.Duration) (took []time.Duration, seconds float64, err error) {
	began, out, more := time.Now(), 0, true
	for {
		for more && out < window {
			if more = next(time.Now()); more {
				out++
			}
		}
		if out == 0 {
			break
		}
		served, err := a.collect(ctx, stalled)
		if err != nil {
			return nil, 0, err
		}
		out -= len(served)
		if lasts > 0 && seconds > 0 {
			continue // time is up
		}
		for _, v := range served {
			took = append(took, v.last.Sub(v.started))
		}
		if since := time.Since(began); lasts > 0 && since >= lasts {
			more, seconds = false, since.Seconds()
		}
	}
	if seconds == 0 {
		seconds = time.Since(began).Seconds()
	}
	return took, seconds, nil
}

// open lets recipients come at a rate, whoever waits, and gives how long each took from when it was to come.
func (a *arrivals) open(ctx context.Context, rate float64, lasts time.Duration) (took []time.Duration, err error) {
	began, come := time.Now(), 0
	for out, more := 0, true; more || out > 0; {
		since := time.Since(began)
		for more && float64(come) < rate*min(since, lasts).Seconds() {
			if more = a.next(began.Add(time.Duration(float64(come) / rate * float64(time.Second)))); more {
				come++
				out++
			}
		}
		more = more && since < lasts
		wait := 2 * time.Millisecond
		if !more {
			wait = stalled
		}
		if !more && out == 0 {
			break
		}
		served, err := a.collect(ctx, wait)
		if err != nil {
			return nil, err
		}
		out -= len(served)
		for _, v := range served {
			took = append(took, v.last.Sub(v.started))
		}
	}
	return took, nil
}

// heavy lets those come, one by one, who are in all jobs.
func (a *arrivals) heavy(ctx context.Context) (first, whole []time.Duration, err error) {
	for i := a.Recipients - uint64(a.Heavy); i < a.Recipients; i++ {
		a.come(i, time.Now())
		var served []*visit
		for len(served) == 0 {
			if served, err = a.collect(ctx, stalled); err != nil {
				return nil, nil, err
			}
		}
		for _, v := range served {
			first, whole = append(first, v.first.Sub(v.started)), append(whole, v.last.Sub(v.started))
		}
	}
	return first, whole, nil
}

// leave lets everybody leave, and waits until the home knows.
func (a *arrivals) leave(ctx context.Context) error {
	for _, g := range a.gateways {
		g.leave()
	}
	for _, g := range a.gateways {
		if err := g.told(ctx); err != nil {
			return err
		}
	}
	return nil
}

// recorded waits until all that was taken is recorded.
func (a *arrivals) recorded(ctx context.Context) error {
	for _, g := range a.gateways {
		for g.unrecorded() > 0 {
			if !pause.For(ctx, 5*time.Millisecond) {
				return ctx.Err()
			}
		}
	}
	return nil
}

func (a *arrivals) result() received {
	a.mu.Lock()
	defer a.mu.Unlock()
	r := a.mu.result
	r.Missing = uint64(len(a.mu.visits))
	for _, g := range a.gateways {
		r.Errors += g.errors.Load()
	}
	return r
}

// open makes a gateway that recipients come to.
func (a *arrivals) gateway(ctx context.Context, name string, b bus.Bus, worker string) error {
	g := &gateway{a: a, inc: job.Incarnation{Gateway: name, Start: 1}, bus: b, worker: worker, ctx: ctx,
		ranges: map[job.Range]*telling{}, known: map[job.Ref]bool{}, reports: map[job.Ref]*handoff.Report{}}
	a.gateways = append(a.gateways, g)
	return g.begin()
}
