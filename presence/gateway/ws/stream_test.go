package ws

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"crier/internal/idset"
	"crier/job"
	"crier/presence/gateway"
	"crier/presence/handoff"
)

// reader is a client that reads server-sent events as a browser does: the id of the last
// event is what it sends when it connects again.
type reader struct {
	w      *world
	who    uint32
	query  string // client=…, have=…
	lastID string
	retry  string
	ack    string // where to acknowledge
	body   *bufio.Reader
	end    func()
}

// open connects, and waits until the gateway knows the connection.
func (r *reader) open() map[string]any {
	r.w.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, r.w.url+"/v1/stream?"+r.query, nil)
	if err != nil {
		r.w.t.Fatal(err)
	}
	req.Header.Set("Authorization", fmt.Sprint("Bearer r", r.who))
	if r.lastID != "" {
		req.Header.Set("Last-Event-ID", r.lastID)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		r.w.t.Fatal(err)
	}
	if resp.StatusCode != http.StatusOK || resp.Header.Get("Content-Type") != "text/event-stream" || resp.Header.Get("Access-Control-Allow-Origin") != "*" {
		r.w.t.Fatalf("answer %s, %v", resp.Status, resp.Header)
	}
	r.body, r.end = bufio.NewReader(resp.Body), func() { cancel(); resp.Body.Close() }
	r.w.t.Cleanup(r.end)
	hello := r.expect("hello")
	r.ack = fmt.Sprint(hello["ack"])
	return hello
}

// next reads an event; its type and its data.
func (r *reader) next() (kind string, data map[string]any, err error) {
	kind = "message"
	for {
		line, err := r.body.ReadString('\n')
		if err != nil {
			return "", nil, err
		}
		name, value, _ := strings.Cut(strings.TrimSuffix(line, "\n"), ":")
		value = strings.TrimPrefix(value, " ")
		switch {
		case line == "\n" && data != nil:
			return kind, data, nil
		case name == "id":
			r.lastID = value
		case name == "event":
			kind = value
		case name == "retry":
			r.retry = value
		case name == "data":
			if err := json.Unmarshal([]byte(value), &data); err != nil {
				return "", nil, err
			}
		}
	}
}

func (r *reader) expect(kind string) map[string]any {
	r.w.t.Helper()
	got, data, err := r.next()
	if err != nil || got != kind || data["type"] != kind {
		r.w.t.Fatalf("read %s %v, %v; want %s", got, data, err, kind)
	}
	return data
}

// post asks the gateway and gives the status.
func (w *world) post(address, token, body string) int {
	w.t.Helper()
	u, err := url.Parse(w.url + "/v1/stream")
	if err != nil {
		w.t.Fatal(err)
	}
	if u, err = u.Parse(address); err != nil {
		w.t.Fatal(err)
	}
	req, err := http.NewRequest(http.MethodPost, u.String(), strings.NewReader(body))
	if err != nil {
		w.t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+token)
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		w.t.Fatal(err)
	}
	defer resp.Body.Close()
	return resp.StatusCode
}

func (r *reader) acknowledge(ids ...string) {
	r.w.t.Helper()
	if got := r.w.post(r.ack, fmt.Sprint("r", r.who), `{"ids":["`+strings.Join(ids, `","`)+`"]}`); got != http.StatusNoContent {
		r.w.t.Fatalf("acknowledging is answered %d", got)
	}
}

