package transport

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"time"
)

// ErrTurnedAway is wrapped when somebody answers at an address and does not take this
// member's frames: one of the two has TLS and the other has not, or does not trust the
// other's certificate; or it is no member at all.
var ErrTurnedAway = errors.New("it does not take this member's frames")

// Probe finds out whether a member at an address takes frames that are sent as cfg says.
// It sends one without anything, which is confirmed and ignored.
func Probe(ctx context.Context, cfg TCPConfig, addr string) error {
	var d net.Dialer
	raw, err := d.DialContext(ctx, "tcp", addr)
	if err != nil {
		return fmt.Errorf("calling the member at %s: %w", addr, err)
	}
	defer raw.Close()
	if end, ok := ctx.Deadline(); ok {
		_ = raw.SetDeadline(end)
	} else {
		_ = raw.SetDeadline(time.Now().Add(idle))
	}
	c := cfg.secured(raw, addr)
	if _, err = io.WriteString(c, magic+"\x00\x00\x00\x00"); err == nil {
		_, err = io.ReadFull(c, make([]byte, 1))
	}
	var late net.Error
	switch {
	case errors.As(err, &late) && late.Timeout():
		return fmt.Errorf("calling the member at %s: %w", addr, err)
	case err != nil:
		return fmt.Errorf("calling the member at %s: %w: %w", addr, ErrTurnedAway, err)
	}
	return nil
}
