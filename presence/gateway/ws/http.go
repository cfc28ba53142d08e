package ws

import (
	"bufio"
	"bytes"
	"cmp"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/coder/websocket"
	"github.com/go-json-experiment/json"

	"crier/job"
)

// ServeHTTP takes what clients ask: GET /v1/connect is upgraded to a WebSocket; GET
// /v1/stream is answered with events without end, for which POST /v1/stream/ack
// acknowledges. The recipient's token is in "Authorization: Bearer", or in ?token= (a
// browser cannot set headers on a connection that lasts).
func (g *Gateway) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.ContentLength != 0 { // whoever sends a body slowly, or does not go on, is not waited for
		_ = http.NewResponseController(w).SetReadDeadline(time.Now().Add(g.cfg.BodyWait))
	}
	switch r.URL.Path {
	case streamPath:
		g.serveStream(w, r)
	case ackPath:
		g.serveAck(w, r)
	default:
		g.serveWebSocket(w, r)
	}
}

// identify says whose token a request with a method has; if there is none it is answered.
func (g *Gateway) identify(w http.ResponseWriter, r *http.Request, method string) (job.Recipient, bool) {
	if r.Method != method {
		w.Header().Set("Allow", method)
		problem(w, http.StatusMethodNotAllowed, "ask with "+method)
		return 0, false
	}
	who, err := g.cfg.Verifier.VerifyRecipient(token(r))
	if err == nil {
		return who, true
	}
	g.counters.refusedTokens.Add(1)
	if job.CodeOf(err) == job.CodeUnavailable {
		retryLater(w, "tokens cannot be checked now")
		return 0, false
	}
	w.Header().Set("WWW-Authenticate", "Bearer")
	problem(w, http.StatusUnauthorized, "a valid recipient token is needed, in Authorization: Bearer or ?token=")
	return 0, false
}

func (g *Gateway) serveWebSocket(w http.ResponseWriter, r *http.Request) {
	who, ok := g.identify(w, r, http.MethodGet)
	if !ok {
		return
	}
	if !strings.EqualFold(r.Header.Get("Upgrade"), "websocket") { // it takes no room
		w.Header().Set("Connection", "Upgrade")
		w.Header().Set("Upgrade", "websocket")
		problem(w, http.StatusUpgradeRequired, "connect with a WebSocket")
		return
	}
	c, ok := g.admit(who)
	if !ok {
		retryLater(w, "the gateway takes no connections now")
		return
	}
	// The token says who it is, not a cookie: a page of another origin can do no more
	// with it than any client. So origins are not checked.
	hijacker := &smallBuffers{ResponseWriter: w}
	ws, err := websocket.Accept(hijacker, r, &websocket.AcceptOptions{InsecureSkipVerify: true})
	c.wire, c.socket = webSocket{ws, hijacker.below}, hijacker.conn
	if !g.start(c, err) {
		if err != nil {
			return // answered by Accept
		}
		_ = ws.Close(codeGoingAway, "the gateway is stopping")
		return
	}
	ws.SetReadLimit(maxFrame)
	g.counters.connections.Add(1)
	if !c.stays(token(r)) {
		return
	}
	go c.read(ws) // not in the handler's goroutine, whose stack and buffers are larger
}

// smallBuffers gives a connection buffers of 1 KiB instead of the server's 4: idle
// ones are most of what a gateway has. A longer message is written past the buffer.
type smallBuffers struct {
	http.ResponseWriter
	conn  net.Conn // the socket, once hijacked
	below *cork    // around it
}

const bufferBytes = 1 << 10

// Hijack implements http.Hijacker.
func (s *smallBuffers) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	conn, rw, err := http.NewResponseController(s.ResponseWriter).Hijack()
	if err != nil {
		return nil, nil, err
	}
	early, err := rw.Reader.Peek(rw.Reader.Buffered()) // sent before our answer
	if err != nil {
		return nil, nil, err
	}
	in := bufio.NewReaderSize(io.MultiReader(bytes.NewReader(bytes.Clone(early)), conn), max(bufferBytes, len(early)))
	if _, err := in.Peek(len(early)); err != nil { // the WebSocket library looks into the buffer only
		return nil, nil, err
	}
	s.conn, s.below = conn, &cork{Conn: conn}
	return s.below, bufio.NewReadWriter(in, bufio.NewWriterSize(s.below, bufferBytes)), nil
}

func token(r *http.Request) string {
	scheme, t, ok := strings.Cut(r.Header.Get("Authorization"), " ")
	if ok && strings.EqualFold(scheme, "Bearer") {
		return strings.TrimSpace(t)
	}
	return r.URL.Query().Get("token")
}

// admit counts a connection in while there is room and the gateway runs.
func (g *Gateway) admit(who job.Recipient) (*conn, bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.mu.state != running || len(g.mu.sockets)+g.mu.upgrades >= g.cfg.MaxConnections {
		return nil, false
	}
	g.mu.next++
	c := &conn{g: g, id: g.mu.next, who: who, since: time.Now()}
	c.heard.Store(true)
	g.mu.upgrades++
	return c, true
}

// start counts an admitted connection among the open ones, if it came about and the
// gateway does not stop.
func (g *Gateway) start(c *conn, err error) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.mu.upgrades--
	if err != nil || g.mu.state != running {
		return false
	}
	g.mu.sockets[c] = struct{}{}
	return true
}

func (g *Gateway) forget(c *conn) {
	g.mu.Lock()
	defer g.mu.Unlock()
	delete(g.mu.sockets, c)
}

func retryLater(w http.ResponseWriter, detail string) {
	w.Header().Set("Retry-After", "1")
	problem(w, http.StatusServiceUnavailable, detail)
}

// codes are what the API calls such answers; of the other statuses the request itself is at fault.
var codes = map[int]string{
	http.StatusUnauthorized:          string(job.CodeDenied),
	http.StatusNotFound:              string(job.CodeNotFound),
	http.StatusMethodNotAllowed:      "method_not_allowed",
	http.StatusRequestEntityTooLarge: string(job.CodeTooLarge),
	http.StatusServiceUnavailable:    string(job.CodeUnavailable),
}

// problem answers in the form of RFC 9457, with a code as the API's problems have one.
func problem(w http.ResponseWriter, status int, detail string) {
	b, err := json.Marshal(struct {
		Type   string `json:"type"`
		Title  string `json:"title"`
		Status int    `json:"status"`
		Detail string `json:"detail"`
		Code   string `json:"code"`
	}{"about:blank", http.StatusText(status), status, detail, cmp.Or(codes[status], string(job.CodeInvalid))})
	if err != nil {
		b = []byte(strconv.Itoa(status))
	}
	w.Header().Set("Content-Type", "application/problem+json")
	w.WriteHeader(status)
	_, _ = w.Write(b) // the client may be gone
}
