package ws

import (
	"bytes"
	"fmt"
	"net"
	"runtime"
	"strings"
	"testing"
	"time"
)

// TestMemoryOfAConnection holds 2,000 connections to what is written about their
// memory. The other side is bare sockets, whose memory counts too but is small.
func TestMemoryOfAConnection(t *testing.T) {
	const connections, limit = 2000, slack * 14 << 10
	w := newWorld(t, func(c *Config) { c.PingEvery = time.Hour })
	before := memory()
	sockets := make([]net.Conn, connections)
	for i := range sockets {
		sockets[i] = bare(t, w, i)
	}
	w.eventually("all are connected", func() bool { return len(w.joined) == connections })
	w.eventually("the writers have ended", func() bool { return w.g.Stats().FramesOut == connections })
	each := (memory() - before) / connections
	t.Logf("%d bytes of heap and stacks for each idle connection, both sides", each)
	if each > limit {
		t.Errorf("a connection takes %d bytes, want at most %d", each, limit)
	}

	// One message to each, unacknowledged.
	ids := make([]uint32, connections)
	for i := range ids {
		ids[i] = uint32(i)
	}
	a, _ := w.handOff(jobID(1), strings.Repeat("x", 1000), ids...)
	if n := a.Reports[0].NotHere.Card(); n != 0 {
		t.Fatalf("%d are not here", n)
	}
	w.eventually("all are written", func() bool { return w.g.Stats().FramesOut == 2*connections })
	each = (memory() - before) / connections
	t.Logf("%d with an unacknowledged message", each)
	if each > limit {
		t.Errorf("a connection with a message takes %d bytes, want at most %d", each, limit)
	}
	for _, s := range sockets {
		s.Close()
	}
}

func memory() int {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int(m.HeapInuse + m.StackInuse)
}

// bare connects and says hello with as little as possible.
func bare(t testing.TB, w *world, r int) net.Conn {
	t.Helper()
	c, err := net.Dial("tcp", strings.TrimPrefix(w.url, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	// The hello comes in one piece with the request, before the answer.
	hello := `{"type":"hello","client":"c","have":[]}`
	if _, err := fmt.Fprintf(c, "GET /v1/connect?token=r%d HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"+
		"\x81%s\x00\x00\x00\x00%s", r, []byte{0x80 | byte(len(hello))}, hello); err != nil { // masked with zeroes
		t.Fatal(err)
	}
	var answer [512]byte
	n := 0
	for !bytes.Contains(answer[:n], []byte("\r\n\r\n")) {
		k, err := c.Read(answer[n:])
		if err != nil {
			t.Fatal(err)
		}
		n += k
	}
	if !bytes.HasPrefix(answer[:], []byte("HTTP/1.1 101 ")) {
		t.Fatalf("answer %q", answer[:n])
	}
	return c
}
