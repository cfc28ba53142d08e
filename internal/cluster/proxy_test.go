package cluster

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"
	"time"
)

// stage is the proxy between "a", who dials, and "b", who echoes lines.
type stage struct {
	t     testing.TB
	proxy *proxy
	addr  string
}

func newStage(t *testing.T) *stage { return newStageOf(t, func(net.Conn) string { return "a" }) }

// newStageOf has its own way to know who dials.
func newStageOf(t testing.TB, dialer func(net.Conn) string) *stage {
	listen := func() net.Listener {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { l.Close() })
		return l
	}
	front, back := listen(), listen()
	go func() {
		for {
			conn, err := back.Accept()
			if err != nil {
				return
			}
			go func() {
				defer conn.Close()
				_, _ = io.Copy(conn, conn) // it ends with the connection
			}()
		}
	}()
	s := &stage{t: t, proxy: newProxy(dialer), addr: front.Addr().String()}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- s.proxy.serve(ctx, front, "b", back.Addr().String()) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	return s
}

func (s *stage) dial() *bufio.ReadWriter {
	s.t.Helper()
	conn, err := net.Dial("tcp", s.addr)
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() { conn.Close() })
	if err := conn.SetDeadline(time.Now().Add(20 * time.Second)); err != nil {
		s.t.Fatal(err)
	}
	return bufio.NewReadWriter(bufio.NewReader(conn), bufio.NewWriter(conn))
}

func (s *stage) send(c *bufio.ReadWriter, text string) {
	s.t.Helper()
	if _, err := c.WriteString(text + "\n"); err != nil {
		s.t.Fatal(err)
	}
	if err := c.Flush(); err != nil {
		s.t.Fatal(err)
	}
}

func (s *stage) want(c *bufio.ReadWriter, text string) {
	s.t.Helper()
	if line, err := c.ReadString('\n'); err != nil || line != text+"\n" {
		s.t.Fatalf("it read %q, %v, want %q", line, err, text)
	}
}

// bite waits until a cut had an effect.
func (s *stage) bite() Cut {
	s.t.Helper()
	var bit Cut
	err := poll(s.t.Context(), 10*time.Second, func() error {
		for _, c := range s.proxy.list().Cuts {
			if c.Bit() {
				bit = c
				return nil
			}
		}
		return fmt.Errorf("no cut of %v has an effect", s.proxy.list().Cuts)
	})
	if err != nil {
		s.t.Fatal(err)
	}
	return bit
}

// Held bytes are not there, in one direction, and arrive after the cut, in order.
func TestHoldIsOneWayAndLosesNothing(t *testing.T) {
	during := "during" + strings.Repeat(".", idleMost)
	for _, way := range []Cut{{From: "a", To: "b", Mode: Hold}, {From: "b", To: "a", Mode: Hold}} {
		s := newStage(t)
		c := s.dial()
		s.send(c, "before")
		s.want(c, "before")
		s.proxy.set([]Cut{way})
		s.send(c, during)
		if bit := s.bite(); bit.From != way.From || bit.Held != uint64(len(during)+1) {
			t.Errorf("the cut %+v did %+v", way, bit)
		}
		arrived := make(chan string, 1)
		go func() {
			line, _ := c.ReadString('\n') // the test compares
			arrived <- line
		}()
		select {
		case line := <-arrived:
			t.Fatalf("%q came through the cut", line)
		case <-time.After(50 * time.Millisecond):
		}
		s.proxy.set(nil)
		if line := <-arrived; line != during+"\n" {
			t.Fatalf("after healing it read %q", line)
		}
		s.send(c, "after")
		s.want(c, "after")
	}
}

