package ws

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/coder/websocket"
	"go.uber.org/goleak"

	"crier/internal/idset"
	"crier/job"
	"crier/presence/gateway"
	"crier/presence/handoff"
)

func TestAMessageFromHandOffToSettled(t *testing.T) {
	w := newWorld(t, nil)
	c := w.connect(5)
	w.eventually("the home knows 5", func() bool { return w.joined[5] })
	a, ref := w.handOff(jobID(1), "Grüße \"\u2028\"", 5, 6)
	if a.Kind != handoff.Accepted || !a.Reports[0].NotHere.Equal(idset.Of(6)) {
		t.Fatalf("answer %+v", a)
	}
	m := c.expect("message")
	id := jobID(1).String()
	for name, want := range map[string]any{"id": id, "job": id, "account": "news", "body": "Grüße \"\u2028\"", "sent_at": "2023-11-14T22:13:20.123Z",
		"expires_at": "2027-01-15T08:00:00Z", "collapse_key": "k"} {
		if m[name] != want {
			t.Errorf("%s is %v, want %v", name, m[name], want)
		}
	}
	if _, ok := m["display_at"]; ok {
		t.Error("display_at is there and was not set")
	}
	if sent, err := time.Parse(time.RFC3339, fmt.Sprint(m["server_time"])); err != nil || time.Since(sent).Abs() > time.Minute {
		t.Errorf("server_time is %v", m["server_time"])
	}
	c.ack(id)
	if acked, p := w.ends(ref, 5, 6); !acked.Equal(idset.Of(5)) || !p.NotHere.Equal(idset.Of(6)) {
		t.Fatalf("final report %+v", p)
	}
	if s := c.expect("settled"); fmt.Sprint(s["ids"]) != "["+id+"]" {
		t.Fatalf("settled %v", s)
	}
	// The order grows; the record of the first is gone.
	_, ref = w.handOff(jobID(2), "two", 5)
	if n := c.expect("message"); fmt.Sprint(n["order"]) <= fmt.Sprint(m["order"]) {
		t.Errorf("order %v after %v", n["order"], m["order"])
	}
	c.ack(jobID(2).String())
	w.ends(ref, 5)
	w.eventually("everything is recorded", func() bool { return w.g.Stats().Core.Reserves == 0 })
}

// The connections of one recipient are told apart from all others'.
func TestConnectionsOfARecipient(t *testing.T) {
	w := newWorld(t, nil)
	began := time.Now()
	first := w.dial("r5")
	first.expect("hello")
	w.dial("r5").expect("hello")
	w.dial("r6").expect("hello")
	since := w.g.Connections(5)
	if len(since) != 2 || slices.ContainsFunc(since, func(at time.Time) bool { return at.Before(began) || at.After(time.Now()) }) {
		t.Errorf("recipient 5 is connected since %v", since)
	}
	if got := w.g.Connections(7); got != nil {
		t.Errorf("recipient 7, who never was, is connected since %v", got)
	}
	first.ws.CloseNow()
	w.eventually("one is gone", func() bool { return len(w.g.Connections(5)) == 1 })
}

// withdrawing is a verifier whose tokens of one recipient stop being valid after so many
// questions.
type withdrawing struct {
	verifier
	who  job.Recipient
	left atomic.Int64
}

func (v *withdrawing) VerifyRecipient(token string) (job.Recipient, error) {
	who, err := v.verifier.VerifyRecipient(token)
	if err == nil && who == v.who && v.left.Add(-1) < 0 {
		return 0, &job.Error{Code: job.CodeDenied, Message: "it was withdrawn"}
	}
	return who, err
}

