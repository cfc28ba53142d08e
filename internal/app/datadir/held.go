package datadir

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"
)

// Held is the lock that Home stands for, so that no copy of it is taken for it. All of it
// has to be the same; see the package.
type Held struct {
	Boot   string `json:"boot"` // of the machine: no other has it, nor the same machine later
	Device string `json:"device"`
	Inode  uint64 `json:"inode"`
	Born   int64  `json:"born"` // Unix nanoseconds
}

// heldIn looks at the lock in a directory; its zero value says that there is none.
func heldIn(path string) (h Held, err error) {
	var st unix.Statx_t
	err = unix.Statx(unix.AT_FDCWD, path, unix.AT_STATX_SYNC_AS_STAT, unix.STATX_INO|unix.STATX_CTIME|unix.STATX_BTIME, &st)
	if errors.Is(err, unix.ENOENT) {
		return h, nil
	}
	if err != nil {
		return h, fmt.Errorf("looking at the lock of the data directory: %w", err)
	}
	if h.Boot, err = BootID(); err != nil {
		return h, err
	}
	// Nothing is ever written to a lock, so that its last change is its birth as well, but
	// for who changes its owner or its mode.
	born := st.Ctime
	if st.Mask&unix.STATX_BTIME != 0 {
		born = st.Btime
	}
	h.Device, h.Inode, h.Born = fmt.Sprintf("%d:%d", st.Dev_major, st.Dev_minor), st.Ino, born.Sec*1e9+int64(born.Nsec)
	return h, nil
}
