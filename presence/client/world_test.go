package client_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log"
	"maps"
	"math/rand/v2"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/coder/websocket"

	"crier/presence/client"
)

// world is a gateway written from PROTOCOL.md, the application that shows messages,
// and the oracle that watches both. It knows nothing of the client's code.
type world struct {
	t     *testing.T
	net   *network
	store *spy
	chaos chaos

	mu struct {
		sync.Mutex
		rng       *rand.Rand
		ids       []string          // all messages, in the order of sending
		body      map[string]string // of each
		delivered map[string]bool   // acknowledged, or listed in have
		settled   map[string]bool   // the client was told so: never sent again
		shown     map[string]int    // by the application
		hellos    int
		codes     []websocket.StatusCode // how clients closed
	}
}

// chaos is what the gateway does besides its duty; probabilities a frame.
type chaos struct {
	repeat, garbage, hangUp, redirect float64
	refuse                            float64  // of the requests
	settle                            float64  // of the deliveries; the rest is settled never
	settleLate                        bool     // only when the client has reconnected
	never                             []string // these are never settled
	unshown                           bool     // have may list what was never shown: StoreFirst, after a crash
}

func newWorld(t *testing.T, seed uint64, ids ...string) *world {
	w := &world{t: t, net: newNetwork(), chaos: chaos{settle: 1}}
	w.mu.rng = rand.New(rand.NewPCG(seed, 1))
	w.mu.ids = ids
	w.mu.body, w.mu.delivered, w.mu.settled, w.mu.shown = map[string]string{}, map[string]bool{}, map[string]bool{}, map[string]int{}
	for _, id := range ids {
		w.mu.body[id] = "body of " + id
	}
	w.store = newSpy()
	w.net.serve(t, w)
	return w
}

func messages(n int) (ids []string) {
	for i := range n {
		ids = append(ids, fmt.Sprintf("job_%026d", i))
	}
	return ids
}

func (w *world) lucky(p float64) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.mu.rng.Float64() < p
}

func (w *world) number(n int) int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.mu.rng.IntN(n)
}

// config is a client of this world; the test may change it.
func (w *world) config() client.Config {
	return client.Config{
		URL:        "http://gateway.test",
		Token:      client.StaticToken("secret"),
		Store:      w.store,
		HTTPClient: w.net.client(w.t),
		Random:     func() float64 { return 0.5 },
		OnMessage:  w.show,
	}
}

// show is the application.
func (w *world) show(_ context.Context, m client.Message) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.mu.shown[m.ID]++
	if want := w.mu.body[m.ID]; m.Body != want {
		w.t.Errorf("message %s has a body of %d bytes, want %d", m.ID, len(m.Body), len(want))
	}
	return nil
}

