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
	data, err := json.MarshalIndent(config.Running{ReadyAt: time.Now().UTC(), PID: os.Getpid(), Version: version, Settings: cfg.Show()}, "", "  ")
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
