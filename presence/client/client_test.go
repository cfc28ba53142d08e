package client_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/coder/websocket"

	"crier/presence/client"
)

func TestEachMessageIsShownOnceWhateverHappens(t *testing.T) {
	for _, c := range []struct {
		name  string
		chaos chaos
		cut   int // connections are cut after up to so many bytes
		fail  float64
	}{
		{"calm", chaos{settle: 1}, 0, 0},
		{"repeats", chaos{settle: 0.1, repeat: 0.9}, 0, 0},
		{"settled never", chaos{repeat: 0.5, hangUp: 0.05}, 0, 0},
		{"settled late", chaos{settle: 1, settleLate: true, repeat: 0.5, hangUp: 0.05}, 0, 0},
		{"garbage", chaos{settle: 0.5, garbage: 0.5}, 0, 0},
		{"cut", chaos{settle: 0.3, repeat: 0.3}, 6000, 0},
		{"redirects", chaos{settle: 0.3, redirect: 0.3}, 0, 0},
		{"refusals", chaos{settle: 0.3, refuse: 0.6, hangUp: 0.2}, 0, 0},
		{"bad disk", chaos{settle: 0.3, repeat: 0.3}, 0, 0.2},
		{"everything", chaos{settle: 0.2, repeat: 0.3, garbage: 0.2, hangUp: 0.05, redirect: 0.05, refuse: 0.2}, 9000, 0.05},
	} {
		t.Run(c.name, func(t *testing.T) {
			for seed := range uint64(5) {
				synctest.Test(t, func(t *testing.T) {
					n := 150
					if c.chaos.settle == 0 {
						n = 64 // the window
					}
					w := newWorld(t, seed, messages(n)...)
					w.chaos = c.chaos
					if c.cut > 0 {
						w.net.budget = func() int { return 300 + w.number(c.cut) }
					}
					w.store.fail = func(string) error {
						if w.lucky(c.fail) {
							return errors.New("bad disk")
						}
						return nil
					}
					cfg := w.config()
					cfg.Backoff.Denied = time.Minute
					stop := w.run(cfg)
					w.finish(6 * time.Hour)
					stop()
					w.exactlyOnce()
					if t.Failed() {
						t.Fatalf("seed %d", seed)
					}
				})
			}
		})
	}
}

func TestRestartGoesOnWhereTheStoreIs(t *testing.T) {
	for seed := range uint64(8) {
		synctest.Test(t, func(t *testing.T) {
			w := newWorld(t, seed, messages(150)...)
			w.chaos = chaos{settle: 0.05, repeat: 0.3}
			for range 40 {
				stop := w.run(w.config())
				wait(t.Context(), time.Duration(w.number(200))*time.Millisecond)
				stop()
			}
			stop := w.run(w.config())
			w.finish(time.Hour)
			stop()
			w.exactlyOnce()
		})
	}
}

