package lastmile

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/bits"
	"net"
	"net/url"
	"sync"
	"time"

	jsonv2 "github.com/go-json-experiment/json"
	"github.com/gobwas/ws"
	"golang.org/x/sync/errgroup"

	"crier/job"
)

// Request is what a process of readers is told, a JSON line each; one field is set.
type Request struct {
	Connect *Connect `json:"connect,omitempty"` // answered with the report of the new group when all are connected
	Report  *int     `json:"report,omitempty"`  // answered with the report of a group, by its number
}

// Connect asks for a new group of connections.
type Connect struct {
	URL     string   `json:"url"` // ws://… of a gateway; tcp://host:port of a bare loop, where nobody says hello
	Members []Member `json:"members"`
}

// Member is one connection.
type Member struct {
	Client string `json:"client"`
	Token  string `json:"token"`
}

// Report is what the readers of a group have seen. Nothing in it comes from the server
// but what was on the sockets.
type Report struct {
	Connected int            `json:"connected"`
	Ended     int            `json:"ended"`    // connections that were lost
	Jobs      map[string]int `json:"jobs"`     // how many of the readers got a message, by its id
	Twice     int            `json:"twice"`    // messages that came to a reader that had them
	Settled   int            `json:"settled"`  // ids that readers were told to forget
	Strange   int            `json:"strange"`  // of these: ids that were not acknowledged, or were forgotten before
	Message   string         `json:"message"`  // the payload of one frame with a message
	AckBytes  int            `json:"ackBytes"` // of a frame that acknowledges one message
	Error     string         `json:"error"`    // the first one
}

// connecting is how many connections are made at a time.
const connecting = 32

// handshakeWithin is how long a connection may take until the gateway says hello.
const handshakeWithin = time.Minute

// ServeReaders is a process of readers. It ends with its input.
func ServeReaders(ctx context.Context, in io.Reader, out io.Writer) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var groups []*group
	defer func() {
		for _, g := range groups {
			g.close()
		}
	}()
	dec, enc := json.NewDecoder(bufio.NewReaderSize(in, 1<<20)), json.NewEncoder(out)
	for {
		var r Request
		if err := dec.Decode(&r); errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			return fmt.Errorf("reading a request: %w", err)
		}
		var g *group
		switch {
		case r.Connect != nil:
			g = &group{}
			groups = append(groups, g)
			if err := g.connect(ctx, *r.Connect); err != nil {
				g.fail(err)
			}
		case r.Report != nil && *r.Report >= 0 && *r.Report < len(groups):
			g = groups[*r.Report]
		default:
			return fmt.Errorf("a request for nothing that is there: %+v", r)
		}
		if err := enc.Encode(g.report()); err != nil {
			return fmt.Errorf("answering: %w", err)
		}
	}
}

// group is the connections to one address.
type group struct {
	ended sync.WaitGroup
	mu    struct {
		sync.Mutex
		closing bool
		readers []*reader
		number  map[string]int // of the messages, in the order in which they were first seen
		message string
		ack     int
		lost    int
		err     error
	}
}

// reader is one connection: it reads frames, acknowledges each message by its id, and
// keeps which it got.
type reader struct {
	g    *group
	conn net.Conn
	in   *bufio.Reader
	buf  []byte
	acks []string // to be sent
	mu   struct {
		sync.Mutex
		seen, settled       bitset // by number of the message
		twice, told, unseen int
	}
}

// bitset is a set of small numbers.
type bitset []uint64

func (b bitset) has(n int) bool { return n/64 < len(b) && b[n/64]>>(n%64)&1 == 1 }

func (b *bitset) add(n int) {
	for n/64 >= len(*b) {
		*b = append(*b, 0)
	}
	(*b)[n/64] |= 1 << (n % 64)
}

