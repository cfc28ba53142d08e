package client_test

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/coder/websocket"

	"crier/presence/client"
)

// script is a server that does on each connection what a test says, and notes when
// requests came and for what.
type script struct {
	reason string // with the closing code
	t      *testing.T
	answer func(n int, r *http.Request) (status int, frames []string, code websocket.StatusCode)
	start  time.Time
	mu     sync.Mutex
	at     []time.Duration
	asked  []string // host, path, token
	acked  []string
	hello  struct { // the last one
		Client string
		Can    []string
	}
}

// newScript answers each connection with the same frames and leaves it open.
func newScript(t *testing.T, net *network, frames ...string) *script {
	s := &script{t: t, start: time.Now()}
	s.answer = func(int, *http.Request) (int, []string, websocket.StatusCode) { return 101, frames, 0 }
	net.serve(t, s)
	return s
}

func (s *script) ServeHTTP(rw http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	n := len(s.at)
	s.at = append(s.at, time.Since(s.start))
	s.asked = append(s.asked, r.Host+r.URL.Path+" "+strings.TrimPrefix(r.Header.Get("Authorization"), "Bearer "))
	s.mu.Unlock()
	status, frames, code := s.answer(n, r)
	if status != 101 {
		http.Error(rw, "no", status)
		return
	}
	conn, err := websocket.Accept(rw, r, nil)
	if err != nil {
		s.t.Error(err)
		return
	}
	defer conn.CloseNow()
	_, hello, err := conn.Read(r.Context())
	if err != nil {
		return // the client left before hello
	}
	if err := json.Unmarshal(hello, &s.hello); err != nil {
		s.t.Error(err)
	}
	var wg sync.WaitGroup
	defer wg.Wait()
	wg.Go(func() {
		for _, f := range frames {
			if err := conn.Write(r.Context(), websocket.MessageText, []byte(f)); err != nil {
				return // the client left
			}
		}
		if code != 0 {
			conn.Close(code, s.reason)
		}
	})
	for {
		_, data, err := conn.Read(r.Context())
		if err != nil {
			return
		}
		var f struct{ IDs []string }
		if err := json.Unmarshal(data, &f); err != nil {
			s.t.Error(err)
		}
		s.mu.Lock()
		s.acked = append(s.acked, f.IDs...)
		s.mu.Unlock()
	}
}

func (s *script) config(net *network) client.Config {
	return client.Config{
		URL:        "ws://gateway.test/v1/connect",
		Token:      client.StaticToken("one"),
		HTTPClient: net.client(s.t),
		Random:     func() float64 { return 1 }, // every wait is as long as it may be
		OnMessage:  func(context.Context, client.Message) error { return nil },
	}
}

// during runs a client for some time.
func (s *script) during(cfg client.Config, d time.Duration) {
	s.t.Helper()
	c, err := client.New(cfg)
	if err != nil {
		s.t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(s.t.Context(), d)
	defer cancel()
	if err := c.Run(ctx); err != nil {
		s.t.Errorf("Run: %v", err)
	}
	synctest.Wait()
}

// waits are the times between the requests.
func (s *script) waits() (out []time.Duration) {
	for i := 1; i < len(s.at); i++ {
		out = append(out, (s.at[i] - s.at[i-1]).Round(time.Millisecond))
	}
	return out
}

func ms(n ...int) (out []time.Duration) {
	for _, n := range n {
		out = append(out, time.Duration(n)*time.Millisecond)
	}
	return out
}

func TestWaitsBetweenConnections(t *testing.T) {
	const hour = 3600_000
	for _, c := range []struct {
		name   string
		answer func(n int, r *http.Request) (int, []string, websocket.StatusCode)
		want   []time.Duration
		is     error // the last one told
	}{
		{"twice as long each time, at most 30 s", func(int, *http.Request) (int, []string, websocket.StatusCode) { return 503, nil, 0 },
			ms(200, 400, 800, 1600, 3200, 6400, 12800, 25600, 30000, 30000, 30000), nil},
		{"a connection that brings nothing does not count", func(int, *http.Request) (int, []string, websocket.StatusCode) { return 101, nil, 1013 },
			ms(200, 400, 800, 1600, 3200, 6400, 12800, 25600, 30000), nil},
		{"one that brings a message does", func(n int, _ *http.Request) (int, []string, websocket.StatusCode) {
			if n == 3 {
				return 101, []string{`{"type":"message","id":"a"}`}, 1001
			}
			return 503, nil, 0
		}, ms(200, 400, 800, 200, 400, 800), nil},
		{"a repeat does not", func(n int, _ *http.Request) (int, []string, websocket.StatusCode) {
			return 101, []string{`{"type":"message","id":"a"}`}, 1001
		}, ms(200, 400, 800, 1600), nil},
		{"a denied token waits long", func(int, *http.Request) (int, []string, websocket.StatusCode) { return 401, nil, 0 },
			ms(300_000, 300_000), client.ErrDenied},
		{"so does one denied later", func(int, *http.Request) (int, []string, websocket.StatusCode) { return 101, nil, 4003 },
			ms(300_000, 300_000), client.ErrDenied},
		{"who is replaced waits", func(int, *http.Request) (int, []string, websocket.StatusCode) { return 101, nil, 4002 },
			ms(30_000, 30_000, 30_000), client.ErrReplaced},
		{"redirects in a circle", func(int, *http.Request) (int, []string, websocket.StatusCode) {
			return 101, []string{`{"type":"redirect","url":"ws://other.test/v1/connect"}`}, 0
		}, ms(0, 0, 0, 0, 0, 200, 0, 0, 0, 0, 0, 400, 0), client.ErrRedirects},
		{"a redirect into the open", func(int, *http.Request) (int, []string, websocket.StatusCode) {
			return 101, []string{`{"type":"redirect","url":"ftp://other.test/"}`}, 0
		}, ms(200, 400, 800), nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				net := newNetwork()
				s := newScript(t, net)
				s.answer = c.answer
				cfg := s.config(net)
				var last error
				cfg.OnError = func(err error) { last = err }
				s.during(cfg, 2*hour*time.Millisecond)
				if got := s.waits(); len(got) < len(c.want) || !slices.Equal(got[:len(c.want)], c.want) {
					t.Errorf("waits %v, want %v", got[:min(len(got), len(c.want))], c.want)
				}
				if c.is != nil && !errors.Is(last, c.is) {
					t.Errorf("told %v, want %v", last, c.is)
				}
			})
		})
	}
}

func TestHealthyConnectionStartsAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		net := newNetwork()
		s := newScript(t, net)
		s.answer = func(n int, _ *http.Request) (int, []string, websocket.StatusCode) {
			if n == 3 {
				time.AfterFunc(10*time.Second, net.cut)
				return 101, nil, 0
			}
			return 503, nil, 0
		}
		s.during(s.config(net), 15*time.Second)
		if got, want := s.waits(), ms(200, 400, 800, 10_200, 400, 800, 1600); !slices.Equal(got, want) {
			t.Errorf("waits %v, want %v", got, want)
		}
	})
}

func TestDeniedTokenIsRenewed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		net := newNetwork()
		s := newScript(t, net)
		good := "two"
		s.answer = func(n int, r *http.Request) (int, []string, websocket.StatusCode) {
			if r.Header.Get("Authorization") != "Bearer "+good {
				return 401, nil, 0
			}
			if n == 1 {
				good = "three"
				return 101, nil, 4003
			}
			return 101, nil, 0
		}
		tokens := []string{"one", "two", "three", "four"}
		cfg := s.config(net)
		cfg.Token = func(context.Context) (string, error) {
			next := tokens[0]
			tokens = tokens[1:]
			return next, nil
		}
		s.during(cfg, time.Hour)
		want := []string{"gateway.test/v1/connect one", "gateway.test/v1/connect two", "gateway.test/v1/connect three"}
		// Token two worked, so that its end is no reason to wait; but it was not healthy.
		if !slices.Equal(s.asked, want) || s.at[1] != 0 {
			t.Errorf("asked %v after %v", s.asked, s.at)
		}
	})
}

func TestRenewedTokenThatIsDeniedWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		net := newNetwork()
		s := newScript(t, net)
		s.answer = func(n int, r *http.Request) (int, []string, websocket.StatusCode) {
			if n == 3 { // works, and is healthy: the next denial is a first one again
				time.AfterFunc(time.Minute, net.cut)
				return 101, nil, 0
			}
			return 403, nil, 0
		}
		calls := 0
		cfg := s.config(net)
		cfg.Token = func(context.Context) (string, error) {
			calls++
			return strings.Repeat("x", calls), nil
		}
		s.during(cfg, 40*time.Minute)
		want := ms(0, 300_000, 0, 60_200, 0, 300_000, 0, 300_000)
		if got := s.waits(); len(got) < len(want) || !slices.Equal(got[:len(want)], want) {
			t.Errorf("waits %v, want %v", got, want)
		}
	})
}

// A write that fails because the gateway has closed the connection must not hide why.
func TestClosingCodeIsReadThoughAWriteFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		net := newNetwork()
		s := newScript(t, net)
		var frames []string
		for _, id := range messages(70) {
			frames = append(frames, `{"type":"message","id":"`+id+`"}`)
		}
		s.answer = func(int, *http.Request) (int, []string, websocket.StatusCode) { return 101, frames, 4002 }
		cfg := s.config(net)
		n := 0
		cfg.OnMessage = func(ctx context.Context, _ client.Message) error {
			if n++; n == 1 {
				wait(ctx, time.Second) // all has been read, the last being that it closes
			}
			return nil
		}
		var errs []error
		cfg.OnError = func(err error) { errs = append(errs, err) }
		s.during(cfg, 20*time.Second)
		if len(errs) != 1 || !errors.Is(errs[0], client.ErrReplaced) {
			t.Errorf("told %v", errs)
		}
	})
}

func TestRedirectIsFollowedOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		net := newNetwork()
		s := newScript(t, net)
		s.answer = func(n int, r *http.Request) (int, []string, websocket.StatusCode) {
			switch {
			case r.Host == "gateway.test":
				return 101, []string{`{"type":"redirect","url":"ws://gw2.test/v1/connect?token=stolen"}`}, 0
			case n == 1:
				return 101, []string{`{"type":"message","id":"a"}`}, 1001
			}
			return 101, nil, 0
		}
		s.during(s.config(net), time.Hour)
		want := []string{"gateway.test/v1/connect one", "gw2.test/v1/connect one", "gateway.test/v1/connect one", "gw2.test/v1/connect one"}
		if !slices.Equal(s.asked, want) {
			t.Errorf("asked %v, want %v", s.asked, want)
		}
	})
}

// A gateway that closes with 4004 names another one, which is tried once; then the
// configured addresses take turns.
func TestMovedByTheClosingCode(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		net := newNetwork()
		s := newScript(t, net)
		s.reason = "ws://gw2.test/v1/connect"
		s.answer = func(n int, r *http.Request) (int, []string, websocket.StatusCode) {
			switch {
			case n == 0:
				return 101, nil, 4004
			case r.Host == "gw3.test":
				return 101, []string{`{"type":"message","id":"a"}`}, 0
			}
			return 503, nil, 0
		}
		cfg := s.config(net)
		cfg.Others = []string{"ws://gw3.test"}
		s.during(cfg, time.Hour)
		want := []string{"gateway.test/v1/connect one", "gw2.test/v1/connect one", "gw3.test/v1/connect one"}
		if !slices.Equal(s.asked, want) {
			t.Errorf("asked %v, want %v", s.asked, want)
		}
	})
}

// Gateways are tried in turn after a loss or a refusal; a redirect is no loss.
func TestOtherGatewaysAreTriedInTurn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		net := newNetwork()
		s := newScript(t, net)
		s.answer = func(n int, _ *http.Request) (int, []string, websocket.StatusCode) {
			switch n {
			case 0:
				return 101, []string{`{"type":"redirect","url":"ws://elsewhere.test/v1/connect"}`}, 0
			case 2:
				return 503, nil, 0
			case 5:
				return 101, nil, 0
			}
			return 101, nil, 1001
		}
		cfg := s.config(net)
		cfg.Others = []string{"ws://b.test", "ws://c.test"}
		s.during(cfg, time.Hour)
		want := []string{"gateway.test/v1/connect one", "elsewhere.test/v1/connect one", "b.test/v1/connect one", "c.test/v1/connect one",
			"gateway.test/v1/connect one", "b.test/v1/connect one"}
		if !slices.Equal(s.asked, want) {
			t.Errorf("asked %v, want %v", s.asked, want)
		}
	})
}

func TestMovedToWhatCannotBeUsed(t *testing.T) {
	for _, reason := range []string{"", "ftp://gw2.test", "::"} {
		synctest.Test(t, func(t *testing.T) {
			net := newNetwork()
			s := newScript(t, net)
			s.reason = reason
			s.answer = func(int, *http.Request) (int, []string, websocket.StatusCode) { return 101, nil, 4004 }
			s.during(s.config(net), time.Minute)
			if got, want := s.waits(), ms(200, 400, 800); len(got) < len(want) || !slices.Equal(got[:len(want)], want) {
				t.Errorf("%q: waits %v, want %v", reason, got, want)
			}
		})
	}
}

func TestTokenThatCannotBeHad(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		net := newNetwork()
		s := newScript(t, net)
		calls := 0
		cfg := s.config(net)
		cfg.Token = func(context.Context) (string, error) {
			if calls++; calls < 4 {
				return "", errors.New("the shop is closed")
			}
			return "late", nil
		}
		s.during(cfg, time.Minute)
		if want := ms(1400); !slices.Equal(s.at, want) {
			t.Errorf("asked at %v, want %v", s.at, want)
		}
	})
}

func TestConfigNamesTheField(t *testing.T) {
	good := client.Config{URL: "https://gateway.test", Others: []string{"http://other.test/x"}, Token: client.StaticToken("t"), OnMessage: func(context.Context, client.Message) error { return nil }}
	if _, err := client.New(good); err != nil {
		t.Fatal(err)
	}
	for field, change := range map[string]func(*client.Config){
		"Token":     func(c *client.Config) { c.Token = nil },
		"OnMessage": func(c *client.Config) { c.OnMessage = nil },
		"URL":       func(c *client.Config) { c.URL = "gateway.test:80" },
		"URL: there is a token": func(c *client.Config) {
			c.URL = "wss://gateway.test/v1/connect?token=x"
		},
		"URL: there is no host": func(c *client.Config) { c.URL = "https:///v1/connect" },
		"Others":                func(c *client.Config) { c.Others = []string{"ftp://x"} },
		"ClientID":              func(c *client.Config) { c.ClientID = strings.Repeat("x", 129) },
		"Order":                 func(c *client.Config) { c.Order = 2 },
		"PingTimeout":           func(c *client.Config) { c.PingTimeout = -1 },
		"Backoff":               func(c *client.Config) { c.Backoff.Min = time.Hour },
	} {
		cfg := good
		change(&cfg)
		if _, err := client.New(cfg); err == nil || !strings.Contains(err.Error(), "Config."+field) {
			t.Errorf("%s: %v", field, err)
		}
	}
}
