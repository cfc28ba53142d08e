package client

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"net/url"
	"time"
)

// MaxUnsettled is the most ids that a client remembers, as many as a gateway looks
// at in a hello. A gateway that keeps to the protocol lets 64 be unsettled. A message
// beyond the bound is neither shown nor acknowledged.
const MaxUnsettled = 256

// Order says what comes first, showing a message or remembering it. The package
// comment weighs the two.
type Order uint8

// The two orders.
const (
	ShowFirst  Order = iota // at least once: a crash in between shows the message again
	StoreFirst              // at most once: a crash in between loses the message
)

// Config is what a Client needs to know. URL, Token and OnMessage are required;
// other zero fields take their defaults.
type Config struct {
	// URL is where to connect: http, https, ws or wss. Without a path it gets
	// /v1/connect. It carries no token: errors and logs show it.
	URL string
	// Others are further gateways, as URL is one. When a connection ends, or does not
	// come about, the next one is tried, in turn. Default: none.
	Others []string
	// Token gives the recipient's token. It is asked before the first connection and
	// again each time the gateway has denied the token; a different answer is tried
	// at once. For a token that never changes: StaticToken.
	Token func(ctx context.Context) (string, error)
	// OnMessage shows a message. After an error the message counts as not shown: it
	// is not acknowledged, and the gateway closes the connection after 30 s and sends
	// it again. So it does if OnMessage takes longer than that. The context ends with
	// that of Run.
	OnMessage func(ctx context.Context, m Message) error
	// OnWithdraw takes messages off the display that were recalled, by id; those that
	// were never shown are to be ignored. It may be called again for the same ids, and is
	// after an error, as with OnMessage. Default: the client does not say that it can, and
	// the sender learns that the message was not taken back.
	OnWithdraw func(ctx context.Context, ids []string) error
	// OnConnect is told that a connection is open and hello is said. Called by the
	// goroutine of Run. Default: nothing is done.
	OnConnect func()
	// OnError is told why a connection ended or did not come about, and what else
	// went wrong; see ErrDenied and the others. The client goes on by itself. Called
	// by the goroutine of Run. Default: only the log is told.
	OnError func(err error)
	// Store remembers ids. Default: NewMemory(), with which a restart of the process
	// shows unsettled messages again.
	Store Store
	// ClientID is the id of this installation, at most 128 bytes without control
	// characters. Default: the one of the store.
	ClientID string
	// Order is what comes first. Default: ShowFirst.
	Order Order
	// AckDelay is how long an acknowledgement waits for others. Default: 20 ms.
	AckDelay time.Duration
	// PingEvery and PingTimeout find dead connections: a ping goes out each PingEvery,
	// and one without an answer for PingTimeout ends the connection. Defaults: 20 s, 10 s.
	PingEvery, PingTimeout time.Duration
	// DialTimeout bounds the making of a connection, WriteTimeout each write.
	// Defaults: 15 s, 10 s.
	DialTimeout, WriteTimeout time.Duration
	// Backoff is how long to wait between connections.
	Backoff Backoff
	// HTTPClient makes the connections. Redirects of HTTP are not followed. Default:
	// http.DefaultClient.
	HTTPClient *http.Client
	// Random gives numbers in [0, 1) for the jitter. Default: math/rand/v2.
	Random func() float64
	// Logger gets what went wrong (Warn) and each connection (Debug). Default: none.
	Logger *slog.Logger
}

// StaticToken is a Config.Token that always gives the same token.
func StaticToken(token string) func(context.Context) (string, error) {
	return func(context.Context) (string, error) { return token, nil }
}

// Validate fills in the defaults and reports the first field that cannot be used,
// by name.
func (c *Config) Validate() error {
	if c.Token == nil {
		return errors.New("client: Config.Token is needed: a function that gives the recipient's token")
	}
	if c.OnMessage == nil {
		return errors.New("client: Config.OnMessage is needed: it shows a message")
	}
	if _, err := target(c.URL); err != nil {
		return fmt.Errorf("client: Config.URL: %w", err)
	}
	for _, other := range c.Others {
		if _, err := target(other); err != nil {
			return fmt.Errorf("client: Config.Others: %w", err)
		}
	}
	if c.ClientID != "" && !validID(c.ClientID) {
		return fmt.Errorf("client: Config.ClientID %q: want at most %d bytes without control characters", c.ClientID, maxID)
	}
	if c.Order > StoreFirst {
		return fmt.Errorf("client: Config.Order %d: want ShowFirst or StoreFirst", c.Order)
	}
	for _, d := range []struct {
		name     string
		value    *time.Duration
		standard time.Duration
	}{
		{"AckDelay", &c.AckDelay, 20 * time.Millisecond},
		{"PingEvery", &c.PingEvery, 20 * time.Second},
		{"PingTimeout", &c.PingTimeout, 10 * time.Second},
		{"DialTimeout", &c.DialTimeout, 15 * time.Second},
		{"WriteTimeout", &c.WriteTimeout, 10 * time.Second},
	} {
		if *d.value < 0 {
			return fmt.Errorf("client: Config.%s is negative", d.name)
		}
		if *d.value == 0 {
			*d.value = d.standard
		}
	}
	c.fill()
	return c.Backoff.validate()
}

func (c *Config) fill() {
	if c.Store == nil {
		c.Store = NewMemory()
	}
	if c.HTTPClient == nil {
		c.HTTPClient = http.DefaultClient
	}
	if c.Random == nil {
		c.Random = rand.Float64
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	if c.OnConnect == nil {
		c.OnConnect = func() {}
	}
	if c.OnError == nil {
		c.OnError = func(error) {}
	}
}

// target reads the address of a gateway.
func target(address string) (*url.URL, error) {
	u, err := url.Parse(address)
	if err != nil {
		return nil, fmt.Errorf("%q is not a URL", address)
	}
	switch {
	case secure(u) || u.Scheme == "http" || u.Scheme == "ws":
	default:
		return nil, fmt.Errorf("scheme %q: want http, https, ws or wss", u.Scheme)
	}
	switch {
	case u.Host == "":
		return nil, errors.New("there is no host in it")
	case u.User != nil || u.Query().Has("token"):
		return nil, errors.New("there is a token or a password in it; it belongs into Config.Token")
	}
	if u.Path == "" || u.Path == "/" {
		u.Path = "/v1/connect"
	}
	u.Fragment = ""
	return u, nil
}

// redirected is where a redirect frame that came from one address leads.
func redirected(from *url.URL, to string) (*url.URL, error) {
	ref, err := url.Parse(to)
	if err != nil {
		return nil, errors.New("the gateway redirects to what is not a URL")
	}
	there := from.ResolveReference(ref)
	query := there.Query()
	query.Del("token") // ours goes into the header
	there.RawQuery = query.Encode()
	u, err := target(there.String())
	switch {
	case err != nil:
		return nil, fmt.Errorf("the gateway redirects to a URL that cannot be used: %w", err)
	case secure(from) && !secure(u):
		return nil, errors.New("the gateway redirects from an encrypted connection to an open one, where the token could be read")
	}
	return u, nil
}

func secure(u *url.URL) bool { return u.Scheme == "https" || u.Scheme == "wss" }
