package app

import (
	"context"
	"errors"
	"io/fs"
	"net"
	"net/http"
	"os"
	"time"

	"crier/internal/app/leases"
	"crier/internal/bus/natsbus"
	"crier/job"
	"crier/presence/gateway"
	"crier/presence/gateway/accepted"
	"crier/presence/gateway/ws"
)

// maxConnections leaves a process of 20,000 descriptors some for everything else.
const maxConnections = 16_000

// gatewayPart is the gateway of this process and its accepted-file.
type gatewayPart struct {
	gw    *ws.Gateway
	files *accepted.Files
	lease *leases.Gateway // nil if this process is alone
}

func (a *app) openGateway(context.Context) error {
	if !a.cfg.has("gateway") {
		return nil
	}
	inc := job.Incarnation{Gateway: a.node.Gateway(), Start: a.node.Starts}
	if err := a.missAccepted(); err != nil {
		return err
	}
	files, history, err := accepted.Open(accepted.Config{Dir: a.path("accepted"), Incarnation: inc, Boot: a.boot})
	if err != nil {
		return err
	}
	a.onClose("accepted-file", files.Close)
	part := &gatewayPart{files: files}
	var may func() bool
	if a.cfg.Cluster.isOn() {
		part.lease = &leases.Gateway{Incarnation: inc, URL: a.cfg.gatewayURL(), Member: a.node.Name, Store: a.coord,
			Log: a.streams.ledger, Logger: a.log, Began: time.Now()}
		may = part.lease.May
	}
	part.gw, err = ws.New(ws.Config{Core: gateway.Config{Incarnation: inc, History: history, URL: a.cfg.gatewayURL()}, Given: a.cfg.Gateway != "", Bus: natsbus.New(a.conn), Homes: a.claims, Verifier: a.keys, May: may,
		Accepted: beyond(a.cfg.Edge.Accepted, ws.Accepted(files)), Log: a.log, MaxConnections: maxConnections, StopWait: 3 * time.Second})
	if err != nil {
		return err
	}
	a.gateway, a.erased.OnErased = part, part.gw.Expel
	return nil
}

// missAccepted owns to it if the accepted-files of earlier starts are gone: what these
// accepted is in doubt then, and the clients are asked.
func (a *app) missAccepted() error {
	dir, before := a.path("accepted"), a.node.Starts-1
	left, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		err = nil
	}
	if err != nil || before == 0 || len(left) > 0 {
		return err
	}
	a.log.Warn("there are no accepted-files of the starts before this one; what these accepted is in doubt", "directory", dir)
	return accepted.Lost(dir, before)
}

// gatewayURL is where other gateways send clients to this one; "" if that is not known
// before a port is taken.
func (c *Config) gatewayURL() string {
	if c.Gateway != "" {
		return c.Gateway
	}
	host, port, err := net.SplitHostPort(c.Listen)
	if err != nil || port == "0" || host == "" || net.ParseIP(host).IsUnspecified() {
		return ""
	}
	return "ws://" + c.Listen + "/v1/connect"
}

// Run serves connections until ctx ends.
func (g *gatewayPart) Run(ctx context.Context) error {
	if err := g.gw.Run(ctx); err != nil {
		return &job.Error{Code: job.CodeUnavailable, Field: "nats.servers", Err: err,
			Message: "nats.servers: the bus stopped answering while the gateway started; see whether the servers run and are reached, and start this process again"}
	}
	return nil
}

// waitGateway waits until hand-offs reach the gateway: nobody is to be sent to it before.
func (a *app) waitGateway(ctx context.Context) error {
	if a.gateway == nil {
		return nil
	}
	select {
	case <-a.gateway.gw.Ready():
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// leases starts what keeps this process's gateway apart from those that are over, in a
// cluster.
func (a *app) leases(part func(string, func(context.Context) error)) {
	if !a.cfg.Cluster.isOn() {
		return
	}
	if a.gateway != nil {
		part("gateway's lease", a.gateway.lease.Run)
	}
	if a.worker != nil {
		part("gateways' leases", (&leases.Watch{Store: a.coord, Silent: a.worker.Silent, End: a.worker.EndGateway, Logger: a.log}).Run)
	}
}

// ServeHTTP takes a recipient's connection.
func (g *gatewayPart) ServeHTTP(w http.ResponseWriter, r *http.Request) { g.gw.ServeHTTP(w, r) }

func (g *gatewayPart) connections() int { return g.gw.Stats().Sockets }

// register makes the gateway's counters visible.
func (g *gatewayPart) register(counter func(name, help string, fn func() float64)) {
	for _, c := range []struct {
		name, help string
		get        func(ws.Stats) uint64
	}{
		{"accepted_total", "Recipients accepted in hand-offs.", func(s ws.Stats) uint64 { return s.Core.Accepted }},
		{"not_here_total", "Recipients of hand-offs who were not here.", func(s ws.Stats) uint64 { return s.Core.NotHere }},
		{"fenced_total", "Hand-offs of workers whose journal others have fenced here: nothing of them is taken.", func(s ws.Stats) uint64 { return s.Core.Fenced }},
		{"acknowledged_total", "Messages acknowledged.", func(s ws.Stats) uint64 { return s.Core.Acknowledged }},
		{"unacknowledged_total", "Messages whose last socket ended without an acknowledgement.", func(s ws.Stats) uint64 { return s.Core.Unacknowledged }},
		{"frames_out_total", "Frames written to sockets.", func(s ws.Stats) uint64 { return s.FramesOut }},
		{"bytes_out_total", "Bytes written to sockets.", func(s ws.Stats) uint64 { return s.BytesOut }},
		{"malformed_frames_total", "Frames of clients that could not be read.", func(s ws.Stats) uint64 { return s.MalformedFrames }},
		{"too_slow_total", "Connections closed because they did not read.", func(s ws.Stats) uint64 { return s.TooSlow }},
	} {
		counter("gateway_"+c.name, c.help, func() float64 { return float64(c.get(g.gw.Stats())) })
	}
}