// When a recipient's tokens are withdrawn all its connections are closed, of others none; so
// is one that was let in just before and is there just after.
func TestWhoseTokensAreWithdrawn(t *testing.T) {
	v := &withdrawing{who: 5}
	v.left.Store(6)
	w := newWorld(t, func(c *Config) { c.Verifier = v })
	first, second, other := w.dial("r5"), w.dial("r5"), w.dial("r6")
	for i, c := range []*raw{first, second, other} {
		c.say(fmt.Sprintf(`{"type":"hello","client":"c%d","have":[]}`, i))
		c.expect("hello")
	}
	stream := &reader{w: w, who: 5, query: "client=tab&have="}
	stream.open()
	if n := v.left.Load(); n != 0 {
		t.Fatalf("void: the verifier would still say yes %d times", n)
	}
	w.g.Expel(7)
	w.g.Expel(5)
	for _, c := range []*raw{first, second} {
		if code := c.closed(); code != 4003 {
			t.Errorf("it is closed with %d", code)
		}
	}
	if f := stream.expect("close"); fmt.Sprint(f["code"]) != "4003" {
		t.Errorf("the stream ends with %v", f)
	}
	w.eventually("its connections are gone", func() bool { return len(w.g.Connections(5)) == 0 })
	if len(w.g.Connections(6)) != 1 {
		t.Error("another's connection is gone, too")
	}
	v.left.Store(1) // valid when it knocks, and not when it is in
	if code := w.dial("r5").closed(); code != 4003 {
		t.Errorf("who came in meanwhile is closed with %d", code)
	}
}

func TestHowClientsIntroduceThemselves(t *testing.T) {
	w := newWorld(t, func(c *Config) { c.HelloWait = 50 * time.Millisecond })
	hello := func(r uint32) (h handoff.Hello) {
		w.eventually(fmt.Sprint("hello of ", r), func() bool {
			i := slices.IndexFunc(w.hellos, func(h handoff.Hello) bool { return h.Recipient == job.Recipient(r) })
			if i >= 0 {
				h = w.hellos[i]
			}
			return i >= 0
		})
		return h
	}
	w.connect(1, jobID(9).String(), "not one of ours")
	if h := hello(1); !h.Speaks || h.Client == 0 || !slices.Equal(h.Have, []job.ID{jobID(9)}) {
		t.Errorf("hello with have: %+v", h)
	}
	w.dial("r2").say(`{"type":"hello","client":"x"}`)
	if h := hello(2); h.Speaks || h.Client == 0 {
		t.Errorf("hello without have: %+v", h)
	}
	w.dial("r3").expect("hello") // says nothing, but answers a ping
	if h := hello(3); h.Speaks || h.Client != 0 {
		t.Errorf("no hello: %+v", h)
	}
	c := w.dial("r4")
	c.ack(jobID(3).String())
	if h := hello(4); h.Speaks || !slices.Equal(h.Have, []job.ID{jobID(3)}) {
		t.Errorf("first frame an ack: %+v", h)
	}
	// Its hello comes late, and counts from now on.
	c.expect("hello")
	c.say(`{"type":"hello","client":"x","have":[]}`)
	w.eventually("the late hello", func() bool {
		return slices.ContainsFunc(w.hellos, func(h handoff.Hello) bool { return h.Recipient == 4 && h.Speaks })
	})
}

// A client whose path stalls has said hello, and the gateway has not heard it yet: it is
// not taken for one that says nothing.
func TestAHelloThatIsLateCounts(t *testing.T) {
	w := newWorld(t, func(c *Config) { c.HelloWait, c.PingWait = time.Millisecond, patience })
	pinged := make(chan struct{}, 1)
	c := w.dialWith("r1", &websocket.DialOptions{OnPingReceived: func(context.Context, []byte) bool {
		pinged <- struct{}{}
		return false
	}})
	over := make(chan struct{})
	go func() { // pings are heard while it reads
		defer close(over)
		for {
			if _, err := c.read(); err != nil {
				return
			}
		}
	}()
	defer func() {
		_ = c.ws.CloseNow()
		<-over
	}()
	<-pinged
	c.say(`{"type":"hello","client":"c","have":["` + jobID(4).String() + `"]}`)
	w.eventually("the home knows it", func() bool { return w.joined[1] })
	for _, h := range w.hellos {
		if !h.Speaks || !slices.Equal(h.Have, []job.ID{jobID(4)}) {
			t.Errorf("its hello is %+v", h)
		}
	}
}

