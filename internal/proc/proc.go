// Package proc runs real Crier processes for the demo, the benchmarks and the
// tests that kill them: a server with its own data directory, and children that
// speak JSON lines on their standard streams.
//
// It guarantees that what it started is ended: by pid, with the process that
// started it at the latest.
package proc

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"crier/api/client"
	"crier/internal/tail"
)

// Ready is what a server writes to its ready file.
type Ready struct {
	API       string `json:"api"`
	Gateway   string `json:"gateway"`
	Token     string `json:"token"`
	PID       int    `json:"pid"`
	Worker    string `json:"worker"`
	NATS      string `json:"nats"`
	NATSToken string `json:"nats_token"`
}

// Config says which server to start.
type Config struct {
	Binary string   // crier
	Dir    string   // for the data directory, the ready file and the log
	Args   []string // flags of crier serve besides --data, --listen and --ready-file
	Listen string   // default 127.0.0.1:0
}

// Server is a running server process.
type Server struct {
	Ready
	cmd    *exec.Cmd
	log    string
	logged int64 // bytes of the log that were there before it was started
	done   chan struct{}
	err    error
}

const (
	readyWithin = 30 * time.Second
	stopWithin  = 12 * time.Second
)

// Start starts a server and waits until it is ready.
func Start(ctx context.Context, cfg Config) (*Server, error) {
	if cfg.Listen == "" {
		cfg.Listen = "127.0.0.1:0"
	}
	ready := filepath.Join(cfg.Dir, "ready.json")
	if err := os.Remove(ready); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("removing an old ready file: %w", err)
	}
	log, err := os.OpenFile(filepath.Join(cfg.Dir, "server.log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, fmt.Errorf("opening the server's log: %w", err)
	}
	defer log.Close()
	before, err := log.Seek(0, io.SeekEnd)
	if err != nil {
		return nil, fmt.Errorf("looking how long the server's log is: %w", err)
	}
	args := append([]string{"serve", "--data", filepath.Join(cfg.Dir, "data"), "--listen", cfg.Listen, "--ready-file", ready}, cfg.Args...)
	cmd := exec.Command(cfg.Binary, args...)
	cmd.Stdout, cmd.Stderr = log, log
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("starting %s: %w", cfg.Binary, err)
	}
	s := &Server{cmd: cmd, log: log.Name(), logged: before, done: make(chan struct{})}
	go func() { s.err = cmd.Wait(); close(s.done) }()
	if err := s.await(ctx, ready); err != nil {
		s.Kill()
		return nil, err
	}
	return s, nil
}

func (s *Server) await(ctx context.Context, ready string) error {
	limit := time.After(readyWithin)
	for {
		b, err := os.ReadFile(ready)
		if err == nil {
			if err := json.Unmarshal(b, &s.Ready); err != nil {
				return fmt.Errorf("reading the ready file: %w", err)
			}
			return nil
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-s.done:
			return fmt.Errorf("the server ended before it was ready: %v; its log ends with:\n%s", s.err, tail.Of(s.log, s.logged))
		case <-limit:
			return fmt.Errorf("the server was not ready within %s; its log ends with:\n%s", readyWithin, tail.Of(s.log, s.logged))
		case <-time.After(10 * time.Millisecond):
		}
	}
}

// Client makes a client of the server's API.
func (s *Server) Client() (*client.Client, error) {
	return client.New(client.Config{Server: s.API, Key: s.Token})
}

// Kill ends the process as a crash does, and waits for its end.
func (s *Server) Kill() {
	s.cmd.Process.Kill()
	<-s.done
}

// Stop asks the process to end and waits; one that does not is killed and is an error.
func (s *Server) Stop() error {
	if err := s.cmd.Process.Signal(syscall.SIGTERM); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return fmt.Errorf("asking the server to stop: %w", err)
	}
	select {
	case <-s.done:
		return s.err
	case <-time.After(stopWithin):
		s.Kill()
		return errors.New("the server did not stop in time and was killed")
	}
}

