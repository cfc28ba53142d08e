package logins

import (
	"context"
	"fmt"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"crier/internal/pause"
)

// syncEvery is how long the disk is left alone between two of our own syncs.
const syncEvery = 10 * time.Millisecond

// beside does something, and measures how long the disk takes meanwhile to append 4 KiB to a file in
// a directory and sync them. No login can be faster: what it is given is durable before, and that it
// was given is durable behind it.
func beside(ctx context.Context, dir string, do func() error) (took []time.Duration, err error) {
	f, err := os.CreateTemp(dir, "sync")
	if err != nil {
		return nil, fmt.Errorf("making a file to sync: %w", err)
	}
	defer os.Remove(f.Name())
	defer f.Close()
	ctx, cancel := context.WithCancel(ctx)
	done := make(chan error, 1)
	go func() {
		block := make([]byte, 4096)
		for pause.For(ctx, syncEvery) {
			began := time.Now()
			_, err := f.Write(block)
			if err == nil {
				err = unix.Fdatasync(int(f.Fd()))
			}
			if err != nil {
				done <- fmt.Errorf("syncing %s: %w", f.Name(), err)
				return
			}
			took = append(took, time.Since(began))
		}
		done <- nil
	}()
	err = do()
	cancel()
	if failed := <-done; err == nil {
		err = failed
	}
	return took, err
}
