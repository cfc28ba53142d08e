package cluster

import (
	"fmt"
	"io"
	"os"
	"os/exec"
	"syscall"
	"testing"
	"time"
)

// firstThreadEnds is set for a process that is this program without its first thread: it
// ends with its input.
const firstThreadEnds = "CLUSTER_FIRST_THREAD_ENDS"

func init() { // on the first thread
	if os.Getenv(firstThreadEnds) == "" {
		return
	}
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin) // until its end
		os.Exit(0)
	}()
	_, _, _ = syscall.Syscall(syscall.SYS_EXIT, 0, 0, 0) // it does not return
}

// A process whose first thread has ended is there, and has its files locked, until the last
// one has.
func TestGoneIsTheLastThread(t *testing.T) {
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), self)
	cmd.Env = append(os.Environ(), firstThreadEnds+"=1")
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { in.Close(); _ = cmd.Wait() }) // how it ends is not what is tested
	p := &Process{Record: Record{Name: "x", PID: cmd.Process.Pid}}
	err = poll(t.Context(), 10*time.Second, func() error {
		letter, began, err := procStat(p.PID)
		if p.Began = began; err != nil || letter != 'Z' {
			return fmt.Errorf("the first thread is in state %c, %v", letter, err)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if l := p.Life(); l != Running {
		t.Errorf("with a thread it is %s", l)
	}
	in.Close()
	if err := p.awaitEnd(10 * time.Second); err != nil {
		t.Error(err)
	}
}
