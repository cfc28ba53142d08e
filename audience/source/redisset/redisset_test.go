package redisset

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"crier/audience/audiencetest"
	"crier/internal/servers"
	"crier/job"
)

// start starts a server and gives it some keys.
func start(t *testing.T) (*servers.RedisServer, *redis.Client) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	server, err := servers.Redis(ctx, t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(server.Stop)
	opt, err := redis.ParseURL(server.URL)
	if err != nil {
		t.Fatal(err)
	}
	c := redis.NewClient(opt)
	t.Cleanup(func() { c.Close() })
	p := c.Pipeline()
	for i := range 30_000 {
		p.SAdd(ctx, "large", i*7)
		p.ZAdd(ctx, "sorted", redis.Z{Score: float64(i) / 3, Member: i * 5})
	}
	p.SAdd(ctx, "small", 3, 1, 4294967295)
	p.ZAdd(ctx, "ranks", redis.Z{Score: 9, Member: "2"})
	p.SAdd(ctx, "named", "1", "ann")
	p.SAdd(ctx, "long", strings.Repeat("1", 1_000_000))
	p.Set(ctx, "text", "1", 0)
	if _, err := p.Exec(ctx); err != nil {
		t.Fatal(err)
	}
	return server, c
}

func TestSets(t *testing.T) {
	server, c := start(t)
	step := func(n, by uint32) (ids []uint32) {
		for i := range n {
			ids = append(ids, i*by)
		}
		return ids
	}
	for _, x := range []struct {
		key  string
		want []uint32
		says string
		code job.Code
	}{
		{"large", step(30_000, 7), "", ""}, {"sorted", step(30_000, 5), "", ""}, {"small", []uint32{1, 3, 4294967295}, "", ""}, {"ranks", []uint32{2}, "", ""},
		{"named", nil, `"ann" is not a number`, job.CodeInvalid}, {"long", nil, "more than 64 characters", job.CodeInvalid},
		{"text", nil, "is a string, not a set", job.CodeInvalid}, {"nowhere", nil, `no key "nowhere"`, job.CodeNotFound},
	} {
		s, err := New(Config{Name: "p", URL: server.URL, Key: x.key})
		if err != nil {
			t.Fatal(err)
		}
		got, err := audiencetest.Read(t.Context(), s, 777)
		if job.CodeOf(err) != x.code || x.says != "" && !strings.Contains(err.Error(), x.says) || len(fmt.Sprint(err)) > 400 {
			t.Errorf("%s: error %v, want %s with %q", x.key, err, x.code, x.says)
		}
		slices.Sort(got)
		if got = slices.Compact(got); x.code == "" && !slices.Equal(got, x.want) { // a cursor may tell one twice
			t.Errorf("%s: %d ids, want %d", x.key, len(got), len(x.want))
		}
		if err := errors.Join(s.Close(), s.Close()); err != nil {
			t.Errorf("%s: closing: %v", x.key, err)
		}
	}

	// A set that goes away is no shorter set.
	s, err := New(Config{Name: "p", URL: server.URL, Key: "large"})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if n, err := s.NextBatch(t.Context(), make([]uint32, 100)); n != 100 || err != nil {
		t.Fatalf("%d ids, %v", n, err)
	}
	if err := c.Del(t.Context(), "large").Err(); err != nil {
		t.Fatal(err)
	}
	if _, err := audiencetest.Read(t.Context(), s, 777); job.CodeOf(err) != job.CodeConflict || !strings.Contains(err.Error(), "removed") {
		t.Errorf("removed meanwhile: %v", err)
	}

	// A server that dies says so.
	if s, err = New(Config{Name: "p", URL: server.URL, Key: "sorted"}); err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if n, err := s.NextBatch(t.Context(), make([]uint32, 100)); n != 100 || err != nil {
		t.Fatalf("%d ids, %v", n, err)
	}
	server.Kill()
	if _, err := audiencetest.Read(t.Context(), s, 777); err == nil || job.CodeOf(err) != "" && job.CodeOf(err) != job.CodeUnavailable {
		t.Errorf("a server that died: %v", err)
	}
}

func TestConfig(t *testing.T) {
	for _, url := range []string{"", "http://x", "redis://me:hush@%zz", "redis://me:hush@127.0.0.1:1/x"} {
		if _, err := New(Config{Name: "p", URL: url, Key: "k"}); job.CodeOf(err) != job.CodeInvalid || strings.Contains(err.Error(), "hush") {
			t.Errorf("%q: %v", url, err)
		}
	}
	if _, err := New(Config{Name: "p", URL: "redis://127.0.0.1:1/0"}); job.CodeOf(err) != job.CodeInvalid {
		t.Errorf("no key: %v", err)
	}
	s, err := New(Config{Name: "p", URL: "redis://me:hush@127.0.0.1:1/0", Key: "k"})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if _, err := audiencetest.Read(t.Context(), s, 777); job.CodeOf(err) != job.CodeUnavailable || strings.Contains(err.Error(), "hush") {
		t.Errorf("nobody there: %v", err)
	}
}

// A server that hangs up may answer later.
func TestHangsUp(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	go func() {
		for c, err := l.Accept(); err == nil; c, err = l.Accept() {
			c.Close()
		}
	}()
	s, err := New(Config{Name: "x", URL: "redis://:hush@" + l.Addr().String() + "/0", Key: "k"})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if _, err := audiencetest.Read(t.Context(), s, 777); job.CodeOf(err) != job.CodeUnavailable || strings.Contains(err.Error(), "hush") {
		t.Errorf("%v", err)
	}
}
