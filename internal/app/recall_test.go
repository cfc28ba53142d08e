package app_test

import (
	"context"
	"fmt"
	"maps"
	"math/rand/v2"
	"net/http"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/coder/websocket"
	"github.com/coder/websocket/wsjson"

	"crier/api"
	"crier/internal/pause"
	"crier/job"
	"crier/presence/client"
)

// screen is one recipient's device: what it got, and what it shows. It knows nothing of
// the server, and judges it.
type screen struct {
	who   job.Recipient
	store *client.Memory
	stop  func()
	mu    struct {
		sync.Mutex
		shown, taken map[string]int // how often
	}
}

func newScreen(who job.Recipient) *screen {
	s := &screen{who: who, store: client.NewMemory(), stop: func() {}}
	s.mu.shown, s.mu.taken = map[string]int{}, map[string]int{}
	return s
}

// got tells how often a job's message was shown, and taken back.
func (s *screen) got(id job.ID) (shown, taken int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.mu.shown[id.String()], s.mu.taken[id.String()]
}

func (x *trial) tokenOf(who job.Recipient) string {
	x.t.Helper()
	if x.tokens[who] == "" {
		tok, err := x.svc.MintToken(x.t.Context(), api.MintToken{Recipient: &who})
		x.must(err)
		if x.tokens == nil {
			x.tokens = map[job.Recipient]string{}
		}
		x.tokens[who] = tok.Token
	}
	return x.tokens[who]
}

// connect keeps a device connected by the client library until its stop. One that is old
// does not know that a message can be withdrawn.
func (x *trial) connect(s *screen, old bool) {
	cfg := client.Config{URL: x.srv.Gateway, Token: client.StaticToken(x.tokenOf(s.who)), Store: s.store, Backoff: client.Backoff{Min: 50 * time.Millisecond, Max: 300 * time.Millisecond},
		OnMessage: func(_ context.Context, m client.Message) error {
			s.mu.Lock()
			defer s.mu.Unlock()
			s.mu.shown[m.ID]++
			if m.Body == "" {
				x.t.Errorf("recipient %s is shown an empty message %s", s.who, m.ID)
			}
			return nil
		},
		OnWithdraw: func(_ context.Context, ids []string) error {
			s.mu.Lock()
			defer s.mu.Unlock()
			for _, id := range ids {
				s.mu.taken[id]++
			}
			return nil
		}}
	if old {
		cfg.OnWithdraw = nil
	}
	c, err := client.New(cfg)
	x.must(err)
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() {
		if err := c.Run(ctx); err != nil {
			x.t.Errorf("recipient %s: %v", s.who, err)
		}
	})
	s.stop = sync.OnceFunc(func() { cancel(); wg.Wait() })
	x.t.Cleanup(s.stop)
}

// drop connects a device that leaves as soon as it got a message, without a word; hello is
// what it says when it comes.
func (x *trial) drop(s *screen, hello map[string]any) {
	ctx, cancel := context.WithCancel(context.Background())
	conn, _, err := websocket.Dial(ctx, x.srv.Gateway, &websocket.DialOptions{HTTPHeader: http.Header{"Authorization": {"Bearer " + x.tokenOf(s.who)}}})
	x.must(err)
	x.must(wsjson.Write(ctx, conn, hello))
	var wg sync.WaitGroup
	wg.Go(func() {
		defer conn.CloseNow()
		for {
			var f struct{ Type, ID string }
			if wsjson.Read(ctx, conn, &f) != nil {
				return
			}
			if f.Type == "message" {
				s.mu.Lock()
				s.mu.shown[f.ID]++
				s.mu.Unlock()
				return
			}
		}
	})
	s.stop = sync.OnceFunc(func() { cancel(); wg.Wait() })
	x.t.Cleanup(s.stop)
}

// comes waits until something is so, for a minute at most.
func (x *trial) comes(what string, ok func() bool) {
	x.t.Helper()
	x.eventually(x.t.Context(), what, time.Minute, ok)
}

// people are the devices of a test, by how they behave.
type people struct {
	able, old, mute, quitters, away []*screen
}

func (p *people) all() []*screen { return slices.Concat(p.able, p.old, p.mute, p.quitters, p.away) }

// online connects everybody but those who are away.
func (p *people) online(x *trial) {
	for _, s := range p.able {
		x.connect(s, false)
	}
	for _, s := range p.old {
		x.connect(s, true)
	}
	for _, s := range p.mute {
		x.drop(s, map[string]any{"type": "hello"})
	}
	for _, s := range p.quitters {
		x.drop(s, map[string]any{"type": "hello", "client": fmt.Sprint("quits-", s.who), "have": []string{}, "can": []string{"withdraw"}})
	}
}

// count counts the devices that are somehow.
func count(all []*screen, is func(*screen) bool) (n uint64) {
	for _, s := range all {
		if is(s) {
			n++
		}
	}
	return n
}

func saw(id job.ID) func(*screen) bool {
	return func(s *screen) bool { shown, _ := s.got(id); return shown > 0 }
}

