// Package transporttest is the behaviour that all transports share.
package transporttest

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"testing"
	"time"
)

// End is what a transport is for its user.
type End interface {
	Addr() string
	Send(addr string, frame []byte)
	Run(ctx context.Context, deliver func(frame []byte)) error
}

// MaxFrame is the bound of a frame.
const MaxFrame = 1 << 20

// Listen makes an end at an address, or at a free one if it is empty.
type Listen func(t *testing.T, addr string) End

// running is an end that receives.
type running struct {
	End
	frames chan []byte
	stop   func() error
}

func start(t *testing.T, e End) *running {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	r := &running{End: e, frames: make(chan []byte, 4096)}
	done := make(chan error, 1)
	go func() { done <- e.Run(ctx, func(f []byte) { r.frames <- f }) }()
	r.stop = func() error {
		cancel()
		select {
		case err := <-done:
			return err
		case <-time.After(10 * time.Second):
			return fmt.Errorf("the transport at %s does not end", e.Addr())
		}
	}
	return r
}

// Run holds a transport to the behaviour.
func Run(t *testing.T, listen Listen) {
	t.Run("frames arrive whole and in order", func(t *testing.T) { whole(t, listen) })
	t.Run("too long", func(t *testing.T) { tooLong(t, listen) })
	t.Run("nobody there", func(t *testing.T) { nobody(t, listen) })
	t.Run("somebody comes back", func(t *testing.T) { comesBack(t, listen) })
	t.Run("ends", func(t *testing.T) { ends(t, listen) })
	t.Run("a receiver that hangs", func(t *testing.T) { hangs(t, listen) })
}

func end(t *testing.T, rs ...*running) {
	t.Helper()
	for _, r := range rs {
		if err := r.stop(); err != context.Canceled {
			t.Errorf("Run gives %v after its context was cancelled", err)
		}
	}
}

func numbered(n uint64, size int) []byte {
	return append(binary.BigEndian.AppendUint64(nil, n), bytes.Repeat([]byte{byte(n)}, size)...)
}

// sendUntil sends frames until one arrives, since any may be lost.
func sendUntil(t *testing.T, from, to *running, frame []byte) {
	t.Helper()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.After(10 * time.Second); ; {
		from.Send(to.Addr(), frame)
		select {
		case <-to.frames:
			return
		case <-tick.C:
		case <-deadline:
			t.Fatalf("nothing arrives from %s at %s within 10 s", from.Addr(), to.Addr())
		}
	}
}

func whole(t *testing.T, listen Listen) {
	a, b := start(t, listen(t, "")), start(t, listen(t, ""))
	defer end(t, a, b)
	last := uint64(0)
	for n, size := range []int{1, 100, 70_000, MaxFrame - 8, 0, 5} {
		frame := numbered(uint64(n+1), size)
		deadline := time.After(10 * time.Second)
		a.Send(b.Addr(), frame)
		tick := time.NewTicker(200 * time.Millisecond)
		for arrived := false; !arrived; {
			select {
			case got := <-b.frames:
				number := binary.BigEndian.Uint64(got)
				if number < last {
					t.Fatalf("frame %d after %d", number, last)
				}
				last = number
				if number == uint64(n+1) {
					if !bytes.Equal(got, frame) {
						t.Fatalf("a frame of %d bytes arrives as another of %d", len(frame), len(got))
					}
					arrived = true
				}
			case <-tick.C:
				a.Send(b.Addr(), frame)
			case <-deadline:
				t.Fatalf("a frame of %d bytes does not arrive", len(frame))
			}
		}
		tick.Stop()
	}
}

func tooLong(t *testing.T, listen Listen) {
	a, b := start(t, listen(t, "")), start(t, listen(t, ""))
	defer end(t, a, b)
	a.Send(b.Addr(), make([]byte, MaxFrame+1))
	sendUntil(t, a, b, numbered(1, 1))
	for len(b.frames) > 0 {
		if f := <-b.frames; len(f) > MaxFrame {
			t.Errorf("a frame of %d bytes arrives", len(f))
		}
	}
}

func nobody(t *testing.T, listen Listen) {
	a, gone := start(t, listen(t, "")), start(t, listen(t, ""))
	defer end(t, a)
	end(t, gone)
	done := make(chan bool)
	go func() {
		for n := range uint64(10_000) {
			a.Send(gone.Addr(), numbered(n, 10))
		}
		close(done)
	}()
	select {
	case <-done:
	case <-time.After(10 * time.Second):
		t.Error("sending to nobody waits")
	}
	if len(gone.frames) > 0 {
		t.Error("who has ended receives")
	}
}

func comesBack(t *testing.T, listen Listen) {
	a, b := start(t, listen(t, "")), start(t, listen(t, ""))
	defer end(t, a)
	sendUntil(t, a, b, numbered(1, 1))
	end(t, b)
	a.Send(b.Addr(), numbered(2, 1))
	again := start(t, listen(t, b.Addr()))
	defer end(t, again)
	sendUntil(t, a, again, numbered(3, 1))
}

func ends(t *testing.T, listen Listen) {
	a, b := start(t, listen(t, "")), start(t, listen(t, ""))
	sendUntil(t, a, b, numbered(1, 1))
	sendUntil(t, b, a, numbered(1, 1))
	end(t, a, b)
	a.Send(b.Addr(), numbered(2, 1)) // no panic, and nothing else either
}

// hangs: who does not take what it gets does not hold up what is sent to others.
func hangs(t *testing.T, listen Listen) {
	a, b := start(t, listen(t, "")), start(t, listen(t, ""))
	defer end(t, a, b)
	release := make(chan bool)
	ctx, cancel := context.WithCancel(context.Background())
	slow := listen(t, "")
	done := make(chan error, 1)
	go func() { done <- slow.Run(ctx, func([]byte) { <-release }) }()
	for n := range uint64(2000) {
		a.Send(slow.Addr(), numbered(n, 10_000))
	}
	sendUntil(t, a, b, numbered(1, 1))
	cancel()
	close(release)
	<-done
}
