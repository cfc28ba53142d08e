package inforce

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"
)

var errRevoked = errors.New("revoked")

// until is what is asked: nil until a moment has come.
func until(revoked time.Time) func(context.Context) error {
	return func(context.Context) error {
		if time.Now().Before(revoked) {
			return nil
		}
		return errRevoked
	}
}

// A request ends within a second of its key's end, and is told why.
func TestWatchEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		revoked := time.Now().Add(time.Minute + 100*time.Millisecond)
		ctx, stop := Watch(t.Context(), until(revoked))
		defer stop()
		inner, cancel := context.WithCancelCause(ctx)
		defer cancel(nil)
		<-inner.Done()
		if late := time.Since(revoked); late < 0 || late > time.Second {
			t.Errorf("it ended %s after its key", late)
		}
		if Why(inner) != errRevoked || Settle(inner) != errRevoked {
			t.Errorf("why it ended: %v", Why(inner))
		}
	})
}

// Who asks for a key is not waited for longer than there is time.
func TestWatchIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		began := time.Now()
		ctx, stop := Watch(t.Context(), func(ctx context.Context) error { <-ctx.Done(); return errRevoked })
		defer stop()
		<-ctx.Done()
		if took := time.Since(began); took > time.Second {
			t.Errorf("it ended after %s", took)
		}
	})
}

// What is settled goes on to its end, and other ends have no reason here.
func TestSettled(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, stop := Watch(t.Context(), until(time.Now()))
		if err := Settle(ctx); err != nil {
			t.Error(err)
		}
		time.Sleep(time.Minute)
		if ctx.Err() != nil {
			t.Errorf("what is settled ended: %v", context.Cause(ctx))
		}
		stop()
		if ctx.Err() == nil || Why(ctx) != nil {
			t.Errorf("the end of a request: %v, because %v", ctx.Err(), Why(ctx))
		}
	})
	if err := Settle(t.Context()); err != nil {
		t.Errorf("what nobody asks about: %v", err)
	}
}

// Once a request is over nobody asks about it.
func TestStopped(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		asked := 0
		_, stop := Watch(t.Context(), func(context.Context) error { asked++; return nil })
		time.Sleep(1100 * time.Millisecond)
		stop()
		time.Sleep(time.Minute)
		if asked != 2 {
			t.Errorf("asked %d times", asked)
		}
	})
}