func lost(id job.ID) func(*screen) bool {
	return func(s *screen) bool { _, taken := s.got(id); return taken > 0 }
}

// crowded starts a server with an account whose followers are some devices and others
// without any.
func crowded(t *testing.T, rng *rand.Rand) (*trial, *people, uint64) {
	x := newTrial(t)
	x.cli(nil, "account", "create", "news")
	ids := map[job.Recipient]bool{}
	for len(ids) < 3000 {
		ids[job.Recipient(rng.Uint32N(8<<20))] = true
	}
	all := slices.Collect(maps.Keys(ids))
	_, err := x.svc.AddFollowers(t.Context(), "news", all)
	x.must(err)
	p := &people{}
	for _, part := range []struct {
		to *[]*screen
		n  int
	}{{&p.able, 30}, {&p.old, 6}, {&p.mute, 6}, {&p.quitters, 6}, {&p.away, 12}} {
		for range part.n {
			*part.to, all = append(*part.to, newScreen(all[0])), all[1:]
		}
	}
	return x, p, uint64(len(ids))
}

// recalled waits for a recall's end.
func (x *trial) recalled(id job.ID) (j api.Job) {
	x.t.Helper()
	x.comes("the job is recalled", func() bool {
		var err error
		j, err = x.svc.GetJob(x.t.Context(), id)
		x.must(err)
		return j.State == job.JobRecalled
	})
	return j
}

// judgeRecall holds the server's counts to what the devices saw, when all have been there
// again: who was shown the message, and who took it back. If something died, it may have
// been accepted for somebody who was not shown it, or acknowledged in vain: exact is false.
func (x *trial) judgeRecall(id job.ID, p *people, recipients uint64, exact bool) {
	x.t.Helper()
	ctx := x.t.Context()
	for _, s := range p.all() {
		shown, taken := s.got(id)
		switch {
		case shown > 1:
			x.t.Errorf("recipient %s was shown it %d times", s.who, shown)
		case taken > 1:
			x.t.Errorf("recipient %s took it back %d times", s.who, taken)
		case shown == 0 && taken > 0 && exact:
			x.t.Errorf("recipient %s never had it, and was told to take it back", s.who)
		case shown > 0 && taken == 0 && (slices.Contains(p.able, s) || slices.Contains(p.quitters, s)):
			x.t.Errorf("recipient %s still shows it", s.who)
		}
	}
	rec, err := x.svc.ReconcileJob(ctx, id)
	x.must(err)
	everybody := p.all()
	delivered := count(slices.Concat(p.able, p.old), saw(id))
	unknown := count(p.mute, saw(id))
	if !rec.Conserved || rec.Delivered+rec.Failed+rec.Recalled != recipients || rec.Withdrawn != count(everybody, lost(id)) ||
		exact && (rec.Delivered != delivered || rec.Failed != unknown) || rec.Delivered > delivered || rec.Failed < unknown {
		x.t.Errorf("reconciled %+v; devices acknowledged %d, said nothing %d, took back %d of %d", rec, delivered, unknown, count(everybody, lost(id)), recipients)
	}
	j, err := x.svc.GetJob(ctx, id)
	x.must(err)
	if j.Withdrawn != rec.Withdrawn || j.Withdrawal.Withdrawal != rec.Withdrawal.Withdrawal || j.Counts.Recalled != rec.Recalled || j.Counts.Delivered != rec.Delivered {
		x.t.Errorf("shown %+v, reconciled %+v", j, rec)
	}
	w, err := x.svc.ReconcileJob(ctx, rec.Withdrawal.Withdrawal)
	x.must(err)
	refused := count(p.old, saw(id))
	if !w.Conserved || w.Delivered != rec.Withdrawn || w.Parked != rec.Failed || w.Delivered+w.Failed+w.Parked != w.Package ||
		exact && (w.Package != count(everybody, saw(id)) || w.Failed != refused) || w.Package < count(everybody, saw(id)) || w.Failed < refused {
		x.t.Errorf("the withdrawal reconciles to %+v; %d were shown it, %d of them with old clients, %d are gone", w, count(everybody, saw(id)), refused, unknown)
	}
}