// A cut that holds nothing but pings shows nothing; whatever waits behind the first of them
// counts, also when those who waited give the connection up.
func TestPingsAreNoEffect(t *testing.T) {
	s := newStage(t)
	c := s.dial()
	s.send(c, "before")
	s.want(c, "before")
	s.proxy.set([]Cut{{From: "a", To: "b", Mode: Hold}})
	sent := uint64(0)
	held := func() Cut {
		t.Helper()
		err := poll(t.Context(), 10*time.Second, func() error {
			if got := s.proxy.list().Cuts[0].Held; got != sent {
				return fmt.Errorf("%d bytes are held, %d were sent", got, sent)
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		return s.proxy.list().Cuts[0]
	}
	for range 3 {
		s.send(c, "PING\r")
		sent += 6
		if bit := held(); bit.Bit() {
			t.Errorf("pings are an effect: %+v", bit)
		}
	}
	s.send(c, strings.Repeat("x", 200))
	sent += 201
	if bit := held(); !bit.Bit() {
		t.Errorf("more than pings is none: %+v", bit)
	}
	s.proxy.mu.Lock()
	var all []*link
	for k := range s.proxy.mu.links {
		all = append(all, k)
	}
	s.proxy.mu.Unlock()
	for _, k := range all {
		k.end()
	}
	if bit := held(); !bit.Bit() || len(all) != 1 {
		t.Errorf("after the end of %d connections: %+v", len(all), bit)
	}
}

// A connection is not made while one direction is cut, and is when it heals.
func TestHoldKeepsConnectionsFromBeingMade(t *testing.T) {
	s := newStage(t)
	s.proxy.set([]Cut{{From: "b", To: "a", Mode: Hold}})
	c := s.dial()
	s.send(c, "hello")
	if bit := s.bite(); bit.Dials != 1 || bit.Held != 0 {
		t.Errorf("the cut did %+v", bit)
	}
	s.proxy.set(nil)
	s.want(c, "hello")
}

func TestRefuse(t *testing.T) {
	s := newStage(t)
	c := s.dial()
	s.send(c, "before")
	s.want(c, "before")
	s.proxy.set([]Cut{{From: "b", To: "a", Mode: Refuse}})
	if _, err := c.ReadString('\n'); err == nil || errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("a refused connection: %v", err)
	}
	if conn, err := net.Dial("tcp", s.addr); err == nil { // or it is reset at once
		defer conn.Close()
		if err := conn.SetDeadline(time.Now().Add(20 * time.Second)); err != nil {
			t.Fatal(err)
		}
		if _, err := conn.Read(make([]byte, 1)); err == nil || os.IsTimeout(err) {
			t.Errorf("a new connection: %v", err)
		}
	}
	if bit := s.bite(); bit.Refused != 2 {
		t.Errorf("the cut did %+v", bit)
	}
	s.proxy.set([]Cut{{From: "a", To: "c", Mode: Refuse}})
	again := s.dial()
	s.send(again, "others")
	s.want(again, "others")
}

func TestWhoDials(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	conn, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	ours, err := socketOf(conn.LocalAddr(), conn.RemoteAddr())
	if err != nil || ours == 0 {
		t.Fatalf("our socket is %d, %v", ours, err)
	}
	taken, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	if theirs, err := socketOf(taken.RemoteAddr(), taken.LocalAddr()); err != nil || theirs != ours {
		t.Errorf("the taken end says %d, %v, want %d", theirs, err, ours)
	}
	if who := (&finder{cluster: &Cluster{dir: t.TempDir()}}).name(taken); who != "" {
		t.Errorf("this process is %q of a cluster", who)
	}
}

// What goes through is counted by who sent it to whom.
func TestFlowsAreByDirection(t *testing.T) {
	s := newStage(t)
	c := s.dial()
	for range 3 {
		s.send(c, "four")
		s.want(c, "four")
	}
	s.flows(map[pair]uint64{{"a", "b"}: 15, {"b", "a"}: 15})
}

// Nobody who dials a server that is gone can make the proxy work: each try is kept waiting
// before it is ended, and nobody is asked who it was.
func TestADeadServerIsNoStorm(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	gone, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	gone.Close()
	p := newProxy(func(net.Conn) string { t.Error("it is asked who dials"); return "" })
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- p.serve(ctx, l, "b", gone.Addr().String()) }()
	began := time.Now()
	for range 3 {
		conn, err := net.Dial("tcp", l.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		if n, err := conn.Read(make([]byte, 1)); err == nil {
			t.Errorf("it read %d bytes of nobody", n)
		}
		conn.Close()
	}
	if took := time.Since(began); took < 3*refuseAfter {
		t.Errorf("three tries took %s", took)
	}
	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

// Bytes pass before it is known who dials, and are counted by name when it is.
func TestNobodyWaitsForANameWithoutCuts(t *testing.T) {
	known := make(chan struct{})
	s := newStageOf(t, func(net.Conn) string { <-known; return "a" })
	c := s.dial()
	s.send(c, "before")
	s.want(c, "before")
	if f := s.proxy.list().Flows; len(f) != 0 {
		t.Errorf("nobody is known, and the flows are %v", f)
	}
	close(known)
	s.send(c, "after")
	s.want(c, "after")
	s.flows(map[pair]uint64{{"a", "b"}: 13, {"b", "a"}: 13})
}

// flows waits until these, and no others, are the flows.
func (s *stage) flows(want map[pair]uint64) {
	s.t.Helper()
	err := poll(s.t.Context(), 10*time.Second, func() error { // the last bytes are counted behind their writing
		got := map[pair]uint64{}
		for _, f := range s.proxy.list().Flows {
			got[pair{f.From, f.To}] = f.Bytes
		}
		if !maps.Equal(got, want) {
			return fmt.Errorf("the flows are %v, want %v", got, want)
		}
		return nil
	})
	if err != nil {
		s.t.Fatal(err)
	}
}

// While anything is cut, nothing passes of whom it is not known whether he is.
func TestWithCutsALinkWaitsForItsName(t *testing.T) {
	for _, cut := range []Cut{{From: "c", To: "b", Mode: Hold}, {From: "a", To: "b", Mode: Hold}, {From: "a", To: "b", Mode: Refuse}} {
		known := make(chan struct{})
		s := newStageOf(t, func(net.Conn) string { <-known; return "a" })
		early := s.dial()
		s.send(early, "before")
		s.want(early, "before")
		s.proxy.set([]Cut{cut})
		late := s.dial()
		arrived := make(chan string, 2)
		for _, c := range []*bufio.ReadWriter{early, late} {
			s.send(c, "during")
			go func() {
				line, _ := c.ReadString('\n') // the test compares
				arrived <- line
			}()
		}
		select {
		case line := <-arrived:
			t.Fatalf("%q came of somebody unknown through %+v", line, cut)
		case <-time.After(50 * time.Millisecond):
		}
		close(known)
		want := "during\n"
		if cut.From == "a" {
			s.bite()
		}
		switch {
		case cut.Mode == Refuse:
			want = ""
		case cut.From == "a":
			s.proxy.set(nil)
		}
		for range 2 {
			if line := <-arrived; line != want {
				t.Errorf("with %+v it read %q, want %q", cut, line, want)
			}
		}
	}
}

// crowd is a process that is worker-1 of a cluster by its command line, and has opened a
// number of connections.
func crowd(t testing.TB, c *Cluster, addr string, n int, say string) {
	t.Helper()
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), "bash", "-c", `for ((i = 0; i < $3; i++)); do exec {fd}<>/dev/tcp/$1/$2; printf "$4" >&$fd; done; echo; read`,
		c.config("worker-1"), host, port, strconv.Itoa(n), say)
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		in.Close()
		_ = cmd.Wait() // the read has met the end
	})
	if _, err := out.Read(make([]byte, 1)); err != nil {
		t.Fatalf("the process with %d connections: %v", n, err)
	}
}

