package main

import (
	"bytes"
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"crier/cmd/crier/cli"
	"crier/internal/app"
	"crier/internal/config"
	"crier/internal/launch"
)

// serveWith runs "crier serve" with a stand-in for the server.
func serveWith(t *testing.T, run func(context.Context, config.Server, launch.Process) error, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	var out, err bytes.Buffer
	c := &commands{CLI: &cli.CLI{In: strings.NewReader(""), Out: &out, Err: &err, Getenv: os.Getenv, Now: time.Now}, serve: run}
	code = c.main(t.Context(), append([]string{"serve"}, args...))
	return code, out.String(), err.String()
}

func TestServe(t *testing.T) {
	data := filepath.Join(t.TempDir(), "it's data")
	code, stdout, stderr := serveWith(t, func(_ context.Context, cfg config.Server, s launch.Process) error {
		if cfg.Data != data || cfg.Listen != "127.0.0.1:0" || s.Version != version {
			t.Errorf("the server got %+v, version %s", cfg, s.Version)
		}
		s.Log.Info("left out")
		s.Log.Warn("shown", "k", 1)
		s.Ready(app.Ready{Listen: "http://127.0.0.1:4711", API: "http://127.0.0.1:4711", Gateway: "ws://127.0.0.1:4711/v1/connect"})
		return nil
	}, "--data", data, "--listen", "127.0.0.1:0", "--log-level", "warn", "--log-format", "json")
	if code != 0 || strings.Count(stderr, "\n") != 1 || !strings.Contains(stderr, `"msg":"shown"`) {
		t.Errorf("exit code %d, log %q", code, stderr)
	}
	for _, want := range []string{"http://127.0.0.1:4711\n", "ws://127.0.0.1:4711/v1/connect\n", "crier status --server http://127.0.0.1:4711 --data '"} {
		if !strings.Contains(stdout, want) {
			t.Errorf("it does not print %q:\n%s", want, stdout)
		}
	}
	// The command to paste is one that a shell reads as it was meant.
	paste := stdout[strings.Index(stdout, "crier status"):]
	words, err := exec.CommandContext(t.Context(), "sh", "-c", "crier() { for w; do echo \"$w\"; done; }; "+paste).Output()
	if err != nil || string(words) != "status\n--server\nhttp://127.0.0.1:4711\n--data\n"+data+"\n" {
		t.Errorf("a shell reads %q, %v", words, err)
	}
	if code, _, stderr := serveWith(t, func(context.Context, config.Server, launch.Process) error { return errors.New("the disk is gone") }); code != 1 || !strings.Contains(stderr, "the disk is gone") {
		t.Errorf("a server that fails: exit code %d, %q", code, stderr)
	}
}

func TestWelcomeOfTheDefault(t *testing.T) {
	cfg := config.Default()
	if got := welcome(cfg, app.Ready{API: "http://" + config.DefaultListen, Gateway: "ws://x"}); !strings.HasSuffix(got, "try      crier status\n") {
		t.Errorf("the default needs no flags:\n%s", got)
	}
}

// Where the keys are shared, the command to try names their directory: there is no key in the
// data directory.
func TestWelcomeOfSharedKeys(t *testing.T) {
	cfg := config.Default()
	cfg.Keys = "/shared/keys"
	if got := welcome(cfg, app.Ready{API: "http://" + config.DefaultListen}); !strings.HasSuffix(got, "try      crier status --data /shared/keys\n") {
		t.Errorf("it says\n%s", got)
	}
}

// Who listens at every address is asked at one of them.
func TestWelcomeOfEveryAddress(t *testing.T) {
	for _, at := range []string{"[::]", "0.0.0.0"} {
		got := welcome(config.Default(), app.Ready{Listen: "http://" + at + ":17420", API: "http://" + at + ":17420", Gateway: "ws://" + at + ":17420/v1/connect"})
		want := "api      http://127.0.0.1:17420\ndocs     http://127.0.0.1:17420/docs\ngateway  ws://127.0.0.1:17420/v1/connect\ntry      crier status --server http://127.0.0.1:17420\n"
		if got != want {
			t.Errorf("at %s it is\n%swant\n%s", at, got, want)
		}
	}
}

// Who reads the log sees that a server was told to stop, and that it did.
func TestTheLogOfAnEnd(t *testing.T) {
	for _, told := range []bool{false, true} {
		ctx, stop := context.WithCancel(t.Context())
		defer stop()
		var b bytes.Buffer
		log, err := newLog(&b, config.Log{Level: "info", Format: "text"})
		if err != nil {
			t.Fatal(err)
		}
		err = logged(ctx, log, func(ctx context.Context) error {
			if told {
				stop()
				<-ctx.Done()
			}
			return nil
		})
		got := b.String()
		if says := strings.Count(got, "msg=stopping\n") == 1 && strings.Count(got, "msg=stopped\n") == 1; err != nil || says != told || !told && got != "" {
			t.Errorf("told to stop %t: %v, the log is\n%s", told, err, got)
		}
	}
}

func TestWelcomeOfAProcessWithoutAPI(t *testing.T) {
	if got, want := welcome(config.Default(), app.Ready{Listen: "http://127.0.0.1:1"}), "health   http://127.0.0.1:1/readyz\n"; got != want {
		t.Errorf("a worker says %q, want %q", got, want)
	}
	if got, want := welcome(config.Default(), app.Ready{Listen: "http://127.0.0.1:1", Gateway: "ws://127.0.0.1:1/v1/connect"}),
		"health   http://127.0.0.1:1/readyz\ngateway  ws://127.0.0.1:1/v1/connect\n"; got != want {
		t.Errorf("a gateway says %q, want %q", got, want)
	}
}
