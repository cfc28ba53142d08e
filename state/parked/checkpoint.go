package parked

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"

	"crier/internal/bin"
	"crier/state/parked/kv"
	"crier/state/parked/opens"
	"crier/state/parked/row"
)

// A checkpoint is all rows of an index as they were at one moment (rule 22): key and
// value, each with its length in front, then an empty key. An index is restored from
// it and goes on from its watermark; the records before that are not needed, except
// those that hold the targets of a reserve that is still open.
const checkpointMagic = "CP\x04"

// ErrCheckpoint is wrapped by errors about bytes that are no checkpoint.
var ErrCheckpoint = errors.New("not a checkpoint of the parked index")

const (
	maxRow       = 64 << 20 // bytes of a row; a set of a whole range has 128 KiB
	believed     = 1 << 20  // bytes of a row that are set aside before they are there
	restoreBatch = 1 << 20
)

// Checkpoint is where an index was.
type Checkpoint struct {
	Watermark uint64 // everything before this record is in it
	Needs     uint64 // no record from this one on may be purged
}

// WriteCheckpoint writes a checkpoint of the index as it is when it is called; it
// may go on to be fed meanwhile.
func (x *Index) WriteCheckpoint(out io.Writer) (Checkpoint, error) {
	w := bufio.NewWriterSize(out, 128<<10)
	if _, err := w.WriteString(checkpointMagic); err != nil {
		return Checkpoint{}, fmt.Errorf("writing a checkpoint: %w", err)
	}
	var at Number
	markKey := row.Global(rowMark)
	oldest := uint64(1<<64 - 1)
	var front []byte
	put := func(b []byte) error {
		front = binary.AppendUvarint(front[:0], uint64(len(b)))
		if _, err := w.Write(front); err != nil {
			return err
		}
		_, err := w.Write(b)
		return err
	}
	err := x.kv.Scan(nil, nil, func(k, v []byte) error {
		if bytes.Equal(k, markKey) {
			n, err := parseMark(v)
			if err != nil {
				return err
			}
			at = n
		}
		if seq, ok, err := opens.Needs(k, v); err != nil {
			return err
		} else if ok {
			oldest = min(oldest, seq)
		}
		return errors.Join(put(k), put(v))
	})
	if err == nil {
		err = errors.Join(put(nil), w.Flush())
	}
	if err != nil {
		return Checkpoint{}, fmt.Errorf("writing a checkpoint: %w", err)
	}
	return Checkpoint{Watermark: max(1, at.Seq), Needs: min(max(1, at.Seq), oldest)}, nil
}

// Restore fills an empty store from a checkpoint. Its watermark is written last: a
// store without one was not restored to the end and must be emptied.
func Restore(store kv.Store, in io.Reader) error {
	r := bufio.NewReaderSize(in, 128<<10)
	magic := make([]byte, len(checkpointMagic))
	_, err := io.ReadFull(r, magic)
	switch {
	case err == nil && string(magic[:2]) == checkpointMagic[:2] && magic[2] != checkpointMagic[2]:
		return fmt.Errorf("%w of this version: its rows have form %d, not %d; start the version of crier that wrote it", ErrCheckpoint, magic[2], checkpointMagic[2])
	case err != nil || string(magic) != checkpointMagic:
		return fmt.Errorf("%w: it starts with other bytes (%v)", ErrCheckpoint, err)
	}
	var b, mark kv.Batch
	markKey := row.Global(rowMark)
	size := 0
	for {
		k, err := readRow(r)
		if err != nil {
			return err
		}
		if len(k) == 0 {
			break
		}
		v, err := readRow(r)
		if err != nil {
			return err
		}
		if bytes.Equal(k, markKey) {
			mark.Put(k, v)
			continue
		}
		b.Put(k, v)
		if size += len(k) + len(v); size >= restoreBatch {
			if err := store.Write(&b); err != nil {
				return fmt.Errorf("restoring the parked index: %w", err)
			}
			b, size = kv.Batch{}, 0
		}
	}
	if _, err := r.ReadByte(); err != io.EOF {
		return fmt.Errorf("%w: it goes on behind its end", ErrCheckpoint)
	}
	b.Ops = append(b.Ops, mark.Ops...)
	if err := store.Write(&b); err != nil {
		return fmt.Errorf("restoring the parked index: %w", err)
	}
	return nil
}

func readRow(r *bufio.Reader) ([]byte, error) {
	n, err := binary.ReadUvarint(r)
	if err == nil && n > maxRow {
		err = fmt.Errorf("a row of %d bytes", n)
	}
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrCheckpoint, err)
	}
	var b bytes.Buffer
	b.Grow(int(min(n, believed)))
	if _, err := io.CopyN(&b, r, int64(n)); err != nil {
		return nil, fmt.Errorf("%w: it breaks off: %w", ErrCheckpoint, err)
	}
	return b.Bytes(), nil
}

// Watermark reads how far the index in a store is: the first record that is not
// wholly applied; 0 if the store was never one, or not restored to the end, or has rows of
// another form than this version's.
func Watermark(store kv.Store) (uint64, error) {
	b, err := store.Get(row.Global(rowMark))
	if err != nil || b == nil {
		return 0, err
	}
	n, err := parseMark(b)
	return n.Seq, err
}

// IsLeftOver reports whether a store has rows and no watermark. It must be emptied.
func IsLeftOver(store kv.Store) (bool, error) {
	mark, err := Watermark(store)
	if err != nil || mark > 0 {
		return false, err
	}
	return hasRow(store, nil, nil)
}

func parseMark(b []byte) (Number, error) {
	r := bin.NewReader(b)
	n := Number{r.Uint(), uint16(r.Max(1<<16 - 1))}
	return n, r.Err(true)
}
