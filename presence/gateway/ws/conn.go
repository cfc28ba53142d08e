package ws

import (
	"bytes"
	"context"
	"errors"
	"net"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cespare/xxhash/v2"
	"github.com/coder/websocket"
	"github.com/go-json-experiment/json"

	"crier/job"
	"crier/presence/gateway"
)

// maxQueue bounds what waits for one connection, in frames: a window of messages,
// and what is said about them. Whoever does not read even that is closed.
const maxQueue = 256

// Codes of closing; PROTOCOL.md says what a client does on each.
const (
	codeGoingAway      = websocket.StatusGoingAway
	codeBinary         = websocket.StatusUnsupportedData
	codeMalformed      = websocket.StatusInvalidFramePayloadData
	codeTooSlow        = websocket.StatusPolicyViolation
	codeUnacknowledged = websocket.StatusCode(4001)
	codeReplaced       = websocket.StatusCode(4002)
	codeWithdrawn      = websocket.StatusCode(4003)
	codeMoved          = websocket.StatusCode(4004)
)

// wire carries the frames of one connection.
type wire interface {
	// write sends frames in one piece; one call is under way at a time.
	write(batch []queued) error
	// close says goodbye. The other side has some seconds to take note.
	close(code websocket.StatusCode, reason string) error
	// ping gives an error if the other side is not there, as far as can be told.
	ping(ctx context.Context) error
	// elsewhere is where its client connects to the gateway with a URL for WebSockets.
	elsewhere(url string) string
}

// webSocket is the wire of a client that speaks WebSocket.
type webSocket struct {
	*websocket.Conn
	below *cork
}

func (s webSocket) write(batch []queued) error {
	if len(batch) == 1 {
		return s.Write(context.Background(), websocket.MessageText, batch[0].bytes)
	}
	s.below.hold()
	var err error
	for _, q := range batch {
		err = errors.Join(err, s.Write(context.Background(), websocket.MessageText, q.bytes))
	}
	return errors.Join(err, s.below.release())
}

func (s webSocket) close(code websocket.StatusCode, reason string) error {
	return s.Close(code, reason)
}
func (s webSocket) ping(ctx context.Context) error { return s.Ping(ctx) }
func (s webSocket) elsewhere(url string) string    { return url }

// conn is one connection of a client.
type conn struct {
	g       *Gateway
	id      gateway.Conn
	who     job.Recipient
	since   time.Time // when it was admitted
	wire    wire
	ack     string      // where a client acknowledges that cannot do so on the wire
	socket  net.Conn    // below it
	greeted atomic.Bool // the core knows it, or is about to
	heard   atomic.Bool // something came since the last look
	closing atomic.Bool // close was called
	wrong   int         // malformed frames; of the reading goroutine
	gone    bool        // of the goroutine that owns the state
	mu      struct {
		sync.Mutex
		queue   []queued
		writing bool // a goroutine writes the queue
		ended   bool // nothing is written any more
	}
}

// queued is a frame that waits.
type queued struct {
	kind    string
	bytes   []byte
	job     job.ID   // of a message, or of a withdrawal
	settled []job.ID // of what it says is settled
}

// read is the life of a connection by WebSocket.
func (c *conn) read(ws *websocket.Conn) {
	greet := time.AfterFunc(c.g.cfg.HelloWait, c.greetSilent)
	defer greet.Stop()
	defer c.end()
	defer ws.CloseNow() // whatever it says, the connection is closed
	for {
		kind, f, err := readFrame(ws)
		if kind == 0 {
			return
		}
		c.heard.Store(true)
		if kind != websocket.MessageText {
			if c.malformed(codeBinary, "a binary message") {
				return
			}
			continue
		}
		if err != nil {
			if c.malformed(codeMalformed, err.Error()) {
				return
			}
			continue
		}
		c.take(f)
	}
}

// frames are buffers for frames of clients, which are there only while one is read.
var frames = sync.Pool{New: func() any { return new(bytes.Buffer) }}

// readFrame waits for a frame. Its kind is 0 if none came; the error is what is wrong with
// one that has text.
func readFrame(ws *websocket.Conn) (websocket.MessageType, *clientFrame, error) {
	kind, r, err := ws.Reader(context.Background())
	if err != nil {
		return 0, nil, err
	}
	b := frames.Get().(*bytes.Buffer)
	defer func() {
		if b.Cap() <= batchBytes { // a large one is rare
			b.Reset()
			frames.Put(b)
		}
	}()
	if _, err := b.ReadFrom(r); err != nil {
		return 0, nil, err
	}
	if kind != websocket.MessageText {
		return kind, nil, nil
	}
	f, err := parseClient(b.Bytes())
	return kind, f, err
}