// connect makes all connections of a group and waits until they are taken in.
func (g *group) connect(ctx context.Context, c Connect) error {
	u, err := url.Parse(c.URL)
	if err != nil {
		return fmt.Errorf("reading the address to connect to: %w", err)
	}
	g.mu.Lock()
	g.mu.number = map[string]int{}
	g.mu.Unlock()
	all, ctx := errgroup.WithContext(ctx)
	all.SetLimit(connecting)
	for _, m := range c.Members {
		all.Go(func() error {
			if err := g.start(ctx, u, m); err != nil {
				return fmt.Errorf("connecting %s: %w", m.Client, err)
			}
			return nil
		})
	}
	return all.Wait()
}

// start makes one connection and leaves a goroutine that reads.
func (g *group) start(ctx context.Context, u *url.URL, m Member) error {
	conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", u.Host)
	if err != nil {
		return err
	}
	r := &reader{g: g, conn: conn, in: bufio.NewReaderSize(conn, 1<<10)}
	if u.Scheme == "ws" {
		if err := r.introduce(u, m); err != nil {
			return errors.Join(err, conn.Close())
		}
	}
	g.mu.Lock()
	g.mu.readers = append(g.mu.readers, r)
	g.mu.Unlock()
	g.ended.Go(func() {
		err := r.run()
		conn.Close()
		g.lose(fmt.Errorf("the connection of %s: %w", m.Client, err))
	})
	return nil
}

// introduce upgrades the connection, says hello, and waits for the gateway's.
func (r *reader) introduce(u *url.URL, m Member) error {
	if err := r.conn.SetDeadline(time.Now().Add(handshakeWithin)); err != nil {
		return err
	}
	d := ws.Dialer{Header: ws.HandshakeHeaderHTTP{"Authorization": {"Bearer " + m.Token}}}
	early, _, err := d.Upgrade(r.conn, u)
	if err != nil {
		return fmt.Errorf("upgrading to a WebSocket: %w", err)
	}
	if early != nil { // nothing may come before our hello but what a later version may say
		rest, err := early.Peek(early.Buffered())
		if err != nil {
			return err
		}
		return fmt.Errorf("the gateway says %q before the client does", rest)
	}
	hello := struct {
		Type   string   `json:"type"`
		Client string   `json:"client"`
		Have   []string `json:"have"`
	}{"hello", m.Client, []string{}}
	if _, err := r.say(hello); err != nil {
		return err
	}
	f, err := r.next()
	if err != nil {
		return err
	}
	if f.Type != "hello" {
		return fmt.Errorf("a frame of type %q instead of the gateway's hello", f.Type)
	}
	return r.conn.SetDeadline(time.Time{})
}

// serverFrame is what a reader looks at of a frame.
type serverFrame struct {
	Type string   `json:"type"`
	ID   string   `json:"id"`
	IDs  []string `json:"ids"`
}

// maxPayload is the longest frame that a gateway sends.
const maxPayload = 2 << 20

// next reads up to the next frame with text; the others are answered here.
func (r *reader) next() (f serverFrame, err error) {
	for {
		h, err := ws.ReadHeader(r.in)
		if err != nil {
			return f, err
		}
		if err := ws.CheckHeader(h, ws.StateClientSide); err != nil {
			return f, err
		}
		if h.Length > maxPayload || !h.Fin {
			return f, fmt.Errorf("a frame of %d bytes, final: %v", h.Length, h.Fin)
		}
		if int(h.Length) > cap(r.buf) {
			r.buf = make([]byte, h.Length)
		}
		r.buf = r.buf[:h.Length]
		if _, err := io.ReadFull(r.in, r.buf); err != nil {
			return f, err
		}
		switch h.OpCode {
		case ws.OpText:
			return f, jsonv2.Unmarshal(r.buf, &f)
		case ws.OpPing:
			if _, err := r.write(ws.NewPongFrame(r.buf)); err != nil {
				return f, err
			}
		case ws.OpClose:
			code, reason := ws.ParseCloseFrameData(r.buf)
			return f, fmt.Errorf("the gateway closed it: %d %s", code, reason)
		}
	}
}

