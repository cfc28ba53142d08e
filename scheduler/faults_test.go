package scheduler

import (
	"context"
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"crier/internal/work"
	"crier/job"
	"crier/state/ledger"
	"crier/state/parked"

	_ "testing/synctest" // each test is in a bubble, see inWorld
)

// A worker whose answers get lost, or that refuses, is offered a slice until it
// says that it is sent.
func TestOffersAreRepeated(t *testing.T) {
	for name, c := range map[string]struct {
		first *work.Reply
		why   string
	}{
		"no answer":        {nil, ": worker w does not answer for slice 0: asking crier.worker.w.offer: context deadline exceeded"},
		"refused":          {&work.Reply{State: job.SlicePlanned, Why: "the ledger is full"}, ": slice 0 was not taken: the ledger is full"},
		"an empty answer":  {&work.Reply{}, ": slice 0 was not taken"},
		"taken, then lost": {&work.Reply{State: job.SliceClaimed}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			inWorld(t, func(w *world) {
				first, why := c.first, c.why
				s := w.start("s", 1)
				defer s.stop()
				w.setAnswer(func(work.Offer) *work.Reply { return first })
				id := w.submit(1)
				w.reaches(id, job.Sending, time.Second)
				time.Sleep(offerWait + 2*round) // the offer is made within a round, and given up offerWait later
				if got := s.WaitingOn(id); got != "1 slice to be sent"+why {
					t.Errorf("waits on %q", got)
				}
				time.Sleep(20 * time.Second)
				if n := w.offersOf(id, 0); n < int(20*time.Second/(offerWait+reoffer)) || n > int(25*time.Second/reoffer)+5 {
					t.Errorf("offered %d times", n)
				}
				w.setAnswer(w.sends)
				w.reaches(id, job.Completed, reoffer+offerWait+time.Second)
				if got := w.warned.take(); len(got) != min(len(why), 1) {
					t.Errorf("warned %q", got)
				}
				if got := w.path(id); got != toSent+" completed" {
					t.Error(got)
				}
			})
		})
	}
}

// among is a ring of workers, of which some have lapsed.
type among struct {
	Alone
	workers []string
	lapsed  map[string]bool
}

func (a *among) Lapsed(j job.Journal) bool { return a.lapsed[j.Worker] }
func (a *among) Workers(string) []string   { return a.workers }

// Who had a slice is dead. As soon as that is known the slice is offered to another, and
// again soon, for that one refuses until the dead one's journal is sealed.
func TestWhatADeadWorkerHadIsOfferedAtOnce(t *testing.T) {
	inWorld(t, func(w *world) {
		var ring atomic.Pointer[among]
		ring.Store(&among{workers: []string{"gone", "w"}})
		w.ring = func() Ring { return ring.Load() }
		defer w.start("s", 1).stop()
		id := w.submit(1)
		if _, err := ledger.Take(t.Context(), w.log, ledger.SliceThing(id, 0), ledger.Taker{Journal: job.Journal{Worker: "gone", Incarnation: 1}}); err != nil {
			t.Fatal(err)
		}
		w.reaches(id, job.Sending, time.Second)
		w.setAnswer(func(work.Offer) *work.Reply { return &work.Reply{State: job.SlicePlanned, Why: "its journal is open"} })
		time.Sleep(20 * time.Second) // offers are rare by now
		if n := w.offersOf(id, 0); n != 0 {
			t.Fatalf("offered %d times to one that does not have it", n)
		}
		ring.Store(&among{workers: []string{"w"}, lapsed: map[string]bool{"gone": true}})
		time.Sleep(500 * time.Millisecond)
		if n := w.offersOf(id, 0); n < 3 {
			t.Errorf("offered %d times in half a second", n)
		}
		w.setAnswer(w.sends)
		w.reaches(id, job.Completed, 500*time.Millisecond)
	})
}

// slow is a ledger that takes its time for each append, of many at once no more.
type slow struct {
	*ledger.Memory
	on atomic.Bool
}

// Append implements ledger.Log.
func (l *slow) Append(ctx context.Context, subject string, last uint64, data []byte) (uint64, error) {
	if l.on.Load() {
		time.Sleep(30 * time.Millisecond)
	}
	return l.Memory.Append(ctx, subject, last, data)
}