func TestAStreamFromHandOffToSettled(t *testing.T) {
	w := newWorld(t, nil)
	r := &reader{w: w, who: 5, query: "client=tab&have="}
	if h := r.open(); h["recipient"] != 5.0 || h["gateway"] != "gw1.1" || r.lastID != "-" {
		t.Errorf("hello %v, id %q", h, r.lastID)
	}
	w.eventually("the home knows 5", func() bool { return w.joined[5] })
	_, first := w.handOff(jobID(1), "Grüße\r\n\"\u2028\"", 5)
	if m := r.expect("message"); m["id"] != jobID(1).String() || m["body"] != "Grüße\r\n\"\u2028\"" || r.lastID != jobID(1).String() {
		t.Errorf("message %v, id %q", m, r.lastID)
	}
	_, second := w.handOff(jobID(2), "two", 5)
	r.expect("message")
	if want := jobID(1).String() + "," + jobID(2).String(); r.lastID != want {
		t.Errorf("id %q, want %q", r.lastID, want)
	}
	r.acknowledge(jobID(1).String())
	w.ends(first, 5)
	if s := r.expect("settled"); fmt.Sprint(s["ids"]) != "["+jobID(1).String()+"]" || r.lastID != jobID(2).String() {
		t.Errorf("settled %v, id %q", s, r.lastID)
	}
	// What it was shown and has not acknowledged it says when it comes again.
	r.end()
	r.open()
	if acked, _ := w.ends(second, 5); !acked.Equal(idset.Of(5)) {
		w.eventually("the home knows what it has", func() bool {
			return slices.ContainsFunc(w.hellos, func(h handoff.Hello) bool {
				return h.Recipient == 5 && h.Speaks && slices.Equal(h.Have, []job.ID{jobID(2)})
			})
		})
	}
}

func TestHowStreamsIntroduceThemselves(t *testing.T) {
	w := newWorld(t, nil)
	for i, c := range []struct {
		query, lastID string
		client        bool
		speaks        bool
		have          []job.ID
	}{
		{"", "", false, false, nil},
		{"client=x", "", true, false, nil},
		{"client=x&have=", "", true, true, nil},
		{"have=-", "", false, true, nil},
		{"have=" + jobID(3).String(), "", false, true, []job.ID{jobID(3)}},
		{"have=" + jobID(3).String() + ",what," + jobID(4).String(), "", false, true, []job.ID{jobID(3), jobID(4)}},
		{"client=x", "-", true, true, nil},
		{"have=" + many(gateway.MaxHave+9), "", false, true, ids(gateway.MaxHave)},
		{"have=" + jobID(3).String(), jobID(4).String(), false, true, []job.ID{jobID(4)}}, // the header is later
	} {
		who := uint32(100 + i)
		r := &reader{w: w, who: who, query: c.query, lastID: c.lastID}
		r.open()
		w.eventually(fmt.Sprint("hello of ", who), func() bool {
			return slices.ContainsFunc(w.hellos, func(h handoff.Hello) bool {
				return h.Recipient == job.Recipient(who) && h.Speaks == c.speaks && (h.Client != 0) == c.client && slices.Equal(h.Have, c.have)
			})
		})
	}
}

// ids are the first jobs.
func ids(n int) (list []job.ID) {
	for i := range n {
		list = append(list, jobID(i))
	}
	return list
}

func many(n int) string {
	var list []string
	for _, id := range ids(n) {
		list = append(list, id.String())
	}
	return strings.Join(list, ",")
}

