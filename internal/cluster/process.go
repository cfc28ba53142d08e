package cluster

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"crier/internal/tail"
)

// Life is what a process does.
type Life string

// What a process does.
const (
	Running Life = "running"
	Paused  Life = "paused"
	Gone    Life = "gone"
)

const (
	lookEvery   = 20 * time.Millisecond
	readyWithin = 60 * time.Second
	killWithin  = 3 * time.Second
)

// Process is one process of a cluster. It is as it was found: Start and the others
// update it.
type Process struct {
	Record
	c      *Cluster
	logged int64 // bytes in its log before it was started; 0 if that was not by Start
}

// Life looks whether the process is there: until its last thread has ended.
func (p *Process) Life() Life {
	if p.PID == 0 {
		return Gone
	}
	if _, err := os.Stat(fmt.Sprintf("/proc/%d", p.PID)); err != nil {
		return Gone
	}
	letter, began, err := procStat(p.PID)
	switch {
	case err != nil || began != p.Began:
		return Gone
	case letter == 'Z' || letter == 'X': // of the first thread; the others hold what it had open
		if threads, err := os.ReadDir(fmt.Sprintf("/proc/%d/task", p.PID)); err != nil || len(threads) <= 1 {
			return Gone
		}
	case letter == 'T' || letter == 't':
		return Paused
	}
	return Running
}

// procStat gives a process's state and when it began, in ticks since the start of the
// machine.
func procStat(pid int) (letter byte, began uint64, err error) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0, 0, err
	}
	// The name, in brackets, may have anything in it; the 3rd field is behind it.
	rest := string(b[strings.LastIndexByte(string(b), ')')+1:])
	fields := strings.Fields(rest)
	if len(fields) < 20 {
		return 0, 0, fmt.Errorf("/proc/%d/stat has too few fields", pid)
	}
	if _, err := fmt.Sscan(fields[19], &began); err != nil {
		return 0, 0, fmt.Errorf("/proc/%d/stat: %w", pid, err)
	}
	return fields[0][0], began, nil
}

// bootID names this start of the machine.
func bootID() (string, error) {
	b, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return "", fmt.Errorf("reading the machine's boot id: %w", err)
	}
	return strings.TrimSpace(string(b)), nil
}

// Signal sends a signal to the process, and to no other that has its number now. One
// that is gone is no error.
func (p *Process) Signal(s syscall.Signal) error {
	if p.Life() == Gone {
		return nil
	}
	fd, err := unix.PidfdOpen(p.PID, 0)
	if errors.Is(err, unix.ESRCH) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("finding %s: %w", p.Name, err)
	}
	defer unix.Close(fd)
	// The handle is that of whoever has the number now, and keeps it.
	if p.Life() == Gone {
		return nil
	}
	if err := unix.PidfdSendSignal(fd, s, nil, 0); err != nil && !errors.Is(err, unix.ESRCH) {
		return fmt.Errorf("sending %s to %s: %w", s, p.Name, err)
	}
	return nil
}

// Kill ends the process as a crash does, and waits for its end.
func (p *Process) Kill() error {
	if err := p.Signal(syscall.SIGKILL); err != nil {
		return err
	}
	return p.awaitEnd(killWithin)
}

// Pause stops the process where it is; Continue lets it go on.
func (p *Process) Pause() error {
	if err := p.Signal(syscall.SIGSTOP); err != nil {
		return err
	}
	return poll(context.Background(), killWithin, func() error {
		if l := p.Life(); l != Paused {
			return fmt.Errorf("%s is %s", p.Name, l)
		}
		return nil
	})
}

// Continue undoes Pause.
func (p *Process) Continue() error { return p.Signal(syscall.SIGCONT) }

// Stop asks the process to end and waits; one that does not in time is killed.
func (p *Process) Stop(within time.Duration) error {
	if err := errors.Join(p.Signal(syscall.SIGTERM), p.Signal(syscall.SIGCONT)); err != nil {
		return err
	}
	if p.awaitEnd(within) == nil {
		return nil
	}
	return p.Kill()
}

func (p *Process) awaitEnd(within time.Duration) error {
	return poll(context.Background(), within, func() error {
		if l := p.Life(); l != Gone {
			return fmt.Errorf("%s, process %d, is still %s", p.Name, p.PID, l)
		}
		return nil
	})
}