// A scheduler that dies leaves hundreds of jobs: they are taken over together, in the
// time of a few claims.
func TestManyJobsAreTakenOverTogether(t *testing.T) {
	inWorld(t, func(w *world) {
		const jobs = 300
		w.setAnswer(takes)
		gone := w.start("gone", 1)
		var ids []job.ID
		for n := range jobs {
			ids = append(ids, w.submit(0, func(s *job.Spec) { s.ID, s.Class = job.ID{byte(n), byte(n >> 8), 1}, job.Realtime }))
		}
		w.reaches(ids[jobs-1], job.Sending, time.Minute)
		gone.stop()
		w.ring = func() Ring { return &among{workers: []string{"w"}, lapsed: map[string]bool{"gone": true}} }
		log := &slow{Memory: w.log}
		log.on.Store(true)
		defer w.startOn(log, job.Journal{Worker: "s", Incarnation: 1}).stop()
		began := time.Now()
		for _, id := range ids {
			for {
				c, err := ledger.LastClaim(t.Context(), w.log, ledger.JobThing(id))
				if err != nil {
					t.Fatal(err)
				}
				if c.Journal.Worker == "s" {
					break
				}
				if time.Since(began) > time.Second {
					t.Fatalf("after %s job %x still has %s", time.Since(began), id[:3], c.Journal)
				}
				time.Sleep(10 * time.Millisecond)
			}
		}
		t.Logf("%d jobs are taken over in %s", jobs, time.Since(began))
		if got := w.warned.take(); len(got) > 0 {
			t.Errorf("warned %q", got)
		}
	})
}

// Nobody listens at first: a worker that starts later is offered everything.
func TestAWorkerThatComesLate(t *testing.T) {
	inWorld(t, func(w *world) {
		defer w.start("s", 1).stop()
		w.setAnswer(func(work.Offer) *work.Reply { return nil })
		id := w.submit(1)
		w.reaches(id, job.Sending, time.Second)
		time.Sleep(time.Minute)
		w.setAnswer(w.sends)
		w.reaches(id, job.Completed, offerWait+reoffer+time.Second)
	})
}

// A worker that does not answer for normal jobs does not hold up an urgent one.
func TestUnansweredOffersHoldNobodyUp(t *testing.T) {
	inWorld(t, func(w *world) {
		ranges, sizes := make([]job.Range, 64), make([]int, 64)
		for i := range ranges {
			ranges[i], sizes[i] = job.Range(64*i), 1<<20
		}
		w.check = func(context.Context) ([]job.Range, []int, error) { return ranges, sizes, nil }
		s := w.start("s", 1)
		defer s.stop()
		w.setAnswer(func(o work.Offer) *work.Reply {
			if o.Job[0] < 10 {
				return nil
			}
			return w.sends(o)
		})
		for n := range byte(9) {
			w.submit(1 + n)
		}
		w.reaches(job.ID{9}, job.Sending, time.Second)
		time.Sleep(time.Second)
		urgent := w.submit(10, realtime)
		w.reaches(urgent, job.Completed, time.Second)
		w.cancel(job.ID{5})
		w.reaches(job.ID{5}, job.Cancelling, time.Second)
		// What is not answered is not asked a second time meanwhile.
		time.Sleep(time.Minute)
		if n := w.offersOf(job.ID{1}, 0); n > int(time.Minute/offerWait)+2 {
			t.Errorf("offered %d times in a minute", n)
		}
	})
}

// TestStopIsBounded: a scheduler whose offers nobody answers, and whose package
// takes long to read, ends when it is told to, and then nothing of it runs.
func TestStopIsBounded(t *testing.T) {
	inWorld(t, func(w *world) {
		s := w.start("s", 1)
		w.setAnswer(func(work.Offer) *work.Reply { return nil })
		id := w.submit(1)
		w.reaches(id, job.Sending, time.Second)
		var reading atomic.Bool
		w.setCheck(func(ctx context.Context) ([]job.Range, []int, error) {
			reading.Store(true)
			defer reading.Store(false)
			<-ctx.Done()
			time.Sleep(100 * time.Millisecond) // it looks at ctx only so often
			return nil, nil, ctx.Err()
		})
		other := w.submit(2)
		w.reaches(other, job.Preparing, time.Second)
		time.Sleep(time.Second)
		if !reading.Load() {
			t.Fatal("the package is not being read")
		}
		before := time.Now()
		s.stop()
		if took := time.Since(before); took > time.Second {
			t.Errorf("it took %s", took)
		}
		if reading.Load() {
			t.Error("a package is still being read after the end of Run")
		}
	})
}

