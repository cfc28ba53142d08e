package cluster

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"time"
)

// Mode is how a cut behaves.
type Mode string

// The modes of a cut.
const (
	// Hold keeps connections open and lets nothing through, in one direction, as a
	// network that loses packets does: what was written arrives when it heals, and
	// connections are not made meanwhile, for that takes both directions.
	Hold Mode = "hold"
	// Refuse ends the connections between two and refuses new ones, both ways.
	Refuse Mode = "refuse"
)

// Cut is what the proxy does to what goes from one process to another.
type Cut struct {
	From string `json:"from"` // the name of a process
	To   string `json:"to"`
	Mode Mode   `json:"mode"`
	// What it did so far; the proxy fills it in.
	Held    uint64 `json:"held"`    // bytes that wait or waited, at the proxy or in the kernel before it
	Dials   uint64 `json:"dials"`   // connections that could not be made
	Refused uint64 `json:"refused"` // connections that were ended or refused
}

// idleMost is the most bytes that a connection on which nothing is said holds until its ends
// take it for dead: three pings of NATS are 18 bytes, two of ZooKeeper 32.
const idleMost = 64

// Bit reports whether the cut had an effect: it held more than pings, or kept somebody
// from connecting.
func (c Cut) Bit() bool { return c.Held > idleMost || c.Dials+c.Refused > 0 }

// BothWays is a cut between two processes in both directions.
func BothWays(a, b string, mode Mode) []Cut {
	return []Cut{{From: a, To: b, Mode: mode}, {From: b, To: a, Mode: mode}}
}

// Flow is what went from one process to another through the proxy since it began.
type Flow struct {
	From  string `json:"from"`
	To    string `json:"to"`
	Bytes uint64 `json:"bytes"`
}

// order is what the proxy is told: the cuts that there are to be, or nothing, to be
// asked only.
type order struct {
	Set  bool  `json:"set"`
	Cuts []Cut `json:"cuts"`
}

// answer is what the proxy says to that.
type answer struct {
	Cuts  []Cut  `json:"cuts"`
	Flows []Flow `json:"flows"`
}

// controlWithin bounds a question to the proxy.
const controlWithin = 2 * time.Second

func (c *Cluster) control() string { return c.path("proxy.sock") }

func (c *Cluster) tellProxy(ctx context.Context, o order) (a answer, err error) {
	ctx, cancel := context.WithTimeout(ctx, controlWithin)
	defer cancel()
	conn, err := new(net.Dialer).DialContext(ctx, "unix", c.control())
	if err != nil {
		return a, fmt.Errorf("asking the proxy: %w", err)
	}
	defer conn.Close()
	end, _ := ctx.Deadline()
	if err := conn.SetDeadline(end); err != nil {
		return a, fmt.Errorf("asking the proxy: %w", err)
	}
	if err := json.NewEncoder(conn).Encode(o); err != nil {
		return a, fmt.Errorf("telling the proxy: %w", err)
	}
	if err := json.NewDecoder(conn).Decode(&a); err != nil {
		return a, fmt.Errorf("hearing the proxy: %w", err)
	}
	return a, nil
}

// Cut makes these cuts, and no others, of what goes between processes by the proxy.
func (c *Cluster) Cut(ctx context.Context, cuts ...Cut) error {
	s, err := c.State()
	if err != nil {
		return err
	}
	for _, x := range cuts {
		if s.find(x.From) == nil || s.find(x.To) == nil {
			return fmt.Errorf("cutting %s from %s: one of them is no process of the cluster", x.From, x.To)
		}
		if x.Mode != Hold && x.Mode != Refuse {
			return fmt.Errorf("cutting %s from %s: mode %q, want hold or refuse", x.From, x.To, x.Mode)
		}
	}
	_, err = c.tellProxy(ctx, order{Set: true, Cuts: cuts})
	return err
}

// Heal ends all cuts.
func (c *Cluster) Heal(ctx context.Context) error { return c.Cut(ctx) }

// Cuts tells what is cut and what that did.
func (c *Cluster) Cuts(ctx context.Context) ([]Cut, error) {
	a, err := c.tellProxy(ctx, order{})
	return a.Cuts, err
}

// Flows tells who talks to whom, by name.
func (c *Cluster) Flows(ctx context.Context) ([]Flow, error) {
	a, err := c.tellProxy(ctx, order{})
	return a.Flows, err
}
