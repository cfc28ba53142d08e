package lastmile

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/gobwas/ws"

	"crier/job"
)

// peer is the other end of a process that speaks JSON lines.
type peer struct {
	t   *testing.T
	in  *io.PipeWriter
	enc *json.Encoder
	dec *json.Decoder
}

func serve(t *testing.T, run func(io.Reader, io.Writer) error) *peer {
	t.Helper()
	inR, inW := io.Pipe()
	outR, outW := io.Pipe()
	ended := make(chan error, 1)
	go func() { ended <- run(inR, outW) }()
	t.Cleanup(func() {
		inW.Close()
		if err := <-ended; err != nil {
			t.Errorf("it ended with %v", err)
		}
	})
	return &peer{t, inW, json.NewEncoder(inW), json.NewDecoder(outR)}
}

func (p *peer) ask(request, answer any) {
	p.t.Helper()
	if err := p.enc.Encode(request); err != nil {
		p.t.Fatal(err)
	}
	if err := p.dec.Decode(answer); err != nil {
		p.t.Fatal(err)
	}
}

func startReaders(t *testing.T) *peer {
	return serve(t, func(in io.Reader, out io.Writer) error { return ServeReaders(t.Context(), in, out) })
}

func id(n int) string { return job.KeyID("test", fmt.Sprint(n)).String() }

func messageText(n int) string { return fmt.Sprintf(`{"type":"message","id":%q,"body":"x"}`, id(n)) }

// The readers get what the bare loop writes, and it gets a reply of the size that they say.
func TestReadersAndBareLoop(t *testing.T) {
	const connections = 50
	bare := serve(t, func(in io.Reader, out io.Writer) error { return ServeBare(t.Context(), in, out) })
	readers := startReaders(t)
	var s Standing
	bare.ask(Order{Accept: connections}, &s)
	if s.Error != "" {
		t.Fatal(s.Error)
	}
	var p Report
	readers.ask(Request{Connect: &Connect{URL: "tcp://" + s.Address, Members: make([]Member, connections)}}, &p)
	if p.Connected != connections || p.Error != "" {
		t.Fatalf("connected: %+v", p)
	}
	ids := []string{id(1), id(2), id(3)}
	ack := len(`{"type":"ack","ids":[""]}`) + len(id(1)) + 6 // header and mask
	for round, list := range [][]string{ids[:2], ids[2:]} {
		bare.ask(Order{Round: &Round{Message: messageText(9), ID: id(9), IDs: list, AckBytes: ack}}, &s)
		if s.Error != "" || s.Messages != connections*len(list) {
			t.Fatalf("round %d: %+v", round, s)
		}
	}
	group := 0
	p = Report{}
	readers.ask(Request{Report: &group}, &p)
	if len(p.Jobs) != 3 || p.Jobs[ids[0]] != connections || p.Jobs[ids[2]] != connections || p.Twice+p.Ended+p.Strange != 0 || p.Error != "" || p.AckBytes != ack {
		t.Fatalf("they saw %+v", p)
	}
	if p.Message != messageText(1) {
		t.Errorf("a frame is %s", p.Message)
	}
	s = Standing{}
	bare.ask(Order{Round: &Round{Message: messageText(9), ID: id(8), IDs: ids, AckBytes: ack}}, &s)
	if s.Error == "" || s.Messages != 0 {
		t.Errorf("a round whose id is not in the message: %+v", s)
	}
}

// What a server does wrong shows.
func TestReadersNotice(t *testing.T) {
	settled := func(n int) string { return fmt.Sprintf(`{"type":"settled","ids":[%q]}`, id(n)) }
	for _, c := range []struct {
		name   string
		frames []string
		want   func(Report) bool
	}{
		{"twice", []string{messageText(1), messageText(2), messageText(1)}, func(p Report) bool { return p.Twice == 1 && len(p.Jobs) == 2 }},
		{"forgotten once", []string{messageText(1), settled(1)}, func(p Report) bool { return p.Twice+p.Strange == 0 && p.Settled == 1 }},
		{"forgotten twice", []string{messageText(1), settled(1), settled(1)}, func(p Report) bool { return p.Strange == 1 }},
		{"never got", []string{messageText(1), settled(2)}, func(p Report) bool { return p.Strange == 1 }},
		{"no id", []string{`{"type":"message","id":"x"}`}, func(p Report) bool { return p.Ended == 1 && p.Error != "" }},
		{"no JSON", []string{`{"type":"message"`}, func(p Report) bool { return p.Ended == 1 }},
		{"unknown", []string{`{"type":"hello"}`}, func(p Report) bool { return p.Ended == 1 }},
	} {
		t.Run(c.name, func(t *testing.T) {
			l, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			defer l.Close()
			readers := startReaders(t)
			var p Report
			readers.ask(Request{Connect: &Connect{URL: "tcp://" + l.Addr().String(), Members: make([]Member, 1)}}, &p)
			conn, err := l.Accept()
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			for _, f := range c.frames {
				if err := ws.WriteFrame(conn, ws.NewTextFrame([]byte(f))); err != nil {
					break // the reader has seen enough
				}
			}
			// A ping is answered behind all before it; a reader that gave up closes.
			_ = ws.WriteFrame(conn, ws.NewPingFrame(nil))
			_ = conn.SetReadDeadline(time.Now().Add(20 * time.Second))
			for {
				h, err := ws.ReadHeader(conn)
				if err != nil || h.OpCode == ws.OpPong {
					break
				}
				if _, err := io.CopyN(io.Discard, conn, h.Length); err != nil {
					break
				}
			}
			group := 0
			for limit := time.Now().Add(20 * time.Second); ; { // the end of a connection is noted after the socket is closed
				p = Report{}
				readers.ask(Request{Report: &group}, &p)
				if c.want(p) || time.Now().After(limit) {
					break
				}
			}
			if !c.want(p) {
				t.Errorf("they saw %+v", p)
			}
		})
	}
}