func TestADamagedPackage(t *testing.T) {
	inWorld(t, func(w *world) {
		w.check = func(context.Context) ([]job.Range, []int, error) {
			return nil, nil, job.Invalid("package", "the stored package is damaged", errors.New("block 7"))
		}
		defer w.start("s", 1).stop()
		id := w.submit(1)
		w.reaches(id, job.JobFailed, time.Second)
		h := w.history(id)
		if got := h[len(h)-1].Reason; !strings.Contains(got, "damaged") || !strings.Contains(got, "block 7") {
			t.Errorf("it failed because of %q", got)
		}
		if len(w.offers) != 0 || w.checks.Load() != 1 {
			t.Errorf("offered %v, read %d times", w.offers, w.checks.Load())
		}
	})
}

// A package that is found damaged after sending has begun: what is open is settled
// first, and then the job is over one way or another.
func TestAPackageDamagedWhileSending(t *testing.T) {
	half := parked.Tally{Reserved: 400, Delivered: 399, Parked: 1}
	for name, c := range map[string]struct {
		before parked.Tally
		then   func(w *world, id job.ID, s running)
		end    job.State
		reason string
	}{
		"nobody is open":  {parked.Tally{Reserved: 400, Delivered: 400}, nil, job.JobFailed, "400 of 1,000 recipients were handled before, 600 never"},
		"nobody was told": {parked.Tally{}, nil, job.JobFailed, "damaged"},
		"somebody is parked, and gets it": {half, func(w *world, id job.ID, s running) {
			w.setTotal(id, parked.Tally{Reserved: 400, Delivered: 400})
		}, job.JobFailed, "600 never"},
		"cancelled": {half, func(w *world, id job.ID, s running) {
			w.cancel(id)
			w.reaches(id, job.Cancelling, time.Second)
			time.Sleep(time.Minute)
			if got := s.WaitingOn(id); w.state(id) != job.Cancelling || !strings.Contains(got, "damaged") || strings.Contains(got, "cancel") {
				t.Errorf("cancelled: it is %s and waits on %q", w.state(id), got)
			}
			w.setTotal(id, parked.Tally{Reserved: 400, Delivered: 399, Cancelled: 1})
		}, job.JobFailed, "600 never"},
		"everybody is reserved": {parked.Tally{Reserved: recipients, Delivered: recipients}, nil, job.Completed, ""},
		"everybody is reserved, and it is cancelled": {parked.Tally{Reserved: recipients, Delivered: 999, Parked: 1}, func(w *world, id job.ID, s running) {
			w.cancel(id)
			w.reaches(id, job.Cancelling, time.Second)
			w.setTotal(id, parked.Tally{Reserved: recipients, Delivered: 999, Cancelled: 1})
		}, job.JobCancelled, ""},
		"the package comes back": {half, func(w *world, id job.ID, s running) {
			s.stop()
			w.setCheck(good)
			w.setAnswer(w.sends)
			w.t.Cleanup(w.start("s", 3).stop)
		}, job.Completed, ""},
	} {
		t.Run(name, func(t *testing.T) {
			inWorld(t, func(w *world) {
				w.setAnswer(takes)
				first := w.start("s", 1)
				id := w.submit(1)
				w.reaches(id, job.Sending, time.Second)
				first.stop()
				w.setTotal(id, c.before)
				w.setCheck(func(context.Context) ([]job.Range, []int, error) {
					return nil, nil, job.Invalid("package", "the stored package is damaged", errors.New("block 7"))
				})
				s := w.start("s", 2)
				defer s.stop()
				time.Sleep(atRest / 2)
				if c.before.Reserved < recipients && w.state(id) != job.Sending {
					t.Fatalf("it is %s before the index can be known to be at rest", w.state(id))
				}
				if c.then != nil {
					if c.before.Parked > 0 && c.before.Reserved < recipients {
						time.Sleep(time.Minute)
						if got := s.WaitingOn(id); w.state(id) != job.Sending || !strings.Contains(got, "damaged: block 7; for 600 recipients, while 1 parked") || !strings.Contains(got, "cancel") {
							t.Errorf("it is %s and waits on %q", w.state(id), got)
						}
					}
					c.then(w, id, s)
				}
				w.reaches(id, c.end, 2*atRest)
				if h := w.history(id); !strings.Contains(h[len(h)-1].Reason, c.reason) {
					t.Errorf("the reason is %q", h[len(h)-1].Reason)
				}
			})
		})
	}
}

