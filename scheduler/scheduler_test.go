package scheduler

import (
	"context"
	"encoding/json"
	"slices"
	"strings"
	"testing"
	"time"

	"crier/internal/work"
	"crier/job"
	"crier/state/ledger"
	"crier/state/parked"

	_ "testing/synctest" // each test is in a bubble, see inWorld
)

// path is a job's states, in a line.
func (w *world) path(id job.ID) string {
	var s []string
	for _, tr := range w.history(id) {
		s = append(s, tr.State.String())
	}
	return strings.Join(s, " ")
}

const toSent = "submitted packed queued preparing prepared sending sent"

func TestAJobGoesItsWay(t *testing.T) {
	inWorld(t, func(w *world) {
		s := w.start("s", 1)
		defer s.stop()
		w.setAnswer(func(o work.Offer) *work.Reply {
			w.setTotal(o.Job, parked.Tally{Reserved: recipients, Delivered: 900, Parked: 100})
			return &work.Reply{State: job.SliceSent}
		})
		id := w.submit(1)
		w.reaches(id, job.Sent, time.Second)
		time.Sleep(time.Minute)
		if got := w.path(id); got != toSent {
			t.Errorf("with 100 parked: %s", got)
		}
		if got := s.WaitingOn(id); got != "100 parked, 0 handed off, 0 in doubt" {
			t.Errorf("waits on %q", got)
		}
		if len(w.offers) != 1 || w.offers[0].Span != (job.Span{Lo: 3 << 20, Hi: 10 << 20}) {
			t.Errorf("offered: %v", w.offers)
		}
		w.setTotal(id, parked.Tally{Reserved: recipients - 1, Delivered: 999}) // lags
		time.Sleep(time.Minute)
		w.setTotal(id, parked.Tally{Reserved: recipients, Delivered: 1000})
		before := time.Now()
		w.reaches(id, job.Completed, time.Second)
		h := w.history(id)
		at, err := time.Parse(time.RFC3339Nano, h[len(h)-1].At)
		if got := w.path(id); err != nil || got != toSent+" completed" || at.Before(before) {
			t.Errorf("closed: %s at %s, %v", got, at, err)
		}
		for _, tr := range h[1:] {
			if tr.Reason == "" {
				t.Errorf("%s has no reason", tr.State)
			}
		}
		time.Sleep(time.Second)
		if s.WaitingOn(id) != "" || s.Slices(id) != nil {
			t.Errorf("a job that is over is remembered: %q, %v", s.WaitingOn(id), s.Slices(id))
		}
	})
}

// A job to nobody has no slices and is over at once.
func TestAJobToNobody(t *testing.T) {
	inWorld(t, func(w *world) {
		w.check = func(context.Context) ([]job.Range, []int, error) { return nil, nil, nil }
		defer w.start("s", 1).stop()
		id := w.submit(1, func(s *job.Spec) { s.Recipients = 0 })
		w.reaches(id, job.Completed, time.Second)
		if len(w.offers) != 0 {
			t.Errorf("offered: %v", w.offers)
		}
	})
}

// A worker that sends for an hour is asked every two seconds, and its word that a
// slice is sent counts at once.
func TestTheWorkersWordCounts(t *testing.T) {
	inWorld(t, func(w *world) {
		s := w.start("s", 1)
		defer s.stop()
		w.setAnswer(takes)
		id := w.submit(1)
		w.reaches(id, job.Sending, time.Second)
		time.Sleep(time.Minute)
		if n := w.offersOf(id, 0); n < 25 || n > 32 {
			t.Errorf("offered %d times in a minute", n)
		}
		if got := s.Slices(id); len(got) != 1 || got[0].State != job.SliceSending {
			t.Errorf("the slices: %+v", got)
		}
		for _, o := range []work.Offer{{Job: job.ID{99}}, {Job: id, Number: 7}} { // of nothing that it knows
			w.tell(o)
		}
		w.tell(work.Offer{Job: id})
		w.reaches(id, job.Sent, 50*time.Millisecond)
		w.setAnswer(w.sends)
	})
}

func (w *world) tell(o work.Offer) {
	b, err := json.Marshal(o)
	if err == nil {
		err = w.bus.Publish(work.SentTo, b)
	}
	if err != nil {
		w.t.Fatal(err)
	}
}

func TestPauseAndResume(t *testing.T) {
	inWorld(t, func(w *world) {
		defer w.start("s", 1).stop()
		w.setAnswer(takes)
		id := w.submit(1)
		w.reaches(id, job.Sending, time.Second)
		w.pause(id, true)
		w.reaches(id, job.Paused, time.Second)
		time.Sleep(time.Minute)
		w.pause(id, false)
		w.reaches(id, job.Sending, time.Second)
		w.setAnswer(w.sends)
		w.reaches(id, job.Completed, 10*time.Second)
		if got := w.path(id); got != "submitted packed queued preparing prepared sending paused sending sent completed" {
			t.Error(got)
		}
	})
}