// A process that dies at each point, by a kill or a power cut: what the package
// comment says of the two orders is exact.
func TestCrashAtEachPoint(t *testing.T) {
	for _, c := range []struct {
		order client.Order
		point string
		power bool
		shown int
	}{
		{client.ShowFirst, "showing", false, 1},
		{client.ShowFirst, "showing", true, 1},
		{client.ShowFirst, "shown", false, 2},
		{client.ShowFirst, "shown", true, 2},
		{client.ShowFirst, "added", false, 1},
		{client.ShowFirst, "added", true, 2},
		{client.ShowFirst, "synced", false, 1},
		{client.ShowFirst, "synced", true, 1},
		{client.StoreFirst, "added", false, 0},
		{client.StoreFirst, "added", true, 1},
		{client.StoreFirst, "synced", false, 0},
		{client.StoreFirst, "synced", true, 0},
		{client.StoreFirst, "showing", false, 0},
		{client.StoreFirst, "showing", true, 0},
		{client.StoreFirst, "shown", false, 1},
		{client.StoreFirst, "shown", true, 1},
	} {
		t.Run(fmt.Sprintf("order %d, %s, power %v", c.order, c.point, c.power), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				const victim = "job_victim"
				w := newWorld(t, 1, "job_before", victim, "job_after")
				w.chaos.never = []string{victim}
				old := w.store
				crashed := false
				crash := func(point, id string) { // the caller holds old.mu
					if point == c.point && (id == victim || point == "synced" && old.written[victim]) && !crashed {
						crashed, old.dead = true, true
						w.net.cut()
					}
				}
				old.crash = crash
				cfg := w.config()
				cfg.Order = c.order
				died := cfg
				died.OnMessage = func(ctx context.Context, m client.Message) error {
					old.mu.Lock()
					crash("showing", m.ID)
					gone := old.dead
					old.mu.Unlock()
					if gone {
						return errGone // the process does not get so far
					}
					err := w.show(ctx, m)
					old.mu.Lock()
					crash("shown", m.ID)
					old.mu.Unlock()
					return err
				}
				stop := w.run(died)
				wait(t.Context(), time.Second)
				stop()
				if !crashed {
					t.Fatal("the point was never reached")
				}
				// The next process finds what the crash left.
				next := newSpy()
				left := old.written
				if c.power {
					left = old.durable
				}
				for id := range left {
					next.written[id], next.durable[id] = true, true
				}
				w.mu.Lock()
				w.store, w.chaos.unshown = next, c.shown == 0
				w.mu.Unlock()
				cfg.Store = next
				stop = w.run(cfg)
				wait(t.Context(), time.Minute)
				stop()
				w.mu.Lock()
				defer w.mu.Unlock()
				if w.mu.shown[victim] != c.shown {
					t.Errorf("shown %d times, want %d", w.mu.shown[victim], c.shown)
				}
				if !w.mu.delivered[victim] {
					t.Error("not delivered in the end")
				}
			})
		})
	}
}

func TestStopAcknowledgesFirst(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 1, messages(10)...)
		cfg := w.config()
		cfg.AckDelay = time.Hour
		stop := w.run(cfg)
		wait(t.Context(), time.Second)
		w.mu.Lock()
		if len(w.mu.delivered) != 0 {
			t.Errorf("%d acknowledged before the hour is over", len(w.mu.delivered))
		}
		w.mu.Unlock()
		start := time.Now()
		stop()
		if d := time.Since(start); d > time.Second {
			t.Errorf("stopping took %v", d)
		}
		synctest.Wait()
		w.exactlyOnce()
		if !slices.Equal(w.mu.codes, []websocket.StatusCode{websocket.StatusNormalClosure}) {
			t.Errorf("closing codes %v", w.mu.codes)
		}
	})
}

func TestAcknowledgementsAreBatched(t *testing.T) {
	for _, c := range []struct {
		name     string
		messages int
		syncs    int           // beyond the one before hello and the one at the end
		within   time.Duration // the last is acknowledged
	}{
		{"few wait 20 ms for each other", 10, 1, 21 * time.Millisecond},
		{"64 do not wait", 64, 1, 1 * time.Millisecond},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t, 1, messages(c.messages)...)
				w.chaos.settle = 0
				syncs := 0
				w.store.crash = func(point, _ string) {
					if point == "synced" {
						syncs++
					}
				}
				stop := w.run(w.config())
				wait(t.Context(), c.within)
				w.mu.Lock()
				if len(w.mu.delivered) != c.messages {
					t.Errorf("%d of %d acknowledged after %v", len(w.mu.delivered), c.messages, c.within)
				}
				w.mu.Unlock()
				stop()
				if syncs != c.syncs+1 {
					t.Errorf("%d syncs, want %d", syncs, c.syncs+1)
				}
			})
		})
	}
}

func TestDeadConnectionIsNoticed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 1, messages(3)...)
		w.chaos.settle = 0
		var errs []error
		cfg := w.config()
		cfg.OnError = func(err error) { errs = append(errs, err) }
		stop := w.run(cfg)
		wait(t.Context(), 5*time.Second)
		w.net.swallow()
		wait(t.Context(), 40*time.Second) // a ping each 20 s, an answer within 10 s
		stop()
		if w.mu.hellos != 2 || len(errs) != 1 || !errors.Is(errs[0], client.ErrSilent) {
			t.Errorf("%d hellos, errors %v", w.mu.hellos, errs)
		}
		w.exactlyOnce()
	})
}