// The totals of a job that has come to a standstill must be at rest for a while:
// as long as they move, the index may not have all of it.
func TestAStuckJobWaitsForTheIndex(t *testing.T) {
	inWorld(t, func(w *world) {
		w.setAnswer(takes)
		first := w.start("s", 1)
		id := w.submit(1)
		w.reaches(id, job.Sending, time.Second)
		first.stop()
		w.setCheck(func(context.Context) ([]job.Range, []int, error) {
			return nil, nil, job.Invalid("package", "the stored package is damaged", nil)
		})
		defer w.start("s", 2).stop()
		for n := range uint64(10) {
			w.setTotal(id, parked.Tally{Reserved: n, Delivered: n})
			time.Sleep(atRest - time.Second)
			if got := w.state(id); got != job.Sending {
				t.Fatalf("it is %s while its totals move", got)
			}
		}
		w.reaches(id, job.JobFailed, 2*time.Second)
	})
}

// A package that cannot be read now is read again, once a second, not at once.
func TestAPackageThatCannotBeReadNow(t *testing.T) {
	inWorld(t, func(w *world) {
		good := w.check
		// The limit ends a scheduler that tries without a pause: its bubble's clock
		// would never go on.
		w.check = func(ctx context.Context) ([]job.Range, []int, error) {
			if w.checks.Load() > 1000 {
				return good(ctx)
			}
			return nil, nil, errors.New("too many open files")
		}
		s := w.start("s", 1)
		defer s.stop()
		id := w.submit(1)
		time.Sleep(time.Minute)
		if n := w.checks.Load(); n < 20 || n > 70 {
			t.Errorf("read %d times in a minute", n)
		}
		if got := s.WaitingOn(id); got != "its package to be verified: too many open files" {
			t.Errorf("waits on %q", got)
		}
		if got := w.warned.take(); len(got) != 1 {
			t.Errorf("warned %q", got)
		}
		w.setCheck(good)
		w.reaches(id, job.Completed, 5*time.Second)
	})
}

// A scheduler that is killed in any state is followed by one that goes on from it.
func TestRestart(t *testing.T) {
	for _, at := range []job.State{job.Submitted, job.Packed, job.Queued, job.Preparing, job.Prepared, job.Sending, job.Paused, job.Sent, job.Cancelling} {
		t.Run(at.String(), func(t *testing.T) {
			inWorld(t, func(w *world) {
				id, want := w.submit(1), job.Completed
				w.pause(id, at == job.Paused)
				if at == job.Sending || at == job.Paused || at == job.Cancelling {
					w.setAnswer(takes)
				}
				if at == job.Cancelling {
					want = job.JobCancelled
					w.cancel(id)
				}
				log := &dies{Memory: w.log, at: at}
				log.dead.Store(at == job.Submitted)
				s := w.startOn(log, job.Journal{Worker: "s", Incarnation: 1})
				time.Sleep(5 * time.Second)
				if got := w.state(id); got != at {
					t.Fatalf("the first scheduler leaves it %s", got)
				}
				s.stop()
				before := w.path(id)
				w.pause(id, false)
				w.setAnswer(w.sends)
				next := w.start("s", 2)
				defer next.stop()
				w.setTotal(id, parked.Tally{Reserved: recipients, Delivered: recipients})
				w.reaches(id, want, 20*time.Second)
				if after := w.path(id); !strings.HasPrefix(after, before+" ") {
					t.Errorf("it went %s, then %s", before, after)
				}
			})
		})
	}
}

