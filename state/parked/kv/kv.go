// Package kv is an ordered store of byte keys, as the parked index is kept in: the seam,
// and its twin in memory.
package kv

import (
	"bytes"
	"errors"
	"hash/fnv"
	"slices"
	"sync"
)

// Errors of a Store; they may be wrapped.
var (
	// ErrDamaged: what is stored is not what was written. The store must be moved
	// aside and be built again.
	ErrDamaged = errors.New("the index's store is damaged")
	// ErrNotWritten: the disk is full or does not write. The batch may be in the
	// store after all. The store takes others by itself once the disk does, but whoever keeps in mind
	// what is in it must read it anew.
	ErrNotWritten = errors.New("the index's store does not take writes")
	// ErrClosed: the store was closed.
	ErrClosed = errors.New("the index's store is closed")
)

// Store is an ordered store of byte keys. All methods are safe for concurrent use.
type Store interface {
	// Get gives the value of a key, which the caller may keep, or nil if there is none.
	// A key whose value is empty gives an empty slice that is not nil.
	Get(key []byte) ([]byte, error)
	// Write applies a batch as one: its changes in order, all or none, for readers as
	// well as after a crash, and never without the batches before it. It is not
	// synced: what a crash of the machine takes is a tail of batches, and a crash of
	// the process takes nothing that was answered. It is idempotent.
	Write(b *Batch) error
	// Scan calls fn for each key from start on and before end, ascending, as they
	// were when Scan was called; nil is the first and past the last. fn must not keep
	// or change its arguments; it may use the store. Its error ends the scan and is
	// returned.
	Scan(start, end []byte, fn func(key, value []byte) error) error
	// Size is the bytes on disk, or a guess at them.
	Size() (uint64, error)
	// Close frees the store, after the calls under way; later ones give ErrClosed.
	Close() error
}

// Batch collects changes, applied in order. The zero value is ready. It copies
// what it is given, and a store keeps none of it.
type Batch struct {
	Ops []Op
}

// Clone copies a batch.
func (b *Batch) Clone() *Batch {
	c := &Batch{Ops: slices.Clone(b.Ops)}
	for i, op := range c.Ops {
		c.Ops[i].Key, c.Ops[i].Value = bytes.Clone(op.Key), bytes.Clone(op.Value)
	}
	return c
}

// Op is one change: a Put, or a delete if Value is nil.
type Op struct {
	Key, Value []byte
	New        bool // it is a Create
}

// Put sets a key.
func (b *Batch) Put(key, value []byte) {
	b.Ops = append(b.Ops, Op{Key: bytes.Clone(key), Value: append([]byte{}, value...)})
}

// Create is a Put of a key of which the caller knows that the store does not have it: what is
// created and deleted before it is written need not be written.
func (b *Batch) Create(key, value []byte) {
	b.Put(key, value)
	b.Ops[len(b.Ops)-1].New = true
}

// Delete removes a key; one that is absent is no error.
func (b *Batch) Delete(key []byte) {
	b.Ops = append(b.Ops, Op{Key: bytes.Clone(key)})
}

// Memory is the twin of the store on disk. Its rows are a tree that is never
// changed but replaced along a path, so that a scan walks the tree that it found.
type Memory struct {
	mu struct {
		sync.RWMutex
		root   *node
		bytes  uint64
		closed bool
	}
}

var _ Store = (*Memory)(nil)

// NewMemory makes an empty store.
func NewMemory() *Memory { return &Memory{} }

// Get implements Store.
func (m *Memory) Get(key []byte) ([]byte, error) {
	root, err := m.tree()
	if err != nil {
		return nil, err
	}
	n := root.find(key)
	if n == nil {
		return nil, nil
	}
	return append([]byte{}, n.value...), nil
}

