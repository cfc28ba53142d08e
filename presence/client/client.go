package client

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"sync/atomic"
	"time"

	"github.com/coder/websocket"
)

// What Config.OnError may be told, besides errors of the network, the store and the
// functions of Config. Test with errors.Is.
var (
	// ErrDenied: the gateway denied the token.
	ErrDenied = errors.New("the gateway denies the token; give another one by Config.Token")
	// ErrReplaced: another connection has the same client id.
	ErrReplaced = errors.New("replaced by a newer connection with the same client id; give each program a store of its own")
	// ErrFull: MaxUnsettled messages are unsettled.
	ErrFull = fmt.Errorf("%d messages are unsettled; the next is neither shown nor acknowledged until some are settled", MaxUnsettled)
	// ErrSilent: a ping had no answer.
	ErrSilent = errors.New("the connection is dead: a ping had no answer")
	// ErrRedirects: gateways redirect in circles.
	ErrRedirects = fmt.Errorf("more than %d redirects in a row; starting again from the configured addresses", maxRedirects)
)

// The closing codes that ask for something else than to come again later.
const (
	closeReplaced websocket.StatusCode = 4002
	closeDenied   websocket.StatusCode = 4003
	closeMoved    websocket.StatusCode = 4004
)

// Client keeps one recipient connected. Make it with New.
type Client struct {
	cfg     Config
	retry   retry
	running atomic.Bool

	// The rest belongs to the goroutine of Run.
	id    string
	token string
	// known are the messages shown and not settled, and whether the store has them:
	// false after an Add that returned an error. At most MaxUnsettled, or as many as
	// the store held at the start.
	known map[string]bool
	// unsynced: the store did something since its last Sync.
	unsynced bool
}

// New makes a client. It does nothing before Run.
func New(cfg Config) (*Client, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	hc := *cfg.HTTPClient
	hc.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	cfg.HTTPClient = &hc
	home, err := target(cfg.URL)
	if err != nil {
		return nil, err
	}
	c := &Client{cfg: cfg, retry: retry{backoff: cfg.Backoff, random: cfg.Random, home: home}}
	for _, other := range cfg.Others {
		there, err := target(other)
		if err != nil {
			return nil, err
		}
		c.retry.others = append(c.retry.others, there)
	}
	return c, nil
}

// Run connects, and connects again, until the context ends; then it acknowledges
// what was shown, closes the connection, and returns nil. It returns an error only if
// the store cannot be read or the client runs already. It may be called again.
func (c *Client) Run(ctx context.Context) error {
	if !c.running.CompareAndSwap(false, true) {
		return errors.New("client: Run is under way already")
	}
	defer c.running.Store(false)
	if err := c.load(); err != nil {
		return err
	}
	next := c.retry.home
	for ctx.Err() == nil {
		end := c.connect(ctx, next)
		if err := c.sync(); err != nil {
			c.trouble(err)
		}
		if ctx.Err() != nil {
			return nil
		}
		if end.denied {
			end.renewed = c.renew(ctx)
		}
		var wait time.Duration
		var tooMany bool
		if next, wait, tooMany = c.retry.after(end); tooMany {
			end.err = ErrRedirects
		}
		if end.err != nil {
			c.trouble(end.err)
		}
		c.cfg.Logger.Debug("connecting again", "host", next.Host, "wait", wait)
		sleep(ctx, wait)
	}
	return nil
}

func (c *Client) load() error {
	id, ids, err := c.cfg.Store.Load()
	if err != nil {
		return fmt.Errorf("client: read what was shown from the store: %w", err)
	}
	if c.cfg.ClientID != "" {
		id = c.cfg.ClientID
	}
	if !validID(id) {
		return fmt.Errorf("client: the store gives %q as the client's id: want 1 to %d bytes without control characters", clip(id), maxID)
	}
	// What could not be added in an earlier Run was shown all the same.
	known := map[string]bool{}
	for id, stored := range c.known {
		if !stored {
			known[id] = false
		}
	}
	for _, id := range ids {
		known[id] = true
	}
	c.id, c.known, c.unsynced = id, known, true
	return nil
}

// connect makes one connection and stays with it to its end.
func (c *Client) connect(ctx context.Context, to *url.URL) ending {
	have, err := c.have()
	if err != nil {
		return ending{err: err}
	}
	if c.token == "" {
		if c.token, err = c.cfg.Token(ctx); err != nil {
			return ending{err: fmt.Errorf("ask for a token: %w", err)}
		}
	}
	conn, end := c.dial(ctx, to)
	if conn == nil {
		return end
	}
	c.cfg.Logger.Debug("connected", "host", to.Host, "have", len(have))
	start := time.Now()
	s := newSession(c, conn, to)
	end = s.run(ctx, have)
	end.healthy = s.progress || time.Since(start) >= c.cfg.Backoff.Healthy
	return end
}

// have makes the store certain of everything that was shown, and lists it.
func (c *Client) have() ([]string, error) {
	ids := slices.Sorted(maps.Keys(c.known))
	for _, id := range ids {
		if err := c.keep(id); err != nil {
			return nil, err
		}
	}
	return ids, c.sync()
}

// keep adds an id that was shown to the store, unless the store has it.
func (c *Client) keep(id string) error {
	if c.known[id] {
		return nil
	}
	c.known[id] = false
	if err := c.cfg.Store.Add(id); err != nil {
		return fmt.Errorf("remember that message %s was shown: %w", id, err)
	}
	c.known[id], c.unsynced = true, true
	return nil
}

func (c *Client) sync() error {
	if !c.unsynced {
		return nil
	}
	if err := c.cfg.Store.Sync(); err != nil {
		return fmt.Errorf("make the memory of what was shown durable: %w", err)
	}
	c.unsynced = false
	return nil
}

func (c *Client) dial(ctx context.Context, to *url.URL) (*websocket.Conn, ending) {
	ctx, cancel := context.WithTimeout(ctx, c.cfg.DialTimeout)
	defer cancel()
	conn, resp, err := websocket.Dial(ctx, to.String(), &websocket.DialOptions{
		HTTPClient: c.cfg.HTTPClient,
		HTTPHeader: http.Header{"Authorization": {"Bearer " + c.token}},
	})
	if err == nil {
		conn.SetReadLimit(maxFrame)
		return conn, ending{}
	}
	if resp != nil && (resp.StatusCode == http.StatusUnauthorized || resp.StatusCode == http.StatusForbidden) {
		return nil, ending{denied: true, err: fmt.Errorf("connect to %s: status %d: %w", to.Host, resp.StatusCode, ErrDenied)}
	}
	if resp != nil && resp.StatusCode != http.StatusSwitchingProtocols {
		return nil, ending{err: fmt.Errorf("connect to %s: status %d; is this a gateway?", to.Host, resp.StatusCode)}
	}
	return nil, ending{err: fmt.Errorf("connect to %s: %w", to.Host, err)}
}

// renew asks for a token after a denial and reports whether it is another one.
func (c *Client) renew(ctx context.Context) bool {
	token, err := c.cfg.Token(ctx)
	if err != nil {
		c.trouble(fmt.Errorf("ask for a token: %w", err))
		return false
	}
	other := token != c.token
	c.token = token
	return other
}

func (c *Client) trouble(err error) {
	c.cfg.Logger.Warn("the client goes on after an error", "error", err)
	c.cfg.OnError(err)
}

// sleep waits and reports whether the context still lasts.
func sleep(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
	case <-t.C:
	}
	return ctx.Err() == nil
}