// dies is a ledger that takes no more of any job once one was recorded to be in a
// state, as if its scheduler had died then.
type dies struct {
	*ledger.Memory
	at   job.State
	dead atomic.Bool
}

// Append implements ledger.Log.
func (d *dies) Append(ctx context.Context, subject string, last uint64, data []byte) (uint64, error) {
	var tr job.Transition
	if !strings.HasPrefix(subject, "led.job.") {
		return d.Memory.Append(ctx, subject, last, data)
	}
	if d.dead.Load() {
		return 0, ledger.ErrNoAnswer
	}
	if err := json.Unmarshal(data, &tr); err != nil {
		return 0, err
	}
	seq, err := d.Memory.Append(ctx, subject, last, data)
	d.dead.Store(err == nil && tr.State == d.at)
	return seq, err
}

// Whatever answers of the ledger get lost, each change is recorded once.
func TestTheLedgersAnswersGetLost(t *testing.T) {
	faults := []ledger.Fault{ledger.FaultLost, ledger.FaultStored, ledger.FaultFull, ledger.FaultStored, ledger.FaultLost}
	for _, filter := range []string{ledger.AllJobs, ledger.AllClaims, ledger.AllSubjects} {
		t.Run(filter, func(t *testing.T) {
			inWorld(t, func(w *world) {
				ids := []job.ID{w.submit(1), w.submit(2, realtime), w.submit(3)}
				for i := range 40 {
					w.log.Inject(filter, faults[i%len(faults)], ledger.FaultNone)
				}
				defer w.start("s", 1).stop()
				for _, id := range ids {
					w.reaches(id, job.Completed, time.Minute)
					if got := w.path(id); got != toSent+" completed" {
						t.Error(got)
					}
				}
			})
		})
	}
}

// A job whose next state the ledger does not take says so.
func TestAFullLedger(t *testing.T) {
	inWorld(t, func(w *world) {
		id := w.submit(1)
		for range 100 {
			w.log.Inject(ledger.AllJobs, ledger.FaultFull)
		}
		s := w.start("s", 1)
		defer s.stop()
		time.Sleep(time.Second)
		if got := s.WaitingOn(id); !strings.Contains(got, "ledger") {
			t.Errorf("waits on %q", got)
		}
		w.reaches(id, job.Completed, 10*time.Minute)
	})
}

// Two schedulers on the same jobs: each job is moved by one of them, and a second
// start of the same one takes its jobs over. No version is missing or twice.
func TestTwoSchedulers(t *testing.T) {
	for name, second := range map[string]job.Journal{"another": {Worker: "b", Incarnation: 1}, "the same again": {Worker: "a", Incarnation: 2}} {
		t.Run(name, func(t *testing.T) {
			inWorld(t, func(w *world) {
				ids := []job.ID{}
				for n := range byte(20) {
					ids = append(ids, w.submit(n+1))
				}
				a, b := w.start("a", 1), w.start(second.Worker, second.Incarnation)
				defer a.stop()
				defer b.stop()
				for n := range byte(20) {
					ids = append(ids, w.submit(n+101, realtime))
					if n%3 == 0 {
						w.cancel(job.ID{n + 1})
					}
					time.Sleep(10 * time.Millisecond)
				}
				for _, id := range ids {
					for !w.state(id).Terminal() {
						time.Sleep(100 * time.Millisecond)
					}
				}
				subjects, err := w.log.Subjects(w.t.Context(), ledger.AllClaims)
				if err != nil || len(subjects) != len(ids) {
					t.Errorf("%d claims for %d jobs, %v", len(subjects), len(ids), err)
				}
				for subject, n := range subjects {
					if n > 2 || second.Worker != "a" && n > 1 { // the second may take over, the first not back
						t.Errorf("%s was claimed %d times", subject, n)
					}
				}
				if !slices.ContainsFunc(ids, func(id job.ID) bool { return w.state(id) == job.JobCancelled }) {
					t.Log("every cancel came too late")
				}
			})
		})
	}
}

