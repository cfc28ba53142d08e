package launch

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"crier/internal/config"
)

// leave writes what a server runs with. Nobody but a person reads it, so that a crash may
// leave the file of the former start.
func leave(cfg config.Server, version string) (err error) {
	data, err := json.MarshalIndent(config.Running{ReadyAt: time.Now().UTC(), PID: os.Getpid(), Version: version, Log: fileOf(os.Stderr), Settings: cfg.Show()}, "", "  ")
	if err != nil {
		return fmt.Errorf("writing the settings: %w", err)
	}
	path := filepath.Join(cfg.Data, config.SettingsFile)
	f, err := os.CreateTemp(cfg.Data, "."+config.SettingsFile+"-*") // 0600
	if err != nil {
		return fmt.Errorf("writing the settings into %s: %w", path, err)
	}
	_, err = f.Write(append(data, '\n'))
	if err = errors.Join(err, f.Sync(), f.Close()); err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		return fmt.Errorf("writing the settings into %s: %w", path, errors.Join(err, os.Remove(f.Name())))
	}
	return nil
}

// fileOf is the path of an open file; empty if it is none, such as a pipe or a terminal, or
// is not there any more.
func fileOf(f *os.File) string {
	is, err := f.Stat()
	if err != nil || !is.Mode().IsRegular() {
		return ""
	}
	path, err := os.Readlink(fmt.Sprintf("/proc/self/fd/%d", f.Fd()))
	if err != nil {
		return ""
	}
	if at, err := os.Stat(path); err != nil || !os.SameFile(is, at) {
		return ""
	}
	return path
}
