package gateway

import (
	"slices"
	"testing"
	"time"

	"crier/job"
	"crier/presence/handoff"
)

// Who belongs elsewhere is sent there, but for young connections and for those of
// clients that do not speak the protocol.
func TestRedirectedConnections(t *testing.T) {
	const there = "wss://gw2.test/v1/connect"
	g := newRig(t, Config{})
	g.connect(1, 5, 1)
	g.do(Connected{Conn: 2, Recipient: 5, Client: 2}) // says nothing of what it has
	g.connect(3, 6, 3)
	g.tick(redirectAge - time.Second)
	g.connect(4, 5, 4)
	if c := all[Close](g.do(Redirected{To: there, Who: []job.Recipient{5, 9}})); len(c) != 0 {
		t.Fatalf("closed too early: %v", c)
	}
	g.tick(time.Second)
	if c := all[Close](g.do(Redirected{To: there, Who: []job.Recipient{5, 9}})); !slices.Equal(c, []Close{{1, Moved, there}}) {
		t.Fatalf("closed %v", c)
	}
	if c := all[Close](g.do(Redirected{To: there, Who: []job.Recipient{5}})); len(c) != 0 {
		t.Fatalf("closed again: %v", c)
	}
	g.tick(redirectAge)
	if c := all[Close](g.do(Redirected{To: there, Who: []job.Recipient{5}})); !slices.Equal(c, []Close{{4, Moved, there}}) {
		t.Fatalf("closed %v", c)
	}
	if n := g.s.Stats().ClosedMoved; n != 2 {
		t.Fatalf("counted %d", n)
	}
}

// What was written to a connection that is redirected and is not acknowledged ends as
// with any other; an acknowledgement that comes while the client leaves counts.
func TestWhatARedirectedConnectionLeaves(t *testing.T) {
	g := newRig(t, Config{})
	g.connect(1, 5, 1)
	g.connect(2, 6, 2)
	g.tick(redirectAge)
	g.do(HandedOff{Request: request(1, jobID(1), 5, 6), Token: 1})
	if g.answer().Kind == handoff.NeedBody {
		h := request(1, jobID(1), 5, 6)
		h.Message = &handoff.Message{Body: []byte("x")}
		g.do(HandedOff{Request: h, Token: 2})
	}
	g.do(Pump{})
	g.do(Redirected{To: "wss://gw2.test", Who: []job.Recipient{5, 6}})
	g.do(Acked{Conn: 1, IDs: []job.ID{jobID(1)}})
	g.do(Disconnected{Conn: 1})
	g.do(Disconnected{Conn: 2})
	reports := all[Publish](g.effects)
	if len(reports) == 0 {
		g.tick(time.Second)
		reports = all[Publish](g.effects)
	}
	if len(reports) != 1 {
		t.Fatalf("reported: %s", describe(g.effects))
	}
	p := reports[0].Report
	if acked, waiting := p.Split(request(1, jobID(1), 5, 6).Targets); !acked.Has(5) || acked.Has(6) || !waiting.IsEmpty() || !p.Unacked.Has(6) {
		t.Fatalf("reported %s", says(p))
	}
}
