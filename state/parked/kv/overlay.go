package kv

import (
	"bytes"
	"fmt"

	"github.com/syndtr/goleveldb/leveldb/comparer"
	"github.com/syndtr/goleveldb/leveldb/memdb"
)

// Overlay shows a store as it will be when the changes that it holds are written, which
// happens at its Flush, in one batch with the last change of each key. It belongs to one
// goroutine. When a Flush fails, the store may have what it was to write after all: another
// overlay must then be made, of the store when it is open again.
//
// Memory: what it holds, until it is flushed; see Bytes.
type Overlay struct {
	under Store
	rows  *memdb.DB // of a key: what is held of it, and behind that its value, if it has one
	bytes int
	news  int // rows that are created, at most
}

// What is held of a key, in its first byte.
const (
	deleted = iota
	put
	created // the store does not have it
)

// NewOverlay makes one that holds nothing.
func NewOverlay(under Store) *Overlay {
	return &Overlay{under: under, rows: memdb.New(comparer.DefaultComparer, 0)}
}

// Get is Store.Get.
func (o *Overlay) Get(key []byte) ([]byte, error) {
	v, err := o.rows.Get(key)
	switch {
	case err != nil: // the one error there is: it holds no such key
		return o.under.Get(key)
	case v[0] == deleted:
		return nil, nil
	}
	return append([]byte{}, v[1:]...), nil
}

// Scan is Store.Scan; fn may write to the overlay, and does not see what it wrote.
func (o *Overlay) Scan(start, end []byte, fn func(key, value []byte) error) error {
	own := o.between(start, end)
	next := func(op Op) error {
		if op.Value == nil {
			return nil
		}
		return fn(op.Key, op.Value)
	}
	err := o.under.Scan(start, end, func(k, v []byte) error {
		for ; len(own) > 0; own = own[1:] {
			c := bytes.Compare(own[0].Key, k)
			if c > 0 {
				break
			}
			if err := next(own[0]); err != nil {
				return err
			}
			if c == 0 {
				own = own[1:]
				return nil
			}
		}
		return fn(k, v)
	})
	for ; err == nil && len(own) > 0; own = own[1:] {
		err = next(own[0])
	}
	return err
}

// between lists the held changes of the keys from start on and before end, ascending. They share
// memory with what is held, until that is dropped.
func (o *Overlay) between(start, end []byte) (ops []Op) {
	it := o.rows.NewIterator(nil)
	defer it.Release()
	for ok := it.Seek(start); ok && (end == nil || bytes.Compare(it.Key(), end) < 0); ok = it.Next() {
		op := Op{Key: it.Key()}
		if held := it.Value(); held[0] != deleted {
			op.Value = held[1:]
		}
		ops = append(ops, op)
	}
	return ops
}

// Hold takes the changes of a batch in.
func (o *Overlay) Hold(b *Batch) error {
	var v []byte
	for _, op := range b.Ops {
		how := byte(deleted)
		if op.Value != nil {
			how = put
		}
		if op.New || o.news > 0 {
			was, err := o.rows.Get(op.Key)
			if op.New && err != nil || err == nil && was[0] == created {
				if op.Value == nil {
					o.rows.Delete(op.Key) // it is there
					continue
				}
				how = created
				o.news++
			}
		}
		v = append(append(v[:0], how), op.Value...)
		if err := o.rows.Put(op.Key, v); err != nil {
			return fmt.Errorf("holding a change of the store: %w", err)
		}
		o.bytes += len(op.Key) + len(v)
	}
	return nil
}

// Bytes is how much was held since the last Flush or Drop, each change of a key counted.
func (o *Overlay) Bytes() int { return o.bytes }

// Flush writes everything that is held to the store, as one, and holds nothing then; what the
// store does not take is held on.
func (o *Overlay) Flush() error {
	if err := o.under.Write(&Batch{Ops: o.between(nil, nil)}); err != nil {
		return err
	}
	o.Drop()
	return nil
}

// Drop forgets what is held.
func (o *Overlay) Drop() {
	o.rows.Reset()
	o.bytes, o.news = 0, 0
}