// One that does not answer a ping either is closed, and nothing was sent to it.
func TestWhoIsNotThereIsClosed(t *testing.T) {
	w := newWorld(t, func(c *Config) { c.HelloWait, c.PingWait = time.Millisecond, 20*time.Millisecond })
	c := w.dialWith("r1", &websocket.DialOptions{OnPingReceived: func(context.Context, []byte) bool { return false }})
	if f, err := c.read(); err == nil {
		t.Errorf("it got %v", f)
	}
	w.eventually("it is counted", func() bool { return w.g.Stats().DeadSockets == 1 })
	if w.joined[1] || len(w.hellos) > 0 {
		t.Errorf("it was taken in: %+v", w.hellos)
	}
}

func TestFramesThatAreNotUnderstood(t *testing.T) {
	w := newWorld(t, nil)
	for _, x := range []struct {
		name string
		kind websocket.MessageType
		text string
		code websocket.StatusCode
	}{
		{"not JSON", websocket.MessageText, "hello", websocket.StatusInvalidFramePayloadData},
		{"no type", websocket.MessageText, `{"ids":[]}`, websocket.StatusInvalidFramePayloadData},
		{"wrong form", websocket.MessageText, `{"type":"ack","ids":5}`, websocket.StatusInvalidFramePayloadData},
		{"a name twice", websocket.MessageText, `{"type":"ack","type":"hello"}`, websocket.StatusInvalidFramePayloadData},
		{"not UTF-8", websocket.MessageText, "{\"type\":\"\xff\"}", websocket.StatusInvalidFramePayloadData},
		{"a long client id", websocket.MessageText, `{"type":"hello","client":"` + strings.Repeat("x", 129) + `"}`, websocket.StatusInvalidFramePayloadData},
		{"binary", websocket.MessageBinary, `{"type":"hello"}`, websocket.StatusUnsupportedData},
	} {
		t.Run(x.name, func(t *testing.T) {
			c := w.connect(1)
			c.t = t
			c.say(`{"type":"of the future","unheard":5}`) // unknown types and fields are ignored
			for n := range 2 {
				if err := c.ws.Write(context.Background(), x.kind, []byte(x.text)); err != nil {
					t.Fatal(err)
				}
				if n > 0 {
					continue
				}
				if f := c.expect("error"); f["code"] != "malformed" || strings.Contains(fmt.Sprint(f["message"]), "Go ") {
					t.Errorf("error frame %v", f)
				}
			}
			if code := c.closed(); code != x.code {
				t.Errorf("closed with %d, want %d", code, x.code)
			}
		})
	}
	c := w.connect(1)
	c.say(`{"type":"hello","client":"` + strings.Repeat("x", maxFrame) + `"}`)
	if code := c.closed(); code != websocket.StatusMessageTooBig {
		t.Errorf("a frame too large: closed with %d", code)
	}
}

