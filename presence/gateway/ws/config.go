package ws

import (
	"fmt"
	"log/slog"
	"time"

	"crier/job"
	"crier/presence/gateway"
)

// Config is what a Gateway needs. Zero fields that name a default take it.
type Config struct {
	Core gateway.Config // incarnation, history, URL, window and memory bounds
	// Given: whoever runs the gateway gave Core.URL, and streams acknowledge there, wherever
	// they connected: several gateways may stand behind one address. Else they do at the
	// address that they connected to, which a proxy may have changed.
	Given    bool
	Bus      Bus
	Homes    Homes
	Verifier Verifier
	Accepted Accepted
	Log      *slog.Logger // default: nothing is logged

	// May reports whether hand-offs may be taken now. It is asked before each, and one
	// that may not be taken gets no answer. Default: always.
	May func() bool

	MaxConnections int           // default 100,000; beyond it 503
	HelloWait      time.Duration // a client that says nothing for so long is taken as one that does not say what it has; default 2 s
	BodyWait       time.Duration // the body of a request may take so long; default 30 s
	PingEvery      time.Duration // a silent connection is pinged so often; default 20 s
	PingWait       time.Duration // one that does not answer a ping for so long is dead; default 10 s
	LeaveWait      time.Duration // a client that is redirected may take so long to leave by itself; default 1 s
	StopWait       time.Duration // at most so long for closing connections when the gateway stops; default 4 s
}

func (c *Config) fill() error {
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	if c.May == nil {
		c.May = func() bool { return true }
	}
	if c.MaxConnections == 0 {
		c.MaxConnections = 100_000
	}
	for _, d := range []struct {
		field *time.Duration
		value time.Duration
	}{{&c.HelloWait, 2 * time.Second}, {&c.BodyWait, 30 * time.Second}, {&c.PingEvery, 20 * time.Second}, {&c.PingWait, 10 * time.Second},
		{&c.LeaveWait, time.Second}, {&c.StopWait, 4 * time.Second}} {
		if *d.field == 0 {
			*d.field = d.value
		}
	}
	return c.Validate()
}

// Validate names the first field that is missing or out of its bounds.
func (c *Config) Validate() error {
	switch {
	case c.Bus == nil:
		return job.Invalid("bus", "a gateway needs a bus", nil)
	case c.Homes == nil:
		return job.Invalid("homes", "a gateway needs somebody who finds homes", nil)
	case c.Verifier == nil:
		return job.Invalid("verifier", "a gateway needs a verifier of tokens", nil)
	case c.Accepted == nil:
		return job.Invalid("accepted", "a gateway needs an accepted-file", nil)
	case c.MaxConnections < 0:
		return job.Invalid("max_connections", fmt.Sprintf("%d connections at most: want a positive number", c.MaxConnections), nil)
	case c.HelloWait < 0 || c.BodyWait < 0 || c.PingEvery < 0 || c.PingWait < 0 || c.LeaveWait < 0 || c.StopWait < 0:
		return job.Invalid("wait", "a gateway's times must not be negative", nil)
	}
	return nil
}
