package worker

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"crier/internal/bus"
	"crier/internal/work"
	"crier/job"
	"crier/presence/gateway"
	"crier/worker/sweep"
)

// storm is a world in which everything fails that may fail: what is proved at its
// end is the promise, not a mechanism.
type storm struct {
	*world
	fleet   *fleet // instead of the one worker; nil if there is one
	later   []found
	c       *chance
	devices []*device
	gws     []*place
	jobs    []*stormJob
	folder  func() // ends the folding under way
	folded  int
	silent  map[job.Incarnation]time.Time // since when
	ended   int                           // gateways called over
	moved   int                           // devices redirected
}

// stormJob is a job, and what may become of it.
type stormJob struct {
	id     job.ID
	resend bool // who is in doubt may get it twice
	over   bool // it may end before all have it
	once   bool // it is the same for all such jobs
}

const (
	stormLasts = 2 * time.Minute
	calmLasts  = 50 * time.Second
	// restWithin is how long it may take then until nothing is left to do. Of what waits for
	// a connection with a window of one, each sweep brings one message and finds no room
	// for the others; such a window may have been full until the last hello, by a message
	// that could not be forgotten at the one before.
	restWithin = 20 * sweep.Every
	restLasts  = 10 * time.Second // at least, for what comes twice
	stormStep  = 20 * time.Millisecond
)

// TestStorm sends jobs through storms; CRIER_STORMS says how many. A seed makes the
// weather, not the order in which goroutines run: a storm that failed may need a few
// tries to fail again, as by CRIER_STORMS=9 go test -run 'Storm/seed8$' -count=20.
func TestStorm(t *testing.T) {
	n, err := strconv.Atoi(cmp.Or(os.Getenv("CRIER_STORMS"), "4"))
	if err != nil {
		t.Fatalf("CRIER_STORMS: %v", err)
	}
	var folded, ended, moved, storms atomic.Int64
	t.Cleanup(func() {
		if n := storms.Load(); n >= 4 && (ended.Load() < n || moved.Load() < n) {
			t.Errorf("%d gateways called over and %d devices redirected in %d storms: too few to mean anything", ended.Load(), moved.Load(), n)
		}
		t.Logf("%d storms: %d foldings, %d gateways called over, %d devices redirected", storms.Load(), folded.Load(), ended.Load(), moved.Load())
		if folded.Load() < storms.Load() {
			t.Errorf("%d foldings in %d storms: too few to mean anything", folded.Load(), storms.Load())
		}
	})
	for seed := range n {
		t.Run(fmt.Sprint("seed", seed), func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				s := newStorm(t, uint64(seed), 0)
				defer s.end()
				s.rage()
				s.calm()
				s.judge()
				folded.Add(int64(s.folded))
				ended.Add(int64(s.ended))
				moved.Add(int64(s.moved))
				storms.Add(1)
			})
		})
	}
}

// newStorm makes a storm over one worker, or over a fleet of some.
func newStorm(t *testing.T, seed uint64, fleet int) *storm {
	w := newWorld(t, seed)
	c := &chance{rng: rand.New(rand.NewPCG(seed, 1))}
	s := &storm{world: w, c: c, folder: func() {}, silent: map[job.Incarnation]time.Time{}}
	w.bus = &lossy{bus.NewMemory(), c}
	w.ledger = &faraway{w.log, c}
	window := []int{0, 0, 1, 3}[c.n(4)]
	if fleet > 0 {
		s.fleet = newFleet(w, []string{"w1", "w2", "w3"}[:fleet]...)
	}
	for n := range 3 {
		g := &place{host: &host{w: w, name: fmt.Sprint("g", n), window: window}, c: c, pipes: map[gateway.Conn]*pipe{}}
		g.sink = g.take
		g.begin(1)
		s.gws = append(s.gws, g)
	}
	w.drains = []int{0, 0, 20}[c.n(3)]
	w.policy.Cap = []int{0, 0, 2, 4}[c.n(4)]
	for i := range uint32(16) {
		who := i%2<<20 + i
		w.content.followers[who] = true
		for n := range 1 + c.n(2) {
			s.devices = append(s.devices, &device{n: uint64(i)*2 + uint64(n) + 1, who: job.Recipient(who), speaks: i%4 != 3,
				have: map[job.ID]bool{}, shown: map[job.ID]int{}})
		}
	}
	if s.fleet == nil {
		w.start()
		return s
	}
	for _, m := range s.fleet.members {
		m.start()
	}
	return s
}

// end stops what runs, and waits for who waits for an answer: time stands still when
// the bubble's first goroutine has ended.
func (s *storm) end() {
	s.c.end()
	s.folder()
	if s.fleet == nil {
		s.stop()
	} else {
		s.fleet.end()
	}
	for _, g := range s.gws {
		for g.down.Load() {
			time.Sleep(time.Second)
		}
		g.licence()
		g.end()
	}
	s.bus.Close()
	time.Sleep(10 * time.Second)
	s.planes.Close()
}

// rage is the storm.
func (s *storm) rage() {
	began := time.Now()
	for step := 0; time.Since(began) < stormLasts; step++ {
		time.Sleep(stormStep)
		if step%1000 == 100 {
			s.send()
		}
		if step%50 == 0 {
			s.offerAll()
		}
		for _, d := range s.devices {
			s.live(d)
		}
		s.strike()
		s.control()
		s.findSilent()
		if s.fleet != nil && step%25 == 0 {
			s.oneHome()
		}
	}
}