// run runs a client until stop is called, which waits for its end.
func (w *world) run(cfg client.Config) (stop func()) {
	w.t.Helper()
	c, err := client.New(cfg)
	if err != nil {
		w.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(w.t.Context())
	var wg sync.WaitGroup
	wg.Go(func() {
		if err := c.Run(ctx); err != nil {
			w.t.Errorf("Run: %v", err)
		}
	})
	return func() { cancel(); wg.Wait() }
}

// finish waits until all is delivered, and 5 s more for what may still go wrong.
func (w *world) finish(limit time.Duration) {
	w.t.Helper()
	for start := time.Now(); time.Since(start) < limit; wait(w.t.Context(), time.Second) {
		w.mu.Lock()
		done := len(w.mu.delivered) == len(w.mu.ids)
		w.mu.Unlock()
		if done {
			wait(w.t.Context(), 5*time.Second)
			return
		}
	}
}

// exactlyOnce checks the verdict: every message shown, none twice.
func (w *world) exactlyOnce() {
	w.t.Helper()
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, id := range w.mu.ids {
		if n := w.mu.shown[id]; n != 1 {
			w.t.Errorf("%s was shown %d times", id, n)
		}
		if !w.mu.delivered[id] {
			w.t.Errorf("%s is not delivered", id)
		}
	}
	if len(w.mu.shown) != len(w.mu.ids) {
		w.t.Errorf("%d messages shown, %d sent", len(w.mu.shown), len(w.mu.ids))
	}
}

func (w *world) ServeHTTP(rw http.ResponseWriter, r *http.Request) {
	if r.URL.Path != "/v1/connect" || r.Header.Get("Authorization") != "Bearer secret" {
		w.t.Errorf("request for %s with authorization %q", r.URL, r.Header.Get("Authorization"))
	}
	if w.lucky(w.chaos.refuse) {
		http.Error(rw, "not now", []int{401, 403, 429, 500, 503}[w.number(5)])
		return
	}
	conn, err := websocket.Accept(rw, r, nil)
	if err != nil {
		return // the connection was cut
	}
	defer conn.CloseNow()
	g := &gate{world: w, conn: conn, sent: map[string]bool{}, has: map[string]bool{}}
	err = g.serve(r.Context())
	w.mu.Lock()
	w.mu.codes = append(w.mu.codes, websocket.CloseStatus(err))
	w.mu.Unlock()
}

// gate is one connection of the gateway.
type gate struct {
	*world
	conn  *websocket.Conn
	mu    sync.Mutex
	sent  map[string]bool
	has   map[string]bool // acknowledged here, or listed, and not settled
	order int
}

var errOver = errors.New("the gateway hangs up")

func (g *gate) serve(ctx context.Context) error {
	_, data, err := g.conn.Read(ctx)
	if err != nil {
		return err
	}
	g.hello(data)
	ctx, cancel := context.WithCancel(ctx)
	var wg sync.WaitGroup
	wg.Go(func() {
		if g.send(ctx) != nil {
			g.conn.Close(websocket.StatusInternalError, "chaos")
		}
	})
	defer wg.Wait()
	defer cancel()
	for {
		_, data, err := g.conn.Read(ctx)
		if err != nil {
			return err
		}
		g.acked(data)
	}
}

// hello holds the first frame to its form and to what the store has.
func (g *gate) hello(data []byte) {
	var f struct {
		Type, Client string
		Have         *[]string
	}
	if err := json.Unmarshal(data, &f); err != nil || f.Type != "hello" || f.Client != "spy" || f.Have == nil {
		g.t.Errorf("hello %s", data)
		return
	}
	if want := g.store.list(); !slices.Equal(slices.Sorted(slices.Values(*f.Have)), want) {
		g.t.Errorf("have is %v, the store has %v", *f.Have, want)
	}
	g.world.mu.Lock()
	defer g.world.mu.Unlock()
	g.world.mu.hellos++
	for _, id := range *f.Have {
		if g.world.mu.shown[id] == 0 && !g.chaos.unshown {
			g.t.Errorf("have lists %s, which was never shown", id)
		}
		g.world.mu.delivered[id] = true
		g.has[id] = true
	}
	for id, n := range g.world.mu.shown {
		if n > 0 && g.world.mu.delivered[id] && !g.world.mu.settled[id] && !g.has[id] {
			g.t.Errorf("have lacks %s, which is acknowledged and not settled", id)
		}
	}
}

// acked holds an acknowledgement to what is durable in the store.
func (g *gate) acked(data []byte) {
	var f struct {
		Type string
		IDs  []string
	}
	if err := json.Unmarshal(data, &f); err != nil || f.Type != "ack" || len(f.IDs) > 64 {
		g.t.Errorf("frame %.200s", data)
		return
	}
	for _, id := range f.IDs {
		g.mu.Lock()
		sent := g.sent[id]
		g.has[id] = true
		g.mu.Unlock()
		g.world.mu.Lock()
		if !sent || g.world.mu.shown[id] == 0 || !g.store.isDurable(id) && !g.world.mu.settled[id] {
			g.t.Errorf("ack of %s: sent here %v, shown %d times, durable %v", id, sent, g.world.mu.shown[id], g.store.isDurable(id))
		}
		g.world.mu.delivered[id] = true
		g.world.mu.Unlock()
	}
}

// send sends what is not delivered, within the window, and settles, until the
// connection ends.
func (g *gate) send(ctx context.Context) error {
	g.mu.Lock()
	listed := slices.Sorted(maps.Keys(g.has))
	g.mu.Unlock()
	for ctx.Err() == nil {
		var next, again, done []string
		g.world.mu.Lock()
		g.mu.Lock()
		open := len(g.has)
		for id := range g.sent {
			if !g.has[id] && !g.world.mu.settled[id] {
				open++
			}
		}
		for _, id := range g.world.mu.ids {
			switch {
			case g.world.mu.settled[id]:
				if g.has[id] { // the word did not arrive
					done = append(done, id)
				}
			case g.has[id] || g.sent[id]:
				again = append(again, id)
				if g.has[id] && !slices.Contains(g.chaos.never, id) && (!g.chaos.settleLate || slices.Contains(listed, id)) {
					done = append(done, id)
				}
			case !g.world.mu.delivered[id] && open+len(next) < 64:
				next = append(next, id)
			}
		}
		g.mu.Unlock()
		g.world.mu.Unlock()
		if err := g.act(ctx, next, again, done); err != nil {
			return err
		}
		wait(ctx, 10*time.Millisecond)
	}
	return nil
}

func (g *gate) act(ctx context.Context, next, again, done []string) error {
	for _, id := range next {
		if err := g.message(ctx, id); err != nil {
			return err
		}
	}
	if len(again) > 0 && g.lucky(g.chaos.repeat) {
		if err := g.message(ctx, again[g.number(len(again))]); err != nil {
			return err
		}
	}
	if len(done) > 0 && g.lucky(g.chaos.settle) {
		if err := g.settle(ctx, done); err != nil {
			return err
		}
	}
	switch {
	case g.lucky(g.chaos.garbage):
		return g.write(ctx, garbage[g.number(len(garbage))])
	case g.lucky(g.chaos.redirect):
		return g.write(ctx, `{"type":"redirect","url":"/v1/connect"}`)
	case g.lucky(g.chaos.hangUp):
		return errOver
	}
	return nil
}

func (g *gate) message(ctx context.Context, id string) error {
	g.world.mu.Lock()
	g.mu.Lock()
	g.order++
	data, _ := json.Marshal(map[string]any{"type": "message", "id": id, "job": id, "account": "a", "body": g.world.mu.body[id],
		"sent_at": time.Now().UTC(), "order": g.order, "server_time": time.Now().UTC(), "later": map[string]int{"x": 1}})
	g.sent[id] = true
	g.mu.Unlock()
	g.world.mu.Unlock()
	return g.write(ctx, string(data))
}

func (g *gate) settle(ctx context.Context, ids []string) error {
	g.world.mu.Lock()
	g.mu.Lock()
	for _, id := range ids {
		g.world.mu.settled[id] = true
		delete(g.has, id)
	}
	g.mu.Unlock()
	g.world.mu.Unlock()
	data, _ := json.Marshal(map[string]any{"type": "settled", "ids": ids})
	return g.write(ctx, string(data))
}

func (g *gate) write(ctx context.Context, frame string) error {
	return g.conn.Write(ctx, websocket.MessageText, []byte(frame))
}

// garbage is what a client must get over.
var garbage = []string{
	"", "{", "[]", "null", `"message"`, "{}", `{"type":7}`, `{"type":"message"}`, `{"type":"message","id":""}`, `{"type":"message","id":7,"body":"x"}`,
	`{"type":"message","id":"` + strings.Repeat("x", 129) + `"}`, `{"type":"settled","ids":"job"}`, `{"type":"settled"}`, `{"type":"settled","ids":["never sent"]}`,
	`{"type":"withdraw","ids":[]}`, `{"type":"error","code":"x","message":"y"}`, `{"type":"weather","ids":7,"id":[]}`, `{"type":"hello","gateway":"gw1"}`,
	"{\"type\":\"message\",\"id\":\"a\xff\"}", `{"type":"message","id":"a","id":"b"}`, `{"type":"settled","ids":["` + strings.Repeat(`","`, 5000) + `"]}`,
	`{"type":"message","id":"big","body":"` + strings.Repeat("x", 256<<10+1) + `"}`, strings.Repeat("[", 20000),
}

func wait(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
	case <-t.C:
	}
}

