package ws

import (
	"sync/atomic"
	"time"

	"crier/job"
	"crier/presence/gateway"
)

// Stats are the gateway's counters, none of them by recipient or job. Core is as of
// the last tick, a tenth of a second ago at most.
type Stats struct {
	Core                     gateway.Stats
	Sockets                  int    // open, also before their hello
	Connections              uint64 // ever taken
	RefusedTokens            uint64
	FramesOut, BytesOut      uint64
	Acks                     uint64 // ids acknowledged by clients, repeats included
	MalformedFrames          uint64 // of clients
	MalformedMessages        uint64 // on the bus
	TooSlow, DeadSockets     uint64 // closed for a full queue; for an unanswered ping
	AnnouncementsWithoutHome uint64 // to be repeated
}

type counters struct {
	connections, refusedTokens, framesOut, bytesOut, acks    atomic.Uint64
	malformedFrames, malformedMessages, tooSlow, deadSockets atomic.Uint64
	announceRetries                                          atomic.Uint64
}

// Stats tells the counters. It may be called at any time from anywhere.
func (g *Gateway) Stats() Stats {
	s := *g.stats.Load()
	c := &g.counters
	g.mu.Lock()
	s.Sockets = len(g.mu.sockets)
	g.mu.Unlock()
	s.Connections, s.RefusedTokens = c.connections.Load(), c.refusedTokens.Load()
	s.FramesOut, s.BytesOut, s.Acks = c.framesOut.Load(), c.bytesOut.Load(), c.acks.Load()
	s.MalformedFrames, s.MalformedMessages = c.malformedFrames.Load(), c.malformedMessages.Load()
	s.TooSlow, s.DeadSockets, s.AnnouncementsWithoutHome = c.tooSlow.Load(), c.deadSockets.Load(), c.announceRetries.Load()
	return s
}

// Connections tells when each of a recipient's open connections was made. It may be called
// at any time from anywhere, and looks at all connections.
func (g *Gateway) Connections(who job.Recipient) (since []time.Time) {
	g.mu.Lock()
	defer g.mu.Unlock()
	for c := range g.mu.sockets {
		if c.who == who {
			since = append(since, c.since)
		}
	}
	return since
}

func (g *Gateway) publishStats() { g.stats.Store(&Stats{Core: g.state.Stats()}) }
