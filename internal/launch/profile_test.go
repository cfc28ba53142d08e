package launch

import (
	"compress/gzip"
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"crier/internal/config"
	"crier/job"
)

// Whatever a server ends with, its profile is there and whole; one that cannot be written is told
// of before the server begins.
func TestProfile(t *testing.T) {
	path, boom := filepath.Join(t.TempDir(), "cpu.pprof"), errors.New("boom")
	if err := profiled(path, func() error { return boom }); !errors.Is(err, boom) {
		t.Errorf("the server ended with boom, which became %v", err)
	}
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	z, err := gzip.NewReader(f)
	if err != nil {
		t.Fatal(err)
	}
	if b, err := io.ReadAll(z); err != nil || len(b) == 0 { // its checksum stands at its end
		t.Errorf("the profile has %d bytes, %v", len(b), err)
	}
	cfg := config.Default()
	cfg.Data, cfg.CPUProfile = filepath.Join(t.TempDir(), "data"), filepath.Join(t.TempDir(), "none", "cpu.pprof")
	var named *job.Error
	if err := Run(context.Background(), cfg, Process{}); !errors.As(err, &named) || named.Field != "cpu_profile" || !strings.Contains(err.Error(), cfg.CPUProfile) {
		t.Errorf("a file in no directory: %v", err)
	}
	if _, err := os.Stat(cfg.Data); err == nil {
		t.Error("the server began nevertheless")
	}
}