// spy is a store that knows what a crash leaves.
type spy struct {
	mu      sync.Mutex
	written map[string]bool // survives the end of the process
	durable map[string]bool // survives a power cut
	ever    map[string]bool // was durable once
	dead    bool            // the process is gone: nothing of it has an effect any more
	fail    func(op string) error
	crash   func(point, id string) // called at each point where a process may die
}

var errGone = errors.New("the process is gone")

func newSpy() *spy {
	return &spy{written: map[string]bool{}, durable: map[string]bool{}, ever: map[string]bool{},
		fail: func(string) error { return nil }, crash: func(string, string) {}}
}

func (s *spy) Load() (string, []string, error) { return "spy", s.list(), nil }

func (s *spy) Add(id string) error {
	err := s.fail("add") // before the lock: it takes the world's, and who has that asks the spy
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.dead {
		return errGone
	}
	if err != nil {
		return err
	}
	s.written[id] = true
	s.crash("added", id)
	return nil
}

func (s *spy) Forget(ids []string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.dead {
		return errGone
	}
	for _, id := range ids {
		delete(s.written, id)
	}
	return nil
}

func (s *spy) Sync() error {
	err := s.fail("sync")
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.dead {
		return errGone
	}
	if err != nil {
		return err
	}
	s.durable = maps.Clone(s.written)
	maps.Copy(s.ever, s.durable)
	s.crash("synced", "")
	return nil
}

func (s *spy) list() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Sorted(maps.Keys(s.written))
}

func (s *spy) isDurable(id string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.durable[id]
}

func init() { log.SetOutput(io.Discard) } // net/http tells of cut connections
