package cluster

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
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
	if want := "CRIER_CLUSTER=" + c.dir + "\nCRIER_SERVER=http://127.0.0.1:1\nCRIER_TOKEN=" + key + "\n"; err != nil || string(out) != want {
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

// Who waits for a process that somebody else has just started hears at once that it has
// ended, and is not told of a file that it lacks.
func TestWhatSomebodyElseStartedEnds(t *testing.T) {
	c := &Cluster{dir: t.TempDir()}
	if err := os.MkdirAll(c.path(lockDir), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Mkfifo(c.path("fifo"), 0o600); err != nil {
		t.Fatal(err)
	}
	err := c.save(State{Processes: []Record{{Name: "a", Kind: Crier, Path: "/bin/sh", Args: []string{"-c", "cat fifo; echo it fails"}, Dir: c.dir, Log: c.path("a"), ReadyFile: c.path("a.ready")}}})
	if err != nil {
		t.Fatal(err)
	}
	first, err := c.Process("a")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := first.spawn(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = first.Kill() }) // or it has ended
	if err := first.announced(); err == nil || strings.Contains(err.Error(), "a.ready") {
		t.Errorf("before it is ready: %v", err)
	}
	second, err := c.Process("a")
	if err != nil {
		t.Fatal(err)
	}
	ended, err := second.spawn()
	if err != nil || ended != nil || second.PID != first.PID {
		t.Fatalf("it is started twice: %d and %d, %v", first.PID, second.PID, err)
	}
	if err := os.WriteFile(c.path("fifo"), nil, 0o600); err != nil { // and its reader ends
		t.Fatal(err)
	}
	began := time.Now()
	err = second.await(t.Context(), ended, false)
	if err == nil || !strings.Contains(err.Error(), "a ended before it was ready") || !strings.Contains(err.Error(), "it fails") {
		t.Errorf("it says %v", err)
	}
	if took := time.Since(began); took > readyWithin/2 {
		t.Errorf("it took %s", took)
	}
}

// One that fails keeps no other from being started, waited for and reported, each with what
// it said this time.
func TestAWaveReportsAllThatFail(t *testing.T) {
	c := &Cluster{dir: t.TempDir()}
	if err := os.MkdirAll(c.path(lockDir), 0o700); err != nil {
		t.Fatal(err)
	}
	record := func(name, path, script string) Record {
		return Record{Name: name, Kind: Crier, Path: path, Args: []string{"-c", script}, Dir: c.dir, Log: c.path(name), ReadyFile: c.path(name + ".ready")}
	}
	s := State{Processes: []Record{
		record("a", "/bin/sh", "echo a fails"), record("b", c.path("no such program"), ""),
		record("c", "/bin/sh", `echo "{\"pid\":$$}" > c.ready; exec cat fifo`), record("d", "/bin/sh", "echo d fails"),
	}}
	if err := syscall.Mkfifo(c.path("fifo"), 0o600); err != nil { // nobody writes to it
		t.Fatal(err)
	}
	if err := os.WriteFile(c.path("a"), []byte("of an earlier run\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := c.save(s); err != nil {
		t.Fatal(err)
	}
	all, err := c.Processes()
	if err != nil {
		t.Fatal(err)
	}
	started, err := c.startWave(t.Context(), all)
	if p := all[2]; p.Life() != Running {
		t.Errorf("c is %s", p.Life())
	} else if err := p.Kill(); err != nil {
		t.Error(err)
	}
	if err == nil || !slices.Equal(started, []string{"a", "c", "d"}) {
		t.Fatalf("it started %v, %v", started, err)
	}
	for _, want := range []string{"a ended", "a fails", "starting b", "d ended", "d fails"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("it does not say %q: %v", want, err)
		}
	}
	for _, no := range []string{"earlier", "c ended", "c is"} {
		if strings.Contains(err.Error(), no) {
			t.Errorf("it says %q: %v", no, err)
		}
	}
}

// A cluster that was made is mended from anywhere: it knows its configuration and profile,
// unless another is given.
func TestUpRemembers(t *testing.T) {
	c := &Cluster{dir: t.TempDir()}
	if cfg, err := c.remembered(Config{}); err != nil || cfg.Deploy != DefaultDeploy || cfg.Profile != "" {
		t.Errorf("a new one: %+v, %v", cfg, err)
	}
	if err := c.save(State{Deploy: "/there", Topology: Topology{Worker: 3, Profile: "fast"}}); err != nil {
		t.Fatal(err)
	}
	for _, x := range []struct{ given, want Config }{
		{Config{}, Config{Deploy: "/there", Profile: "fast"}},
		{Config{Profile: "standard"}, Config{Deploy: "/there", Profile: "standard"}},
		{Config{Deploy: "here"}, Config{Deploy: "here"}},
	} {
		if got, err := c.remembered(x.given); err != nil || got != x.want {
			t.Errorf("%+v becomes %+v, %v; want %+v", x.given, got, err, x.want)
		}
	}
}

// Without a configuration nothing is made.
func TestUpOutsideTheRepository(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "c")
	_, _, err := Up(t.Context(), Config{Dir: dir, Deploy: t.TempDir(), Binary: "crier"})
	if err == nil || !strings.Contains(err.Error(), "--deploy") {
		t.Errorf("it says %v", err)
	}
	if _, err := os.Stat(dir); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("it made its directory: %v", err)
	}
}