// run is the life of a connection after its beginning.
func (r *reader) run() error {
	for {
		f, err := r.next()
		if err != nil {
			return err
		}
		switch f.Type {
		case "message":
			if _, err := job.ParseID(f.ID); err != nil {
				return err
			}
			r.got(r.g.of(f.ID, r.buf))
			r.acks = append(r.acks, f.ID)
		case "settled":
			for _, id := range f.IDs {
				r.forget(r.g.of(id, nil))
			}
		default:
			return fmt.Errorf("a frame of type %q", f.Type)
		}
		if r.in.Buffered() > 0 || len(r.acks) == 0 {
			continue // one frame acknowledges all that has come
		}
		if err := r.acknowledge(); err != nil {
			return err
		}
	}
}

func (r *reader) acknowledge() error {
	n, err := r.say(struct {
		Type string   `json:"type"`
		IDs  []string `json:"ids"`
	}{"ack", r.acks})
	if len(r.acks) == 1 {
		r.g.acked(n)
	}
	clear(r.acks)
	r.acks = r.acks[:0]
	return err
}

// got keeps that a message came.
func (r *reader) got(n int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.mu.seen.has(n) {
		r.mu.twice++
	}
	r.mu.seen.add(n)
}

// forget keeps that a message was settled; it can be so once, after it came.
func (r *reader) forget(n int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.mu.told++
	if !r.mu.seen.has(n) || r.mu.settled.has(n) {
		r.mu.unseen++
	}
	r.mu.settled.add(n)
}

// say writes a text frame in one piece and tells its size.
func (r *reader) say(v any) (int, error) {
	b, err := json.Marshal(v)
	if err != nil {
		return 0, err
	}
	return r.write(ws.NewTextFrame(b))
}

func (r *reader) write(f ws.Frame) (int, error) {
	b, err := ws.CompileFrame(ws.MaskFrameInPlace(f))
	if err != nil {
		return 0, err
	}
	return r.conn.Write(b)
}

// of numbers a message, and keeps the first frame that brought one.
func (g *group) of(id string, frame []byte) int {
	g.mu.Lock()
	defer g.mu.Unlock()
	n, ok := g.mu.number[id]
	if !ok {
		n = len(g.mu.number)
		g.mu.number[id] = n
	}
	if g.mu.message == "" {
		g.mu.message = string(frame)
	}
	return n
}

func (g *group) acked(bytes int) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.mu.ack = bytes
}

func (g *group) fail(err error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.mu.err == nil {
		g.mu.err = err
	}
}

// lose notes the end of a connection that nobody here ended.
func (g *group) lose(err error) {
	g.mu.Lock()
	closing := g.mu.closing
	if !closing {
		g.mu.lost++
	}
	g.mu.Unlock()
	if !closing {
		g.fail(err)
	}
}

func (g *group) report() Report {
	g.mu.Lock()
	defer g.mu.Unlock()
	p := Report{Connected: len(g.mu.readers) - g.mu.lost, Ended: g.mu.lost, Jobs: map[string]int{}, Message: g.mu.message, AckBytes: g.mu.ack}
	if g.mu.err != nil {
		p.Error = g.mu.err.Error()
	}
	names := make([]string, len(g.mu.number))
	for id, n := range g.mu.number {
		names[n] = id
	}
	for _, r := range g.mu.readers {
		r.mu.Lock()
		p.Twice += r.mu.twice
		p.Settled += r.mu.told
		p.Strange += r.mu.unseen
		for w, word := range r.mu.seen {
			for ; word != 0; word &= word - 1 {
				p.Jobs[names[64*w+bits.TrailingZeros64(word)]]++
			}
		}
		r.mu.Unlock()
	}
	return p
}

func (g *group) close() {
	g.mu.Lock()
	g.mu.closing = true
	for _, r := range g.mu.readers {
		r.conn.Close()
	}
	g.mu.Unlock()
	g.ended.Wait()
}
