package natskv_test

import (
	"strings"
	"testing"
	"time"

	"crier/internal/bus/natsbus"
	"crier/state/coord"
	"crier/state/coord/coordtest"
	"crier/state/natskv"
)

// served is a server that can be stopped and started again where it was.
type served struct {
	t   *testing.T
	cfg natsbus.Config
	s   *natsbus.Server
}

func serve(t *testing.T) *served {
	v := &served{t: t, cfg: natsbus.Config{Dir: t.TempDir(), Listen: "127.0.0.1:0", Token: "x", Logger: quiet}}
	v.up()
	v.cfg.Listen = strings.TrimPrefix(v.s.URL(), "nats://")
	t.Cleanup(v.down)
	return v
}

func (v *served) down() { v.s.Shutdown() }

func (v *served) up() {
	s, err := natsbus.Start(v.cfg)
	if err != nil {
		v.t.Fatal(err)
	}
	v.s = s
}

func (v *served) dial(wait time.Duration) *natskv.Store {
	nc, err := natsbus.Connect(natsbus.Dial{URL: v.s.URL(), Token: "x", Name: "coordination", Logger: quiet})
	if err != nil {
		v.t.Fatal(err)
	}
	v.t.Cleanup(nc.Close)
	st, err := natskv.Open(v.t.Context(), nc, natskv.Config{Bucket: "coord", Wait: wait, Logger: quiet})
	if err != nil {
		v.t.Fatal(err)
	}
	return st
}

func TestOutage(t *testing.T) {
	t.Parallel()
	v := serve(t)
	coordtest.RunOutage(t, coordtest.Outage{
		A: v.dial(time.Second), B: v.dial(time.Second), Wait: time.Second,
		Down: v.down, Up: v.up,
	})
}

// TestLinear stops the server and starts it again while clients write.
func TestLinear(t *testing.T) {
	t.Parallel()
	v := serve(t)
	coordtest.RunLinear(t, coordtest.Linear{
		Key: "claim/x", Stores: []coord.Store{v.dial(time.Second), v.dial(time.Second)}, MinKnown: 200, Pace: 2 * time.Millisecond,
		Fault: func() { v.down(); v.up() },
	})
}
