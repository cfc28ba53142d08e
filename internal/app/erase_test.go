package app_test

import (
	"context"
	"net/http"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/coder/websocket"

	"crier/api"
	"crier/internal/proc"
	"crier/job"
)

// dialed connects with a token and gives the connection, or the status of the refusal.
func (x *trial) dialed(ctx context.Context, token string) (*websocket.Conn, int) {
	x.t.Helper()
	conn, resp, err := websocket.Dial(ctx, x.srv.Gateway, &websocket.DialOptions{HTTPHeader: http.Header{"Authorization": {"Bearer " + token}}})
	if err != nil {
		if resp == nil {
			x.t.Fatal(err)
		}
		return nil, resp.StatusCode
	}
	x.t.Cleanup(func() { conn.CloseNow() })
	return conn, resp.StatusCode
}

const forgotten = job.Recipient(7)

// furnishErasure makes what is to be erased: two accounts that recipient 7 follows, a segment,
// the key of a device, and jobs that wait for it: two that were sent, one of them paused then,
// and one that is paused at once, wherever it is by then.
func (x *trial) furnishErasure(ctx context.Context) (ids []job.ID, paused []job.ID) {
	x.t.Helper()
	who := forgotten
	for _, name := range []string{"news", "weather"} {
		_, err := x.svc.CreateAccount(ctx, api.CreateAccount{Name: name})
		x.must(err)
		_, err = x.svc.AddFollowers(ctx, name, []job.Recipient{1, who, 70_001})
		x.must(err)
	}
	_, err := x.svc.CreateSegment(ctx, api.CreateSegment{Name: "vip"})
	x.must(err)
	_, err = x.svc.AddToSegment(ctx, "vip", []job.Recipient{who, 1})
	x.must(err)
	_, err = x.svc.CreateKey(ctx, api.CreateKey{Name: "phone", Role: job.Device, Recipient: &who})
	x.must(err)
	for n, account := range []string{"news", "weather", "news"} {
		j, err := x.svc.SubmitJob(ctx, api.SubmitJob{Account: account, Audience: api.AudienceFollowers, Body: "of before"})
		x.must(err)
		if ids = append(ids, j.Job); n < 2 {
			_, err = x.svc.WaitJob(ctx, j.Job, api.WaitJob{For: job.Sent, Timeout: time.Minute})
			x.must(err)
		}
		if n > 0 {
			_, err = x.svc.PauseJob(ctx, j.Job)
			x.must(err)
			paused = append(paused, j.Job)
		}
	}
	x.comes("two wait for it at least", func() bool {
		r, err := x.svc.GetRecipient(ctx, who)
		x.must(err)
		return r.ParkedTotal >= 2
	})
	return ids, paused
}

// A recipient is erased while its server ends just before or just after the record of it, and
// the same is asked again: its old token is refused, nothing of before reaches it by a new one,
// what waited is dropped in the ledger's account of each job, and what comes later comes.
func TestARecipientIsErased(t *testing.T) {
	t.Parallel()
	fragile, err := fragileBinary()
	if err != nil {
		t.Fatal(err)
	}
	for _, point := range []string{"before erased.7", "after erased.7"} {
		t.Run(point, func(t *testing.T) {
			t.Parallel()
			ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
			defer cancel()
			x := &trial{t: t, cfg: proc.Config{Binary: fragile, Dir: t.TempDir()}}
			x.cfg.Args = []string{"--crash", point, "--passed", filepath.Join(x.cfg.Dir, "passed")}
			x.restart(ctx)
			x.cfg.Listen = mustHost(t, x.srv.API)
			ids, paused := x.furnishErasure(ctx)
			old := x.tokenOf(forgotten)
			if _, err := x.svc.EraseRecipient(ctx, forgotten, api.Erase{Reason: "asked for it"}); err == nil {
				t.Fatal("void: the server did not end")
			}
			select {
			case <-x.srv.Done():
			case <-ctx.Done():
				t.Fatal("void: the server did not end")
			}
			x.cfg.Args[1] = ""
			x.restart(ctx)
			got, err := x.svc.EraseRecipient(ctx, forgotten, api.Erase{Reason: "asked for it again"})
			x.must(err)
			if got.Left != 0 || got.Record == 0 || got.Followed+got.Segments != 0 || point == "before erased.7" && (got.Parked < 2 || got.Parked > 3) {
				t.Errorf("erased again is %+v", got)
			}
			x.judgeErasure(ctx, old, ids, paused)
		})
	}
}

