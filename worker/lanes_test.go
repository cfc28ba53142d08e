package worker

import (
	"context"
	"encoding/json"
	"testing"
	"testing/synctest"
	"time"

	"crier/internal/work"
	"crier/presence/gateway"
)

// A worker that is asked tells what its lanes are at: here one of them waits for a
// gateway that has not answered yet.
func TestAWorkerTellsItsLanes(t *testing.T) {
	inWorld(t, 5, func(w *world) {
		synctest.Wait() // until it listens
		ask := func() (lanes []work.Lane) {
			b, err := w.bus.Request(context.Background(), work.LanesTo("w1"), nil)
			if err != nil {
				t.Fatal(err)
			}
			if err := json.Unmarshal(b, &lanes); err != nil {
				t.Fatalf("%v in %s", err, b)
			}
			return lanes
		}
		lanes := ask()
		if len(lanes) != 8 || lanes[0] != (work.Lane{Phase: "idle"}) {
			t.Fatalf("before there is a job: %+v", lanes)
		}
		pkg, _ := w.crowd(2000, 1)
		w.gw.end() // it is still taken for online, and does not answer
		id := w.submit(pkg, nil)
		var busy work.Lane
		w.until("a lane waits for the gateway", func() bool {
			w.offer(id)
			busy = ask()[0]
			return busy.Phase == "handing"
		})
		if busy.Job != id || busy.Span.IsEmpty() || busy.Targets == 0 || busy.Since.IsZero() || busy.Since.After(time.Now()) {
			t.Fatalf("a lane at work is told as %+v", busy)
		}
		w.gw.start(2, gateway.History{First: 1, Ended: []gateway.Ended{{Start: 1, Unreadable: true}}})
		w.send(id)
		for _, l := range ask() {
			if l.Phase != "idle" {
				t.Fatalf("after the job was sent: %+v", l)
			}
		}
	})
}