// Write implements Store.
func (m *Memory) Write(b *Batch) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.mu.closed {
		return ErrClosed
	}
	for _, op := range b.Ops {
		if old := m.mu.root.find(op.Key); old != nil {
			m.mu.bytes -= old.size()
			m.mu.root = m.mu.root.without(op.Key)
		}
		if op.Value == nil {
			continue
		}
		n := &node{key: bytes.Clone(op.Key), value: append([]byte{}, op.Value...), weight: weightOf(op.Key)}
		m.mu.bytes += n.size()
		m.mu.root = m.mu.root.with(n)
	}
	return nil
}

// Scan implements Store.
func (m *Memory) Scan(start, end []byte, fn func(key, value []byte) error) error {
	root, err := m.tree()
	if err != nil {
		return err
	}
	return root.walk(start, end, fn)
}

// Size implements Store: the bytes of keys and values.
func (m *Memory) Size() (uint64, error) {
	m.mu.RLock()
	defer m.mu.RUnlock()
	return m.mu.bytes, nil
}

// Close implements Store.
func (m *Memory) Close() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.mu.root, m.mu.closed = nil, true
	return nil
}

func (m *Memory) tree() (*node, error) {
	m.mu.RLock()
	defer m.mu.RUnlock()
	if m.mu.closed {
		return nil, ErrClosed
	}
	return m.mu.root, nil
}

// node is the root of a tree, or of a part of one: keys in order from left to
// right, no child heavier than its parent. Weights follow from the keys and are as
// good as random, so the depth is logarithmic. A node is never changed.
type node struct {
	key, value  []byte
	weight      uint64
	left, right *node
}

func weightOf(key []byte) uint64 {
	h := fnv.New64a()
	h.Write(key) // never fails
	// FNV leaves the high bits of short keys alike; a multiplication spreads them.
	return h.Sum64() * 0x9e3779b97f4a7c15
}

func (n *node) size() uint64 { return uint64(len(n.key) + len(n.value)) }

func (n *node) find(key []byte) *node {
	for n != nil {
		switch c := bytes.Compare(key, n.key); {
		case c < 0:
			n = n.left
		case c > 0:
			n = n.right
		default:
			return n
		}
	}
	return nil
}

// with gives the tree with one more node, whose key it does not have.
func (n *node) with(add *node) *node {
	if n == nil || add.weight > n.weight {
		less, more := n.split(add.key)
		return &node{add.key, add.value, add.weight, less, more}
	}
	c := *n
	if bytes.Compare(add.key, n.key) < 0 {
		c.left = n.left.with(add)
	} else {
		c.right = n.right.with(add)
	}
	return &c
}

// split gives the trees of the keys before and after one that is not there.
func (n *node) split(key []byte) (less, more *node) {
	if n == nil {
		return nil, nil
	}
	c := *n
	if bytes.Compare(n.key, key) < 0 {
		c.right, more = n.right.split(key)
		return &c, more
	}
	less, c.left = n.left.split(key)
	return less, &c
}

// without gives the tree without a key that it has.
func (n *node) without(key []byte) *node {
	c := *n
	switch d := bytes.Compare(key, n.key); {
	case d < 0:
		c.left = n.left.without(key)
	case d > 0:
		c.right = n.right.without(key)
	default:
		return join(n.left, n.right)
	}
	return &c
}

// join makes one tree of two, all keys of the first being before the second's.
func join(a, b *node) *node {
	switch {
	case a == nil:
		return b
	case b == nil:
		return a
	case a.weight > b.weight:
		c := *a
		c.right = join(a.right, b)
		return &c
	default:
		c := *b
		c.left = join(a, b.left)
		return &c
	}
}

// walk calls fn for the keys from start on and before end.
func (n *node) walk(start, end []byte, fn func(key, value []byte) error) error {
	if n == nil {
		return nil
	}
	after := start != nil && bytes.Compare(n.key, start) < 0
	before := end != nil && bytes.Compare(n.key, end) >= 0
	if !after {
		if err := n.left.walk(start, end, fn); err != nil {
			return err
		}
		if !before {
			if err := fn(n.key, n.value); err != nil {
				return err
			}
		}
	}
	if before {
		return nil
	}
	return n.right.walk(start, end, fn)
}
