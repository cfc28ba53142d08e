// Package crowd is many recipients' clients in one process: it connects them,
// keeps what each of them showed, and tells. It knows nothing of the server but its
// address, so that it can judge it.
package crowd

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"slices"
	"sync"
	"time"

	"github.com/coder/websocket"
	"github.com/coder/websocket/wsjson"

	"crier/internal/pause"
	"crier/job"
	"crier/presence/client"
)

// Kind is how a client behaves.
type Kind string

// The kinds of clients.
const (
	Speaks   Kind = "speaks"   // the protocol, by the client library
	Slow     Kind = "slow"     // the same, but takes two seconds to show a message
	Streams  Kind = "streams"  // reads server-sent events
	Restless Kind = "restless" // the same, but breaks its connection every second or so
	Mute     Kind = "mute"     // acknowledges, never says what it has, drops nothing
	Deaf     Kind = "deaf"     // neither acknowledges nor says what it has
)

// Member is one client to connect.
type Member struct {
	Recipient job.Recipient `json:"recipient"`
	Token     string        `json:"token"`
	Kind      Kind          `json:"kind"`
}

// Request is what a crowd's process is told, a JSON line each; one field is set.
type Request struct {
	Gateway string   `json:"gateway,omitempty"` // where members connect; first of all
	Others  []string `json:"others,omitempty"`  // with Gateway: further gateways, over which members spread and to which they go on loss
	Connect []Member `json:"connect,omitempty"` // answered when all have connected
	Report  *job.ID  `json:"report,omitempty"`  // answered with a Report
	Since   *int     `json:"since,omitempty"`   // answered with the receipts behind so many
}

// Report is what the clients showed of a job: how many times each.
type Report struct {
	Shown     map[job.Recipient]int  `json:"shown"`
	Withdrew  map[job.Recipient]bool `json:"withdrew,omitempty"` // who took it off the display
	Times     []int64                `json:"times,omitempty"`    // when the gateway sent each first one, by its clock, in Unix milliseconds
	Connected int                    `json:"connected"`
	Receipts  []Receipt              `json:"receipts,omitempty"` // of all jobs, in order
	// Lost is when whoever was connected once lost that last, by the crowd's clock, in Unix
	// milliseconds; it may be connected again.
	Lost   map[job.Recipient]int64 `json:"lost,omitempty"`
	Away   []job.Recipient         `json:"away,omitempty"`   // who is told to connect and is not connected
	Errors []string                `json:"errors,omitempty"` // some of the last ones
}

// Receipt is one message shown to one recipient, a repeat as well.
type Receipt struct {
	Job       job.ID        `json:"job"`
	Recipient job.Recipient `json:"recipient"`
	At        int64         `json:"at"` // by the crowd's clock, in Unix milliseconds
}

// Crowd is the clients of a process.
type Crowd struct {
	gateway string
	others  []string
	http    *http.Client
	mu      struct {
		sync.Mutex
		shown     map[job.ID]map[job.Recipient]int
		withdrew  map[job.ID]map[job.Recipient]bool
		times     map[job.ID][]int64
		receipts  []Receipt
		members   []job.Recipient
		connected map[job.Recipient]bool
		lost      map[job.Recipient]int64
		errors    []string
	}
	first chan struct{} // gets a value whenever somebody has connected
}

// Serve is the process of a crowd. It ends with its input.
func Serve(ctx context.Context, in io.Reader, out io.Writer) error {
	ctx, cancel := context.WithCancel(ctx)
	var wg sync.WaitGroup
	defer wg.Wait()
	defer cancel()
	c := &Crowd{first: make(chan struct{}, 1), http: &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 1}}}
	c.mu.shown = map[job.ID]map[job.Recipient]int{}
	c.mu.withdrew = map[job.ID]map[job.Recipient]bool{}
	c.mu.times = map[job.ID][]int64{}
	c.mu.connected = map[job.Recipient]bool{}
	c.mu.lost = map[job.Recipient]int64{}
	dec := json.NewDecoder(bufio.NewReaderSize(in, 1<<20))
	enc := json.NewEncoder(out)
	for {
		var r Request
		if err := dec.Decode(&r); errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			return fmt.Errorf("reading a request: %w", err)
		}
		switch {
		case r.Gateway != "":
			c.gateway, c.others = r.Gateway, r.Others
		case r.Connect != nil:
			for i, m := range r.Connect {
				c.mu.Lock()
				c.mu.members = append(c.mu.members, m.Recipient)
				c.mu.Unlock()
				wg.Go(func() { c.run(ctx, m, i) })
			}
			c.await(ctx, r.Connect)
		}
		id := job.ID{}
		if r.Report != nil {
			id = *r.Report
		}
		rep := c.report(id)
		if r.Since != nil {
			rep.Receipts = c.receipts(*r.Since)
		}
		if err := enc.Encode(rep); err != nil {
			return fmt.Errorf("answering: %w", err)
		}
	}
}

func (c *Crowd) report(id job.ID) Report {
	c.mu.Lock()
	defer c.mu.Unlock()
	shown := map[job.Recipient]int{}
	for r, n := range c.mu.shown[id] {
		shown[r] = n
	}
	var away []job.Recipient
	for _, r := range c.mu.members {
		if !c.mu.connected[r] {
			away = append(away, r)
		}
	}
	return Report{Shown: shown, Withdrew: maps.Clone(c.mu.withdrew[id]), Times: c.mu.times[id], Connected: len(c.mu.connected), Away: away, Lost: maps.Clone(c.mu.lost), Errors: c.mu.errors}
}

