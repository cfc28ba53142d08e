// Package level keeps the parked index in LevelDB.
//
// Batches are not synced, tables and their list are: a crash of the process takes
// nothing that was answered, a crash of the machine may take the last batches,
// never one from the middle, and the index reads them in the ledger again.
//
// Nothing damaged is taken for good, whatever the library does by default.
// Tables: every block has a checksum, and is read and compacted strictly. The list
// of tables: read strictly, a torn end included, because a lost end of it is a lost
// table. Journals: by default the library drops, without a word, the batches of a
// block in which one bit is wrong, and strictly it also refuses the torn end that
// every kill may leave. So this package reads the journals itself before they are
// replayed: each chunk's checksum, and that each batch begins at the number where
// the one before ended, the first one where the tables end. Only an end of the last
// journal may be missing; that is a prefix of the batches, and the watermark in it
// says where to go on. No checksum per value is needed beside these: they cover
// every byte that is read.
//
// A disk that is full stops the library until it is opened again. A write does
// that, at most once a second, when there is space.
package level

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"time"

	"github.com/syndtr/goleveldb/leveldb"
	ldberrors "github.com/syndtr/goleveldb/leveldb/errors"
	"github.com/syndtr/goleveldb/leveldb/filter"
	"github.com/syndtr/goleveldb/leveldb/opt"
	"github.com/syndtr/goleveldb/leveldb/storage"
	"github.com/syndtr/goleveldb/leveldb/util"

	"crier/state/parked/kv"
)

const (
	defaultWriteBuffer = 32 << 20
	defaultBlockCache  = 64 << 20
	bloomBits          = 10
	tableBytes         = 8 << 20
	tableBlockBytes    = 8 << 10
	openFiles          = 1024
)

// Config says where the store is and what memory it has.
type Config struct {
	// Dir is made if need be; its parent is not. Required.
	Dir string
	// WriteBuffer is the bytes of the table in memory, of which there may be two.
	// It also bounds the journals that are read at a start. Default 32 MiB.
	WriteBuffer int
	// BlockCache is the bytes of blocks kept for reading. Default 64 MiB: those
	// that say where the others are must stay in it, for they are read for every login, and whoever
	// logs in reads others that nobody reads again soon.
	BlockCache int
	// Now is the clock that spaces attempts to open again. Default time.Now.
	Now func() time.Time

	disk disk // zero: the real one
}

// disk is what tests replace.
type disk struct {
	open func(dir string) (storage.Storage, error)
	free func(dir string) (uint64, error)
	rest func(time.Duration)
}

// Validate names the first field that cannot be used.
func (c Config) Validate() error {
	switch {
	case c.Dir == "":
		return errors.New("index store configuration: Dir is empty")
	case c.WriteBuffer < 0:
		return fmt.Errorf("index store configuration: WriteBuffer %d is negative", c.WriteBuffer)
	case c.BlockCache < 0:
		return fmt.Errorf("index store configuration: BlockCache %d is negative", c.BlockCache)
	}
	return nil
}

