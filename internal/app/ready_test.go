package app_test

import (
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"testing"

	"crier/internal/app"
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
