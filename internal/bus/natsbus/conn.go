package natsbus

import (
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/nats-io/nats.go"
)

// A peer that does not answer two pings is taken for cut off. Inside the process
// nothing can be cut; there it only has to be noticed some time.
const (
	pingInterval  = 2 * time.Second
	pingInside    = 30 * time.Second
	pingsOut      = 2
	dialTimeout   = 2 * time.Second
	reconnectWait = 200 * time.Millisecond
)

// Dial says where and as whom to connect.
type Dial struct {
	URL    string       // of the servers, separated by commas: any of them; unused inside the process
	Token  string       // what the server asks for; or:
	Creds  Creds        // who connects
	TLS    TLS          // how, if the server asks for more than its URL says (tls://)
	Name   string       // shown in logs, here and at the server
	Logger *slog.Logger // default slog.Default()
}

// Connect makes a connection to one of the servers elsewhere. It fails if none is
// there now; once made, the connection comes back by itself for ever, to any of them.
func Connect(d Dial) (*nats.Conn, error) { return connect(d, outside()...) }

// outside are the options of a connection that can be cut. A write that does not get on
// keeps pings from being sent and counted, so that it has to notice the cut itself.
func outside() []nats.Option {
	return []nats.Option{nats.PingInterval(pingInterval), nats.FlusherTimeout((pingsOut + 1) * pingInterval)}
}

func connect(d Dial, more ...nats.Option) (*nats.Conn, error) {
	log := d.Logger
	if log == nil {
		log = slog.Default()
	}
	log = log.With("part", "bus", "connection", d.Name)
	opts := []nats.Option{
		nats.Name(d.Name),
		nats.Timeout(dialTimeout),
		nats.MaxReconnects(-1),
		nats.ReconnectWait(reconnectWait),
		nats.ReconnectJitter(reconnectWait, reconnectWait),
		// Nothing is kept while cut: it would be sent late, after its sender has
		// already been told that it is unknown.
		nats.ReconnectBufSize(-1),
		nats.IgnoreAuthErrorAbort(), // a server that starts again may refuse for a moment
		nats.MaxPingsOutstanding(pingsOut),
		nats.ErrorHandler(func(_ *nats.Conn, sub *nats.Subscription, err error) {
			subject := ""
			if sub != nil {
				subject = sub.Subject
			}
			log.Error("a message was not taken", "subject", subject, "error", err)
		}),
		nats.DisconnectErrHandler(func(_ *nats.Conn, err error) {
			if err != nil {
				log.Warn("the connection is cut; it will come back", "error", err)
			}
		}),
		nats.ReconnectHandler(func(*nats.Conn) { log.Info("the connection is back") }),
	}
	if d.Token != "" {
		opts = append(opts, nats.Token(d.Token))
	}
	opts = append(append(opts, d.Creds.options()...), d.TLS.options()...)
	nc, err := nats.Connect(d.URL, append(opts, more...)...)
	if errors.Is(err, nats.ErrAuthorization) || errors.Is(err, nats.ErrAuthExpired) || errors.Is(err, nats.ErrAuthRevoked) || errors.Is(err, nats.ErrAccountAuthExpired) {
		return nil, fmt.Errorf("connecting %s to the bus at %s: %w (%w)", d.Name, d.URL, ErrDenied, err)
	}
	if err != nil {
		return nil, fmt.Errorf("connecting %s to the bus at %s: %w", d.Name, d.URL, err)
	}
	return nc, nil
}

// ErrDenied is wrapped when a server refuses who connects.
var ErrDenied = errors.New("the server refuses this user")

// Conn is a connection to a server; streams are opened over it.
type Conn = nats.Conn