func TestJudgement(t *testing.T) {
	sent := []string{"a", "b"}
	for _, c := range []struct {
		name string
		got  Report
		want string // "" if nothing is wrong
	}{
		{"good", Report{Jobs: map[string]int{"a": 2, "b": 2}}, ""},
		{"missing", Report{Jobs: map[string]int{"a": 2, "b": 1}}, "1 of 2 readers got message b"},
		{"never", Report{Jobs: map[string]int{"a": 2}}, "0 of 2"},
		{"strange", Report{Jobs: map[string]int{"a": 2, "b": 2, "c": 1}}, "did not send"},
		{"twice", Report{Jobs: map[string]int{"a": 2, "b": 2}, Twice: 1}, "twice"},
		{"forgotten", Report{Jobs: map[string]int{"a": 2, "b": 2}, Strange: 1}, "remember"},
		{"lost", Report{Jobs: map[string]int{"a": 2, "b": 2}, Ended: 1}, "lost"},
	} {
		var r Result
		r.seen("it", c.got, sent, 2)
		if all := strings.Join(r.Violations, "\n"); (c.want == "") != (all == "") || !strings.Contains(all, c.want) {
			t.Errorf("%s: %q", c.name, r.Violations)
		}
	}
}

func TestConclusion(t *testing.T) {
	r := Result{RSSPerConnection: WantPerConnection + 1}
	for _, seconds := range []time.Duration{4, 1, 2} { // against one second of the bare loop
		r.add(1000, Spent{seconds * time.Second, 40 * time.Millisecond}, Spent{time.Second, 10 * time.Millisecond})
	}
	r.conclude(Run{Connections: 7})
	if r.Messages != 3000 || r.MessagesPerS != 500 || r.BarePerS != 1000 || r.Ratio != 0.5 || r.CPURatio != 0.25 || len(r.Missed) != 2 {
		t.Errorf("%+v", r)
	}
	r = Result{RSSPerConnection: WantPerConnection}
	r.add(600, Spent{Time: time.Second}, Spent{Time: 600 * time.Millisecond})
	if r.conclude(Run{}); len(r.Missed) != 0 {
		t.Errorf("just good enough: %q", r.Missed)
	}
}

func TestMemoryInUse(t *testing.T) {
	good := "# TYPE go_memstats_heap_inuse_bytes gauge\ngo_memstats_heap_inuse_bytes 1.5e+06\ngo_memstats_stack_inuse_bytes 300000\n"
	if n, err := inUse(good); n != 1_800_000 || err != nil {
		t.Errorf("%d, %v", n, err)
	}
	for _, bad := range []string{"", strings.ReplaceAll(good, "stack", "stick"), strings.ReplaceAll(good, "300000", "many")} {
		if n, err := inUse(bad); err == nil {
			t.Errorf("%q gave %d", bad, n)
		}
	}
	if per(300, 100, 10) != 20 || per(100, 300, 10) != 0 {
		t.Error("growth is worked out badly")
	}
}

func TestValidate(t *testing.T) {
	good := Run{Connections: 10_000, Jobs: 1, UnderWay: 1, Rounds: 1, Readers: 2, BodyBytes: 1}
	if err := good.Validate(); err != nil {
		t.Error(err)
	}
	for field, change := range map[string]func(*Run){"connections": func(r *Run) { r.Connections = 19_001 }, "jobs": func(r *Run) { r.Jobs = 0 },
		"under-way": func(r *Run) { r.UnderWay = -1 }, "rounds": func(r *Run) { r.Rounds = 0 }, "readers": func(r *Run) { r.Readers = 1 },
		"body": func(r *Run) { r.BodyBytes = job.MaxBody + 1 }} {
		r := good
		change(&r)
		var bad *job.Error
		if err := r.Validate(); !errors.As(err, &bad) || bad.Field != field {
			t.Errorf("%s: %v", field, err)
		}
	}
}