// A job that expired while it was paused is closed by its worker, and not held.
func TestWhatIsSentIsNotHeldByAPause(t *testing.T) {
	inWorld(t, func(w *world) {
		defer w.start("s", 1).stop()
		id := w.submit(1)
		w.pause(id, true)
		w.reaches(id, job.Completed, 5*time.Second)
	})
}

func TestCancel(t *testing.T) {
	for name, until := range map[string]func(w *world, id job.ID){
		"at once": func(*world, job.ID) {},
		"queued":  func(w *world, id job.ID) { w.reaches(id, job.Queued, time.Second) },
		"sending": func(w *world, id job.ID) { w.reaches(id, job.Sending, time.Minute) },
		"paused":  func(w *world, id job.ID) { w.pause(id, true); w.reaches(id, job.Paused, time.Minute) },
		"sent": func(w *world, id job.ID) {
			w.setAnswer(func(o work.Offer) *work.Reply {
				w.setTotal(o.Job, parked.Tally{Reserved: recipients, Parked: recipients})
				return &work.Reply{State: job.SliceSent}
			})
			w.reaches(id, job.Sent, time.Minute)
		},
	} {
		t.Run(name, func(t *testing.T) {
			inWorld(t, func(w *world) {
				s := w.start("s", 1)
				defer s.stop()
				w.setAnswer(takes)
				if name == "queued" {
					for n := range byte(MaxSending) {
						w.submit(100 + n)
					}
					w.reaches(job.ID{99 + MaxSending}, job.Sending, time.Second)
				}
				id := w.submit(1)
				until(w, id)
				before := w.state(id)
				w.cancel(id)
				w.reaches(id, job.Cancelling, time.Second)
				time.Sleep(time.Minute) // its worker has not closed it
				if got := w.state(id); got != job.Cancelling {
					t.Fatalf("it is %s with a slice open, or somebody parked", got)
				}
				if h := w.history(id); name != "at once" && h[len(h)-2].State != before {
					t.Errorf("%s, then cancelled: %s", before, w.path(id))
				}
				w.setAnswer(w.sends)
				w.setTotal(id, parked.Tally{Reserved: recipients, Cancelled: recipients})
				w.reaches(id, job.JobCancelled, 5*time.Second)
				if strings.Contains(w.path(id), "cancelling sending") {
					t.Error(w.path(id))
				}
			})
		})
	}
}

// Normal jobs wait for one of 64 places, the oldest first; real-time ones do not.
func TestMaxSending(t *testing.T) {
	inWorld(t, func(w *world) {
		const more = 6
		for n := range byte(MaxSending + more) {
			w.submit(n+1, func(s *job.Spec) { s.SubmittedAt = s.SubmittedAt.Add(time.Duration(n) * time.Second) })
		}
		w.setAnswer(takes)
		s := w.start("s", 1)
		defer s.stop()
		time.Sleep(10 * time.Second)
		count := func(want ...job.State) (ids []byte) {
			for n := range byte(MaxSending + more) {
				if slices.Contains(want, w.state(job.ID{n + 1})) {
					ids = append(ids, n+1)
				}
			}
			return ids
		}
		if got := count(job.Sending); len(got) != MaxSending || got[MaxSending-1] != MaxSending {
			t.Fatalf("%d are sending: %v", len(got), got)
		}
		if got := count(job.Queued); len(got) != more {
			t.Fatalf("queued: %v", got)
		}
		if got := s.WaitingOn(job.ID{MaxSending + 3}); got != "its turn; 2 jobs are ahead" {
			t.Errorf("the third in the queue waits on %q", got)
		}
		urgent := w.submit(200, realtime)
		w.reaches(urgent, job.Sending, time.Second)
		w.tell(work.Offer{Job: job.ID{5}})
		w.reaches(job.ID{MaxSending + 1}, job.Sending, time.Second)
		time.Sleep(10 * time.Second)
		if got := count(job.Queued); len(got) != more-1 || got[0] != MaxSending+2 {
			t.Errorf("one is sent, and queued are %v", got)
		}
	})
}

