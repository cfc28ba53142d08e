package ws

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/cespare/xxhash/v2"
	"github.com/coder/websocket"
	"github.com/go-json-experiment/json"

	"crier/job"
	"crier/presence/gateway"
)

// The paths of clients that read server-sent events.
const (
	streamPath = "/v1/stream"
	ackPath    = "/v1/stream/ack"
)

// nothing is an event's id when the client has nothing that is unsettled: an empty one
// would not be sent back.
const nothing = "-"

// How long a client waits until it connects again, in ms: usually, and if another one of
// the same client id has its place.
const (
	retrySoon  = 1000
	retryLate  = 30_000
	goodbye    = 2 * time.Second // for the last event to be taken
	maxIgnored = 64 << 10        // bytes that a client may send behind its request
)

// stream is the wire of a client that reads server-sent events. The id of each event lists
// what the client has when it has taken the event, and is not told to forget: with the
// last one, when it connects again, it says what it has (rule 14).
type stream struct {
	socket net.Conn
	mu     struct {
		sync.Mutex // held while something is written
		has        []job.ID
	}
}

// write sends frames as events. The bytes of a message are those of all who get it.
func (s *stream) write(batch []queued) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	var all net.Buffers
	for _, q := range batch {
		if !q.job.IsZero() && !slices.Contains(s.mu.has, q.job) {
			s.mu.has = append(s.mu.has, q.job)
		}
		if len(q.settled) > 0 {
			s.mu.has = slices.DeleteFunc(s.mu.has, func(id job.ID) bool { return slices.Contains(q.settled, id) })
		}
		all = append(all, *event(s.mu.has, q.kind, q.bytes)...)
	}
	_, err := all.WriteTo(s.socket)
	return err
}

// event is an event as it is written. JSON has no line breaks.
func event(has []job.ID, kind string, data []byte) *net.Buffers {
	b := append(make([]byte, 0, 64+32*len(has)), "id: "...)
	for i, id := range has {
		if i > 0 {
			b = append(b, ',')
		}
		b = append(b, id.String()...)
	}
	if len(has) == 0 {
		b = append(b, nothing...)
	}
	if kind != typeMessage { // which is what a browser calls an event without a name
		b = append(append(b, "\nevent: "...), kind...)
	}
	return &net.Buffers{append(b, "\ndata: "...), data, []byte("\n\n")}
}

// elsewhere implements wire.
func (s *stream) elsewhere(url string) string { return streamURL(url) }

// streamURL is where streams connect to the gateway whose WebSockets connect to a URL.
func streamURL(connect string) string {
	u, err := url.Parse(connect)
	if err != nil {
		return connect
	}
	u.Scheme = strings.Replace(u.Scheme, "ws", "http", 1)
	u.Path = strings.TrimSuffix(u.Path, "/v1/connect") + streamPath
	return u.String()
}

// closeFrame is the last event.
type closeFrame struct {
	Type   string               `json:"type"`
	Code   websocket.StatusCode `json:"code"`
	Reason string               `json:"reason"`
}

// close ends what is being written, says why, and closes the socket.
func (s *stream) close(code websocket.StatusCode, reason string) error {
	retry := retrySoon
	if code == codeReplaced {
		retry = retryLate
	}
	b, err := json.Marshal(closeFrame{typeClose, code, reason})
	if err == nil {
		err = s.socket.SetWriteDeadline(time.Now().Add(goodbye))
	}
	if err == nil {
		s.mu.Lock()
		defer s.mu.Unlock()
		_, err = event(s.mu.has, typeClose, fmt.Appendf(b, "\nretry: %d", retry)).WriteTo(s.socket)
	}
	return errors.Join(err, s.socket.Close())
}

// ping keeps proxies from closing a silent connection; nothing answers it.
func (s *stream) ping(ctx context.Context) error {
	if !s.mu.TryLock() {
		return nil // something is being written
	}
	defer s.mu.Unlock()
	stop := context.AfterFunc(ctx, func() { s.socket.SetWriteDeadline(time.Unix(1, 0)) })
	defer stop()
	_, err := io.WriteString(s.socket, ":\n\n")
	return err
}

// serveStream answers with events without end.
func (g *Gateway) serveStream(w http.ResponseWriter, r *http.Request) {
	if allowOrigin(w, r) {
		return
	}
	who, ok := g.identify(w, r, http.MethodGet)
	if !ok {
		return
	}
	ev, err := introduction(r)
	if err != nil {
		problem(w, http.StatusBadRequest, err.Error())
		return
	}
	c, ok := g.admit(who)
	if !ok {
		retryLater(w, "the gateway takes no connections now")
		return
	}
	socket, rest, err := http.NewResponseController(w).Hijack()
	if err == nil {
		c.wire, c.socket, c.ack = newStream(socket, ev.Have), socket, g.ackAddress(c.id)
		err = begin(socket)
	}
	if !g.start(c, err) {
		if socket == nil {
			problem(w, http.StatusHTTPVersionNotSupported, "a stream needs HTTP/1.1")
		} else {
			socket.Close() // it was begun, and the client connects again
		}
		return
	}
	g.counters.connections.Add(1)
	if !c.stays(token(r)) {
		return
	}
	c.greet(ev)
	ignored := rest.Reader.Buffered()
	go c.readStream(ignored) // not in the handler's goroutine, whose stack and buffers are larger
}

func newStream(socket net.Conn, has []job.ID) *stream {
	s := &stream{socket: socket}
	s.mu.has = slices.Clone(has)
	return s
}

