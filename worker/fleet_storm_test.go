package worker

import (
	"cmp"
	"errors"
	"fmt"
	"os"
	"strconv"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"crier/job"
	"crier/state/ledger"
	"crier/state/parked/kv"
)

// TestStormOverAFleet is TestStorm with two or three workers: they are killed, stand
// still, are taken for dead wrongly, and believe different things of each other.
func TestStormOverAFleet(t *testing.T) {
	n, err := strconv.Atoi(cmp.Or(os.Getenv("CRIER_STORMS"), "4"))
	if err != nil {
		t.Fatalf("CRIER_STORMS: %v", err)
	}
	var storms, homes, closed atomic.Int64
	t.Cleanup(func() {
		if n := storms.Load(); homes.Load() < 4*n || closed.Load() < 2*n {
			t.Errorf("in %d storms ranges were taken %d times, and what dead workers left open %d times: too few to mean anything", n, homes.Load(), closed.Load())
		}
	})
	for seed := range n {
		t.Run(fmt.Sprint("seed", seed), func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				s := newStorm(t, uint64(seed), 2+seed%2)
				defer s.end()
				s.rage()
				s.calm()
				s.judge()
				storms.Add(1)
				for r := range job.Range(2) {
					homes.Add(int64(s.claims.Of(ledger.RangeThing(r)).Epoch))
				}
				s.claims.All(ledger.ClaimJournal, func(ledger.Claim) { closed.Add(1) })
			})
		})
	}
}

// slices of a job: one a range, so that two workers may send it.
var slicesOf = []job.Span{{Hi: 1 << 20}, {Lo: 1 << 20, Hi: 1 << 32}}

func (s *storm) offerToFleet() {
	for _, j := range s.jobs {
		for n, span := range slicesOf {
			m := s.fleet.members[s.c.n(len(s.fleet.members))]
			go s.fleet.offer(m, j.id, uint32(n), span)
		}
	}
}

// strikeFleet does something to the members, and reports whether it did.
func (s *storm) strikeFleet() bool {
	f := s.fleet
	m := f.members[s.c.n(len(f.members))]
	switch {
	case m.ended() && s.c.of(0.05):
		s.startAgain(m)
	case m.ended():
		return false
	case s.c.of(0.003):
		m.kill()
		s.found(m, 3*time.Second)
	case s.c.of(0.002):
		m.gate.shut()
		if s.c.of(0.6) {
			s.found(m, 3*time.Second)
		}
		time.AfterFunc(s.c.upTo(10*time.Second), m.gate.open)
	case s.c.of(0.001):
		s.found(m, time.Millisecond) // and it is not
	case s.c.of(0.003):
		f.out[m.name] = s.c.of(0.4)
		f.tell()
	case s.c.of(0.003):
		other, frozen := s.c.n(len(f.members)), s.c.of(0.3)
		m.believe(func(v *view) {
			v.frozen = frozen
			if v.members = nil; other > 0 {
				v.members = []string{m.name, f.members[other].name}
			}
		})
	default:
		return false
	}
	return true
}

// found lets the others take a member's incarnation for dead, some time later.
func (s *storm) found(m *member, within time.Duration) {
	j := m.journal()
	if j.IsZero() {
		return // it has not begun
	}
	s.later = append(s.later, found{time.Now().Add(s.c.upTo(within)), j})
}

// found is when an incarnation is taken for dead.
type found struct {
	at time.Time
	j  job.Journal
}

// findDead tells the members of those whose time has come.
func (s *storm) findDead(now time.Time) {
	for i := 0; i < len(s.later); i++ {
		if x := s.later[i]; !now.Before(x.at) {
			s.fleet.lapsed[x.j] = true
			s.fleet.tell()
			s.later = append(s.later[:i], s.later[i+1:]...)
			i--
		}
	}
}

// startAgain begins the next incarnation of a member; its index may be lost.
func (s *storm) startAgain(m *member) {
	m.gate.open()
	if err := m.kill(); err != nil && !errors.Is(err, ErrStopped) {
		s.t.Errorf("%s had ended: %v", m.name, err)
	}
	if s.c.of(0.2) {
		m.kv = kv.NewMemory()
	}
	m.start()
}

// oneHome: no two workers are home to a range at any moment.
func (s *storm) oneHome() {
	s.findDead(time.Now())
	synctest.Wait()
	for r := range job.Range(2) {
		s.fleet.homeOf(r)
	}
}

// calmFleet lets all members be there, and know it. One may still be sealed by who took it
// for dead before.
func (s *storm) calmFleet() {
	f := s.fleet
	s.later, f.out = nil, map[string]bool{}
	for _, m := range f.members {
		m.gate.open()
	}
	since := time.Now()
	s.until("all work for some time", func() bool {
		for _, m := range f.members {
			if m.ended() {
				s.startAgain(m)
				since = time.Now()
			}
			delete(f.lapsed, m.journal())
		}
		f.tell()
		return time.Since(since) > 12*time.Second
	})
}
