// Package inhand remembers, beyond the death of its process, what that had in hand: work on
// something from outside that may end the process at once, such as by a lack of memory.
//
// It guarantees that a piece of work at which the process died job.MaxTries times in a row
// is not begun again, but is a *guard.Broken, and that of pieces at which it died before one
// of a kind is in hand at a time: so the second death tells which of them it was. It makes
// work neither fail nor wait for anything else: what it cannot write down is not counted.
package inhand

import (
	"context"
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"os"
	"sync"

	"crier/internal/guard"
	"crier/job"
)

// Kind is a kind of work. None of a kind waits for another of it.
type Kind uint8

// The kinds, with what Work.At is of them.
const (
	Block  Kind = iota + 1 // working out a block as its sender: its first id
	Asked                  // as the home of its range, for another: the same
	Offer                  // taking a slice that is offered: its number
	Verify                 // verifying a job's package: 0
	kinds
)

// Work is a piece of work on a job, under the job's Controls.Again: what was before a
// quarantine was ended does not count.
type Work struct {
	Kind  Kind
	Job   job.ID
	At    uint64
	Again uint64
}

// Slots is how many pieces can be in hand, or counted, at a time.
const Slots = 1024

// The file is Slots slots of slotBytes: checksum of the rest, state, kind, deaths, at, again,
// job. It is written and not synced: what the process wrote outlives it, and when the power
// fails nothing of it is meant.
const (
	slotBytes = 64
	usedBytes = 48
)

// The states of a slot. A zero slot is free.
const (
	holding = iota + 1 // the process has it in hand
	counted            // it had, when it died
)

// Book is what is in hand. A nil *Book counts nothing.
type Book struct {
	f     *os.File
	alone [kinds]chan struct{} // to work at something at which the process died
	mu    struct {
		sync.Mutex
		free   []int // slots
		deaths map[Work]death
	}
}

// death is how often in a row the process died at a piece of work, and the slot that says so.
type death struct {
	n    uint32
	slot int
}

// Open reads what the former process had in hand, if it died, and counts that.
func Open(path string) (*Book, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("opening what was in hand: %w", err)
	}
	b := &Book{f: f}
	for k := range b.alone {
		b.alone[k] = make(chan struct{}, 1)
	}
	b.mu.deaths = map[Work]death{}
	data := make([]byte, Slots*slotBytes)
	n, _ := f.ReadAt(data, 0) // what cannot be read was not counted
	for i := range n / slotBytes {
		w, n, state := parse(data[i*slotBytes:][:usedBytes])
		if state == holding {
			n++
		}
		if state != 0 && n > b.mu.deaths[w].n {
			b.mu.deaths[w] = death{n: n}
		}
	}
	if err = f.Truncate(0); err == nil {
		err = f.Truncate(int64(len(data)))
	}
	if err != nil {
		f.Close()
		return nil, fmt.Errorf("clearing what was in hand: %w", err)
	}
	for i := range Slots {
		b.mu.free = append(b.mu.free, i)
	}
	for w, d := range b.mu.deaths {
		d.slot = b.put(w, d.n, counted)
		b.mu.deaths[w] = d
	}
	return b, nil
}

// Close closes the file. Nothing is in hand any more.
func (b *Book) Close() error { return b.f.Close() }

// Do does a piece of work. When that went well, its deaths are forgotten.
func (b *Book) Do(ctx context.Context, w Work, work func() error) error {
	if b == nil {
		return work()
	}
	n := b.Deaths(w)
	if n >= job.MaxTries {
		return &guard.Broken{What: fmt.Sprintf("the process died %d times while it was at it", n)}
	}
	if n > 0 {
		select {
		case b.alone[w.Kind] <- struct{}{}:
		case <-ctx.Done():
			return fmt.Errorf("waiting for what the process may have died of: %w", ctx.Err())
		}
		defer func() { <-b.alone[w.Kind] }()
	}
	slot, well := b.begin(w, uint32(n)), false
	defer func() { b.end(w, slot, well) }()
	err := work()
	well = err == nil
	return err
}

// Deaths is how often in a row the process died at a piece of work.
func (b *Book) Deaths(w Work) int {
	if b == nil {
		return 0
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	return int(b.mu.deaths[w].n)
}

// Forget drops what is counted of jobs that are not live.
func (b *Book) Forget(live func(job.ID) bool) {
	if b == nil {
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	for w, d := range b.mu.deaths {
		if !live(w.Job) {
			delete(b.mu.deaths, w)
			b.clearLocked(d.slot)
		}
	}
}

func (b *Book) begin(w Work, deaths uint32) int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.put(w, deaths, holding)
}

func (b *Book) end(w Work, slot int, well bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.clearLocked(slot)
	if d, ok := b.mu.deaths[w]; ok && well {
		delete(b.mu.deaths, w)
		b.clearLocked(d.slot)
	}
}

// put writes a slot, and gives its number; -1 if none is free. The lock is held, or nobody
// else has the book.
func (b *Book) put(w Work, deaths uint32, state byte) int {
	last := len(b.mu.free) - 1
	if last < 0 {
		return -1
	}
	slot := b.mu.free[last]
	b.mu.free = b.mu.free[:last]
	_, _ = b.f.WriteAt(form(w, deaths, state), int64(slot)*slotBytes) // else it is not counted
	return slot
}

func (b *Book) clearLocked(slot int) {
	if slot < 0 {
		return
	}
	_, _ = b.f.WriteAt(make([]byte, usedBytes), int64(slot)*slotBytes) // else it is counted once too often
	b.mu.free = append(b.mu.free, slot)
}

func form(w Work, deaths uint32, state byte) []byte {
	s := make([]byte, usedBytes)
	s[4], s[5] = state, byte(w.Kind)
	binary.LittleEndian.PutUint32(s[8:], deaths)
	binary.LittleEndian.PutUint64(s[16:], w.At)
	binary.LittleEndian.PutUint64(s[24:], w.Again)
	copy(s[32:], w.Job[:])
	binary.LittleEndian.PutUint32(s, crc32.ChecksumIEEE(s[4:]))
	return s
}

// parse reads a slot; state is 0 if it is free, or damaged.
func parse(s []byte) (w Work, deaths uint32, state byte) {
	if s[4] != holding && s[4] != counted || s[5] == 0 || Kind(s[5]) >= kinds || binary.LittleEndian.Uint32(s) != crc32.ChecksumIEEE(s[4:]) {
		return w, 0, 0
	}
	w = Work{Kind: Kind(s[5]), At: binary.LittleEndian.Uint64(s[16:]), Again: binary.LittleEndian.Uint64(s[24:])}
	copy(w.Job[:], s[32:])
	return w, binary.LittleEndian.Uint32(s[8:]), s[4]
}
