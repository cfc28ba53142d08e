package scheduler

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"log/slog"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"crier/internal/bus"
	"crier/internal/work"
	"crier/job"
	"crier/state/claims"
	"crier/state/jobs"
	"crier/state/ledger"
	"crier/state/parked"
)

// slowLog takes its time for each append, as a disk does.
type slowLog struct{ ledger.Log }

func (l slowLog) Append(ctx context.Context, subject string, last uint64, data []byte) (uint64, error) {
	time.Sleep(10 * time.Millisecond)
	return l.Log.Append(ctx, subject, last, data)
}

// onePackage is a package of one range for every job.
type onePackage struct{}

func (onePackage) Check(context.Context, job.Spec) ([]job.Range, []int, error) {
	return []job.Range{0}, []int{1}, nil
}

func (onePackage) Total(job.ID) (parked.Tally, error) { return parked.Tally{}, nil }

// TestManyNewJobs submits many jobs at once, and an urgent one while the scheduler
// works through them: it is sent without waiting for them, and no more of the others
// than MaxSending are begun.
func TestManyNewJobs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log := ledger.NewMemory(ledger.MemoryConfig{})
		held := claims.New(log)
		table := jobs.New(slowLog{log}, ledger.NewMemory(ledger.MemoryConfig{}))
		b := bus.NewMemory()
		defer b.Close()
		claimed, err := json.Marshal(work.Reply{State: job.SliceClaimed})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := b.Subscribe(work.OfferTo("w"), func(m bus.Msg) { _ = m.Respond(claimed) }); err != nil {
			t.Fatal(err)
		}
		s := New(Config{Self: job.Journal{Worker: "s", Incarnation: 1}, Ring: alone, Jobs: table, Claims: held, Log: slowLog{log}, Bus: b,
			Packages: onePackage{}, Totals: onePackage{}, Logger: slog.New(slog.DiscardHandler)})
		ctx, cancel := context.WithCancel(t.Context())
		defer func() { cancel(); synctest.Wait() }()
		go table.Run(ctx)
		go held.Run(ctx)
		accept := func(n uint16, class job.Class) job.ID {
			now := time.Now().UTC()
			spec := job.Spec{ID: job.NewID(now, [10]byte(binary.BigEndian.AppendUint16(make([]byte, 8), n))), Class: class, Priority: 50,
				Recipients: 1, SubmittedAt: now, ExpiresAt: now.Add(time.Hour)}
			if _, _, err := table.Accept(ctx, spec); err != nil {
				t.Fatal(err)
			}
			return spec.ID
		}
		for n := range uint16(500) {
			accept(n, job.Normal)
		}
		go s.Run(ctx)
		time.Sleep(2 * time.Second)
		urgent := accept(1000, job.Realtime)
		time.Sleep(time.Second)
		if j, err := table.Get(ctx, urgent); err != nil || j.State != job.Sending {
			t.Errorf("the urgent job is %s after a second (%v), want sending", j.State, err)
		}
		time.Sleep(time.Minute)
		count := map[job.State]int{}
		for _, j := range table.Live() {
			count[j.State]++
		}
		if count[job.Sending] != MaxSending+1 || count[job.Queued] != 500-MaxSending {
			t.Errorf("the jobs are %v, want %d sending besides the urgent one and the rest queued", count, MaxSending)
		}
	})
}

// manySent is jobs of one recipient each that were all sent, until they are closed.
type manySent struct {
	onePackage
	reads  *atomic.Int64
	closed *atomic.Bool
}

func (m manySent) Total(job.ID) (parked.Tally, error) {
	m.reads.Add(1)
	if m.closed.Load() {
		return parked.Tally{Reserved: 1, Delivered: 1}, nil
	}
	return parked.Tally{Reserved: 1, Parked: 1}, nil
}

// TestManySentJobs lets many jobs wait for their recipients: a look is about a part of them, all
// are seen to be completed within two seconds, and what is ordered meanwhile is done at once.
func TestManySentJobs(t *testing.T) {
	const many = 1500
	inWorld(t, func(w *world) {
		t := w.t
		totals := manySent{reads: new(atomic.Int64), closed: new(atomic.Bool)}
		x := w.startWith(w.log, job.Journal{Worker: "s", Incarnation: 1}, totals, onePackage{})
		defer x.stop()
		w.setAnswer(func(work.Offer) *work.Reply { return &work.Reply{State: job.SliceSent} })
		var ids []job.ID
		for n := range uint16(many) {
			ids = append(ids, w.submit(0, func(s *job.Spec) {
				s.ID, s.Recipients = job.ID{byte(n >> 8), byte(n)}, 1
				s.Nonce = job.Digest(append(s.ID[:], s.ID[:]...))
			}))
		}
		in := func(state job.State) (n int) {
			for _, id := range ids {
				if j, err := x.table.Get(t.Context(), id); err == nil && j.State == state {
					n++
				}
			}
			return n
		}
		for began := time.Now(); in(job.Sent) < many; w.passes(time.Second) {
			if time.Since(began) > 5*time.Minute {
				t.Fatalf("%d of %d jobs are sent", in(job.Sent), many)
			}
		}
		w.passes(5 * time.Second)
		totals.reads.Store(0)
		w.passes(10 * time.Second)
		if n := totals.reads.Load(); n < 97*many/restPart || n > 103*many/restPart {
			t.Errorf("the totals of %d jobs at rest were read %d times in 10 s, want each about 5 times", many, n)
		}
		w.cancel(ids[700])
		w.passes(2 * round)
		if j, err := x.table.Get(t.Context(), ids[700]); err != nil || j.State != job.Cancelling {
			t.Errorf("a job at rest is %s two rounds after its cancel, %v", j.State, err)
		}
		totals.closed.Store(true)
		w.passes((restPart + 3) * round)
		if n := in(job.Completed); n != many-1 {
			t.Errorf("%d of %d jobs are completed %s after all is delivered", n, many-1, (restPart+3)*round)
		}
	})
}