// judgeErasure compares what there is with what an erasure promises.
func (x *trial) judgeErasure(ctx context.Context, old string, ids, paused []job.ID) {
	x.t.Helper()
	if _, status := x.dialed(ctx, old); status != http.StatusUnauthorized {
		x.t.Errorf("with the old token the answer is %d", status)
	}
	for _, name := range []string{"news", "weather"} {
		if a, err := x.svc.GetAccount(ctx, name); err != nil || a.Followers != 2 {
			x.t.Errorf("of %s %d follow, %v", name, a.Followers, err)
		}
	}
	if s, err := x.svc.GetSegment(ctx, "vip"); err != nil || s.Recipients != 1 {
		x.t.Errorf("in the segment are %d, %v", s.Recipients, err)
	}
	keys, err := x.svc.ListKeys(ctx, "", api.Page{})
	x.must(err)
	if len(keys.Keys) != 1 || keys.Keys[0].RevokedAt.IsZero() {
		x.t.Errorf("the keys are %+v", keys.Keys)
	}
	delete(x.tokens, forgotten)
	screen := newScreen(forgotten)
	x.connect(screen, false)
	for _, id := range paused {
		_, err := x.svc.ResumeJob(ctx, id)
		x.must(err)
	}
	_, err = x.svc.AddFollowers(ctx, "news", []job.Recipient{forgotten})
	x.must(err)
	later, err := x.svc.SubmitJob(ctx, api.SubmitJob{Account: "news", Audience: api.AudienceFollowers, Body: "of later"})
	x.must(err)
	x.comes("it is shown what came later", func() bool { n, _ := screen.got(later.Job); return n == 1 })
	for n, id := range ids {
		_, err := x.svc.WaitJob(ctx, id, api.WaitJob{For: job.Sent, Timeout: time.Minute})
		x.must(err)
		x.comes("the job is at rest", func() bool {
			j, err := x.svc.GetJob(ctx, id)
			x.must(err)
			return j.Counts.Parked == 2 && j.Counts.Pending == 0
		})
		r, err := x.svc.ReconcileJob(ctx, id)
		x.must(err)
		dropped := r.Dropped[job.SuppressedParked]
		if n == 2 { // it may not have come to its block before the erasure
			dropped += r.Dropped[job.ReasonSuppressed]
		}
		if !r.Conserved || dropped != 1 || r.Parked != 2 || r.Package != 3 || r.Delivered != 0 {
			x.t.Errorf("job %d is %+v, %v", n, r.Counts, r.Violations)
		}
		for who, want := range map[job.Recipient]job.Outcome{1: job.Parked, forgotten: job.Dropped, 70_001: job.Parked} {
			if e, err := x.svc.ExplainJob(ctx, id, who); err != nil || e.Outcome != want {
				x.t.Errorf("job %d: recipient %s is %s, %v; want %s", n, who, e.Outcome, err, want)
			}
		}
		if shown, _ := screen.got(id); shown != 0 {
			x.t.Errorf("job %d was shown to it", n)
		}
	}
	if r, err := x.svc.ReconcileJob(ctx, later.Job); err != nil || !r.Conserved || r.Delivered != 1 || len(r.Dropped) != 0 {
		x.t.Errorf("what came later is %+v, %v", r, err)
	}
	acts, err := x.svc.ListAudit(ctx, api.ListAudit{Operation: "erase-recipient", Object: "recipient/7"})
	x.must(err)
	if len(acts.Acts) != 1 || acts.Acts[0].Result != "done" || acts.Acts[0].Reason != "asked for it again" {
		x.t.Errorf("the audit log has %+v", acts.Acts)
	}
}

