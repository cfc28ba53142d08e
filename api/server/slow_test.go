package server_test

import (
	"bufio"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"crier/api/apitest"
	"crier/api/server"
)

// pipes is a listener whose connections are pipes, so that their time is the test's.
type pipes struct {
	conns chan net.Conn
	done  chan struct{}
}

func (p *pipes) Accept() (net.Conn, error) {
	select {
	case c := <-p.conns:
		return c, nil
	case <-p.done:
		return nil, net.ErrClosed
	}
}

func (p *pipes) Close() error { close(p.done); return nil }

func (p *pipes) Addr() net.Addr { return &net.UnixAddr{Name: "pipe", Net: "pipe"} }

// TestSlowBodies: who sends a body slowly, or stops in its middle, is answered and cut off
// after a while, whatever the request is and whether it may be made; and nothing of it
// reaches the service.
func TestSlowBodies(t *testing.T) {
	for _, c := range []struct {
		what, request, key string
		every              time.Duration // between bytes of the body
		within             time.Duration
		status             int
	}{
		{"JSON that stops", "POST /v1/accounts", goodKey, 0, 31 * time.Second, 400},
		{"JSON that drips", "POST /v1/accounts", goodKey, time.Second, 31 * time.Second, 400},
		{"without a key", "POST /v1/accounts", "bad", time.Second, 31 * time.Second, 401},
		{"where nothing is", "POST /nothing", goodKey, time.Second, 31 * time.Second, 404},
		{"another method", "DELETE /v1/accounts", goodKey, 0, 31 * time.Second, 405},
		{"a page", "GET /healthz", goodKey, 0, 31 * time.Second, 200},
		{"a list", "GET /v1/accounts", goodKey, time.Second, 31 * time.Second, 400},
		{"an upload that stops", "POST /v1/packages?account=sender", goodKey, 0, 61 * time.Second, 503},
		{"an upload for nobody", "POST /v1/packages", goodKey, 0, 61 * time.Second, 422},
	} {
		t.Run(c.what, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				fake := apitest.New()
				s, err := server.New(server.Config{Service: fake, Keys: apitest.Keys(goodKey), Trail: apitest.Trail{}, Log: slog.New(slog.DiscardHandler)})
				if err != nil {
					t.Fatal(err)
				}
				ln := &pipes{make(chan net.Conn), make(chan struct{})}
				srv := &http.Server{Handler: s, ReadHeaderTimeout: 10 * time.Second, ErrorLog: slog.NewLogLogger(slog.DiscardHandler, 0)}
				served := make(chan error, 1)
				go func() { served <- srv.Serve(ln) }()
				mine, theirs := net.Pipe()
				ln.conns <- theirs
				began := time.Now()
				var writer sync.WaitGroup
				writer.Go(func() {
					fmt.Fprintf(mine, "%s HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer %s\r\nContent-Length: 100000\r\n\r\n{", c.request, c.key)
					for c.every > 0 {
						time.Sleep(c.every)
						if _, err := mine.Write([]byte(" ")); err != nil {
							return
						}
					}
				})
				resp, err := http.ReadResponse(bufio.NewReader(mine), nil)
				if err != nil {
					t.Fatal(err)
				}
				body, err := io.ReadAll(resp.Body)
				if err != nil || resp.StatusCode != c.status || resp.StatusCode != 200 && !strings.Contains(string(body), `"code"`) {
					t.Errorf("%d %s, %v; want %d", resp.StatusCode, body, err, c.status)
				}
				if _, err := mine.Read(make([]byte, 1)); err != io.EOF && err != io.ErrClosedPipe {
					t.Errorf("the connection goes on: %v", err)
				}
				if took := time.Since(began); took > c.within {
					t.Errorf("cut off after %s; want it within %s", took, c.within)
				}
				mine.Close()
				writer.Wait()
				srv.Close()
				<-served
			})
		})
	}
}
