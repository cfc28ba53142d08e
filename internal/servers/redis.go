package servers

import (
	"bufio"
	"context"
	"fmt"
	"net"
	"os"
	"strconv"
	"time"
)

// RedisServer is a Redis server that runs. It keeps nothing on the disk.
type RedisServer struct {
	*Process
	URL string
}

// Redis starts a server in a directory and waits until it answers.
func Redis(ctx context.Context, dir string) (*RedisServer, error) {
	path, err := binary("redis-server", "redis-server")
	if err != nil {
		return nil, err
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("making the directory of Redis: %w", err)
	}
	ports, err := Ports(1)
	if err != nil {
		return nil, err
	}
	addr := net.JoinHostPort("127.0.0.1", strconv.Itoa(ports[0]))
	p, err := Start(ctx, Command{Name: "redis", Dir: dir, Path: path,
		Args: []string{"--bind", "127.0.0.1", "--port", strconv.Itoa(ports[0]), "--save", "", "--appendonly", "no", "--dir", dir}},
		func(ctx context.Context) error { return pong(ctx, addr) })
	if err != nil {
		return nil, err
	}
	return &RedisServer{p, "redis://" + addr + "/0"}, nil
}

// pong gives no error when a server answers a ping.
func pong(ctx context.Context, addr string) error {
	d := net.Dialer{Timeout: time.Second}
	c, err := d.DialContext(ctx, "tcp", addr)
	if err != nil {
		return err
	}
	defer c.Close()
	if err := c.SetDeadline(time.Now().Add(time.Second)); err != nil {
		return err
	}
	if _, err := c.Write([]byte("PING\r\n")); err != nil {
		return err
	}
	line, err := bufio.NewReader(c).ReadString('\n')
	if err == nil && line != "+PONG\r\n" {
		err = fmt.Errorf("it answers %q to a ping", line)
	}
	return err
}