func TestStreamsThatAreRefused(t *testing.T) {
	w := newWorld(t, nil)
	r := &reader{w: w, who: 1, query: "client=x&have="}
	r.open()
	for _, c := range []struct {
		method, path, token, body string
		want                      int
	}{
		{http.MethodGet, "/v1/stream", "nobody's", "", 401}, {http.MethodGet, "/v1/stream", "later", "", 503}, {http.MethodPost, "/v1/stream", "r1", "", 405},
		{http.MethodGet, "/v1/stream?client=" + strings.Repeat("x", 129), "r1", "", 400},
		{http.MethodGet, r.ack, "r1", "", 405}, {http.MethodPost, r.ack, "nobody's", `{"ids":[]}`, 401}, {http.MethodPost, r.ack, "r2", `{"ids":[]}`, 404},
		{http.MethodPost, "/v1/stream/ack?connection=99", "r1", `{"ids":[]}`, 404}, {http.MethodPost, "/v1/stream/ack?connection=x", "r1", `{"ids":[]}`, 400},
		{http.MethodPost, "/v1/stream/ack", "r1", `{"ids":[]}`, 400}, {http.MethodPost, r.ack, "r1", `{}`, 400}, {http.MethodPost, r.ack, "r1", `[1]`, 400},
		{http.MethodPost, r.ack, "r1", ``, 400}, {http.MethodPost, r.ack, "r1", `{"ids":["` + strings.Repeat("x", maxFrame) + `"]}`, 413},
		{http.MethodPost, r.ack, "r1", `{"ids":["not one of ours"]}`, 422}, {http.MethodPost, r.ack, "r1", `{"ids":["` + jobID(9).String() + `"]}`, 204},
		{http.MethodPost, r.ack, "r1", `{"ids":["` + jobID(9).String() + `","job_..."]}`, 422}, {http.MethodOptions, r.ack, "", "", 204}, {http.MethodOptions, "/v1/stream", "", "", 204},
	} {
		req, err := http.NewRequest(c.method, w.url+c.path, strings.NewReader(c.body))
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Authorization", "Bearer "+c.token)
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		if resp.StatusCode != c.want {
			t.Errorf("%s %.60s: %s, want %d", c.method, c.path, resp.Status, c.want)
		}
		if c.want >= 400 && resp.Header.Get("Content-Type") != "application/problem+json" {
			t.Errorf("%s %.60s: it is no problem, but %s", c.method, c.path, resp.Header.Get("Content-Type"))
		}
		if c.want >= 400 {
			var p struct{ Type, Title, Detail, Code string }
			if err := json.NewDecoder(resp.Body).Decode(&p); err != nil || p.Type == "" || p.Title == "" || p.Detail == "" || p.Code == "" {
				t.Errorf("%s %.60s: the problem says %+v, %v", c.method, c.path, p, err)
			}
		}
		resp.Body.Close()
	}
}

// TestABodyThatStops: who stops in the middle of a body is answered, and cut off.
func TestABodyThatStops(t *testing.T) {
	w := newWorld(t, func(c *Config) { c.BodyWait = 20 * time.Millisecond })
	r := &reader{w: w, who: 1, query: "client=x&have="}
	r.open()
	for _, c := range []struct {
		path, token string
		want        int
	}{{r.ack, "r1", 400}, {r.ack, "nobody's", 401}, {"/v1/stream/ack?connection=x", "r1", 400}, {"/v1/stream", "r1", 405}, {"/v1/connect", "r1", 405}} {
		conn, err := net.Dial("tcp", strings.TrimPrefix(w.url, "http://"))
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		if err := conn.SetDeadline(time.Now().Add(20 * time.Second)); err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(conn, "POST %s HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer %s\r\nContent-Length: 100\r\n\r\n{", c.path, c.token)
		in := bufio.NewReader(conn)
		resp, err := http.ReadResponse(in, nil)
		if err != nil {
			t.Errorf("%s: %v", c.path, err)
			continue
		}
		if _, err := io.Copy(io.Discard, resp.Body); err != nil || resp.StatusCode != c.want {
			t.Errorf("%s: %d, %v; want %d", c.path, resp.StatusCode, err, c.want)
		}
		if _, err := in.ReadByte(); err != io.EOF {
			t.Errorf("%s: the connection goes on: %v", c.path, err)
		}
	}
}

// A URL that nobody gave is not where a client behind a proxy reaches the gateway: it
// acknowledges where it connected.
func TestAcknowledgingWhereAStreamConnected(t *testing.T) {
	w := newWorld(t, func(c *Config) { c.Core.URL = "ws://127.0.0.1:7420/v1/connect" })
	r := &reader{w: w, who: 1, query: "client=x&have="}
	r.open()
	if !strings.HasPrefix(r.ack, "/v1/stream/ack?connection=") {
		t.Errorf("acknowledge at %q", r.ack)
	}
}

