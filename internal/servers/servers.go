// Package servers starts the real servers that a cluster stands on (ZooKeeper,
// MariaDB, NATS) as plain processes on free loopback ports under one directory, for
// tests, drills and the local cluster.
//
// It guarantees that what it started ends: when it is asked to, by pid, and with
// the process that started it at the latest, unless it was started to stay.
package servers

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

const (
	stopWithin = 10 * time.Second
	lookEvery  = 20 * time.Millisecond
)

// Process is a server that runs.
type Process struct {
	Name string // shown in errors; also names its log
	Log  string // path of what it printed
	cmd  *exec.Cmd
	done chan struct{}
	err  error
}

// Command says what to start.
type Command struct {
	Name string   // of the server: zookeeper-1
	Dir  string   // exists; its log is Dir/Name.log
	Path string   // of the binary
	Args []string // without the binary
	Env  []string // added to this process's
	Stay bool     // it outlives this process
}

// Start starts a server and waits until ready gives no error, or ctx ends, or the
// server does.
func Start(ctx context.Context, c Command, ready func(context.Context) error) (*Process, error) {
	p := &Process{Name: c.Name, Log: filepath.Join(c.Dir, c.Name+".log"), done: make(chan struct{})}
	log, err := os.OpenFile(p.Log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, fmt.Errorf("opening the log of %s: %w", c.Name, err)
	}
	defer log.Close()
	p.cmd = exec.Command(c.Path, c.Args...)
	p.cmd.Dir, p.cmd.Stdout, p.cmd.Stderr = c.Dir, log, log
	p.cmd.Env = append(os.Environ(), c.Env...)
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if !c.Stay {
		p.cmd.SysProcAttr.Pdeathsig = syscall.SIGKILL
	}
	if err := p.cmd.Start(); err != nil {
		return nil, fmt.Errorf("starting %s: %w", c.Name, err)
	}
	go func() { p.err = p.cmd.Wait(); close(p.done) }()
	if err := p.await(ctx, ready); err != nil {
		p.Kill()
		return nil, fmt.Errorf("%s: %w; its log is %s", c.Name, err, p.Log)
	}
	return p, nil
}

func (p *Process) await(ctx context.Context, ready func(context.Context) error) error {
	t := time.NewTicker(lookEvery)
	defer t.Stop()
	for {
		err := ready(ctx)
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("not ready in time: %w", errors.Join(ctx.Err(), err))
		case <-p.done:
			return fmt.Errorf("ended before it was ready: %w", errors.Join(p.err, err))
		case <-t.C:
		}
	}
}

// PID is the process's number.
func (p *Process) PID() int { return p.cmd.Process.Pid }

// Signal sends a signal: SIGSTOP pauses, and returns when no thread of the process runs any more;
// SIGCONT goes on.
func (p *Process) Signal(s syscall.Signal) error {
	err := p.cmd.Process.Signal(s)
	if err == nil && s == syscall.SIGSTOP {
		err = unix.Waitid(unix.P_PID, p.PID(), nil, unix.WSTOPPED|unix.WEXITED|unix.WNOWAIT, nil)
	}
	if err != nil {
		return fmt.Errorf("sending %s to %s: %w", s, p.Name, err)
	}
	return nil
}

// Kill ends the process as a crash does, and waits for its end.
func (p *Process) Kill() {
	p.cmd.Process.Kill()
	<-p.done
}

// Stop asks the process to end and waits; one that does not is killed.
func (p *Process) Stop() {
	if p.cmd.Process.Signal(syscall.SIGTERM) != nil {
		return
	}
	select {
	case <-p.done:
	case <-time.After(stopWithin):
		p.Kill()
	}
}

// Done is closed when the process has ended.
func (p *Process) Done() <-chan struct{} { return p.done }

// Ports below those that the kernel gives to outgoing connections, so that a server
// that was stopped finds its own again.
const (
	firstPort = 10_000
	pastPorts = 32_000
	portTries = 2_000
)

// given are the ports that Ports gave in this process.
var given sync.Map

// Ports takes n free loopback ports. They are free when it returns, and drawn from so
// many that other processes hardly draw the same ones; this one never does.
func Ports(n int) ([]int, error) {
	ports, held := make([]int, 0, n), make([]net.Listener, 0, n)
	defer func() {
		for _, l := range held {
			l.Close()
		}
	}()
	for try := 0; len(ports) < n; try++ {
		if try >= n+portTries {
			return nil, fmt.Errorf("looking for %d free ports from %d to %d: %d are found", n, firstPort, pastPorts-1, len(ports))
		}
		port := firstPort + rand.IntN(pastPorts-firstPort)
		l, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", port))
		if err != nil {
			continue
		}
		held = append(held, l)
		if _, was := given.LoadOrStore(port, true); !was {
			ports = append(ports, port)
		}
	}
	return ports, nil
}