// The kernel says which process dials, of several connections and of one that comes later.
func TestTheFinderNamesAProcess(t *testing.T) {
	c := &Cluster{dir: t.TempDir()}
	s := newStageOf(t, (&finder{cluster: c}).name)
	crowd(t, c, s.addr, 20, "hello")
	s.flows(map[pair]uint64{{"worker-1", "b"}: 100, {"b", "worker-1"}: 100})
	crowd(t, c, s.addr, 1, "hello")
	s.flows(map[pair]uint64{{"worker-1", "b"}: 105, {"b", "worker-1"}: 105})
}

// BenchmarkFirstByte is how long a new connection takes until its first answer, while the
// machine has several thousand connections, half of them of a process of the cluster.
func BenchmarkFirstByte(b *testing.B) {
	c := &Cluster{dir: b.TempDir()}
	s := newStageOf(b, (&finder{cluster: c}).name)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	defer l.Close()
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			b.Cleanup(func() { conn.Close() })
		}
	}()
	crowd(b, c, l.Addr().String(), 4000, "")
	for b.Loop() {
		conn, err := net.Dial("tcp", s.addr)
		if err != nil {
			b.Fatal(err)
		}
		if _, err := conn.Write([]byte("x")); err != nil {
			b.Fatal(err)
		}
		if _, err := conn.Read(make([]byte, 1)); err != nil {
			b.Fatal(err)
		}
		conn.Close()
	}
}