func TestHowStreamsEnd(t *testing.T) {
	w := newWorld(t, func(c *Config) {
		c.Core.URL, c.Given, c.LeaveWait, c.PingEvery = "ws://gw1.example/v1/connect", true, time.Millisecond, 20*time.Millisecond
	})
	r := &reader{w: w, who: 1, query: "client=x&have="}
	r.open()
	if want := "http://gw1.example/v1/stream/ack?connection="; !strings.HasPrefix(r.ack, want) {
		t.Errorf("acknowledge at %q, want %q…", r.ack, want)
	}
	// A newer connection of the same client.
	again := &reader{w: w, who: 1, query: "client=x&have="}
	again.open()
	if c := r.expect("close"); c["code"] != 4002.0 || r.lastID != "-" {
		t.Errorf("replaced: %v", c)
	}
	if _, _, err := r.next(); err != io.EOF || r.retry != fmt.Sprint(retryLate) {
		t.Errorf("after the last event: %v, retry %s", err, r.retry)
	}
	// The client goes; nothing of it stays.
	again.end()
	w.eventually("1 has left", func() bool { return !w.joined[1] && w.g.Stats().Sockets == 0 })
	// The gateway stops.
	last := &reader{w: w, who: 2, query: "client=y&have="}
	last.open()
	w.stop()
	if c := last.expect("close"); c["code"] != 1001.0 {
		t.Errorf("stopped: %v", c)
	}
}

func TestStreamURL(t *testing.T) {
	for connect, want := range map[string]string{"ws://a:1/v1/connect": "http://a:1/v1/stream", "wss://a/b/v1/connect": "https://a/b/v1/stream", "ws://[::1]:7/v1/connect": "http://[::1]:7/v1/stream"} {
		if got := streamURL(connect); got != want {
			t.Errorf("%s becomes %s, want %s", connect, got, want)
		}
	}
}

// TestStreamsEndToEnd sends jobs to browsers, some of which lose their connection
// meanwhile and come again with the id of their last event, and some acknowledge late or
// never. Everybody is shown everything once.
func TestStreamsEndToEnd(t *testing.T) {
	const people, jobs = 30, 6
	w := newWorld(t, nil)
	type browser struct {
		*reader
		shown map[string]int
	}
	all, targets := make([]*browser, people), make([]uint32, people)
	for i := range all {
		all[i] = &browser{&reader{w: w, who: uint32(i), query: fmt.Sprintf("client=c%d&have=", i)}, map[string]int{}}
		all[i].open()
		targets[i] = uint32(i)
	}
	w.eventually("all are here", func() bool { return len(w.joined) == people })
	for j := 1; j <= jobs; j++ {
		_, ref := w.handOff(jobID(j), fmt.Sprint("job ", j), targets...)
		for i, b := range all {
			for b.shown[jobID(j).String()] == 0 {
				kind, m, err := b.next()
				if err != nil {
					t.Fatalf("%d: %v", i, err)
				}
				if kind == "message" {
					b.shown[fmt.Sprint(m["id"])]++
				}
			}
			if (i+j)%3 == 0 { // it loses the connection instead of acknowledging
				b.end()
				b.open()
			} else {
				b.acknowledge(jobID(j).String())
			}
		}
		acked, _ := w.ends(ref, targets...)
		w.eventually("the home knows the others", func() bool {
			got := map[uint32]bool{}
			for id := range acked.All() {
				got[id] = true
			}
			for _, h := range w.hellos {
				if h.Speaks && slices.Contains(h.Have, jobID(j)) {
					got[uint32(h.Recipient)] = true
				}
			}
			return len(got) == people
		})
	}
	for i, b := range all {
		b.end()
		if len(b.shown) != jobs || slices.Max(slices.Collect(maps.Values(b.shown))) != 1 {
			t.Errorf("%d was shown %v", i, b.shown)
		}
	}
}
