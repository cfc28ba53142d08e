package ws

import (
	"bytes"
	"errors"
	"net"
	"strings"
	"testing"
)

// pipe keeps each piece that is written to it.
type pipe struct {
	net.Conn
	pieces []string
	err    error
}

func (p *pipe) Write(b []byte) (int, error) {
	if p.err != nil {
		return 0, p.err
	}
	p.pieces = append(p.pieces, string(b))
	return len(b), nil
}

func TestCork(t *testing.T) {
	p := &pipe{}
	c := &cork{Conn: p}
	write := func(s string) {
		t.Helper()
		if n, err := c.Write([]byte(s)); n != len(s) || err != nil {
			t.Fatalf("%d, %v", n, err)
		}
	}
	write("a")
	for range 2 { // the second time with what the first has given back
		c.hold()
		write("b")
		write("c")
		if len(p.pieces)%2 != 1 {
			t.Fatalf("while it is held %q leave", p.pieces)
		}
		if err := c.release(); err != nil {
			t.Fatal(err)
		}
		write("d")
	}
	if got := strings.Join(p.pieces, " "); got != "a bc d bc d" {
		t.Errorf("the pieces are %q", got)
	}
	c.hold()
	write("e")
	p.err = errors.New("gone")
	if err := c.release(); !errors.Is(err, p.err) {
		t.Errorf("a socket that is gone: %v", err)
	}
	p.err = nil
	c.hold()
	write("f")
	if err := c.release(); err != nil || p.pieces[len(p.pieces)-1] != "f" {
		t.Errorf("after an error: %v, %q", err, p.pieces)
	}
}

// Frames leave in the order of the queue, as many at a time as fit into a piece; a large
// one leaves alone.
func TestBatches(t *testing.T) {
	c := &conn{g: &Gateway{}}
	sizes := []int{10, 20, batchBytes, 30, batchBytes - 30 - 2*maxHeader, 1}
	for i, n := range sizes {
		if !c.enqueue(queued{bytes: bytes.Repeat([]byte{byte(i)}, n)}) {
			t.Fatal("it is not queued")
		}
	}
	c.mu.writing = true
	var got []int
	for {
		batch := c.next(make([]queued, 0, 16))
		if len(batch) == 0 {
			break
		}
		got = append(got, len(batch))
		for _, q := range batch {
			if len(q.bytes) != sizes[0] {
				t.Fatalf("a frame of %d bytes, want %d", len(q.bytes), sizes[0])
			}
			sizes = sizes[1:]
		}
	}
	if len(sizes) != 0 || len(got) != 4 || got[0] != 2 || got[1] != 1 || got[2] != 2 || got[3] != 1 {
		t.Errorf("batches of %v, %d frames are left", got, len(sizes))
	}
	if c.mu.writing || c.mu.queue != nil {
		t.Error("the writer has not ended")
	}
}

// What may be forgotten comes before the next message, and both can be read.
func TestSettledBeforeTheNextMessage(t *testing.T) {
	w := newWorld(t, nil)
	c := w.connect(7)
	_, ref := w.handOff(jobID(1), "one", 7)
	c.expect("message")
	c.ack(jobID(1).String())
	w.ends(ref, 7)
	w.eventually("that is recorded", func() bool { s := w.g.Stats().Core; return s.Delivered == 1 && s.Reserves == 0 })
	w.handOff(jobID(2), "two", 7)
	first := c.expect("settled")
	if ids, ok := first["ids"].([]any); !ok || len(ids) != 1 || ids[0] != jobID(1).String() {
		t.Errorf("settled: %v", first)
	}
	if m := c.expect("message"); m["body"] != "two" {
		t.Errorf("the message: %v", m)
	}
}

// BenchmarkMessage sends messages to connections and reads acknowledgements, over real
// sockets; the other side does as little as it can.
func BenchmarkMessage(b *testing.B) {
	const connections = 500
	w := newWorld(b, nil)
	ids := make([]uint32, connections)
	for i := range ids {
		ids[i] = uint32(i)
		go answer(bare(b, w, i))
	}
	w.eventually("all are connected", func() bool { return len(w.joined) == connections })
	b.ReportAllocs()
	n, done := 0, uint64(0)
	for b.Loop() {
		if n++; n%connections != 1 { // one operation is one message; they leave by the block
			continue
		}
		_, ref := w.handOff(jobID(n/connections+1), strings.Repeat("x", 100), ids...)
		w.ends(ref, ids...)
		done += connections
	}
	b.StopTimer()
	if got := w.g.Stats().Core.Delivered; got != done {
		b.Fatalf("%d were delivered, want %d", got, done)
	}
}

// answer acknowledges each message, by its id, until the socket ends.
func answer(c net.Conn) {
	buf := make([]byte, 64<<10)
	kept := 0
	for {
		n, err := c.Read(buf[kept:])
		if err != nil {
			return
		}
		data := buf[:kept+n]
		for {
			_, rest, ok := bytes.Cut(data, []byte(`"message","id":"`))
			if !ok || len(rest) < 30 {
				break
			}
			text := append([]byte(`{"type":"ack","ids":["`), rest[:30]...)
			text = append(text, `"]}`...)
			frame := append([]byte{0x81, 0x80 | byte(len(text)), 0, 0, 0, 0}, text...) // masked with zeroes
			if _, err := c.Write(frame); err != nil {
				return
			}
			data = rest[30:]
		}
		kept = copy(buf, data[max(0, len(data)-64):])
	}
}