// Jobs that are paused, or whose package is found damaged, hold up nobody; one that is
// resumed goes on at once, and those over the limit are not replaced.
func TestWhoCannotSendGivesItsPlaceUp(t *testing.T) {
	for _, how := range []string{"paused", "paused in the queue", "damaged"} {
		t.Run(how, func(t *testing.T) {
			inWorld(t, func(w *world) {
				w.setAnswer(takes)
				s := w.start("s", 1)
				defer func() { s.stop() }()
				for n := range byte(MaxSending) {
					id := w.submit(n + 1)
					if how == "paused in the queue" {
						w.pause(id, true)
					}
				}
				state := job.Paused
				switch how {
				case "paused":
					w.reaches(job.ID{MaxSending}, job.Sending, time.Second)
					for n := range byte(MaxSending) {
						w.pause(job.ID{n + 1}, true)
					}
				case "damaged":
					state = job.Sending
					w.reaches(job.ID{MaxSending}, job.Sending, time.Second)
					s.stop()
					for n := range byte(MaxSending) {
						w.setTotal(job.ID{n + 1}, parked.Tally{Reserved: 2, Parked: 2})
					}
					w.setCheck(func(context.Context) ([]job.Range, []int, error) {
						return nil, nil, job.Invalid("package", "the stored package is damaged", nil)
					})
					s = w.start("s", 2)
					time.Sleep(time.Second)
					w.setCheck(good)
				}
				w.reaches(job.ID{MaxSending}, state, time.Second)
				for n := range byte(MaxSending) {
					w.submit(n + 101)
				}
				w.reaches(job.ID{100 + MaxSending}, job.Sending, time.Second)
				if how == "damaged" {
					return
				}
				last := w.submit(200)
				w.pause(job.ID{1}, false)
				w.reaches(job.ID{1}, job.Sending, time.Second)
				w.tell(work.Offer{Job: job.ID{101}})
				w.reaches(job.ID{101}, job.Sent, time.Second)
				time.Sleep(10 * time.Second)
				if got := w.state(last); got != job.Queued {
					t.Errorf("with %d sending another is %s", MaxSending, got)
				}
				w.tell(work.Offer{Job: job.ID{102}})
				w.reaches(last, job.Sending, time.Second)
			})
		})
	}
}

// Many jobs at once do not all find the same free places.
func TestMaxSendingOfJobsThatComeTogether(t *testing.T) {
	inWorld(t, func(w *world) {
		w.setAnswer(takes)
		defer w.start("s", 1).stop()
		release := w.log.Hold(ledger.AllClaims) // all wait for the same round
		for n := range byte(2 * MaxSending) {
			w.submit(n + 1)
		}
		time.Sleep(time.Second)
		release()
		time.Sleep(10 * time.Second)
		sending := 0
		for n := range byte(2 * MaxSending) {
			if w.state(job.ID{n + 1}) == job.Sending {
				sending++
			}
		}
		if sending != MaxSending {
			t.Errorf("%d jobs are sending, %d may", sending, MaxSending)
		}
	})
}

// In each round the urgent jobs come first.
func TestUrgentJobsAreMovedFirst(t *testing.T) {
	inWorld(t, func(w *world) {
		for n, priority := range []uint8{0, 10, 99, 0, 50} {
			w.submit(byte(n+1), func(s *job.Spec) {
				s.SubmittedAt = s.SubmittedAt.Add(time.Duration(n) * time.Second)
				if priority > 0 {
					s.Class, s.Priority = job.Realtime, priority
				}
			})
		}
		s := w.start("s", 1)
		w.reaches(job.ID{4}, job.Completed, time.Second)
		s.stop()
		var order []byte
		err := ledger.ReadAll(w.t.Context(), w.log, 1, ledger.AllJobs, func(st ledger.Stored) error {
			var tr job.Transition
			err := json.Unmarshal(st.Data, &tr)
			if tr.State == job.Packed {
				order = append(order, tr.Job[0])
			}
			return err
		})
		if want := []byte{3, 5, 2, 1, 4}; err != nil || !slices.Equal(order, want) {
			t.Errorf("moved on in the order %v, want %v (%v)", order, want, err)
		}
	})
}

// A slice that is sent stays sent and is not offered again, also if an older
// answer comes late.
func TestASentSliceStaysSent(t *testing.T) {
	inWorld(t, func(w *world) {
		w.check = func(context.Context) ([]job.Range, []int, error) {
			return []job.Range{1, 2}, []int{4 << 20, 4 << 20}, nil
		}
		s := w.start("s", 1)
		defer s.stop()
		id := job.ID{1}
		w.setAnswer(func(o work.Offer) *work.Reply {
			if o.Number == 0 {
				w.tell(o)
				time.Sleep(time.Second) // the hint is faster than the answer
			}
			return takes(o)
		})
		w.submit(1)
		time.Sleep(time.Minute)
		if got := s.Slices(id); len(got) != 2 || got[0].State != job.SliceSent || got[1].State != job.SliceSending {
			t.Errorf("the slices are %+v", got)
		}
		if n := w.offersOf(id, 0); n != 1 {
			t.Errorf("the slice that is sent was offered %d times", n)
		}
		if got := s.WaitingOn(id); got != "1 slice to be sent" {
			t.Errorf("waits on %q", got)
		}
	})
}
