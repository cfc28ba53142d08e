package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net/http/httptest"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"crier/api"
	"crier/api/apitest"
	"crier/api/server"
	"crier/job"
)

// process prepares the command line as a process that asks a fake.
func process(t *testing.T, fake *apitest.Fake, args ...string) *exec.Cmd {
	t.Helper()
	s, err := server.New(server.Config{Service: fake, Keys: apitest.Keys("k"), Trail: apitest.Trail{}, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	ts := httptest.NewServer(s)
	t.Cleanup(func() { ts.CloseClientConnections(); ts.Close() })
	cmd := exec.CommandContext(t.Context(), "crier", args...)
	cmd.Env = append(os.Environ(), "CRIER_SERVER="+ts.URL, "CRIER_TOKEN=k", "TERM=xterm")
	return cmd
}

func oneJob(t *testing.T, fake *apitest.Fake) api.Job {
	t.Helper()
	if _, err := fake.CreateAccount(t.Context(), api.CreateAccount{Name: "news"}); err != nil {
		t.Fatal(err)
	}
	if _, err := fake.AddFollowers(t.Context(), "news", []job.Recipient{1, 2, 3, 4, 5, 6, 7, 8}); err != nil {
		t.Fatal(err)
	}
	j, err := fake.SubmitJob(t.Context(), api.SubmitJob{Account: "news", Audience: "followers", Body: "x"})
	if err != nil {
		t.Fatal(err)
	}
	return j
}

// openTerminal makes a pseudo-terminal of 100 columns: what is written to tty is
// read from master.
func openTerminal(t *testing.T) (master, tty *os.File) {
	t.Helper()
	master, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { master.Close() })
	if err := unix.IoctlSetPointerInt(int(master.Fd()), unix.TIOCSPTLCK, 0); err != nil {
		t.Fatal(err)
	}
	n, err := unix.IoctlGetInt(int(master.Fd()), unix.TIOCGPTN)
	if err != nil {
		t.Fatal(err)
	}
	tty, err = os.OpenFile("/dev/pts/"+strconv.Itoa(n), os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { tty.Close() })
	if err := unix.IoctlSetWinsize(int(tty.Fd()), unix.TIOCSWINSZ, &unix.Winsize{Col: 100, Row: 30}); err != nil {
		t.Fatal(err)
	}
	return master, tty
}

// drain reads a terminal until all that wrote to it have closed it.
func drain(master *os.File) string {
	var b bytes.Buffer
	_, _ = io.Copy(&b, master) // ends with EIO
	return b.String()
}

// On a terminal, waiting shows progress on standard error; standard output has
// one JSON object and nothing else.
func TestProgressGoesToTheTerminal(t *testing.T) {
	fake := apitest.New()
	oneJob(t, fake)
	cmd := process(t, fake, "job", "submit", "--account", "news", "--audience", "followers", "--body", "x", "--wait", "-o", "json")
	master, tty := openTerminal(t)
	var stdout bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, tty
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	if err := tty.Close(); err != nil {
		t.Fatal(err)
	}
	shown := drain(master)
	if err := cmd.Wait(); err != nil {
		t.Fatalf("%v: %s", err, shown)
	}
	var j api.Job
	if err := json.Unmarshal(stdout.Bytes(), &j); err != nil || j.State != job.Sent {
		t.Errorf("standard output: %v: %s", err, &stdout)
	}
	for _, want := range []string{"\rsending  ", "6/8  75%", "8/8  100%", "\x1b[K", "█"} {
		if !strings.Contains(shown, want) {
			t.Errorf("the terminal lacks %q: %q", want, shown)
		}
	}
}

// Colours are for terminals, and not if NO_COLOR is set.
func TestColourOnATerminal(t *testing.T) {
	fake := apitest.New()
	for _, c := range []struct {
		env    string
		colour bool
	}{{"X=", true}, {"NO_COLOR=1", false}, {"TERM=dumb", false}} {
		cmd := process(t, fake, "status")
		cmd.Env = append(cmd.Env, c.env)
		master, tty := openTerminal(t)
		cmd.Stdout = tty
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		if err := tty.Close(); err != nil {
			t.Fatal(err)
		}
		shown := drain(master)
		if err := cmd.Wait(); err != nil {
			t.Fatal(err)
		}
		if got := strings.Contains(shown, "\x1b[32mhealthy\x1b[0m"); got != c.colour {
			t.Errorf("with %s: colour %v: %q", c.env, got, shown)
		}
	}
	out, err := process(t, fake, "status").Output()
	if err != nil || bytes.Contains(out, []byte("\x1b")) {
		t.Errorf("off a terminal: %v, %q", err, out)
	}
}

// An interrupted wait ends with 130 and says that the job goes on.
func TestInterrupt(t *testing.T) {
	fake := apitest.New()
	fake.Manual = true
	waiting := make(chan struct{}, 10)
	fake.Fail = func(m string) error {
		if m == "WaitJob" {
			waiting <- struct{}{}
		}
		return nil
	}
	j := oneJob(t, fake)
	cmd := process(t, fake, "job", "wait", j.Job.String())
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	<-waiting
	if err := cmd.Process.Signal(syscall.SIGINT); err != nil {
		t.Fatal(err)
	}
	err := cmd.Wait()
	var exit *exec.ExitError
	if !errors.As(err, &exit) || exit.ExitCode() != 130 {
		t.Errorf("interrupted: %v; want exit code 130", err)
	}
	if stdout.Len() != 0 || !strings.Contains(stderr.String(), "the job goes on") {
		t.Errorf("interrupted: %q and %q", &stdout, &stderr)
	}
}

// Whoever looks at a terminal is told which columns it has no room for; who reads a file is
// not.
func TestColumnsThatATerminalHasNoRoomFor(t *testing.T) {
	fake := apitest.New()
	oneJob(t, fake)
	const says = "not shown at this width: "
	cmd := process(t, fake, "job", "ls")
	master, tty := openTerminal(t)
	cmd.Stdout, cmd.Stderr = tty, tty
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	if err := tty.Close(); err != nil {
		t.Fatal(err)
	}
	shown := drain(master)
	if err := cmd.Wait(); err != nil || strings.Count(shown, says) != 1 || !strings.HasSuffix(strings.TrimSpace(shown), "WAITING ON") {
		t.Errorf("on a terminal of 100 columns, %v:\n%s", err, shown)
	}
	cmd = process(t, fake, "job", "ls")
	cmd.Env = append(cmd.Env, "COLUMNS=100")
	if all, err := cmd.CombinedOutput(); err != nil || strings.Contains(string(all), says) {
		t.Errorf("elsewhere, %v:\n%s", err, all)
	}
}