// Done is closed when the process has ended.
func (s *Server) Done() <-chan struct{} { return s.done }

// HighWater is the most memory, in bytes, that the process had resident so far.
func (s *Server) HighWater() (uint64, error) { return s.memory("VmHWM") }

// Resident is the memory, in bytes, that the process has resident now.
func (s *Server) Resident() (uint64, error) { return s.memory("VmRSS") }

// memory reads one of the kernel's figures of the process.
func (s *Server) memory(name string) (uint64, error) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", s.cmd.Process.Pid))
	if err != nil {
		return 0, fmt.Errorf("reading the server's memory: %w", err)
	}
	for line := range strings.Lines(string(b)) {
		var kb uint64
		if n, _ := fmt.Sscanf(line, name+": %d kB", &kb); n == 1 {
			return kb << 10, nil
		}
	}
	return 0, fmt.Errorf("the kernel does not tell the server's memory as %s", name)
}

// CPU is the processor time that the process has used so far.
func (s *Server) CPU() (time.Duration, error) { return cpu(s.cmd.Process.Pid) }

// CPU is the processor time that the process has used so far.
func (c *Child) CPU() (time.Duration, error) { return cpu(c.cmd.Process.Pid) }

// tick is the kernel's unit of processor time.
const tick = time.Second / 100

func cpu(pid int) (time.Duration, error) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0, fmt.Errorf("reading the processor time of process %d: %w", pid, err)
	}
	return parseCPU(string(b))
}

// parseCPU adds up fields 14 and 15, user and system; the name in field 2 may have
// anything in it.
func parseCPU(stat string) (time.Duration, error) {
	fields := strings.Fields(stat[strings.LastIndexByte(stat, ')')+1:])
	if len(fields) < 13 {
		return 0, errors.New("the kernel does not tell a process's processor time")
	}
	var sum time.Duration
	for _, f := range fields[11:13] {
		n, err := strconv.ParseUint(f, 10, 63)
		if err != nil {
			return 0, fmt.Errorf("reading a process's processor time: %w", err)
		}
		sum += time.Duration(n) * tick
	}
	return sum, nil
}

// Child is a process that takes and gives JSON lines.
type Child struct {
	cmd *exec.Cmd
	in  io.WriteCloser
	out *bufio.Reader
}

// StartChild starts a command; its standard error is the caller's.
func StartChild(binary string, args ...string) (*Child, error) {
	cmd := exec.Command(binary, args...)
	cmd.Stderr = os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	in, err := cmd.StdinPipe()
	if err != nil {
		return nil, fmt.Errorf("making a pipe: %w", err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, fmt.Errorf("making a pipe: %w", err)
	}
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("starting %s: %w", binary, err)
	}
	return &Child{cmd, in, bufio.NewReaderSize(out, 1<<20)}, nil
}

// Tell sends a line.
func (c *Child) Tell(v any) error {
	if err := json.NewEncoder(c.in).Encode(v); err != nil {
		return fmt.Errorf("telling child %d: %w", c.cmd.Process.Pid, err)
	}
	return nil
}

// Hear reads the next line.
func (c *Child) Hear(v any) error {
	line, err := c.out.ReadBytes('\n')
	if err != nil {
		return fmt.Errorf("reading what child %d says: %w", c.cmd.Process.Pid, err)
	}
	if err := json.Unmarshal(line, v); err != nil {
		return fmt.Errorf("decoding what child %d says: %w", c.cmd.Process.Pid, err)
	}
	return nil
}

// Ask tells and hears.
func (c *Child) Ask(request, answer any) error {
	if err := c.Tell(request); err != nil {
		return err
	}
	return c.Hear(answer)
}

// Stop closes the child's input, which ends it, and waits; after a while it is killed.
func (c *Child) Stop() error {
	c.in.Close()
	t := time.AfterFunc(stopWithin, func() { c.cmd.Process.Kill() })
	defer t.Stop()
	return c.cmd.Wait()
}
