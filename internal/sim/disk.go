package sim

import (
	"crier/state/parked"
)

type (
	kvMemory = parked.Memory
	kvOp     = parked.Op
)

// disk is an index's store: rows that survive the process, and of which the machine's
// stop takes a tail.
type disk struct {
	*kvMemory
	log [][]kvOp
}

func newDisk() *disk { return &disk{kvMemory: parked.NewMemory()} }

// Write implements parked.KV.
func (d *disk) Write(b *parked.Batch) error {
	d.log = append(d.log, b.Ops)
	return d.kvMemory.Write(b)
}

// Close implements parked.KV: the process ends, the rows stay.
func (d *disk) Close() error { return nil }

// after gives the disk as a machine finds it that stopped when only so many batches were
// synced.
func (d *disk) after(batches int) *disk {
	n := newDisk()
	for _, ops := range d.log[:batches] {
		if err := n.Write(&parked.Batch{Ops: ops}); err != nil {
			panic(err)
		}
	}
	return n
}