// What a recipient was charged is gone when the erasure is answered, and stays so when the index
// is made again from the ledger; what is sent once is sent to it again; others keep their counts.
func TestErasedCountsFromNothing(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	x := &trial{t: t, cfg: newTrialConfig(t, "--frequency-cap=3", "--frequency-zone="+noonZone())}
	x.restart(ctx)
	x.cfg.Listen = mustHost(t, x.srv.API)
	const other = forgotten + 1
	_, err := x.svc.CreateAccount(ctx, api.CreateAccount{Name: "news"})
	x.must(err)
	_, err = x.svc.AddFollowers(ctx, "news", []job.Recipient{forgotten, other})
	x.must(err)
	send := func(once *api.SendOnce) job.ID {
		j, err := x.svc.SubmitJob(ctx, api.SubmitJob{Account: "news", Audience: api.AudienceFollowers, Body: "hello", SendOnce: once})
		x.must(err)
		return j.Job
	}
	shown := func(s *screen, id job.ID) {
		t.Helper()
		x.comes("it is shown", func() bool { n, _ := s.got(id); return n == 1 })
	}
	used := func(when string, who job.Recipient, want int) {
		t.Helper()
		r, err := x.svc.GetRecipient(ctx, who)
		x.must(err)
		if len(r.Frequency) != 1 || r.Frequency[0] != (api.Used{Messages: want, Cap: 3}) {
			t.Errorf("%s %s is charged %+v, want %d", when, who, r.Frequency, want)
		}
	}
	once := &api.SendOnce{Key: "welcome", Scope: api.ScopeAll}
	screens := []*screen{newScreen(forgotten), newScreen(other)}
	for _, s := range screens {
		x.connect(s, false)
	}
	for _, id := range []job.ID{send(once), send(nil)} {
		for _, s := range screens {
			shown(s, id)
		}
	}
	for _, s := range screens {
		s.stop()
		used("before", s.who, 2)
	}
	_, err = x.svc.EraseRecipient(ctx, forgotten, api.Erase{Reason: "asked for it"})
	x.must(err)
	used("erased", forgotten, 0)
	used("after the erasure", other, 2)
	x.srv.Kill()
	x.must(os.RemoveAll(filepath.Join(x.cfg.Dir, "data", "parked")))
	x.restart(ctx)
	used("from the ledger", forgotten, 0)
	used("from the ledger", other, 2)

	_, err = x.svc.AddFollowers(ctx, "news", []job.Recipient{forgotten})
	x.must(err)
	delete(x.tokens, forgotten)
	again := newScreen(forgotten)
	x.connect(again, false)
	id := send(once)
	shown(again, id)
	used("sent to again", forgotten, 1)
	if e, err := x.svc.ExplainJob(ctx, id, other); err != nil || e.Reason != job.ReasonSendOnce {
		t.Errorf("the other is %s (%s), %v", e.Outcome, e.Reason, err)
	}
}

// Who is connected is expelled, and no other; what the log says of it names nobody.
func TestErasedWhileConnected(t *testing.T) {
	t.Parallel()
	ready, log := startHouse(t, nil)
	ctx, h := t.Context(), &house{t: t, url: ready.API}
	admin := h.dial(ready.Token)
	const who = job.Recipient(3_141_592_653)
	connect := func(r job.Recipient) *websocket.Conn {
		t.Helper()
		token, err := admin.MintToken(ctx, api.MintToken{Recipient: &r})
		h.must(err)
		conn, _, err := websocket.Dial(ctx, ready.Gateway, &websocket.DialOptions{HTTPHeader: http.Header{"Authorization": {"Bearer " + token.Token}}})
		h.must(err)
		t.Cleanup(func() { conn.CloseNow() })
		h.must(conn.Write(ctx, websocket.MessageText, []byte(`{"type":"hello","client":"c","have":[]}`)))
		_, _, err = conn.Read(ctx)
		h.must(err)
		return conn
	}
	one, other := connect(who), connect(who+1)
	got, err := admin.EraseRecipient(ctx, who, api.Erase{Reason: "asked for it"})
	h.must(err)
	if got.Connections != 1 || got.Record == 0 {
		t.Errorf("erased is %+v", got)
	}
	limited, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	if _, _, err := one.Read(limited); websocket.CloseStatus(err) != 4003 {
		t.Errorf("its connection ends with %v", err)
	}
	again := connect(who)
	for _, conn := range []*websocket.Conn{other, again} {
		conn.CloseRead(ctx)
		h.must(conn.Ping(limited))
	}
	if log.has(who.String()) {
		t.Error("its number is in the log")
	}
}