// TestRecall recalls a job in the middle, with recipients online, offline and in doubt, and
// lets those who were away come afterwards. Once nothing dies; then the server is killed
// again and again while the recall goes on.
func TestRecall(t *testing.T) {
	t.Parallel()
	for name, kills := range map[string][]time.Duration{"calm": nil, "killed": {0, 30 * time.Millisecond, 120 * time.Millisecond, 300 * time.Millisecond}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			rng := rand.New(rand.NewPCG(uint64(len(kills)), 21))
			x, p, recipients := crowded(t, rng)
			p.online(x)
			ctx := t.Context()
			x.comes("all are connected", func() bool {
				st, err := x.svc.Status(ctx)
				x.must(err)
				return st.Online == 48
			})
			j, err := x.svc.SubmitJob(ctx, api.SubmitJob{Account: "news", Audience: api.AudienceFollowers, Body: "Four legs bad", Rate: 12})
			x.must(err)
			x.comes("half of them have it", func() bool { return count(p.all(), saw(j.Job)) >= 24 })
			_, err = x.svc.RecallJob(ctx, j.Job, api.Recall{Reason: "a leg too many"})
			x.must(err)
			x.cfg.Listen = mustHost(t, x.srv.API)
			for _, after := range kills {
				pause.For(ctx, after)
				x.srv.Kill()
				x.restart(ctx)
			}
			j = x.recalled(j.Job)
			if n := count(p.all(), saw(j.Job)); n == 48 {
				t.Fatal("void: everybody had it before the recall")
			}
			again, err := x.svc.RecallJob(ctx, j.Job, api.Recall{Reason: "a leg too many"})
			x.must(err)
			if again.State != job.JobRecalled || again.Withdrawal.Withdrawal != job.WithdrawalID(j.Job) {
				t.Errorf("recalled again it is %+v", again)
			}
			// Those who were away come, and those who left come back.
			for _, s := range slices.Concat(p.away, p.quitters) {
				s.stop()
				x.connect(s, false)
			}
			next, err := x.svc.SubmitJob(ctx, api.SubmitJob{Account: "news", Audience: api.AudienceFollowers, Body: "Four legs good"})
			x.must(err)
			x.comes("they got what came next", func() bool {
				return count(slices.Concat(p.able, p.old, p.away, p.quitters), saw(next.Job)) == 54
			})
			x.comes("all that can have taken it back", func() bool {
				taking := slices.Concat(p.able, p.quitters)
				return count(taking, lost(j.Job)) == count(taking, saw(j.Job))
			})
			x.comes("the withdrawal waits for nobody else", func() bool {
				w, err := x.svc.GetJob(ctx, job.WithdrawalID(j.Job))
				x.must(err)
				return w.Counts.Pending+w.Counts.HandedOff+w.Counts.InDoubt == 0 && w.Counts.Parked == j.Counts.Failed
			})
			x.judgeRecall(j.Job, p, recipients, len(kills) == 0)
			if n := count(p.all(), lost(next.Job)); n > 0 {
				t.Errorf("%d took back what nobody recalled", n)
			}
		})
	}
}

// TestRecallOfACompletedJob recalls what everybody has, while some are away: they take it
// back when they come. Nobody who left the account meanwhile keeps it.
func TestRecallOfACompletedJob(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	x := newTrial(t)
	x.cli(nil, "account", "create", "news")
	var all []*screen
	var ids []job.Recipient
	for i := range job.Recipient(12) {
		all = append(all, newScreen(i*700_001))
		ids = append(ids, i*700_001)
	}
	_, err := x.svc.AddFollowers(ctx, "news", ids)
	x.must(err)
	for _, s := range all {
		x.connect(s, false)
	}
	j, err := x.svc.SubmitJob(ctx, api.SubmitJob{Account: "news", Audience: api.AudienceFollowers, Body: "All animals are equal"})
	x.must(err)
	if j, err = x.svc.WaitJob(ctx, j.Job, api.WaitJob{For: job.Completed}); err != nil || j.State != job.Completed {
		t.Fatalf("%+v, %v", j, err)
	}
	for _, s := range all[6:] {
		s.stop()
	}
	_, err = x.svc.RemoveFollowers(ctx, "news", ids[3:8])
	x.must(err)
	_, err = x.svc.AddSuppressed(ctx, api.SuppressionChange{IDs: ids[8:10]})
	x.must(err)
	var info struct {
		State     string
		Withdrawn uint64
	}
	x.cli(&info, "job", "recall", j.Job.String(), "--reason", "some are more equal")
	if info.State != "recalling" {
		t.Errorf("the command says %+v", info)
	}
	x.recalled(j.Job)
	x.comes("who is there has taken it back", func() bool { return count(all[:6], lost(j.Job)) == 6 })
	if n := count(all[6:], lost(j.Job)); n > 0 {
		t.Errorf("%d took it back while they were away", n)
	}
	x.srv.Kill()
	x.cfg.Listen = mustHost(t, x.srv.API)
	x.restart(ctx)
	for _, s := range all[6:] {
		x.connect(s, false)
	}
	x.comes("everybody has taken it back", func() bool { return count(all, lost(j.Job)) == 12 })
	x.comes("that is counted", func() bool {
		x.cli(&info, "job", "info", j.Job.String())
		return info.Withdrawn == 12
	})
	rec, err := x.svc.ReconcileJob(ctx, j.Job)
	x.must(err)
	if !rec.Conserved || rec.Delivered != 12 || rec.Recalled != 0 || rec.Withdrawn != 12 {
		t.Errorf("reconciled %+v", rec)
	}
	for _, s := range all {
		if shown, taken := s.got(j.Job); shown != 1 || taken != 1 {
			t.Errorf("recipient %s was shown it %d times and took it back %d times", s.who, shown, taken)
		}
	}
}
