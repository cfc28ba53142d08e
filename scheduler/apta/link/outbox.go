package link

import (
	"slices"
	"time"

	"crier/scheduler/apta/timing"
)

// Outbox is the records on their way to a neighbour: to be sent, or sent and not
// acknowledged. The zero value is empty.
type Outbox struct {
	list []pending // by key
	sent timing.Instant
	due  timing.Instant // of the list: not later than the first of it; 0: none
}

type pending struct {
	header Header
	due    timing.Instant // when it is sent, the first time or again
}

// batchBytes is about how much one message carries.
const batchBytes = 128 << 10

// Put adds a record to be sent at a time; an older one of its key is not needed any
// more.
func (o *Outbox) Put(at timing.Instant, h Header) {
	i, ok := o.find(h.Key)
	if !ok {
		o.list = slices.Insert(o.list, i, pending{})
	}
	o.list[i] = pending{h, at}
	if o.due == 0 || at < o.due {
		o.due = at
	}
}

func (o *Outbox) find(k Key) (int, bool) {
	return slices.BinarySearchFunc(o.list, k, func(w pending, k Key) int { return w.header.Key.Compare(k) })
}

// Acked notes that the neighbour has a record: that or an older one is not sent.
func (o *Outbox) Acked(h Header) {
	if i, ok := o.find(h.Key); ok && o.list[i].header.Version.Compare(h.Version) <= 0 {
		o.list = slices.Delete(o.list, i, i+1)
	}
}

// Has reports whether a record of a key is on its way.
func (o *Outbox) Has(k Key) bool {
	_, ok := o.find(k)
	return ok
}

// IsEmpty reports whether all is acknowledged.
func (o *Outbox) IsEmpty() bool { return len(o.list) == 0 }

// Next is when to look whether something is due; 0: never.
func (o *Outbox) Next(pace time.Duration) timing.Instant {
	if o.due == 0 || len(o.list) == 0 {
		return 0
	}
	if o.sent > 0 {
		return max(o.due, o.sent.Add(pace))
	}
	return o.due
}

// Take gives what is due, as the database has it now; it is due again after a time.
func (o *Outbox) Take(now timing.Instant, d *DB, again time.Duration) (batch []Record) {
	size := 0
	kept := o.list[:0]
	for _, w := range o.list {
		if w.due > now || size >= batchBytes {
			kept = append(kept, w)
			continue
		}
		r := d.Aged(now, w.header.Key)
		if r == nil {
			continue // it was forgotten meanwhile
		}
		size += 256 + len(r.Data)*4/3
		if r.Member != nil {
			size += 24 * len(r.Member.Links)
		}
		batch = append(batch, *r)
		kept = append(kept, pending{r.Header, now.Add(again)})
	}
	o.list, o.due = kept, 0
	for _, w := range kept {
		if o.due == 0 || w.due < o.due {
			o.due = w.due
		}
	}
	if len(batch) > 0 {
		o.sent = now
	}
	return batch
}