// send begins a job.
func (s *storm) send() {
	j := &stormJob{resend: s.c.of(0.3), over: s.c.of(0.2)}
	j.id = s.submit(s.content.followers, func(spec *job.Spec) {
		if j.resend {
			spec.OnUnknown = job.Resend
		}
		if j.over {
			spec.ExpiresAt = spec.SubmittedAt.Add(time.Duration(20+s.c.n(60)) * time.Second)
		}
		if s.c.of(0.5) {
			j.once, spec.SendOnce = true, &job.SendOnce{Key: job.OnceKey{1}, Window: time.Hour}
		}
		spec.Rate = uint32(s.c.n(6))
	})
	s.jobs = append(s.jobs, j)
}

func (s *storm) offerAll() {
	if s.fleet != nil {
		s.offerToFleet()
		return
	}
	for _, j := range s.jobs {
		go func() {
			ctx, cancel := context.WithTimeout(context.Background(), 4*time.Second)
			defer cancel()
			b, _ := json.Marshal(work.Offer{Job: j.id, Span: job.Span{Hi: 1 << 32}})
			s.bus.Request(ctx, work.OfferTo("w1"), b) // unanswered, it is repeated
		}()
	}
}

// live lets a device come and go, and read or not.
func (s *storm) live(d *device) {
	switch {
	case d.pipe == nil && d.next != "":
		s.comeAgain(d)
	case d.pipe == nil && s.c.of(0.01):
		d.connect(s.gws[s.c.n(len(s.gws))])
	case d.pipe == nil:
	case s.c.of(0.002):
		d.leave()
	case s.c.of(0.2):
		d.read(1 + s.c.n(3))
	}
	if s.c.of(0.001) {
		d.deaf = !d.deaf
	}
}

// strike kills, cuts off, and folds the ledger meanwhile.
func (s *storm) strike() {
	g := s.gws[s.c.n(len(s.gws))]
	switch {
	case s.fleet != nil && s.strikeFleet():
	case s.fleet == nil && (s.lost() || s.c.of(0.002)):
		s.killWorker()
	case s.c.of(0.002):
		g.kill(s.c.of(0.3))
	case s.c.of(0.001):
		s.cutOff(g)
	case s.c.of(0.002):
		g.lets(s.c.of(0.3), false)
		time.AfterFunc(s.c.upTo(45*time.Second), func() { g.lets(true, true) })
	case s.fleet == nil && s.c.of(0.0005):
		s.killWorker()
		g.kill(s.c.of(0.3))
	case s.fleet == nil && s.c.of(0.002):
		s.fold()
	}
}

// control pauses, resumes and cancels.
func (s *storm) control() {
	if len(s.jobs) == 0 {
		return
	}
	j := s.jobs[s.c.n(len(s.jobs))]
	switch {
	case s.c.of(0.0005):
		paused := s.c.of(0.3)
		s.order(j, job.Control{Pause: &paused})
	case s.c.of(0.0002):
		j.over = true
		s.order(j, job.Control{Cancel: true})
	}
}

func (s *storm) order(j *stormJob, c job.Control) {
	if _, err := s.table.Control(context.Background(), j.id, c); err != nil {
		s.t.Fatal(err)
	}
}

// calm lets everything come to its end: what was cut off is reached again, devices
// stay, those of one recipient at several gateways until they are redirected.
func (s *storm) calm() {
	s.c.end()
	for _, g := range s.gws {
		g.lets(true, true)
		g.cut.Store(false)
		s.until("the gateway is there", func() bool { return !g.down.Load() })
	}
	if s.fleet != nil {
		s.calmFleet()
	} else if s.lost() {
		s.killWorker()
	}
	for _, j := range s.jobs {
		resume := false
		s.order(j, job.Control{Pause: &resume})
	}
	s.visit(calmLasts, calmLasts)
	began := time.Now()
	s.visit(restLasts, restWithin)
	s.t.Logf("at rest %s after everything had healed", time.Since(began)+calmLasts)
	if s.fleet != nil {
		return
	}
	s.fold()
	synctest.Wait()
	s.folder()
}

// atRest reports whether nothing is left to do.
func (s *storm) atRest() bool {
	for _, j := range s.jobs {
		if c := s.counts(j.id); c.Parked+c.HandedOff+c.Pending > 0 {
			return false
		}
	}
	return !slices.ContainsFunc(s.devices, func(d *device) bool {
		return len(d.have) > 0 || d.speaks && slices.ContainsFunc(s.jobs, func(j *stormJob) bool {
			where, err := s.index.Where(j.id, d.who)
			return err != nil || where == job.InDoubt
		})
	})
}

// visit lets all devices come anew, and read whatever comes, until nothing is left to do.
func (s *storm) visit(atLeast, atMost time.Duration) {
	for _, d := range s.devices {
		d.deaf = false
		if d.pipe != nil {
			d.leave()
		}
	}
	began := time.Now()
	for step := 0; time.Since(began) < atMost; step++ {
		time.Sleep(stormStep)
		if step%100 == 50 {
			s.offerAll()
		}
		if step%50 == 49 && time.Since(began) >= atLeast && s.atRest() {
			return
		}
		s.findSilent()
		for _, d := range s.devices {
			if d.pipe != nil {
				d.read(100)
			} else if d.next != "" {
				s.comeAgain(d)
			} else if step%100 == 50 {
				d.connect(s.gws[int(d.n)%len(s.gws)])
			}
		}
	}
}
