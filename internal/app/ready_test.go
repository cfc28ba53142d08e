package app_test

import (
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"crier/internal/app"
	"crier/job"
)

// TestReadyFileOfAFormerProcess starts a process that cannot listen: whoever waits
// for its ready file must not read the one of the process before it.
func TestReadyFileOfAFormerProcess(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	ready := filepath.Join(t.TempDir(), "ready")
	if err := os.WriteFile(ready, []byte("{}"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := app.Run(t.Context(), app.Config{Data: t.TempDir(), Listen: l.Addr().String(), ReadyFile: ready}); err == nil {
		t.Fatal("two listen at one port")
	}
	if _, err := os.Stat(ready); !os.IsNotExist(err) {
		t.Fatalf("the old ready file: %v, want %v", err, fs.ErrNotExist)
	}
}

// Files that cannot be read or made are refused by the names of their settings.
func TestSettingsAreNamed(t *testing.T) {
	for setting, change := range map[string]func(*app.Config){
		"nats.token: give": func(c *app.Config) { c.Messaging.Token = filepath.Join(t.TempDir(), "none") },
		"keys: give":       func(c *app.Config) { c.Keys = "/proc/none" },
	} {
		cfg := app.Config{Data: t.TempDir(), Listen: "127.0.0.1:0"}
		change(&cfg)
		if err := app.Run(t.Context(), cfg); job.CodeOf(err) != job.CodeInvalid || !strings.Contains(err.Error(), setting) {
			t.Errorf("%s: %v", setting, err)
		}
	}
}
