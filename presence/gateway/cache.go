package gateway

import (
	"crier/job"
	"crier/presence/handoff"
)

// cache keeps messages: those of reserves that have not left for the sockets for
// sure, others as long as there is room, the least recently used going first.
type cache struct {
	max, bytes  int
	byJob       map[job.ID]*body
	newest, old *body // ends of the list of all
}

type body struct {
	job          job.ID
	message      *handoff.Message
	size         int
	pins         int
	newer, older *body
}

func newCache(max int) cache { return cache{max: max, byJob: map[job.ID]*body{}} }

// get finds a message and makes it the most recently used one.
func (c *cache) get(id job.ID) *body {
	b := c.byJob[id]
	if b != nil && b != c.newest {
		c.unlink(b)
		c.link(b)
	}
	return b
}

// put keeps a message; nil if those that must stay leave no room.
func (c *cache) put(id job.ID, m *handoff.Message) *body {
	b := &body{job: id, message: m, size: 256 + len(m.Body) + len(m.AccountName) + len(m.CollapseKey)}
	for x := c.old; x != nil && c.bytes+b.size > c.max; {
		next := x.newer
		if x.pins == 0 {
			c.unlink(x)
			delete(c.byJob, x.job)
			c.bytes -= x.size
		}
		x = next
	}
	if c.bytes+b.size > c.max {
		return nil
	}
	c.bytes += b.size
	c.byJob[id] = b
	c.link(b)
	return b
}

func (c *cache) unpin(b *body) {
	if b != nil {
		b.pins--
	}
}

func (c *cache) link(b *body) {
	b.older, b.newer = c.newest, nil
	if c.newest != nil {
		c.newest.newer = b
	}
	c.newest = b
	if c.old == nil {
		c.old = b
	}
}

func (c *cache) unlink(b *body) {
	if b.older != nil {
		b.older.newer = b.newer
	} else {
		c.old = b.newer
	}
	if b.newer != nil {
		b.newer.older = b.older
	} else {
		c.newest = b.older
	}
}
