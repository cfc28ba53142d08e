package page

import (
	"bytes"
	"encoding/binary"
	"sort"
	"sync"

	"crier/job"
	"crier/state/parked/kv"
	"crier/state/parked/row"
)

// Cache is a store that remembers the pages that were scanned whole a moment ago: a home looks at
// what waits for a recipient, drains it, and then the index takes it out of the same rows. It forgets a page
// when any of it is written; until that write ends a scan may give it as it was.
//
// Memory: 32 MiB, and a page of 256 KiB at most for each scan under way.
type Cache struct {
	kv.Store
	mu struct {
		sync.Mutex
		young, old map[ID]scanned // old ones go when the young ones are half of what there may be
		bytes      int            // of the young ones
		writes     [1024]uint64   // that ended, of pages, by which of these is theirs
		closed     bool
	}
}

const (
	cacheMost   = 32 << 20
	scannedMost = 256 << 10 // a larger page is not remembered
	scannedCost = 128       // of one that has no rows
)

// NewCache makes one that remembers nothing.
func NewCache(under kv.Store) *Cache {
	c := &Cache{Store: under}
	c.mu.young, c.mu.old = map[ID]scanned{}, map[ID]scanned{}
	return c
}

// scanned is the rows of a page, ascending, one behind the other. It is not changed.
type scanned struct {
	bytes []byte
	ends  []end // of each row
}

// end is where the key of a row ends, and its value.
type end struct{ key, value uint32 }

func (s *scanned) add(key, value []byte) {
	s.bytes = append(append(s.bytes, key...), value...)
	s.ends = append(s.ends, end{uint32(len(s.bytes) - len(value)), uint32(len(s.bytes))})
}

func (s *scanned) size() int { return len(s.bytes) + 8*len(s.ends) + scannedCost }

func (s *scanned) begin(i int) uint32 {
	if i == 0 {
		return 0
	}
	return s.ends[i-1].value
}

// scan calls fn with the rows whose keys begin so.
func (s *scanned) scan(prefix []byte, fn func(key, value []byte) error) error {
	key := func(i int) []byte { return s.bytes[s.begin(i):s.ends[i].key:s.ends[i].key] }
	first := sort.Search(len(s.ends), func(i int) bool { return bytes.Compare(key(i), prefix) >= 0 })
	for i := first; i < len(s.ends) && bytes.HasPrefix(key(i), prefix); i++ {
		if err := fn(key(i), s.bytes[s.ends[i].key:s.ends[i].value:s.ends[i].value]); err != nil {
			return err
		}
	}
	return nil
}

// keyPage is the page that a key of its rows names, or the beginning of one.
func keyPage(key []byte) (id ID, ok bool) {
	if len(key) < prefixBytes || key[2] != Letter {
		return ID{}, false
	}
	return ID{job.Range(binary.BigEndian.Uint16(key)), NumberIn(key)}, true
}

func (id ID) slot() int { return (int(id.Range)*Count + id.Number) % len(Cache{}.mu.writes) }

// Scan implements kv.Store.
func (c *Cache) Scan(start, end []byte, fn func(key, value []byte) error) error {
	id, ok := keyPage(start)
	if !ok || !bytes.Equal(end, row.After(start)) {
		return c.Store.Scan(start, end, fn)
	}
	c.mu.Lock()
	s, known := c.mu.young[id]
	if !known {
		s, known = c.mu.old[id]
	}
	writes := c.mu.writes[id.slot()]
	c.mu.Unlock()
	if known {
		return s.scan(start, fn)
	}
	if len(start) > prefixBytes {
		return c.Store.Scan(start, end, fn)
	}
	err := c.Store.Scan(start, end, func(key, value []byte) error {
		if s.size() <= scannedMost {
			s.add(key, value)
		}
		return fn(key, value)
	})
	if err == nil && s.size() <= scannedMost {
		c.keep(id, s, writes)
	}
	return err
}

// keep remembers a page, unless it may have been written since its scan began.
func (c *Cache) keep(id ID, s scanned, writes uint64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if _, known := c.mu.young[id]; known || c.mu.closed || c.mu.writes[id.slot()] != writes {
		return
	}
	c.mu.young[id] = s
	if c.mu.bytes += s.size(); c.mu.bytes > cacheMost/2 {
		c.mu.young, c.mu.old, c.mu.bytes = map[ID]scanned{}, c.mu.young, 0
	}
}

// Write implements kv.Store.
func (c *Cache) Write(b *kv.Batch) error {
	var pages []ID
	for _, op := range b.Ops {
		if id, ok := keyPage(op.Key); ok && (len(pages) == 0 || pages[len(pages)-1] != id) {
			pages = append(pages, id)
		}
	}
	err := c.Store.Write(b)
	c.forget(pages) // those, too, that were scanned meanwhile
	return err
}

func (c *Cache) forget(pages []ID) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, id := range pages {
		c.mu.writes[id.slot()]++
		if s, ok := c.mu.young[id]; ok {
			c.mu.bytes -= s.size()
			delete(c.mu.young, id)
		}
		delete(c.mu.old, id)
	}
}

// Close implements kv.Store.
func (c *Cache) Close() error {
	c.mu.Lock()
	c.mu.closed = true
	clear(c.mu.young)
	clear(c.mu.old)
	c.mu.Unlock()
	return c.Store.Close()
}
