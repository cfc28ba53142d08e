package ws

import (
	"context"
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"sync"
	"testing"

	"crier/internal/idset"
	"crier/presence/client"
)

// person is a recipient with the Go client and a store in a file.
type person struct {
	w     *world
	r     uint32
	path  string
	mu    sync.Mutex
	shown map[string]int
	stop  func()
}

// start runs the client until stop.
func (p *person) start() {
	store, err := client.OpenFile(p.path)
	if err != nil {
		p.w.t.Fatal(err)
	}
	c, err := client.New(client.Config{URL: p.w.url, Token: client.StaticToken(fmt.Sprint("r", p.r)), Store: store,
		OnMessage: func(_ context.Context, m client.Message) error {
			p.mu.Lock()
			defer p.mu.Unlock()
			p.shown[m.ID]++
			return nil
		}})
	if err != nil {
		p.w.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- c.Run(ctx) }()
	p.stop = func() {
		cancel()
		if err := <-ended; err != nil {
			p.w.t.Errorf("client %d: %v", p.r, err)
		}
		if err := store.Close(); err != nil {
			p.w.t.Error(err)
		}
	}
}

// TestTheGoClientEndToEnd sends jobs to many clients over real sockets, some of which
// leave and come back meanwhile. What was not delivered is handed over again, as the
// home would. In the end everyone has shown everything once.
func TestTheGoClientEndToEnd(t *testing.T) {
	const people, jobs = 40, 6
	w := newWorld(t, nil)
	all := make([]*person, people)
	targets := make([]uint32, people)
	for i := range all {
		all[i] = &person{w: w, r: uint32(i), path: filepath.Join(t.TempDir(), "ids"), shown: map[string]int{}}
		all[i].start()
		targets[i] = uint32(i)
	}
	w.eventually("all are here", func() bool { return len(w.joined) == people })
	for j := range jobs {
		left := slices.Clone(targets)
		for try := 0; len(left) > 0; try++ {
			if try == 50 {
				t.Fatalf("job %d: %v are never reached", j, left)
			}
			_, ref := w.handOff(jobID(j), fmt.Sprint("job ", j), left...)
			if try == 0 { // some leave and come back while it is under way
				for i := j; i < people; i += 7 {
					all[i].stop()
					all[i].start()
				}
			}
			acked, _ := w.ends(ref, left...)
			rest := idset.Of(left...)
			rest.AndNot(acked)
			left = slices.Collect(rest.All())
			w.eventually("all are here again", func() bool { return len(w.joined) == people })
		}
	}
	for _, p := range all {
		p.mu.Lock()
		for j := range jobs {
			if n := p.shown[jobID(j).String()]; n != 1 {
				t.Errorf("%d has shown job %d %d times", p.r, j, n)
			}
		}
		if len(p.shown) != jobs {
			t.Errorf("%d has shown %v", p.r, slices.Collect(maps.Keys(p.shown)))
		}
		p.mu.Unlock()
	}
	w.eventually("everything is settled", func() bool {
		st := w.g.Stats().Core
		return st.Reserves == 0 && st.Settled > 0
	})
	for _, p := range all {
		p.stop()
	}
}