// greetSilent takes in a client that has said nothing, if it answers a ping. A hello that
// was sent before, and is late, comes before the answer: a client whose path stalls would
// else be taken for one that does not say what it has, and what was sent to it be in doubt
// for good.
func (c *conn) greetSilent() {
	if !c.greeted.Load() && c.isThere(context.Background()) {
		c.greet(gateway.Connected{})
	}
}

// end follows the end of the socket.
func (c *conn) end() {
	c.g.forget(c)
	c.g.post(c.disconnected)
}

func (c *conn) take(f *clientFrame) {
	switch f.Type {
	case typeHello:
		ev := gateway.Connected{}
		if f.Client != "" {
			ev.Client = max(1, xxhash.Sum64String(f.Client))
		}
		if f.Have != nil {
			ev.Speaks, ev.Have = true, jobIDs(*f.Have)
		}
		ev.Withdraws = slices.Contains(f.Can, typeWithdraw)
		if !c.greet(ev) && ev.Speaks { // late: the core takes the first that says what it has
			c.g.post(func() { c.connected(ev) })
		}
	case typeAck:
		c.greet(gateway.Connected{}) // a client whose first frame is an ack does not say what it has
		ids := jobIDs(f.IDs)
		c.g.counters.acks.Add(uint64(len(ids)))
		c.g.post(func() {
			if !c.gone {
				c.g.step(gateway.Acked{Conn: c.id, IDs: ids})
			}
		})
	}
}

// malformed answers the first frame that cannot be read and closes after the second.
func (c *conn) malformed(code websocket.StatusCode, what string) bool {
	c.g.counters.malformedFrames.Add(1)
	if c.wrong++; c.wrong > 1 {
		c.close(code, "malformed frames")
		return true
	}
	c.say(errorFrame{typeError, "malformed", what})
	return false
}

// greet makes the connection known to the core, once.
func (c *conn) greet(ev gateway.Connected) bool {
	if !c.greeted.CompareAndSwap(false, true) {
		return false
	}
	c.g.post(func() {
		if c.connected(ev); !c.gone {
			c.say(c.g.greeting(c))
		}
	})
	return true
}

// connected runs on the goroutine that owns the state.
func (c *conn) connected(ev gateway.Connected) {
	if c.gone {
		return
	}
	ev.Conn, ev.Recipient = c.id, c.who
	c.g.conns[c.id] = c
	c.g.step(ev)
}

// disconnected runs on the goroutine that owns the state. What is still queued was
// never written: the writer takes a frame out before it writes the first byte.
func (c *conn) disconnected() {
	c.gone = true
	delete(c.g.conns, c.id)
	c.mu.Lock()
	c.mu.ended = true
	ev := gateway.Disconnected{Conn: c.id}
	for _, q := range c.mu.queue {
		if !q.job.IsZero() {
			ev.Unwritten = append(ev.Unwritten, q.job)
		}
	}
	c.mu.queue = nil
	c.mu.Unlock()
	c.g.step(ev)
}

// say queues a frame behind everything before.
func (c *conn) say(f frame) {
	b, err := json.Marshal(f)
	if err != nil {
		c.g.cfg.Log.Error("writing a frame", "err", err)
		return
	}
	c.send(queued{kind: f.kind(), bytes: b})
}

// send queues a frame behind everything before, and sees to its being written. It never
// blocks.
func (c *conn) send(q queued) {
	if c.enqueue(q) {
		c.flush()
	}
}

// enqueue queues a frame behind everything before; false if there is no room. Until a
// flush it may wait, so that others leave with it.
func (c *conn) enqueue(q queued) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.mu.ended {
		return false
	}
	if len(c.mu.queue) >= maxQueue {
		if !c.closing.Load() {
			c.g.counters.tooSlow.Add(1)
			go c.close(codeTooSlow, "this connection reads too slowly")
		}
		return false
	}
	c.mu.queue = append(c.mu.queue, q)
	return true
}

// flush sees to it that the queue is written.
func (c *conn) flush() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.mu.writing && !c.mu.ended && len(c.mu.queue) > 0 {
		c.mu.writing = true
		go c.write()
	}
}

// batches are the lists of frames of those who write.
var batches = sync.Pool{New: func() any { return new([16]queued) }}