func TestTokensAndRoom(t *testing.T) {
	w := newWorld(t, func(c *Config) { c.MaxConnections = 2 })
	get := func(method, query string, header http.Header) *http.Response {
		r, err := http.NewRequest(method, w.url+"/v1/connect"+query, nil)
		if err != nil {
			t.Fatal(err)
		}
		maps.Copy(r.Header, header)
		resp, err := http.DefaultClient.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(resp.Body)
		if err != nil || resp.Body.Close() != nil {
			t.Fatal(err)
		}
		if !strings.Contains(string(body), fmt.Sprint(resp.StatusCode)) {
			t.Errorf("status %d with %s", resp.StatusCode, body)
		}
		return resp
	}
	for _, x := range []struct {
		method, query string
		header        http.Header
		status        int
	}{
		{"GET", "", nil, 401},
		{"GET", "?token=bad", nil, 401},
		{"GET", "", http.Header{"Authorization": {"Bearer r-1"}}, 401},
		{"GET", "", http.Header{"Authorization": {"Basic r1"}}, 401},
		{"GET", "?token=later", nil, 503},
		{"POST", "?token=r1", nil, 405},
		{"GET", "?token=r1", nil, 426}, // a valid token, and no WebSocket
	} {
		if resp := get(x.method, x.query, x.header); resp.StatusCode != x.status {
			t.Errorf("%s %s %v: status %d, want %d", x.method, x.query, x.header, resp.StatusCode, x.status)
		}
	}
	c, _, err := websocket.Dial(context.Background(), w.url+"/v1/connect?token=r8", nil)
	if err != nil {
		t.Fatal(err)
	}
	defer c.CloseNow()
	w.connect(9)
	w.eventually("both are counted", func() bool { return w.g.Stats().Sockets == 2 })
	_, resp, err := websocket.Dial(context.Background(), w.url+"/v1/connect?token=r1", nil)
	if err == nil || resp == nil || resp.StatusCode != 503 || resp.Header.Get("Retry-After") == "" {
		t.Errorf("no room: %+v, %v", resp, err)
	}
	_ = c.CloseNow()
	w.eventually("there is room again", func() bool { return w.g.Stats().Sockets == 1 })
	w.connect(1)
}

// TestASlowReaderDelaysNobody: one connection does not read. The others get
// everything meanwhile; it is closed in the end and its message is unacknowledged.
func TestASlowReaderDelaysNobody(t *testing.T) {
	w := newWorld(t, func(c *Config) { c.Core.AckWithin = 8 * time.Second }) // a slow machine has to get to the end before
	// What the kernel takes for it is little, so that few messages fill it.
	const kept = 64 << 10
	if err := bare(t, w, 1).(*net.TCPConn).SetReadBuffer(kept); err != nil {
		t.Fatal(err)
	}
	w.eventually("it came", func() bool { return w.joined[1] })
	if err := w.g.sockets()[0].socket.(*net.TCPConn).SetWriteBuffer(kept); err != nil {
		t.Fatal(err)
	}
	quick := w.connect(2)
	body := strings.Repeat("x", 200<<10)
	var slow []job.Ref
	queue := 0
	for n := range 10 { // 2 MB
		_, ref := w.handOff(jobID(n), body, 1, 2)
		slow = append(slow, ref)
		m := quick.next("message")
		for m == nil { // settled frames in between
			m = quick.next("message")
		}
		quick.ack(fmt.Sprint(m["id"]))
		queue = max(queue, w.longestQueue())
	}
	if queue == 0 {
		t.Fatal("nobody was slow: the test shows nothing")
	}
	for i, ref := range slow {
		acked, p := w.ends(ref, 1, 2)
		if !acked.Equal(idset.Of(2)) || p.Unacked.Card()+p.NotHere.Card() != 1 {
			t.Fatalf("message %d: acknowledged %v, report %+v", i, slices.Collect(acked.All()), p)
		}
		if i == 0 && !p.Unacked.Has(1) || i == len(slow)-1 && !p.NotHere.Has(1) {
			t.Fatalf("message %d: %+v: the first was written, of the last no byte was", i, p)
		}
	}
	if st := w.g.Stats(); st.Core.ClosedUnacknowledged != 1 {
		t.Fatalf("stats %+v", st)
	}
}

func (w *world) longestQueue() int {
	longest := 0
	for _, c := range w.g.sockets() {
		c.mu.Lock()
		longest = max(longest, len(c.mu.queue))
		c.mu.Unlock()
	}
	return longest
}

// next reads a frame and gives it if it has the type.
func (c *raw) next(kind string) map[string]any {
	c.t.Helper()
	f, err := c.read()
	if err != nil {
		c.t.Fatal(err)
	}
	if f["type"] == kind {
		return f
	}
	return nil
}

