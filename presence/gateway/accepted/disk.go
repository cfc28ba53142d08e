package accepted

import (
	"fmt"
	"maps"
	"slices"

	"crier/job"
	"crier/presence/gateway"
)

// Disk is what one gateway's machine remembers, in memory: the twin of a directory
// of Files, for tests and simulations.
type Disk struct {
	// Limit is how many records an incarnation may hold; 0 means any number.
	Limit int

	boot    int
	history history
	starts  map[uint32]*memoryStart
}

type memoryStart struct {
	boot    int
	records map[job.Ref]*gateway.Record
}

// Memory is the accepted-file of one running incarnation on a Disk.
type Memory struct {
	disk  *Disk
	start uint32
}

// NewDisk makes an empty disk.
func NewDisk() *Disk { return &Disk{starts: map[uint32]*memoryStart{}} }

// Reboot stops the machine: what was written before cannot be relied on.
func (d *Disk) Reboot() { d.boot++ }

// Open is Open on the disk; the incarnation before it is as good as killed.
func (d *Disk) Open(start uint32) (*Memory, gateway.History, error) {
	if d.history.First == 0 {
		d.history.First = start
	}
	if start <= d.history.Last {
		return nil, gateway.History{}, job.Conflict(fmt.Sprintf("start %d is not new", start))
	}
	d.history.Last = start
	h := gateway.History{First: d.history.First}
	starts := slices.Sorted(maps.Keys(d.starts))
	for i, s := range starts {
		was := d.starts[s]
		switch {
		case len(was.records) == 0:
			delete(d.starts, s)
		case was.boot != d.boot || len(starts)-i > keepEnded:
			d.history.add(s)
			delete(d.starts, s)
		default:
			h.Ended = append(h.Ended, gateway.Ended{Start: s, Records: was.list()})
		}
	}
	h.First = d.history.First
	for _, s := range d.history.Unreadable {
		h.Ended = append(h.Ended, gateway.Ended{Start: s, Unreadable: true})
	}
	d.starts[start] = &memoryStart{boot: d.boot, records: map[job.Ref]*gateway.Record{}}
	return &Memory{d, start}, h, nil
}

func (m *memoryStart) list() []gateway.Record {
	var all []gateway.Record
	for _, r := range m.records {
		c := *r
		c.Acked = slices.Clone(r.Acked)
		all = append(all, c)
	}
	slices.SortFunc(all, func(a, b gateway.Record) int {
		if a.Ref.Journal == b.Ref.Journal && b.Ref.Before(a.Ref) {
			return 1
		}
		return -1
	})
	return all
}

// Append is Files.Append.
func (m *Memory) Append(r gateway.Record) error {
	s := m.disk.starts[m.start]
	if m.disk.Limit > 0 && len(s.records) >= m.disk.Limit {
		return ErrFull
	}
	r.IDs, r.Away, r.Mute = slices.Clone(r.IDs), slices.Clone(r.Away), slices.Clone(r.Mute)
	acked := gateway.MakeBits(len(r.IDs))
	copy(acked, r.Acked)
	r.Acked = acked
	s.records[r.Ref] = &r
	return nil
}

// Mark is Files.Mark.
func (m *Memory) Mark(ref job.Ref, rank uint32) {
	if r := m.disk.starts[m.start].records[ref]; r != nil && int(rank) < len(r.IDs) {
		r.Acked.Set(int(rank))
	}
}

// Free is Files.Free.
func (m *Memory) Free(start uint32, ref job.Ref) error {
	if s := m.disk.starts[start]; s != nil {
		delete(s.records, ref)
	}
	return nil
}

// Close is Files.Close.
func (m *Memory) Close() error { return nil }