func (c Config) withDefaults() Config {
	if c.WriteBuffer == 0 {
		c.WriteBuffer = defaultWriteBuffer
	}
	if c.BlockCache == 0 {
		c.BlockCache = defaultBlockCache
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	if c.disk.open == nil {
		c.disk.open = func(dir string) (storage.Storage, error) { return storage.OpenFile(dir, false) }
	}
	if c.disk.free == nil {
		c.disk.free = freeBytes
	}
	if c.disk.rest == nil {
		c.disk.rest = time.Sleep
	}
	return c
}

// Open opens the store, or makes it. If it is damaged the error is a
// kv.ErrDamaged; what is stored must then not be used.
func Open(cfg Config) (*KV, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	cfg = cfg.withDefaults()
	db, err := openDB(cfg)
	if err != nil {
		return nil, fmt.Errorf("opening the index store in %s: %w", cfg.Dir, err)
	}
	k := &KV{cfg: cfg}
	k.mu.db = db
	return k, nil
}

func openDB(cfg Config) (*database, error) {
	files, err := cfg.disk.open(cfg.Dir)
	if err != nil {
		return nil, err
	}
	stor := &paced{Storage: files, now: cfg.Now, rest: cfg.disk.rest}
	if err := checkJournals(stor); err != nil {
		return nil, errors.Join(err, stor.Close())
	}
	db, err := leveldb.Open(stor, &opt.Options{
		// Not StrictJournal: checkJournals does that, and lets a torn end pass.
		Strict: opt.StrictManifest | opt.StrictJournalChecksum | opt.StrictBlockChecksum | opt.StrictCompaction | opt.StrictReader,
		Filter: filter.NewBloomFilter(bloomBits),
		// A transaction would write past the journal and leave a gap in its numbers.
		DisableLargeBatchTransaction: true,
		DisableSeeksCompaction:       true,
		WriteBuffer:                  cfg.WriteBuffer,
		BlockCacheCapacity:           cfg.BlockCache,
		OpenFilesCacheCapacity:       openFiles,
		CompactionTableSize:          tableBytes,
		BlockSize:                    tableBlockBytes,
		Compression:                  opt.NoCompression, // a login reads half a dozen blocks that nobody has read
	})
	if err != nil {
		return nil, errors.Join(classify(err), stor.Close())
	}
	stor.db.Store(db)
	return &database{db, stor}, nil
}

// database is an open LevelDB and its files, whose lock it holds.
type database struct {
	*leveldb.DB
	files storage.Storage
}

func (d *database) close() error { return errors.Join(classify(d.DB.Close()), d.files.Close()) }

// IsDamaged reports whether the error says that the store's files are damaged, so
// that it must be moved aside and built again.
func IsDamaged(err error) bool { return errors.Is(err, kv.ErrDamaged) }

// classify gives an error of the library the seam's name.
func classify(err error) error {
	switch {
	case err == nil:
		return nil
	case ldberrors.IsCorrupted(err):
		return fmt.Errorf("%w: %w", kv.ErrDamaged, err)
	case errors.Is(err, leveldb.ErrClosed):
		return fmt.Errorf("%w: %w", kv.ErrClosed, err)
	}
	return err
}

// Get implements kv.Store.
func (k *KV) Get(key []byte) ([]byte, error) {
	db, err := k.acquire()
	if err != nil {
		return nil, fmt.Errorf("reading the index store: %w", err)
	}
	defer k.release()
	v, err := db.Get(key, nil)
	if errors.Is(err, leveldb.ErrNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("reading the index store: %w", classify(err))
	}
	if v == nil {
		v = []byte{}
	}
	return v, nil
}

// Write implements kv.Store.
func (k *KV) Write(b *kv.Batch) error {
	if err := k.mend(); err != nil {
		return fmt.Errorf("writing the index store: %w", err)
	}
	db, err := k.acquire()
	if err != nil {
		return fmt.Errorf("writing the index store: %w", err)
	}
	defer k.release()
	var batch leveldb.Batch
	for _, op := range b.Ops {
		if op.Value == nil {
			batch.Delete(op.Key)
		} else {
			batch.Put(op.Key, op.Value)
		}
	}
	if err := db.Write(&batch, nil); err != nil {
		return fmt.Errorf("writing the index store: %w", k.failed(err))
	}
	return nil
}

// Scan implements kv.Store.
func (k *KV) Scan(start, end []byte, fn func(key, value []byte) error) error {
	db, err := k.acquire()
	if err != nil {
		return fmt.Errorf("scanning the index store: %w", err)
	}
	defer k.release()
	it := db.NewIterator(&util.Range{Start: start, Limit: end}, nil)
	defer it.Release()
	for it.Next() {
		if err := fn(it.Key(), it.Value()); err != nil {
			return err
		}
	}
	if err := it.Error(); err != nil {
		return fmt.Errorf("scanning the index store from %x: %w", bytes.Clone(start), classify(err))
	}
	return nil
}

// Size implements kv.Store.
func (k *KV) Size() (uint64, error) {
	var n uint64
	err := filepath.WalkDir(k.cfg.Dir, func(_ string, d fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) || err == nil && d.IsDir() {
			return nil
		}
		if err != nil {
			return err
		}
		info, err := d.Info()
		if errors.Is(err, fs.ErrNotExist) {
			return nil // compacted away meanwhile
		}
		if err == nil {
			n += uint64(info.Size())
		}
		return err
	})
	if err != nil {
		return 0, fmt.Errorf("measuring the index store in %s: %w", k.cfg.Dir, err)
	}
	return n, nil
}
