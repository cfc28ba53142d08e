package sim

import (
	"crier/state/parked/kv"
)

type (
	kvMemory = kv.Memory
	kvOp     = kv.Op
)

// disk is an index's store: rows that survive the process, and of which the machine's
// stop takes a tail.
type disk struct {
	*kvMemory
	log [][]kvOp
}

func newDisk() *disk { return &disk{kvMemory: kv.NewMemory()} }

// Write implements kv.Store.
func (d *disk) Write(b *kv.Batch) error {
	d.log = append(d.log, b.Clone().Ops)
	return d.kvMemory.Write(b)
}

// Close implements kv.Store: the process ends, the rows stay.
func (d *disk) Close() error { return nil }

// after gives the disk as a machine finds it that stopped when only so many batches were
// synced.
func (d *disk) after(batches int) *disk {
	n := newDisk()
	for _, ops := range d.log[:batches] {
		if err := n.Write(&kv.Batch{Ops: ops}); err != nil {
			panic(err)
		}
	}
	return n
}