// begin writes what is before the first event.
func begin(socket net.Conn) error {
	if err := socket.SetDeadline(time.Time{}); err != nil { // the server may have set one
		return err
	}
	_, err := fmt.Fprintf(socket, "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nCache-Control: no-store\r\nX-Accel-Buffering: no\r\n"+
		"Access-Control-Allow-Origin: *\r\nConnection: close\r\n\r\nretry: %d\n\n", retrySoon)
	return err
}

// introduction is what a client says of itself in its request: what it has, in the header
// that a browser sends when it connects again, or in ?have=; ?client=, and ?can=.
func introduction(r *http.Request) (ev gateway.Connected, err error) {
	q := r.URL.Query()
	if client := q.Get("client"); len(client) > maxClient {
		return ev, fmt.Errorf("a client id of %d bytes; at most %d are allowed", len(client), maxClient)
	} else if client != "" {
		ev.Client = max(1, xxhash.Sum64String(client))
	}
	has, speaks := q.Get("have"), q.Has("have")
	if last := r.Header.Get("Last-Event-ID"); last != "" {
		has, speaks = last, true
	}
	ev.Withdraws = slices.Contains(strings.Split(q.Get("can"), ","), typeWithdraw)
	if ev.Speaks = speaks; speaks && has != nothing && has != "" {
		ev.Have = jobIDs(strings.Split(has, ","))
		ev.Have = ev.Have[:min(len(ev.Have), gateway.MaxHave)] // each event's id lists them
	}
	return ev, nil
}

// readStream is the life of a connection by server-sent events: its client sends nothing
// more.
func (c *conn) readStream(ignored int) {
	defer c.end()
	defer c.socket.Close()
	for b := make([]byte, 64); ignored <= maxIgnored; {
		n, err := c.socket.Read(b)
		if err != nil {
			return
		}
		ignored += n
	}
}

// ackAddress is where the client of a stream acknowledges: at this gateway.
func (g *Gateway) ackAddress(c gateway.Conn) string {
	path := ackPath
	if g.cfg.Given && g.cfg.Core.URL != "" {
		path = streamURL(g.cfg.Core.URL) + strings.TrimPrefix(ackPath, streamPath)
	}
	return path + "?connection=" + strconv.FormatUint(uint64(c), 10)
}

// ackBody is the body of an acknowledgement.
type ackBody struct {
	IDs *[]string `json:"ids"`
}

// serveAck takes acknowledgements of a stream.
func (g *Gateway) serveAck(w http.ResponseWriter, r *http.Request) {
	if allowOrigin(w, r) {
		return
	}
	who, ok := g.identify(w, r, http.MethodPost)
	if !ok {
		return
	}
	number, err := strconv.ParseUint(r.URL.Query().Get("connection"), 10, 64)
	if err != nil {
		problem(w, http.StatusBadRequest, "?connection= is the number in the hello of the stream")
		return
	}
	var body ackBody
	b, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxFrame))
	var large *http.MaxBytesError
	switch {
	case errors.As(err, &large):
		problem(w, http.StatusRequestEntityTooLarge, fmt.Sprintf("at most %d bytes of acknowledgements are taken at a time", maxFrame))
		return
	case err != nil:
		problem(w, http.StatusBadRequest, "the body ended early")
		return
	case json.Unmarshal(b, &body) != nil || body.IDs == nil:
		problem(w, http.StatusBadRequest, `the body is not {"ids": ["…"]}`)
		return
	}
	ids := jobIDs(*body.IDs)
	if len(ids) < len(*body.IDs) { // a device's program would believe it has acknowledged
		problem(w, http.StatusUnprocessableEntity, fmt.Sprintf("nothing is acknowledged: %s", faulty(*body.IDs)))
		return
	}
	g.counters.acks.Add(uint64(len(ids)))
	taken := make(chan bool, 1)
	g.post(func() {
		c := g.conns[gateway.Conn(number)]
		is := c != nil && !c.gone && c.who == who
		if is {
			g.step(gateway.Acked{Conn: c.id, IDs: ids})
		}
		taken <- is
	})
	select {
	case is := <-taken:
		if is {
			w.WriteHeader(http.StatusNoContent)
			return
		}
		problem(w, http.StatusNotFound, "this gateway has no such connection of this recipient; what the client has, it says when it connects")
	case <-g.done:
		retryLater(w, "the gateway is stopping")
	}
}

// faulty says what is wrong with a list of which jobIDs does not take all.
func faulty(list []string) string {
	for i, text := range list[:min(len(list), maxIDs)] {
		if _, err := job.ParseID(text); err != nil {
			return fmt.Sprintf("/ids/%d is not the id of a message, as its event has it", i)
		}
	}
	return fmt.Sprintf("%d ids; send at most %d at a time", len(list), maxIDs)
}

// allowOrigin lets pages of every origin ask: the token says who it is, not a cookie. It
// reports whether that was the whole question.
func allowOrigin(w http.ResponseWriter, r *http.Request) bool {
	w.Header().Set("Access-Control-Allow-Origin", "*")
	if r.Method != http.MethodOptions {
		return false
	}
	w.Header().Set("Access-Control-Allow-Methods", "GET, POST")
	w.Header().Set("Access-Control-Allow-Headers", "Authorization, Content-Type, Last-Event-ID")
	w.Header().Set("Access-Control-Max-Age", "600")
	w.WriteHeader(http.StatusNoContent)
	return true
}