func TestTheSameClientReplacesItsConnection(t *testing.T) {
	w := newWorld(t, nil)
	old := w.connect(5)
	_, ref := w.handOff(jobID(1), "x", 5)
	old.expect("message") // not acknowledged
	w.connect(5, jobID(1).String())
	if code := old.closed(); code != codeReplaced {
		t.Errorf("the former connection is closed with %d", code)
	}
	if acked, _ := w.ends(ref, 5); !acked.Has(5) {
		t.Error("what the client has is not acknowledged")
	}
	w.eventually("the former connection is forgotten", func() bool { return w.g.Stats().Core.Connections == 1 })
	w.eventually("5 is still there", func() bool { return w.joined[5] })
}

// TestASilentPeerIsFound has a peer that reads nothing and answers no ping.
func TestASilentPeerIsFound(t *testing.T) {
	w := newWorld(t, func(c *Config) { c.PingEvery, c.PingWait = 40*time.Millisecond, 100*time.Millisecond })
	alive := w.connect(2)
	go func() {
		for { // reading answers pings
			if _, err := alive.read(); err != nil {
				return
			}
		}
	}()
	w.connect(1)
	w.eventually("both came", func() bool { return w.joined[1] && w.joined[2] })
	w.eventually("the silent one left", func() bool { return !w.joined[1] })
	if st := w.g.Stats(); st.DeadSockets == 0 || st.Sockets != 1 || !w.joined[2] {
		t.Errorf("stats %+v", st)
	}
}

func TestStopSaysGoodbye(t *testing.T) {
	before := goleak.IgnoreCurrent()
	w := newWorld(t, nil)
	c, mute := w.connect(1), w.dial("r2")
	mute.say(`{"type":"hello"}`)
	mute.expect("hello")
	w.eventually("both came", func() bool { return w.joined[1] && w.joined[2] })
	_, ref := w.handOff(jobID(1), "x", 1, 2)
	c.expect("message")
	mute.expect("message")
	codes := make(chan websocket.StatusCode, 2)
	go func() { codes <- c.closed() }()
	go func() { codes <- mute.closed() }()
	w.stop()
	if err := <-w.ended; err != nil {
		t.Fatal(err)
	}
	w.ended <- nil
	for range 2 {
		if code := <-codes; code != websocket.StatusGoingAway {
			t.Errorf("closed with %d", code)
		}
	}
	if acked, p := w.ends(ref, 1, 2); !acked.IsEmpty() || !p.Unacked.Equal(idset.Of(1)) || !p.Mute.Equal(idset.Of(2)) {
		t.Errorf("final report %+v", p)
	}
	if len(w.joined) != 0 {
		t.Errorf("%d recipients did not leave", len(w.joined))
	}
	_, resp, err := websocket.Dial(context.Background(), w.url+"/v1/connect?token=r1", nil)
	if err == nil || resp == nil || resp.StatusCode != http.StatusServiceUnavailable {
		t.Errorf("after the stop: %v %v", resp, err)
	}
	if err := w.g.Run(context.Background()); err == nil {
		t.Error("it runs twice")
	}
	w.bus.Close()
	http.DefaultClient.CloseIdleConnections()
	goleak.VerifyNone(t, before, goleak.IgnoreAnyFunction("net/http.(*conn).serve"), goleak.IgnoreAnyFunction("net/http.(*Server).Serve"))
}

// TestStopIsBounded has a client that does not answer the closing frame.
func TestStopIsBounded(t *testing.T) {
	w := newWorld(t, func(c *Config) { c.StopWait = 200 * time.Millisecond })
	bare(t, w, 1)
	w.eventually("it came", func() bool { return w.joined[1] })
	start := time.Now()
	w.stop()
	err := <-w.ended
	w.ended <- nil
	if took := time.Since(start); err != nil || took > 3*time.Second {
		t.Errorf("the stop took %v: %v", took, err)
	}
	if len(w.joined) != 0 {
		t.Error("it did not leave")
	}
}