// write empties the queue and ends. A write that fails ends the connection, which
// the reading goroutine notices.
func (c *conn) write() {
	few := batches.Get().(*[16]queued)
	defer batches.Put(few)
	for {
		batch := c.next(few[:0])
		if len(batch) == 0 {
			return
		}
		if err := c.wire.write(batch); err != nil {
			clear(batch)
			c.cut()
			return // writing stays true: nobody writes after this one
		}
		c.g.counters.framesOut.Add(uint64(len(batch)))
		for _, q := range batch {
			c.g.counters.bytesOut.Add(uint64(len(q.bytes)))
		}
		clear(batch)
	}
}

// next takes frames out of the queue before the first byte of them is written: one, and
// those behind it that leave in the same piece. If there are none the writer has ended.
func (c *conn) next(batch []queued) []queued {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.mu.ended {
		c.mu.writing = false
		return nil
	}
	bytes := 0
	for _, q := range c.mu.queue {
		if bytes += len(q.bytes) + maxHeader; len(batch) == cap(batch) || len(batch) > 0 && bytes > batchBytes {
			break
		}
		batch = append(batch, q)
	}
	clear(c.mu.queue[:len(batch)])
	c.mu.queue = c.mu.queue[len(batch):]
	if len(batch) == 0 {
		c.mu.queue, c.mu.writing = nil, false // without the memory of an empty one
	}
	return batch
}

// close says goodbye and waits some seconds for the other side to do so.
func (c *conn) close(code websocket.StatusCode, reason string) {
	if !c.closing.CompareAndSwap(false, true) {
		return
	}
	if err := c.wire.close(code, reason); err != nil {
		c.cut()
	}
}

// Expel closes the connections of a recipient whose tokens are not valid any more. Whoever
// comes with one of them later is refused by the Verifier, which must know it by now. It may
// be called at any time from anywhere.
func (g *Gateway) Expel(who job.Recipient) {
	g.mu.Lock()
	defer g.mu.Unlock()
	for c := range g.mu.sockets {
		if c.who == who {
			go c.close(codeWithdrawn, withdrawn)
		}
	}
}

// withdrawn is why a connection is closed whose token was valid when it was made.
const withdrawn = "the token was withdrawn"

// stays reports whether a connection may go on. One whose token was withdrawn between its
// being checked and the connection's being there to be expelled is ended.
func (c *conn) stays(token string) bool {
	_, err := c.g.cfg.Verifier.VerifyRecipient(token)
	if err == nil || job.CodeOf(err) == job.CodeUnavailable {
		return true
	}
	c.close(codeWithdrawn, withdrawn)
	c.end()
	return false
}

// maxReason is what a closing frame can say.
const maxReason = 123

// redirect says where the client is to go. One that knows what the frame means
// acknowledges what it has shown and leaves; else the closing code says it again.
func (c *conn) redirect(to string) {
	to = c.wire.elsewhere(to)
	c.say(redirectFrame{typeRedirect, to})
	time.AfterFunc(c.g.cfg.LeaveWait, func() {
		if len(to) > maxReason {
			to = ""
		}
		c.close(codeMoved, to)
	})
}

// cut ends the connection at once, also while close waits for the other side, which
// the WebSocket library would go on doing. The reading goroutine does the rest.
func (c *conn) cut() {
	_ = c.socket.Close() // it may be closed already
}

// pingShards spreads the pings of all connections over PingEvery.
const pingShards = 20

// ping finds connections whose other side is gone: whoever said nothing since the
// last round and does not answer a ping is closed.
func (g *Gateway) ping(ctx context.Context) {
	ticker := time.NewTicker(max(g.cfg.PingEvery/pingShards, time.Millisecond))
	defer ticker.Stop()
	for shard := gateway.Conn(0); ; shard = (shard + 1) % pingShards {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		for _, c := range g.sockets() {
			if c.id%pingShards != shard || c.heard.Swap(false) {
				continue
			}
			go c.isThere(ctx)
		}
	}
}

// isThere reports whether the other side answers a ping in time. If it does not, the
// connection is cut, unless ctx ends first.
func (c *conn) isThere(ctx context.Context) bool {
	wait, cancel := context.WithTimeout(ctx, c.g.cfg.PingWait)
	defer cancel()
	if err := c.wire.ping(wait); err != nil {
		if ctx.Err() == nil {
			c.g.counters.deadSockets.Add(1)
			c.cut()
		}
		return false
	}
	return true
}
