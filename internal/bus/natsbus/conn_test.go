package natsbus

import (
	"testing"

	"github.com/nats-io/nats.go"
)

// A write that a cut holds up holds up all senders, and the pings by which the cut would
// be noticed: it must not last longer than these.
func TestACutHoldsUpNoSenderForLong(t *testing.T) {
	opts := nats.GetDefaultOptions()
	for _, set := range outside() {
		if err := set(&opts); err != nil {
			t.Fatal(err)
		}
	}
	if most := (pingsOut + 1) * pingInterval; opts.PingInterval != pingInterval || opts.FlusherTimeout > most {
		t.Errorf("pings every %s, writes for %s: want %s at most", opts.PingInterval, opts.FlusherTimeout, most)
	}
}