func (c *Crowd) receipts(since int) []Receipt {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Clone(c.mu.receipts[min(max(since, 0), len(c.mu.receipts)):])
}

// await waits until all members have connected.
func (c *Crowd) await(ctx context.Context, members []Member) {
	for {
		c.mu.Lock()
		missing := 0
		for _, m := range members {
			if !c.mu.connected[m.Recipient] {
				missing++
			}
		}
		c.mu.Unlock()
		if missing == 0 {
			return
		}
		select {
		case <-c.first:
		case <-ctx.Done():
			return
		}
	}
}

// note keeps that a client has connected, or has ended.
func (c *Crowd) note(r job.Recipient, connected bool) {
	c.mu.Lock()
	if connected {
		c.mu.connected[r] = true
	} else if c.mu.connected[r] {
		delete(c.mu.connected, r)
		c.mu.lost[r] = time.Now().UnixMilli()
	}
	c.mu.Unlock()
	select {
	case c.first <- struct{}{}:
	default:
	}
}

func (c *Crowd) failed(r job.Recipient, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.mu.errors = append(c.mu.errors, fmt.Sprintf("recipient %s: %v", r, err))
	if len(c.mu.errors) > 20 {
		c.mu.errors = c.mu.errors[1:]
	}
}

func (c *Crowd) show(r job.Recipient, id string, sent time.Time) {
	j, err := job.ParseID(id)
	if err != nil {
		c.failed(r, err)
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.mu.shown[j] == nil {
		c.mu.shown[j] = map[job.Recipient]int{}
	}
	c.mu.receipts = append(c.mu.receipts, Receipt{j, r, time.Now().UnixMilli()})
	if c.mu.shown[j][r]++; c.mu.shown[j][r] == 1 {
		c.mu.times[j] = append(c.mu.times[j], sent.UnixMilli())
	}
}

// spread is the gateways in the order in which the member of a number tries them.
func (c *Crowd) spread(number int) []string {
	all := append([]string{c.gateway}, c.others...)
	at := number % len(all)
	return append(slices.Clone(all[at:]), all[:at]...)
}

// run keeps one client connected until ctx ends.
func (c *Crowd) run(ctx context.Context, m Member, number int) {
	if m.Kind == Mute || m.Kind == Deaf {
		c.raw(ctx, m)
		return
	}
	if m.Kind == Streams {
		c.streams(ctx, m, c.spread(number))
		return
	}
	store := client.NewMemory()
	for ctx.Err() == nil {
		life, cancel := ctx, context.CancelFunc(func() {})
		if m.Kind == Restless {
			life, cancel = context.WithTimeout(ctx, 700*time.Millisecond+time.Duration(m.Recipient%1000)*time.Millisecond)
		}
		err := c.speak(life, m, store, c.spread(number))
		cancel()
		if err != nil && life.Err() == nil {
			c.failed(m.Recipient, err)
			return
		}
	}
}

func (c *Crowd) speak(ctx context.Context, m Member, store client.Store, gateways []string) error {
	cl, err := client.New(client.Config{URL: gateways[0], Others: gateways[1:], Token: client.StaticToken(m.Token), Store: store, HTTPClient: c.http,
		OnConnect: func() { c.note(m.Recipient, true) },
		OnError:   func(err error) { c.note(m.Recipient, false); c.failed(m.Recipient, err) },
		OnMessage: func(ctx context.Context, msg client.Message) error {
			if m.Kind == Slow && !pause.For(ctx, 2*time.Second) {
				return ctx.Err()
			}
			c.show(m.Recipient, msg.ID, msg.ServerTime)
			return nil
		},
		OnWithdraw: func(_ context.Context, ids []string) error { c.withdraw(m.Recipient, ids); return nil },
		Backoff:    client.Backoff{Min: 100 * time.Millisecond, Max: time.Second, Denied: time.Second}})
	if err != nil {
		return err
	}
	return cl.Run(ctx)
}

// raw is a client that does not say what it has.
func (c *Crowd) raw(ctx context.Context, m Member) {
	c.again(ctx, m, func(int) error { return c.rawOnce(ctx, m) })
}

// again makes one connection after the other until ctx ends; once is told how many there were.
func (c *Crowd) again(ctx context.Context, m Member, once func(n int) error) {
	for n := 0; ; n++ {
		if err := once(n); err != nil && ctx.Err() == nil {
			c.note(m.Recipient, false)
			c.failed(m.Recipient, err)
		}
		if !pause.For(ctx, 200*time.Millisecond) {
			return
		}
	}
}

func (c *Crowd) rawOnce(ctx context.Context, m Member) error {
	conn, _, err := websocket.Dial(ctx, c.gateway, &websocket.DialOptions{HTTPClient: c.http,
		HTTPHeader: http.Header{"Authorization": {"Bearer " + m.Token}}})
	if err != nil {
		return err
	}
	defer conn.CloseNow()
	conn.SetReadLimit(2 << 20)
	if err := wsjson.Write(ctx, conn, map[string]string{"type": "hello"}); err != nil {
		return err
	}
	c.note(m.Recipient, true)
	for {
		var f struct {
			Type, ID   string
			ServerTime time.Time `json:"server_time"`
		}
		if err := wsjson.Read(ctx, conn, &f); err != nil {
			return err
		}
		if f.Type != "message" {
			continue
		}
		c.show(m.Recipient, f.ID, f.ServerTime)
		if m.Kind == Deaf {
			continue
		}
		if err := wsjson.Write(ctx, conn, map[string]any{"type": "ack", "ids": []string{f.ID}}); err != nil {
			return err
		}
	}
}
