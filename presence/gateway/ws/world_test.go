package ws

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/coder/websocket"

	"crier/internal/bus"
	"crier/internal/idset"
	"crier/job"
	"crier/presence/gateway"
	"crier/presence/gateway/accepted"
	"crier/presence/handoff"
)

// patience is how long a test waits for what must come.
const patience = 20 * time.Second

var inc1 = job.Incarnation{Gateway: "gw1", Start: 1}

// world is a gateway with its files, an owner of a journal, and a home, on a bus in
// memory.
type world struct {
	t     testing.TB
	bus   *bus.Memory
	g     *Gateway
	url   string
	dir   string
	stop  context.CancelFunc
	ended chan error

	journal job.Journal
	n       uint64
	mu      sync.Mutex
	changed chan struct{} // closed and made anew when something below changes
	reports map[job.Ref]*handoff.Report
	joined  map[uint32]bool
	hellos  []handoff.Hello
	incs    map[job.Incarnation]bool
}

// tokens are "r" and the recipient's number.
type verifier struct{}

func (verifier) VerifyRecipient(token string) (job.Recipient, error) {
	if token == "later" {
		return 0, &job.Error{Code: job.CodeUnavailable, Message: "the keys are not there"}
	}
	n, ok := strings.CutPrefix(token, "r")
	if !ok {
		return 0, errors.New("no such token")
	}
	return job.ParseRecipient(n)
}

func newWorld(t testing.TB, change func(*Config)) *world {
	return newWorldAt(t, t.TempDir(), inc1, change)
}

func newWorldAt(t testing.TB, dir string, inc job.Incarnation, change func(*Config)) *world {
	t.Helper()
	w := &world{t: t, bus: bus.NewMemory(), dir: dir, ended: make(chan error, 1), journal: job.Journal{Worker: "w1", Incarnation: 1},
		changed: make(chan struct{}), reports: map[job.Ref]*handoff.Report{}, joined: map[uint32]bool{}, incs: map[job.Incarnation]bool{}}
	t.Cleanup(w.bus.Close)
	files, history, err := accepted.Open(accepted.Config{Dir: dir, Incarnation: inc, SegmentBytes: 1 << 20})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { files.Close() })
	cfg := Config{Core: gateway.Config{Incarnation: inc, History: history}, Bus: w.bus, Homes: home{}, Verifier: verifier{}, Accepted: files}
	if change != nil {
		change(&cfg)
	}
	if w.g, err = New(cfg); err != nil {
		t.Fatal(err)
	}
	w.subscribe(handoff.ReportTo(w.journal), w.onReport)
	w.subscribe(handoff.AnnounceTo("home"), w.onAnnounce)
	w.subscribe(handoff.BeatTo, w.onBeat)
	server := httptest.NewServer(w.g)
	t.Cleanup(server.Close)
	w.url = server.URL
	w.run()
	return w
}

func (w *world) run() {
	ctx, cancel := context.WithCancel(context.Background())
	w.stop = cancel
	go func() { w.ended <- w.g.Run(ctx) }()
	w.t.Cleanup(func() {
		cancel()
		if err := <-w.ended; err != nil {
			w.t.Errorf("Run: %v", err)
		}
		w.ended <- nil
	})
	w.eventually("the gateway runs", func() bool { return w.incs[w.g.cfg.Core.Incarnation] })
}

func (w *world) subscribe(pattern string, fn func(bus.Msg)) {
	if _, err := w.bus.Subscribe(pattern, fn); err != nil {
		w.t.Fatal(err)
	}
}

// change runs fn under the lock and wakes who waits.
func (w *world) change(fn func()) {
	w.mu.Lock()
	defer w.mu.Unlock()
	fn()
	close(w.changed)
	w.changed = make(chan struct{})
}

// eventually waits until ok, which it calls under the lock, at each change and now
// and then.
func (w *world) eventually(what string, ok func() bool) {
	w.t.Helper()
	limit := time.After(patience)
	for {
		w.mu.Lock()
		yes, changed := ok(), w.changed
		w.mu.Unlock()
		if yes {
			return
		}
		select {
		case <-changed:
		case <-time.After(10 * time.Millisecond):
		case <-limit:
			w.t.Fatalf("never: %s", what)
		}
	}
}

// onReport is the owner: it records at once and says so.
func (w *world) onReport(m bus.Msg) {
	all, err := handoff.ParseReports(m.Data)
	if err != nil {
		w.t.Error(err)
		return
	}
	for _, p := range all {
		w.record(p)
	}
}

func (w *world) record(p *handoff.Report) {
	w.change(func() {
		if old := w.reports[p.Ref]; old == nil || old.Version < p.Version {
			w.reports[p.Ref] = p
		}
	})
	done := handoff.Recorded{Ref: p.Ref, Inc: p.Inc, Version: p.Version}
	if err := w.bus.Publish(handoff.RecordedTo(p.Inc.Gateway), done.Bytes()); err != nil {
		w.t.Error(err)
	}
}

