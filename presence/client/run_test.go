package client_test

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/coder/websocket"

	"crier/presence/client"
)

// Over real sockets with a real file: two processes in turn are one installation.
func TestFileOverTwoRuns(t *testing.T) {
	type hello struct {
		Type, Client string
		Have         []string
	}
	var mu sync.Mutex
	var hellos []hello
	frames := [][]string{
		{`{"type":"message","id":"a","body":"1"}`, `{"type":"message","id":"b","body":"2"}`, `{"type":"message","id":"a","body":"1"}`},
		{`{"type":"message","id":"b","body":"2"}`, `{"type":"settled","ids":["a"]}`, `{"type":"message","id":"c","body":"3"}`},
		{`{"type":"message","id":"d","body":"4"}`},
	}
	srv := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		conn, err := websocket.Accept(rw, r, nil)
		if err != nil {
			t.Error(err)
			return
		}
		defer conn.CloseNow()
		_, data, err := conn.Read(r.Context())
		if err != nil {
			t.Error(err)
			return
		}
		var h hello
		if err := json.Unmarshal(data, &h); err != nil {
			t.Error(err)
		}
		mu.Lock()
		n := len(hellos)
		hellos = append(hellos, h)
		mu.Unlock()
		for _, f := range frames[n] {
			if err := conn.Write(r.Context(), websocket.MessageText, []byte(f)); err != nil {
				t.Error(err)
			}
		}
		for err == nil {
			_, _, err = conn.Read(r.Context())
		}
	}))
	defer srv.Close()
	path := filepath.Join(t.TempDir(), "shown")
	var shown []string
	for _, last := range []string{"b", "c", "d"} {
		f, err := client.OpenFile(path)
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		c, err := client.New(client.Config{URL: srv.URL, Token: client.StaticToken("t"), Store: f, Order: client.StoreFirst,
			OnMessage: func(_ context.Context, m client.Message) error {
				if shown = append(shown, m.ID+m.Body); m.ID == last {
					cancel()
				}
				return nil
			}})
		if err != nil {
			t.Fatal(err)
		}
		if err := errors.Join(c.Run(ctx), f.Close()); err != nil {
			t.Fatal(err)
		}
	}
	if !slices.Equal(shown, []string{"a1", "b2", "c3", "d4"}) {
		t.Errorf("shown %v", shown)
	}
	for i, want := range []string{"", "a b", "b c"} {
		if h := hellos[i]; strings.Join(h.Have, " ") != want || h.Client != hellos[0].Client || h.Client == "" {
			t.Errorf("hello %d: %+v, want %q", i, h, want)
		}
	}
}

type badStore struct{ *client.Memory }

func (badStore) Load() (string, []string, error) { return "", nil, errors.New("no disk") }

func TestRunRefuses(t *testing.T) {
	cfg := client.Config{URL: "http://127.0.0.1:1", Token: client.StaticToken("t"), Store: badStore{}, OnMessage: func(context.Context, client.Message) error { return nil }}
	c, err := client.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Run(t.Context()); err == nil || !strings.Contains(err.Error(), "no disk") {
		t.Errorf("a store that cannot be read: %v", err)
	}
	synctest.Test(t, func(t *testing.T) {
		net := newNetwork()
		s := newScript(t, net)
		cfg := s.config(net)
		var again error
		cfg.ClientID = "the cellar"
		var c *client.Client
		cfg.OnConnect = func() { again = c.Run(t.Context()) }
		c, err := client.New(cfg)
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if err := c.Run(ctx); err != nil || again == nil {
			t.Errorf("Run %v, again during Run: %v", err, again)
		}
		if s.hello.Client != "the cellar" {
			t.Errorf("client id %q", s.hello.Client)
		}
		ended, stop := context.WithCancel(t.Context())
		stop()
		if err := c.Run(ended); err != nil || len(s.at) != 1 {
			t.Errorf("Run after its end: %v, %d requests", err, len(s.at))
		}
	})
}

// What could not be stored in one Run is not shown in the next one.
func TestStoreThatFailsOverTwoRuns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 1, messages(3)...)
		bad := true
		w.store.fail = func(op string) error {
			if bad && op == "add" {
				return errors.New("the disk is full")
			}
			return nil
		}
		var errs []string
		cfg := w.config()
		cfg.OnError = func(err error) { errs = append(errs, err.Error()) }
		c, err := client.New(cfg)
		if err != nil {
			t.Fatal(err)
		}
		for range 2 {
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			if err := c.Run(ctx); err != nil {
				t.Error(err)
			}
			cancel()
			synctest.Wait()
			if bad && (len(w.mu.shown) != 1 || len(w.mu.delivered) != 0 || w.mu.hellos != 1) {
				t.Errorf("%v shown, %v delivered, %d hellos", w.mu.shown, w.mu.delivered, w.mu.hellos)
			}
			bad = false
		}
		if len(errs) == 0 || !strings.Contains(errs[0], "the disk is full") {
			t.Errorf("told %q", errs)
		}
		w.exactlyOnce()
	})
}