// poll asks until there is no error, and gives the last one when time is up.
func poll(ctx context.Context, within time.Duration, ask func() error) error {
	limit := time.NewTimer(within)
	defer limit.Stop()
	t := time.NewTicker(lookEvery)
	defer t.Stop()
	for {
		err := ask()
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return errors.Join(ctx.Err(), err)
		case <-limit.C:
			return err
		case <-t.C:
		}
	}
}

// Start starts the process again as it was started before, unless it is there, and
// waits until it is ready.
func (p *Process) Start(ctx context.Context) error {
	ended, err := p.spawn()
	if err != nil {
		return err
	}
	return p.await(ctx, ended, false)
}

// spawn starts the process, unless it is there, and writes down that it did.
func (p *Process) spawn() (ended <-chan struct{}, err error) {
	unlock, err := p.c.lock(filepath.Join(lockDir, p.Name))
	if err != nil {
		return nil, err
	}
	defer unlock()
	now, err := p.c.Process(p.Name)
	if err != nil {
		return nil, err
	}
	if p.Record = now.Record; p.Life() != Gone {
		return nil, nil
	}
	if p.ReadyFile != "" {
		if err := os.Remove(p.ReadyFile); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, fmt.Errorf("removing the old ready file of %s: %w", p.Name, err)
		}
	}
	log, err := os.OpenFile(p.Log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, fmt.Errorf("opening the log of %s: %w", p.Name, err)
	}
	defer log.Close()
	before, err := log.Stat()
	if err != nil {
		return nil, fmt.Errorf("opening the log of %s: %w", p.Name, err)
	}
	p.logged = before.Size()
	cmd := exec.Command(p.Path, p.Args...)
	cmd.Dir, cmd.Stdout, cmd.Stderr, cmd.Env = p.Dir, log, log, environ()
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true} // it outlives who starts it
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("starting %s: %w", p.Name, err)
	}
	_, began, err := procStat(cmd.Process.Pid)
	if err != nil { // it is our child, and not waited for: it is there
		return nil, errors.Join(fmt.Errorf("starting %s: %w", p.Name, err), cmd.Process.Kill(), cmd.Wait())
	}
	done := make(chan struct{})
	go func() { defer close(done); _ = cmd.Wait() }() // how it ended is in its log
	p.PID, p.Began, p.StartedAt = cmd.Process.Pid, began, time.Now().UTC()
	err = p.c.update(func(s *State) {
		if r := s.find(p.Name); r != nil {
			r.PID, r.Began, r.StartedAt = p.PID, p.Began, p.StartedAt
		}
	})
	if err != nil {
		return nil, errors.Join(err, p.Kill())
	}
	return done, nil
}

// environ is this process's without what would change the configuration of a server.
func environ() []string {
	var kept []string
	for _, kv := range os.Environ() {
		if !strings.HasPrefix(kv, "CRIER_") {
			kept = append(kept, kv)
		}
	}
	return kept
}

// await waits until the process is ready. whole says that it must see all others of its
// kind. ended is closed when it has ended, and nil if it was there already: then somebody
// else may have started it just now, and it is looked whether it is still there.
func (p *Process) await(ctx context.Context, ended <-chan struct{}, whole bool) error {
	s, err := p.c.State()
	if err != nil {
		return err
	}
	within, cancel := context.WithTimeout(ctx, readyWithin)
	defer cancel()
	over := false
	err = poll(within, readyWithin, func() error {
		if over {
			return nil
		}
		select {
		case <-ended:
			over = true
			return nil
		default:
		}
		err := p.ready(within, s, whole)
		if err != nil && ended == nil && p.Life() == Gone {
			over = true
			return nil
		}
		return err
	})
	switch {
	case over:
		return fmt.Errorf("%s ended before it was ready; its log, %s, ends with:\n%s", p.Name, p.Log, tail.Of(p.Log, p.logged))
	case err != nil && ctx.Err() == nil:
		return fmt.Errorf("%s runs, and is not ready after %s: %w; it goes on (crier cluster start %s waits again), and its log is %s", p.Name, readyWithin, err, p.Name, p.Log)
	case err != nil:
		return fmt.Errorf("%s is not ready: %w; its log is %s", p.Name, err, p.Log)
	}
	return nil
}
