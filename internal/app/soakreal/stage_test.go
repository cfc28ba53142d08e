package soakreal

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"crier/api"
	"crier/internal/proc"
	"crier/job"
	"crier/presence/client"
)

// stage is a server, and the devices of those who play the log's nicks.
type stage struct {
	t       *testing.T
	binary  string
	svc     api.Service
	gateway string
	players map[uint32]*player
	mu      struct {
		sync.Mutex
		receipts []receipt
		trouble  error // the last one of a device
	}
}

// open builds and starts a server, which ends with the test.
func open(ctx context.Context, t *testing.T, args ...string) *stage {
	dir := t.TempDir()
	s := &stage{t: t, binary: filepath.Join(dir, "crier"), players: map[uint32]*player{}}
	build := exec.CommandContext(ctx, "go", "build", "-o", s.binary, "crier/cmd/crier")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("building crier: %v\n%s", err, out)
	}
	srv, err := proc.Start(ctx, proc.Config{Binary: s.binary, Dir: dir, Args: args})
	s.must(err)
	t.Cleanup(srv.Kill)
	svc, err := srv.Client()
	s.must(err)
	t.Cleanup(svc.Close)
	s.svc, s.gateway = svc, srv.Gateway
	return s
}

func (s *stage) must(err error) {
	s.t.Helper()
	if err != nil {
		s.t.Fatal(err)
	}
}

// player is a recipient with a device, which is connected or not.
type player struct {
	stage  *stage
	who    uint32
	client *client.Client
	stop   context.CancelFunc
	ended  chan struct{} // closed when the last connection is over
	mu     struct {
		sync.Mutex
		conn   net.Conn
		hellos int
		shown  map[string]bool
	}
}

// player gives the one who plays an id.
func (s *stage) player(id uint32) *player {
	if p := s.players[id]; p != nil {
		return p
	}
	p := &player{stage: s, who: id, stop: func() {}, ended: make(chan struct{})}
	close(p.ended)
	p.mu.shown = map[string]bool{}
	var err error
	p.client, err = client.New(client.Config{URL: s.gateway, Token: p.token, OnMessage: p.show, OnConnect: p.connected,
		OnError:    s.failed,
		HTTPClient: &http.Client{Transport: &http.Transport{DialContext: p.dial}},
		Backoff:    client.Backoff{Min: 50 * time.Millisecond, Max: 300 * time.Millisecond}})
	s.must(err)
	s.players[id] = p
	return p
}

func (s *stage) failed(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.mu.trouble = err
}

func (p *player) token(ctx context.Context) (string, error) {
	who := job.Recipient(p.who)
	tok, err := p.stage.svc.MintToken(ctx, api.MintToken{Recipient: &who})
	return tok.Token, err
}

func (p *player) dial(ctx context.Context, network, address string) (net.Conn, error) {
	var d net.Dialer
	conn, err := d.DialContext(ctx, network, address)
	if err == nil {
		p.mu.Lock()
		p.mu.conn = conn
		p.mu.Unlock()
	}
	return conn, err
}

func (p *player) connected() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.mu.hellos++
}

// show is what the device does with a message.
func (p *player) show(_ context.Context, m client.Message) error {
	p.stage.mu.Lock()
	p.stage.mu.receipts = append(p.stage.mu.receipts, receipt{m.ID, p.who, m.Body, time.Now()})
	p.stage.mu.Unlock()
	p.mu.Lock()
	defer p.mu.Unlock()
	p.mu.shown[m.ID] = true
	return nil
}

// comes connects the device and keeps it so.
func (p *player) comes(ctx context.Context) {
	ctx, p.stop = context.WithCancel(ctx)
	before, ended := p.ended, make(chan struct{})
	p.ended = ended
	go func() {
		defer close(ended)
		<-before
		if err := p.client.Run(ctx); err != nil {
			p.stage.t.Errorf("the device of recipient %d: %v", p.who, err)
		}
	}()
}

// goes ends the connection with a good-bye.
func (p *player) goes() { p.stop() }

// cut breaks the connection, of which the device learns when it is gone.
func (p *player) cut() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if tcp, ok := p.mu.conn.(*net.TCPConn); ok {
		tcp.SetLinger(0) // nothing that was written is sent any more
		tcp.Close()
	}
}

// has reports whether the device was connected again since so many times, and has shown
// all of some messages.
func (p *player) has(hellos int, ids []string) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, id := range ids {
		if !p.mu.shown[id] {
			return false
		}
	}
	return p.mu.hellos > hellos
}

func (p *player) hellos() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.mu.hellos
}

// receipts is what was shown so far.
func (s *stage) receipts() []receipt {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.mu.receipts[:len(s.mu.receipts):len(s.mu.receipts)]
}

// export gives who of a job stands somewhere.
func (s *stage) export(ctx context.Context, id job.ID, at ...job.Standing) ([]uint32, error) {
	var text strings.Builder
	if err := s.svc.ExportJob(ctx, id, api.ExportJob{Standings: at, Format: api.FormatIDs}, &text); err != nil {
		return nil, fmt.Errorf("exporting who of job %s is %v: %w", id, at, err)
	}
	return readIDs(text.String())
}

// until waits for a time.
func until(ctx context.Context, at time.Time) error {
	t := time.NewTimer(time.Until(at))
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
