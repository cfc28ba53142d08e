package level

import (
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"os"
	"slices"

	"github.com/syndtr/goleveldb/leveldb/storage"

	"crier/state/parked/kv"
)

// checkJournals reads the journals that would be replayed, oldest first, and gives
// a kv.ErrDamaged unless they hold batches without a gap from the last table
// on, of which only an end may be missing.
func checkJournals(files storage.Storage) error {
	from, err := readManifest(files)
	if errors.Is(err, os.ErrNotExist) {
		return nil // there is no store yet, or the library says what is missing
	}
	if err != nil {
		return err
	}
	journals, err := files.List(storage.TypeJournal)
	if err != nil {
		return fmt.Errorf("listing the journals: %w", err)
	}
	slices.SortFunc(journals, func(a, b storage.FileDesc) int { return cmp.Compare(a.Num, b.Num) })
	next, torn := from.change+1, storage.FileDesc{} // where the next batch begins; the journal with a torn end
	for i, fd := range journals {
		if uint64(fd.Num) < from.journal {
			continue // it is in tables and would be removed
		}
		j := journalCheck{next: next}
		// If the last start was cut short between two journals, the first batch of
		// the second has the number that the list of tables has.
		j.orOne = i == 0 || uint64(journals[i-1].Num) < from.journal
		wasTorn, err := readRecords(files, fd, batchHeader, j.batch)
		if err != nil {
			return err
		}
		if !torn.Zero() && j.batches > 0 {
			return fmt.Errorf("%w: %s ends in the middle of a batch, but %s goes on", kv.ErrDamaged, torn, fd)
		}
		if wasTorn {
			torn = fd
		}
		next = j.next
	}
	return nil
}

// readRecords calls fn with the first bytes of each record of a file, and says
// whether the end of the file is missing.
func readRecords(files storage.Storage, fd storage.FileDesc, keep int, fn func(start []byte) error) (torn bool, err error) {
	f, err := files.Open(fd)
	if err != nil {
		return false, fmt.Errorf("reading %s: %w", fd, err)
	}
	defer f.Close() // only read
	c := chunks{keep: keep, record: fn}
	if err := c.read(f); err != nil {
		return false, fmt.Errorf("reading %s: %w", fd, err)
	}
	return c.torn, nil
}

// A batch begins with the number of its first change (8 bytes) and how many it has (4).
const batchHeader = 12

// journalCheck is the state of reading a journal.
type journalCheck struct {
	next    uint64 // number of the change with which the next batch must begin
	orOne   bool   // or one less
	batches int
}

func (j *journalCheck) batch(start []byte) error {
	if len(start) < batchHeader {
		return errors.New("a batch is too short")
	}
	first, count := binary.LittleEndian.Uint64(start), binary.LittleEndian.Uint32(start[8:])
	if first != j.next && (!j.orOne || first+1 != j.next) {
		return fmt.Errorf("a batch begins at change %d, not %d: some are missing", first, j.next)
	}
	j.next, j.orOne = first+uint64(count), false
	j.batches++
	return nil
}

// position is up to where the tables go.
type position struct {
	journal uint64 // journals before this one are in tables
	change  uint64 // and so are all changes up to this one
}

// readManifest reads the list of tables for the position that it ends with. An end
// of it must not be missing.
func readManifest(files storage.Storage) (position, error) {
	fd, err := files.GetMeta()
	if err != nil {
		return position{}, fmt.Errorf("looking for the list of tables: %w", classify(err))
	}
	var p position
	torn, err := readRecords(files, fd, math.MaxInt, p.edit)
	if err == nil && torn {
		err = fmt.Errorf("%w: the end of %s is missing", kv.ErrDamaged, fd)
	}
	return p, err
}

// edit takes the position out of one edit of the list: a row of fields, each its
// tag and then numbers and names.
func (p *position) edit(b []byte) error {
	f := fields{b}
	for len(f.b) > 0 {
		switch tag := f.unsigned(); tag {
		case 1: // name of the order of keys
			f.name()
		case 2:
			p.journal = f.unsigned()
		case 3, 9: // number of the next file; of a former journal
			f.unsigned()
		case 4:
			p.change = f.unsigned()
		case 5: // level and key where compaction goes on
			f.unsigned()
			f.name()
		case 6: // level and number of a table that is gone
			f.unsigned()
			f.unsigned()
		case 7: // level, number, size, first and last key of a new table
			f.unsigned()
			f.unsigned()
			f.unsigned()
			f.name()
			f.name()
		default:
			return fmt.Errorf("a field with the tag %d", tag)
		}
		if f.b == nil {
			return errors.New("a field breaks off")
		}
	}
	return nil
}

// fields reads numbers and names; b is nil after one that breaks off.
type fields struct{ b []byte }

func (f *fields) unsigned() uint64 {
	v, n := binary.Uvarint(f.b)
	f.skip(n)
	return v
}

// skip goes on behind a number of n bytes; 0 and less say that it is none.
func (f *fields) skip(n int) {
	if n <= 0 {
		f.b = nil
		return
	}
	f.b = f.b[n:]
}

func (f *fields) name() {
	if n := f.unsigned(); n > uint64(len(f.b)) {
		f.b = nil
	} else {
		f.b = f.b[n:]
	}
}