func (w *world) onAnnounce(m bus.Msg) {
	a, err := handoff.ParseAnnounce(m.Data)
	if err != nil {
		w.t.Error(err)
		return
	}
	w.change(func() {
		for id := range a.Join.All() {
			w.joined[id] = true
		}
		for id := range a.Leave.All() {
			delete(w.joined, id)
		}
		w.hellos = append(w.hellos, a.Hellos...)
	})
	if err := m.Respond(handoff.TakenIn.Bytes()); err != nil {
		w.t.Error(err)
	}
}

func (w *world) onBeat(m bus.Msg) {
	b, err := handoff.ParseBeat(m.Data)
	if err != nil {
		w.t.Error(err)
		return
	}
	w.change(func() { w.incs[b.Inc] = true })
}

// home is home to every range.
type home struct{}

// Home implements Homes.
func (home) Home(job.Range) string { return "home" }

// handOff reserves and asks; it gives the answer and the reserve.
func (w *world) handOff(id job.ID, body string, targets ...uint32) (handoff.Answer, job.Ref) {
	w.t.Helper()
	w.n++
	h := &handoff.Handoff{Ref: job.Ref{Journal: w.journal, N: w.n}, To: w.g.cfg.Core.Incarnation, Job: id, Targets: idset.Of(targets...)}
	a := w.ask(h)
	if a.Kind == handoff.NeedBody {
		h.Message = &handoff.Message{AccountName: "news", Body: []byte(body), SentAt: 1_700_000_000_123, ExpiresAt: 1_800_000_000_000, CollapseKey: "k"}
		a = w.ask(h)
	}
	for i := range a.Reports {
		w.record(&a.Reports[i])
	}
	return a, h.Ref
}

func (w *world) ask(h *handoff.Handoff) handoff.Answer {
	w.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	b, err := w.bus.Request(ctx, handoff.HandoffTo(h.To.Gateway), h.Bytes())
	if err != nil {
		w.t.Fatal(err)
	}
	all, err := handoff.ParseAnswers(b)
	if err != nil || len(all) != 1 {
		w.t.Fatal(len(all), err)
	}
	return *all[0]
}

// ends waits for the final report of a reserve and gives where its targets stand.
func (w *world) ends(ref job.Ref, targets ...uint32) (acked *idset.Set, p *handoff.Report) {
	w.t.Helper()
	w.eventually("the final report of "+ref.String(), func() bool {
		if p = w.reports[ref]; p == nil {
			return false
		}
		var waiting *idset.Set
		acked, waiting = p.Split(idset.Of(targets...))
		return waiting.IsEmpty()
	})
	return acked, p
}

// raw is a client without a library's manners.
type raw struct {
	t  testing.TB
	ws *websocket.Conn
}

func (w *world) dial(token string) *raw { return w.dialWith(token, &websocket.DialOptions{}) }

func (w *world) dialWith(token string, opts *websocket.DialOptions) *raw {
	w.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	opts.HTTPHeader = http.Header{"Authorization": {"Bearer " + token}}
	c, _, err := websocket.Dial(ctx, w.url+"/v1/connect", opts)
	if err != nil {
		w.t.Fatal(err)
	}
	c.SetReadLimit(4 << 20)
	w.t.Cleanup(func() { _ = c.CloseNow() })
	return &raw{w.t, c}
}

// connect dials and says hello, and waits until the gateway knows the connection.
func (w *world) connect(r uint32, have ...string) *raw {
	c := w.dial(fmt.Sprint("r", r))
	b, err := json.Marshal(append([]string{}, have...))
	if err != nil {
		w.t.Fatal(err)
	}
	c.say(fmt.Sprintf(`{"type":"hello","client":"c%d","have":%s}`, r, b))
	c.expect("hello")
	return c
}

func (c *raw) say(text string) {
	c.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if err := c.ws.Write(ctx, websocket.MessageText, []byte(text)); err != nil {
		c.t.Fatal(err)
	}
}

func (c *raw) ack(ids ...string) {
	c.t.Helper()
	c.say(`{"type":"ack","ids":["` + strings.Join(ids, `","`) + `"]}`)
}

func (c *raw) read() (map[string]any, error) {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	_, b, err := c.ws.Read(ctx)
	if err != nil {
		return nil, err
	}
	d := json.NewDecoder(bytes.NewReader(b))
	d.UseNumber()
	var f map[string]any
	return f, d.Decode(&f)
}

// expect reads the next frame, which must have a type.
func (c *raw) expect(kind string) map[string]any {
	c.t.Helper()
	f, err := c.read()
	if err != nil || f["type"] != kind {
		c.t.Fatalf("read %v, %v; want a %s", f, err, kind)
	}
	return f
}

// closed waits for the end of the connection and gives its code.
func (c *raw) closed() websocket.StatusCode {
	for {
		if _, err := c.read(); err != nil {
			return websocket.CloseStatus(err)
		}
	}
}

func jobID(n int) job.ID {
	var id job.ID
	id[0], id[15] = byte(n>>8), byte(n)
	return id
}
