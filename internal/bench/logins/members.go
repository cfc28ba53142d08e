package logins

import (
	"errors"
	"fmt"

	"crier/internal/bench/feed"
	"crier/internal/idset"
	"crier/job"
)

// Members is who is in which of many jobs: each recipient in as many as there are items, one of
// each group of jobs, and a few in all of them. Ids are spread over a space that is a hundred
// and forty-three times as large.
type Members struct {
	Recipients uint64
	Jobs       int
	Items      int // of one recipient; the groups of jobs
	Heavy      int // recipients who are in all jobs, the last ones
	Seed       uint64
}

const idsPerRecipient = 143

// Validate names the first field that is out of its bounds.
func (m Members) Validate() error {
	switch {
	case m.Items < 1 || m.Jobs < m.Items || m.Jobs%m.Items != 0:
		return fmt.Errorf("%d jobs cannot be %d items of each recipient: want a multiple", m.Jobs, m.Items)
	case m.Jobs > 2000:
		return errors.New("more than 2000 jobs: what is parked beyond parking.cap would be dropped")
	case m.Recipients < uint64(m.Jobs/m.Items+m.Heavy) || m.Recipients > 1<<32/idsPerRecipient:
		return fmt.Errorf("%d recipients: want %d to %d", m.Recipients, m.Jobs/m.Items+m.Heavy, 1<<32/idsPerRecipient)
	}
	return nil
}

// id is the i-th recipient's.
func (m Members) id(i uint64) uint32 {
	return uint32(i*idsPerRecipient + feed.Mix(m.Seed+i)%idsPerRecipient)
}

// indexOf is the number of the recipient with an id.
func (m Members) indexOf(id uint32) (uint64, bool) {
	i := uint64(id) / idsPerRecipient
	return i, i < m.Recipients && m.id(i) == id
}

func (m Members) isHeavy(i uint64) bool { return i >= m.Recipients-uint64(m.Heavy) }

// due is how many messages are parked for a recipient in a round.
func (m Members) due(i uint64) int {
	if m.isHeavy(i) {
		return m.Jobs
	}
	return m.Items
}

// turn is by how much a block of recipients, one for each job of a group, is turned.
func (m Members) turn(block uint64, group int) uint64 {
	return feed.Mix(m.Seed ^ block<<16 ^ uint64(group)<<1 ^ 1)
}

// in reports whether a recipient is in the n-th job.
func (m Members) in(i uint64, n int) bool {
	size := uint64(m.Jobs / m.Items)
	return m.isHeavy(i) || (i+m.turn(i/size, n/int(size)))%size == uint64(n)%size
}

// members calls fn with the recipients of the n-th job, range by range.
func (m Members) members(n int, fn func(*idset.Set) error) error {
	size := uint64(m.Jobs / m.Items)
	light := m.Recipients - uint64(m.Heavy)
	at := func(block uint64) uint64 {
		return block*size + (uint64(n)%size+size-m.turn(block, n/int(size))%size)%size
	}
	c := cutter{fn: fn}
	for block := range light/size + 1 {
		if i := at(block); i < light {
			c.add(m.id(i))
		}
	}
	for i := light; i < m.Recipients; i++ {
		c.add(m.id(i))
	}
	return c.end()
}

// ranges calls fn with every step-th recipient of some, range by range.
func (m Members) ranges(from, to, step uint64, fn func(*idset.Set) error) error {
	c := cutter{fn: fn}
	for i := from; i < to; i += step {
		c.add(m.id(i))
	}
	return c.end()
}

// cutter makes sets of ranges of ascending ids.
type cutter struct {
	fn  func(*idset.Set) error
	set *idset.Set
	err error
}

func (c *cutter) add(id uint32) {
	if c.err != nil {
		return
	}
	if r := job.Recipient(id).Range(); c.set == nil || c.set.Range != r {
		c.err = c.end()
		c.set = idset.New(r)
	}
	c.set.Add(id)
}

func (c *cutter) end() error {
	if c.set != nil && c.err == nil {
		c.err = c.fn(c.set)
		c.set = nil
	}
	return c.err
}