// An earlier start that still runs takes nothing back from a later one, and a
// scheduler leaves alone what another one holds.
func TestWhoMayTakeAJob(t *testing.T) {
	for holder, takes := range map[job.Journal]bool{
		{Worker: "a", Incarnation: 1}: true, {Worker: "a", Incarnation: 2}: true, {Worker: "a", Incarnation: 3}: false, {Worker: "b", Incarnation: 1}: false,
	} {
		t.Run(holder.String(), func(t *testing.T) {
			inWorld(t, func(w *world) {
				id := w.submit(1)
				if _, err := ledger.Take(w.t.Context(), w.log, ledger.JobThing(id), ledger.Taker{Journal: holder}); err != nil {
					t.Fatal(err)
				}
				defer w.start("a", 2).stop()
				time.Sleep(10 * time.Second)
				if got := w.state(id); (got == job.Completed) != takes || !takes && got != job.Submitted {
					t.Errorf("the job becomes %s", got)
				}
			})
		})
	}
}

// asked is a ledger that counts what it is asked for a claim, and may be down.
type asked struct {
	*ledger.Memory
	down        atomic.Pointer[error]
	reads, puts atomic.Int64
}

// Last implements ledger.Log.
func (l *asked) Last(ctx context.Context, subject string) (ledger.Stored, error) {
	l.reads.Add(1)
	if err := l.down.Load(); err != nil {
		return ledger.Stored{}, *err
	}
	return l.Memory.Last(ctx, subject)
}

// Append implements ledger.Log.
func (l *asked) Append(ctx context.Context, subject string, last uint64, data []byte) (uint64, error) {
	l.puts.Add(1)
	if err := l.down.Load(); err != nil {
		return 0, *err
	}
	return l.Memory.Append(ctx, subject, last, data)
}

// A ledger that is down is asked ever more slowly, is warned of once for each reason, and
// is told in what a job waits on. A job that another scheduler holds is not asked for.
func TestWhatFailsIsTriedEverMoreSlowly(t *testing.T) {
	inWorld(t, func(w *world) {
		held := w.submit(1)
		if _, err := ledger.Take(w.t.Context(), w.log, ledger.JobThing(held), ledger.Taker{Journal: job.Journal{Worker: "other", Incarnation: 7}}); err != nil {
			t.Fatal(err)
		}
		log := &asked{Memory: w.log}
		s := w.startOn(log, job.Journal{Worker: "s", Incarnation: 1})
		defer s.stop()
		time.Sleep(time.Minute)
		if n := log.reads.Load(); n != 0 {
			t.Errorf("a job of another's was asked for %d times in a minute", n)
		}
		if got := s.WaitingOn(held); got != "scheduler other, who moves it on" {
			t.Errorf("waits on %q", got)
		}
		w.reaches(w.submit(2), job.Completed, time.Second)

		before, puts := log.reads.Load(), log.puts.Load()
		down := errors.New("the stream does not answer")
		log.down.Store(&down)
		late := w.submit(3)
		time.Sleep(time.Minute)
		if n, m := log.reads.Load()-before, log.puts.Load()-puts; n > 40 || m != 0 {
			t.Errorf("a ledger that is down was asked for two jobs %d times, and written %d times, in a minute", n, m)
		}
		if got := w.warned.take(); len(got) != 1 || !strings.Contains(got[0], "does not answer") {
			t.Errorf("warned: %q", got)
		}
		log.down.Store(nil)
		w.reaches(late, job.Completed, retryMost+time.Second)
		w.reaches(w.submit(4), job.Completed, time.Second)
		time.Sleep(time.Minute)
		if got := w.warned.take(); len(got) != 0 {
			t.Errorf("the ledger is up again; warned: %q", got)
		}
	})
}

// A ledger that is read but refuses claims does not hold up the jobs that are claimed.
func TestAClaimThatIsNotStoredHoldsNobodyUp(t *testing.T) {
	inWorld(t, func(w *world) {
		defer w.start("s", 1).stop()
		w.setAnswer(takes)
		id := w.submit(1)
		w.reaches(id, job.Sending, time.Second)
		for range 1000 {
			w.log.Inject(ledger.AllClaims, ledger.FaultLost)
		}
		w.submit(2)
		time.Sleep(time.Minute)
		w.cancel(id)
		w.reaches(id, job.Cancelling, claimWait+time.Second)
	})
}
