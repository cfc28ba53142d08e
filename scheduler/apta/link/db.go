package link

import (
	"slices"
	"time"

	"crier/scheduler/apta/timing"
)

// DB is the newest record of each key. It is owned by one goroutine.
type DB struct {
	byKey   map[Key]*entry
	entries []*entry // by key
	digest  uint64   // of the members' and commands' headers
}

type entry struct {
	record *Record
	at     timing.Instant // when it was taken, less its age then: its age is counted from here
	died   timing.Instant // of a dead one: since when
}

// Change says what a record has changed.
type Change struct {
	Stored bool // it is newer than what there was
	Routes bool // the links between members are others
	View   bool // what a member says of itself is different
	Hash   bool // the view that a member says it has is another
}

func (d *DB) find(k Key) (int, bool) {
	return slices.BinarySearchFunc(d.entries, k, func(e *entry, k Key) int { return e.record.Key.Compare(k) })
}

// Get gives the record of a key, or nil. Its age is as it was sent.
func (d *DB) Get(k Key) *Record {
	if e := d.byKey[k]; e != nil {
		return e.record
	}
	return nil
}

// Put takes a record if it is newer than what there is and there is room for it.
func (d *DB) Put(now timing.Instant, r *Record) Change {
	e, old := d.byKey[r.Key], (*Record)(nil)
	switch {
	case e != nil && r.Version.Compare(e.record.Version) <= 0 || e == nil && len(d.entries) >= MaxRecords:
		return Change{}
	case e != nil:
		old = e.record
		d.fold(old)
	default:
		if d.byKey == nil {
			d.byKey = map[Key]*entry{}
		}
		e = &entry{}
		d.byKey[r.Key] = e
		i, _ := d.find(r.Key)
		d.entries = slices.Insert(d.entries, i, e)
	}
	*e = entry{record: r, at: now.Add(-r.Age)}
	if r.Dead {
		e.died = now
	}
	d.fold(r)
	if r.Kind != Membership {
		return Change{Stored: true}
	}
	return Change{Stored: true, Routes: !sameRoutes(old, r), View: !sameView(old, r), Hash: !sameHash(old, r)}
}

// fold joins a header with the digest, or takes it out of it again. Load comes and
// goes so often that two databases would never agree on it.
func (d *DB) fold(r *Record) {
	if r.Kind == Membership || r.Kind == Command {
		d.digest ^= r.digest()
	}
}

// Digest stands for the headers of members and commands: databases with the same
// ones have the same digest.
func (d *DB) Digest() uint64 { return d.digest }

// Remove forgets a key.
func (d *DB) Remove(k Key) {
	if i, ok := d.find(k); ok {
		d.fold(d.entries[i].record)
		d.entries = slices.Delete(d.entries, i, i+1)
		delete(d.byKey, k)
	}
}

// Aged gives a record as it is to be sent now: with its age.
func (d *DB) Aged(now timing.Instant, k Key) *Record {
	e := d.byKey[k]
	if e == nil {
		return nil
	}
	r := *e.record
	r.Age = max(now.Since(e.at), 0)
	return &r
}

// Headers lists all headers, by key.
func (d *DB) Headers() []Header {
	list := make([]Header, len(d.entries))
	for i, e := range d.entries {
		list[i] = e.record.Header
	}
	return list
}

// Records lists the records of a kind that are not dead, by id.
func (d *DB) Records(k Kind) []*Record {
	var list []*Record
	i, _ := d.find(Key{Kind: k})
	for ; i < len(d.entries) && d.entries[i].record.Kind == k; i++ {
		if !d.entries[i].record.Dead {
			list = append(list, d.entries[i].record)
		}
	}
	return list
}

// Expire gives the keys of the records that have come to an age, and those that have
// been dead for a while and can be forgotten.
func (d *DB) Expire(now timing.Instant, maxAge, keepDead time.Duration) (old, forget []Key) {
	for _, e := range d.entries {
		switch {
		case e.record.Dead && now.Since(e.died) >= keepDead:
			forget = append(forget, e.record.Key)
		case !e.record.Dead && now.Since(e.at) >= maxAge:
			old = append(old, e.record.Key)
		}
	}
	return old, forget
}

// Diff compares with a list of headers in the order of their keys: lacks is what is
// newer there, ahead what is newer here. Withdrawn records are news only to who has
// the record.
func (d *DB) Diff(theirs []Header) (lacks, ahead []Header) {
	for _, h := range theirs {
		if mine := d.Get(h.Key); mine == nil && !h.Dead || mine != nil && mine.Version.Compare(h.Version) < 0 {
			lacks = append(lacks, h)
		}
	}
	for _, h := range d.Headers() {
		i, ok := slices.BinarySearchFunc(theirs, h.Key, func(t Header, k Key) int { return t.Key.Compare(k) })
		if !ok && !h.Dead || ok && theirs[i].Version.Compare(h.Version) < 0 {
			ahead = append(ahead, h)
		}
	}
	return lacks, ahead
}
