package launch

import (
	"bytes"
	"context"
	"errors"
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
	if b, err := os.ReadFile(path); err != nil || !bytes.HasPrefix(b, []byte{0x1f, 0x8b}) {
		t.Errorf("the profile begins with %x, %v; want what is compressed", b[:min(2, len(b))], err)
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