func TestSlowApplicationKeepsTheConnection(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 1, messages(64)...)
		w.chaos.settle = 0
		cfg := w.config()
		cfg.OnMessage = func(ctx context.Context, m client.Message) error {
			wait(ctx, 25*time.Second)
			return w.show(ctx, m)
		}
		stop := w.run(cfg)
		wait(t.Context(), 64*25*time.Second+time.Second)
		stop()
		if w.mu.hellos != 1 {
			t.Errorf("%d connections", w.mu.hellos)
		}
		w.exactlyOnce()
	})
}

func TestMessageThatIsNotTakenComesAgain(t *testing.T) {
	for _, order := range []client.Order{client.ShowFirst, client.StoreFirst} {
		synctest.Test(t, func(t *testing.T) {
			w := newWorld(t, 1, messages(5)...)
			refused := 0
			cfg := w.config()
			cfg.Order = order
			cfg.OnMessage = func(ctx context.Context, m client.Message) error {
				if m.ID == w.mu.ids[2] && refused < 3 {
					refused++
					return errors.New("the screen is full")
				}
				return w.show(ctx, m)
			}
			stop := w.run(cfg)
			for range 4 {
				wait(t.Context(), 30*time.Second)
				w.net.cut() // as the gateway does with what is unacknowledged
			}
			wait(t.Context(), 30*time.Second)
			stop()
			if refused != 3 {
				t.Errorf("refused %d times", refused)
			}
			w.exactlyOnce()
		})
	}
}

func TestLargestBody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 1, "escaped", "wide")
		w.mu.body["escaped"] = strings.Repeat("\x01", 256<<10)
		w.mu.body["wide"] = strings.Repeat("\U0001F4E3", 64<<10)
		stop := w.run(w.config())
		wait(t.Context(), time.Second)
		stop()
		w.exactlyOnce()
	})
}

func TestWithdrawAndConnectAreTold(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		net := newNetwork()
		s := newScript(t, net, `{"type":"message","id":"a"}`, `{"type":"withdraw","ids":["b","c"]}`)
		var told []string
		cfg := s.config(net)
		cfg.OnMessage = func(_ context.Context, m client.Message) error { told = append(told, "show "+m.ID); return nil }
		cfg.OnWithdraw = func(_ context.Context, ids []string) error {
			told = append(told, "withdraw "+strings.Join(ids, " "))
			return nil
		}
		cfg.OnConnect = func() { told = append(told, "connected") }
		store := client.NewMemory()
		cfg.Store = store
		s.during(cfg, time.Second)
		if want := []string{"connected", "show a", "withdraw b c"}; !slices.Equal(told, want) {
			t.Errorf("told %q, want %q", told, want)
		}
		if _, ids, _ := store.Load(); !slices.Equal(ids, []string{"a"}) {
			t.Errorf("the store has %v: a withdrawn id is not settled", ids)
		}
	})
}

// A withdrawal is told before it is acknowledged, again until that works, and remembered.
func TestWithdrawalsAreToldAndAcknowledged(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		net := newNetwork()
		s := newScript(t, net, `{"type":"message","id":"z"}`, `{"type":"message","id":"a"}`, `{"type":"withdraw","id":"w","ids":["a"]}`,
			`{"type":"withdraw","id":"w","ids":["a"]}`)
		var told []string
		cfg := s.config(net)
		cfg.Store = client.NewMemory()
		cfg.OnMessage = func(_ context.Context, m client.Message) error {
			wait(t.Context(), time.Millisecond) // all else is read meanwhile
			told = append(told, "show "+m.ID)
			return nil
		}
		fail := true
		cfg.OnWithdraw = func(_ context.Context, ids []string) error {
			told = append(told, "withdraw "+strings.Join(ids, " "))
			if fail {
				fail = false
				return errors.New("the display is gone")
			}
			return nil
		}
		go func() {
			wait(t.Context(), time.Second)
			net.cut()
		}()
		s.during(cfg, 5*time.Second)
		if want := []string{"show z", "withdraw a", "withdraw a"}; !slices.Equal(told, want) {
			t.Errorf("told %q, want %q", told, want)
		}
		if !slices.Equal(s.acked, []string{"z", "a", "w", "z", "a", "w", "w"}) {
			t.Errorf("acknowledged %q", s.acked)
		}
		if _, ids, _ := cfg.Store.Load(); !slices.Equal(ids, []string{"a", "w", "z"}) {
			t.Errorf("the store has %q", ids)
		}
		if !slices.Equal(s.hello.Can, []string{"withdraw"}) {
			t.Errorf("hello says that it can %q", s.hello.Can)
		}
	})
}

