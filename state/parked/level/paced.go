package level

import (
	"strconv"
	"sync/atomic"
	"time"

	"github.com/syndtr/goleveldb/leveldb"
	"github.com/syndtr/goleveldb/leveldb/storage"
	"golang.org/x/sys/unix"
)

// Tables are handed to the disk a piece at a time, as they are written: what the sync of a whole
// one leaves to be written at once, the ledger's syncs wait for.
//
// A table that is compacted into levels that are full moves fifteen times as much as it has, at
// full speed on a processor of its own for seconds, and logins wait for theirs. So whoever writes
// tables rests as long as it has worked, a piece at a time, unless so many wait at level 0 that
// looking through them costs more. The table in memory is written so, too, which takes a fraction of
// the time in which the next one fills.
const (
	pacedBytes = 256 << 10
	restMost   = 50 * time.Millisecond
	hurryFrom  = 6 // tables of level 0; the library slows writes from 8 on
)

// paced is files of which the tables are written with rests.
type paced struct {
	storage.Storage
	now  func() time.Time
	rest func(time.Duration)
	db   atomic.Pointer[leveldb.DB] // nil while it is opened
}

// Create implements storage.Storage.
func (p *paced) Create(fd storage.FileDesc) (storage.Writer, error) {
	w, err := p.Storage.Create(fd)
	if err != nil || fd.Type != storage.TypeTable {
		return w, err
	}
	return &pacedTable{Writer: w, paced: p, since: p.now()}, nil
}

// hurries reports whether there is no time for rests.
func (p *paced) hurries() bool {
	db := p.db.Load()
	if db == nil {
		return true
	}
	text, err := db.GetProperty("leveldb.num-files-at-level0")
	n, bad := strconv.Atoi(text)
	return err != nil || bad != nil || n >= hurryFrom
}

type pacedTable struct {
	storage.Writer
	paced  *paced
	offset int64     // where the piece begins that is written
	bytes  int       // of it
	since  time.Time // it works
}

// Write implements io.Writer.
func (t *pacedTable) Write(b []byte) (int, error) {
	n, err := t.Writer.Write(b)
	if t.bytes += n; t.bytes >= pacedBytes {
		t.handOver()
		if worked := t.paced.now().Sub(t.since); !t.paced.hurries() {
			t.paced.rest(min(worked, restMost))
		}
		t.bytes, t.since = 0, t.paced.now()
	}
	return n, err
}

// handOver lets the disk begin to write a piece. It is a hint: what is not written then, Sync writes.
func (t *pacedTable) handOver() {
	if f, ok := t.Writer.(interface{ Fd() uintptr }); ok {
		_ = unix.SyncFileRange(int(f.Fd()), t.offset, int64(t.bytes), unix.SYNC_FILE_RANGE_WRITE)
	}
	t.offset += int64(t.bytes)
}
