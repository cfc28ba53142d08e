package level

import (
	"errors"
	"fmt"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"crier/state/parked/kv"
)

// mendEvery spaces attempts to open a store again whose writes fail.
const mendEvery = time.Second

// KV is a store on disk.
type KV struct {
	cfg Config
	mu  struct {
		sync.Mutex
		db     *database // nil: closed, or it could not be opened again
		users  int       // calls that use db; it is closed only without any
		failed error     // of the last write; until the store is opened again
		tried  time.Time // when that was last attempted
		closed bool
		idle   chan struct{} // made by Close, closed by the last user
	}
}

var _ kv.Store = (*KV)(nil)

// acquire gives the database for one call, which ends with release.
func (k *KV) acquire() (*database, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.mu.closed {
		return nil, kv.ErrClosed
	}
	if k.mu.db == nil {
		if err := k.mendLocked(); err != nil {
			return nil, err
		}
	}
	k.mu.users++
	return k.mu.db, nil
}

func (k *KV) release() {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.mu.users--
	if k.mu.closed && k.mu.users == 0 {
		close(k.mu.idle)
	}
}

// failed notes that a write failed. The library takes no other until it is opened
// again, whether or not there is space; damage is not mended by that.
func (k *KV) failed(err error) error {
	err = classify(err)
	if errors.Is(err, kv.ErrDamaged) || errors.Is(err, kv.ErrClosed) {
		return err
	}
	err = fmt.Errorf("%w: %w", kv.ErrNotWritten, err)
	k.mu.Lock()
	defer k.mu.Unlock()
	k.mu.failed, k.mu.tried = err, k.cfg.Now()
	return err
}

// mend opens the store again if the last write failed and it is time to.
func (k *KV) mend() error {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.mendLocked()
}

func (k *KV) mendLocked() error {
	if k.mu.failed == nil || k.mu.closed {
		return nil
	}
	now := k.cfg.Now()
	if k.mu.users > 0 || now.Sub(k.mu.tried) < mendEvery {
		return k.mu.failed
	}
	k.mu.tried = now
	// Opening writes the table in memory out; on a full disk that would fail, and
	// what can still be read now could not be any more.
	free, err := k.cfg.disk.free(k.cfg.Dir)
	if err != nil || free < uint64(2*k.cfg.WriteBuffer) {
		return k.mu.failed
	}
	if k.mu.db != nil {
		// Its error is the one of the failed write; the files are let go in any case.
		_ = k.mu.db.close()
		k.mu.db = nil
	}
	db, err := openDB(k.cfg)
	if err != nil {
		return fmt.Errorf("opening it again: %w", err)
	}
	k.mu.db, k.mu.failed = db, nil
	return nil
}

// Close implements kv.Store.
func (k *KV) Close() error {
	k.mu.Lock()
	if k.mu.closed {
		k.mu.Unlock()
		return nil
	}
	k.mu.closed = true
	k.mu.idle = make(chan struct{})
	if k.mu.users == 0 {
		close(k.mu.idle)
	}
	db := k.mu.db
	k.mu.Unlock()
	<-k.mu.idle
	if db == nil {
		return nil
	}
	if err := db.close(); err != nil {
		return fmt.Errorf("closing the index store in %s: %w", k.cfg.Dir, err)
	}
	return nil
}

func freeBytes(dir string) (uint64, error) {
	var st unix.Statfs_t
	if err := unix.Statfs(dir, &st); err != nil {
		return 0, fmt.Errorf("asking the free space of %s: %w", dir, err)
	}
	return st.Bavail * uint64(st.Bsize), nil
}