// What is withdrawn while it waits to be shown is not shown, but counts as taken.
func TestWhatIsWithdrawnBeforeItIsShown(t *testing.T) {
	for _, order := range []client.Order{client.ShowFirst, client.StoreFirst} {
		synctest.Test(t, func(t *testing.T) {
			net := newNetwork()
			s := newScript(t, net, `{"type":"message","id":"a"}`, `{"type":"message","id":"b"}`, `{"type":"message","id":"c"}`, `{"type":"withdraw","id":"w","ids":["a","b"]}`,
				`{"type":"message","id":"d"}`)
			var told []string
			cfg := s.config(net)
			cfg.Order = order
			cfg.OnMessage = func(_ context.Context, m client.Message) error {
				told = append(told, "show "+m.ID)
				wait(t.Context(), time.Second) // all else is read meanwhile
				return nil
			}
			cfg.OnWithdraw = func(_ context.Context, ids []string) error {
				told = append(told, "withdraw "+strings.Join(ids, " "))
				return nil
			}
			cfg.Store = client.NewMemory()
			s.during(cfg, 10*time.Second)
			// Whether a had begun to be shown when its withdrawal was read is a race.
			if len(told) > 0 && told[0] == "show a" {
				told = told[1:]
			}
			if want := []string{"show c", "withdraw a b", "show d"}; !slices.Equal(told, want) {
				t.Errorf("told %q, want %q", told, want)
			}
			if _, ids, _ := cfg.Store.Load(); !slices.Equal(ids, []string{"a", "b", "c", "d", "w"}) {
				t.Errorf("the store has %q", ids)
			}
		})
	}
}

// Without OnWithdraw a client does not say that it can, and acknowledges nothing of it.
func TestAClientThatCannotWithdraw(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		net := newNetwork()
		s := newScript(t, net, `{"type":"withdraw","id":"w","ids":["a"]}`, `{"type":"message","id":"b"}`)
		s.during(s.config(net), time.Second)
		if !slices.Equal(s.acked, []string{"b"}) || len(s.hello.Can) > 0 {
			t.Errorf("acknowledged %q, can %q", s.acked, s.hello.Can)
		}
	})
}

func TestRepeatIsAcknowledgedEachTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		net := newNetwork()
		s := newScript(t, net, `{"type":"message","id":"a"}`, `{"type":"message","id":"b"}`)
		shown := 0
		cfg := s.config(net)
		cfg.OnMessage = func(context.Context, client.Message) error { shown++; return nil }
		go func() {
			wait(t.Context(), time.Second)
			net.cut()
		}()
		s.during(cfg, 5*time.Second)
		if !slices.Equal(s.acked, []string{"a", "b", "a", "b"}) || shown != 2 {
			t.Errorf("acknowledged %v, shown %d", s.acked, shown)
		}
	})
}

func TestGarbageDoesNotEndTheConnection(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		net := newNetwork()
		s := newScript(t, net, append(slices.Clone(garbage), `{"type":"message","id":"a"}`)...)
		shown := 0
		cfg := s.config(net)
		cfg.OnMessage = func(context.Context, client.Message) error { shown++; return nil }
		s.during(cfg, time.Second)
		if shown != 1 || len(s.at) != 1 || !slices.Equal(s.acked, []string{"a"}) {
			t.Errorf("%d shown, %d connections, acknowledged %v", shown, len(s.at), s.acked)
		}
	})
}

func TestStoreHasABound(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var frames []string
		for _, id := range messages(client.MaxUnsettled + 3) {
			frames = append(frames, fmt.Sprintf(`{"type":"message","id":%q}`, id))
		}
		net := newNetwork()
		s := newScript(t, net, frames...)
		shown, full := 0, 0
		cfg := s.config(net)
		cfg.OnMessage = func(context.Context, client.Message) error { shown++; return nil }
		cfg.OnError = func(err error) {
			if errors.Is(err, client.ErrFull) {
				full++
			}
		}
		s.during(cfg, time.Second)
		if shown != client.MaxUnsettled || full != 3 || len(s.acked) != client.MaxUnsettled {
			t.Errorf("%d shown, %d refused, %d acknowledged", shown, full, len(s.acked))
		}
	})
}
