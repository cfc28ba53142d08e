package ws

import (
	"context"
	"errors"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/coder/websocket"

	"crier/internal/idset"
	"crier/job"
	"crier/presence/handoff"
)

var inc2 = job.Incarnation{Gateway: "gw2", Start: 1}

// redirectAge is how old a connection must be for the core to redirect it.
const redirectAge = 10 * time.Second

// redirect repeats what a home says until it has its effect.
func (w *world) redirect(what, to string, who []uint32, ok func() bool) {
	w.t.Helper()
	m := (&handoff.Redirect{Inc: w.g.cfg.Core.Incarnation, To: to, Who: idset.Of(who...)}).Bytes()
	w.eventually(what, func() bool {
		if err := w.bus.Publish(handoff.RedirectTo(w.g.cfg.Core.Incarnation.Gateway), m); err != nil {
			w.t.Error(err)
		}
		return ok()
	})
}

// TestARedirectedClientIsToldWhereToGo has clients that do not leave by themselves.
func TestARedirectedClientIsToldWhereToGo(t *testing.T) {
	t.Parallel()
	w := newWorld(t, func(c *Config) { c.LeaveWait = 50 * time.Millisecond })
	cases := []struct{ to, reason string }{
		{"wss://gw2.example.net/v1/connect", "wss://gw2.example.net/v1/connect"},
		{"wss://gw2.example.net/" + strings.Repeat("x", 101), "wss://gw2.example.net/" + strings.Repeat("x", 101)},
		{"wss://gw2.example.net/" + strings.Repeat("x", 102), ""},
	}
	began, all := time.Now(), make([]*raw, len(cases))
	for i := range cases {
		all[i] = w.connect(uint32(i))
	}
	stream := &reader{w: w, who: 99, query: "client=x&have="}
	stream.open()
	for i, x := range cases {
		w.redirect("the client is redirected", x.to, []uint32{uint32(i)}, func() bool { return w.g.Stats().Core.ClosedMoved == uint64(i)+1 })
		if f := all[i].expect("redirect"); f["url"] != x.to {
			t.Errorf("redirected to %v", f["url"])
		}
		_, err := all[i].read()
		var closed websocket.CloseError
		if !errors.As(err, &closed) || closed.Code != codeMoved || closed.Reason != x.reason {
			t.Errorf("closed by %v, want %d %q", err, codeMoved, x.reason)
		}
	}
	w.redirect("the stream is redirected", cases[0].to, []uint32{99}, func() bool { return w.g.Stats().Core.ClosedMoved == uint64(len(cases))+1 })
	const there = "https://gw2.example.net/v1/stream"
	if f := stream.expect("redirect"); f["url"] != there {
		t.Errorf("a stream is redirected to %v", f["url"])
	}
	if f := stream.expect("close"); f["code"] != float64(codeMoved) || f["reason"] != there {
		t.Errorf("a stream is closed by %v", f)
	}
	if took := time.Since(began); took < redirectAge {
		t.Errorf("connections were redirected within %v", took)
	}
	// A beat says where clients connect, another incarnation's redirect says nothing here.
	c := w.connect(9)
	other := handoff.Redirect{Inc: inc2, To: "wss://gw3.example.net", Who: idset.Of(9)}
	if err := w.bus.Publish(handoff.RedirectTo("gw1"), other.Bytes()); err != nil {
		t.Fatal(err)
	}
	w.handOff(jobID(1), "still here", 9)
	c.expect("message")
}

// TestTheGoClientFollowsARedirect moves clients between two gateways while messages are
// on their way to them. What the first did not get acknowledged, the second hands over.
func TestTheGoClientFollowsARedirect(t *testing.T) {
	t.Parallel()
	const people = 20
	a, b := newWorld(t, nil), newWorldAt(t, t.TempDir(), inc2, nil)
	all := make([]*person, people)
	targets := make([]uint32, people)
	for i := range all {
		all[i] = &person{w: a, r: uint32(i), path: filepath.Join(t.TempDir(), "ids"), shown: map[string]int{}}
		all[i].start()
		targets[i] = uint32(i)
	}
	a.eventually("all are at the first", func() bool { return len(a.joined) == people })
	began := time.Now()
	a.eventually("they are there for long enough", func() bool { return time.Since(began) > redirectAge })
	_, ref := a.handOff(jobID(1), "on the way", targets...)
	a.redirect("all have left the first", b.url, targets, func() bool { return len(a.joined) == 0 })
	b.eventually("all are at the second", func() bool { return len(b.joined) == people })
	acked, _ := a.ends(ref, targets...)
	left := idset.Of(targets...)
	left.AndNot(acked)
	if !left.IsEmpty() {
		_, ref := b.handOff(jobID(1), "on the way", slices.Collect(left.All())...)
		b.ends(ref, slices.Collect(left.All())...)
	}
	_, ref = b.handOff(jobID(2), "there", targets...)
	b.ends(ref, targets...)
	for _, p := range all {
		p.stop()
		if n, m := p.shown[jobID(1).String()], p.shown[jobID(2).String()]; n != 1 || m != 1 {
			t.Errorf("%d has shown the first message %d times and the second %d times", p.r, n, m)
		}
	}
}

// TestHandOffsThatMayNotBeTaken asks a gateway that may take nothing: it does not
// answer, and takes the copy that comes later.
func TestHandOffsThatMayNotBeTaken(t *testing.T) {
	t.Parallel()
	var may atomic.Bool
	w := newWorld(t, func(c *Config) { c.May = may.Load })
	c := w.connect(5)
	w.eventually("the home knows 5", func() bool { return w.joined[5] })
	h := &handoff.Handoff{Ref: job.Ref{Journal: w.journal, N: 1}, To: inc1, Job: jobID(1), Targets: idset.Of(5), Message: &handoff.Message{Body: []byte("x")}}
	ctx, cancel := context.WithTimeout(t.Context(), 500*time.Millisecond)
	defer cancel()
	if b, err := w.bus.Request(ctx, handoff.HandoffTo("gw1"), h.Bytes()); err == nil {
		t.Fatalf("answered with %x", b)
	}
	may.Store(true)
	if a := w.ask(h); a.Kind != handoff.Accepted {
		t.Fatalf("answer %+v", a)
	}
	c.expect("message")
}
