package cluster

import (
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"crier/internal/auth"
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

// A shell that reads env talks to the cluster's first API process with its key, and is told
// of the others; a server that starts in it is not told where its data is.
func TestEnv(t *testing.T) {
	c := &Cluster{dir: filepath.Join(t.TempDir(), "it's here")}
	if _, err := auth.Open(auth.Config{Data: c.Keys()}); err != nil {
		t.Fatal(err)
	}
	err := c.writeEnv(State{Processes: []Record{
		{Name: "api-1", Role: "api", Addresses: map[string]string{AddrAPI: "http://127.0.0.1:1"}},
		{Name: "api-2", Role: "api", Addresses: map[string]string{AddrAPI: "http://127.0.0.1:2"}},
		{Name: "gateway-1", Role: "gateway", Addresses: map[string]string{AddrAPI: "http://127.0.0.1:3", AddrGateway: "ws://127.0.0.1:4"}},
	}})
	if err != nil {
		t.Fatal(err)
	}
	key, err := auth.ReadAdminKey(c.Keys())
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), "sh", "-c", `. "$0"; env | grep ^CRIER_ | sort`, c.path("env"))
	cmd.Env = environ()
	out, err := cmd.CombinedOutput()
	if want := "CRIER_SERVER=http://127.0.0.1:1\nCRIER_TOKEN=" + key + "\n"; err != nil || string(out) != want {
		t.Errorf("it exports %s, %v, want %s", out, err, want)
	}
	text, err := os.ReadFile(c.path("env"))
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"# api-2 ", "http://127.0.0.1:2", "# gateway-1 ", "ws://127.0.0.1:4"} {
		if !strings.Contains(string(text), want) {
			t.Errorf("it does not say %q:\n%s", want, text)
		}
	}
	if strings.Contains(string(text), key) {
		t.Error("the key is in it")
	}
}