// TestTheNextIncarnationAnswersForAKilledOne takes the accepted-files as a kill would
// leave them, while the first gateway still runs.
func TestTheNextIncarnationAnswersForAKilledOne(t *testing.T) {
	w := newWorld(t, nil)
	one, two := w.connect(1), w.connect(2)
	mute := w.dial("r3")
	mute.say(`{"type":"hello"}`)
	mute.expect("hello")
	_, ref := w.handOff(jobID(1), "x", 1, 2, 3, 4)
	for _, c := range []*raw{one, two, mute} {
		c.expect("message")
	}
	one.ack(jobID(1).String())
	w.eventually("the acknowledgement is in", func() bool {
		p := w.reports[ref]
		acked, _ := p.Split(idset.Of(1, 2, 3, 4))
		return acked.Has(1)
	})
	killed := filepath.Join(t.TempDir(), "accepted")
	if err := os.CopyFS(killed, os.DirFS(w.dir)); err != nil {
		t.Fatal(err)
	}

	next := newWorldAt(t, killed, job.Incarnation{Gateway: "gw1", Start: 2}, nil)
	h := &handoff.Handoff{Ref: ref, To: inc1, Job: jobID(1), Targets: idset.Of(1, 2, 3, 4)}
	a := next.ask(h)
	if a.Kind != handoff.Over || len(a.Reports) != 1 {
		t.Fatalf("answer %+v", a)
	}
	p := a.Reports[0]
	acked, waiting := p.Split(h.Targets)
	if !acked.Equal(idset.Of(1)) || !waiting.IsEmpty() || !p.Unacked.Equal(idset.Of(2)) || !p.Mute.Equal(idset.Of(3)) || !p.NotHere.Equal(idset.Of(4)) {
		t.Fatalf("last word %+v", p)
	}
	h.Ref.N = 77
	if a := next.ask(h); a.Kind != handoff.Over || len(a.Reports) != 0 {
		t.Fatalf("what it never accepted: %+v", a)
	}
	next.record(&p)
	h.Ref = ref
	next.eventually("the record is freed", func() bool { return len(next.ask(h).Reports) == 0 })
}

// TestAFullFileWaits: while the accepted-file takes nothing, hand-offs are put off,
// and nothing is sent; when it does again, they go on.
func TestAFullFileWaits(t *testing.T) {
	full := &fullFile{err: errors.New("no space left on device")}
	w := newWorld(t, func(c *Config) {
		full.Accepted = c.Accepted
		c.Accepted = full
	})
	c := w.connect(1)
	a, _ := w.handOff(jobID(1), "x", 1)
	if a.Kind != handoff.InProgress {
		t.Fatalf("answer %+v", a)
	}
	w.g.post(func() { full.err = nil })
	if a, _ = w.handOff(jobID(1), "x", 1); a.Kind != handoff.Accepted {
		t.Fatalf("answer %+v", a)
	}
	c.expect("message")
}

type fullFile struct {
	Accepted
	err error
}

func (f *fullFile) Append(r gateway.Record) error {
	if f.err != nil {
		return f.err
	}
	return f.Accepted.Append(r)
}

func TestConfigNamesTheField(t *testing.T) {
	good := Config{Core: gateway.Config{Incarnation: inc1}, Bus: newWorld(t, nil).bus, Homes: home{}, Verifier: verifier{}, Accepted: &fullFile{}}
	for want, change := range map[string]func(*Config){
		"bus": func(c *Config) { c.Bus = nil }, "homes": func(c *Config) { c.Homes = nil }, "verifier": func(c *Config) { c.Verifier = nil }, "accepted": func(c *Config) { c.Accepted = nil },
		"max_connections": func(c *Config) { c.MaxConnections = -1 }, "wait": func(c *Config) { c.PingWait = -1 },
		"incarnation": func(c *Config) { c.Core.Incarnation.Gateway = "" },
	} {
		cfg := good
		change(&cfg)
		_, err := New(cfg)
		var e *job.Error
		if !errors.As(err, &e) || e.Field != want {
			t.Errorf("%s: %v", want, err)
		}
	}
}
