package totals

import (
	"bytes"
	"maps"
	"slices"

	"crier/internal/bin"
	"crier/job"
	"crier/state/parked/kv"
)

// Rows. Every batch of the index changes the totals of dozens of jobs, a little; so it writes all of
// these into one row, of which there are a few that take turns, and a row for each job when these
// were all used.
//
//	0xffff 'e' turn     round of turns; job and tally of each that a batch changed
//	0xffff 't' job      tally, unless a row of changes of the last round has another
const (
	rowChanges = 'e'
	rowTotal   = 't'
)

const (
	turns = 64
	// most is of how many jobs the totals are remembered: 1 MiB; and so many may have changed
	// before each is written.
	most = 4096
)

func key(letter byte, more ...byte) []byte { return append([]byte{0xff, 0xff, letter}, more...) }

// Table is the totals of all jobs. It must be loaded first. It is not safe for concurrent use, but
// for any number of Get at a time.
type Table struct {
	since map[job.ID]Tally // that changed in this round
	known map[job.ID]Tally // some others
	round uint64
	turn  byte // the next
}

// Load reads what the rows of changes say.
func (t *Table) Load(rows kv.Store) error {
	var c changes
	if err := rows.Scan(key(rowChanges), key(rowChanges+1), c.take); err != nil {
		return err
	}
	*t = Table{since: c.of(), known: map[job.ID]Tally{}, round: c.round, turn: byte(len(c.turns))}
	return nil
}

// Get gives the total of a job if it is remembered; else its row has it.
func (t *Table) Get(id job.ID) (Tally, bool) {
	total, ok := t.since[id]
	if !ok {
		total, ok = t.known[id]
	}
	return total, ok
}

// Read reads the row of a job that Get does not know. It may be called while the table changes.
func Read(rows interface{ Get([]byte) ([]byte, error) }, id job.ID) (Tally, error) {
	b, err := rows.Get(key(rowTotal, id[:]...))
	if err != nil || b == nil {
		return Tally{}, err
	}
	r := bin.NewReader(b)
	total := readTally(r)
	return total, r.Err(true)
}

// Ahead is what a batch of the index changes.
type Ahead map[job.ID]Tally

// ends reports whether a round ends with a batch.
func (t *Table) ends(a Ahead) bool { return t.turn == turns || len(t.since)+len(a) > most }

// Rows adds to a batch what changes, which Written takes over when the batch is written.
func (t *Table) Rows(b *kv.Batch, a Ahead) {
	turn, round, listed := t.turn, t.round, a
	if t.ends(a) { // the next round begins, with a row that has no changes
		turn, round, listed = 0, round+1, nil
		all := maps.Clone(t.since)
		maps.Copy(all, a)
		for id, total := range all {
			var w bin.Writer
			total.write(&w)
			b.Put(key(rowTotal, id[:]...), w.B)
		}
	} else if len(a) == 0 {
		return
	}
	var w bin.Writer
	w.Uint(round)
	for id, total := range listed {
		w.Fixed(id[:])
		total.write(&w)
	}
	b.Put(key(rowChanges, turn), w.B)
}

// Written makes the table what it is behind the batch.
func (t *Table) Written(a Ahead) {
	if t.ends(a) {
		if len(t.known)+len(t.since)+len(a) > most {
			clear(t.known)
		}
		maps.Copy(t.known, t.since)
		maps.Copy(t.known, a)
		clear(t.since)
		t.round, t.turn = t.round+1, 1
		return
	}
	if len(a) > 0 {
		maps.Copy(t.since, a)
		t.turn++
	}
}

// changes are the rows of changes, of the last round.
type changes struct {
	round uint64
	turns []map[job.ID]Tally
}

// take takes in a row; they come by turn.
func (c *changes) take(_, v []byte) error {
	r := bin.NewReader(v)
	round := r.Uint()
	turn := map[job.ID]Tally{}
	for r.Len() > 0 && r.Err(false) == nil {
		id := r.JobID()
		turn[id] = readTally(r)
	}
	switch {
	case c.turns == nil || round > c.round:
		c.round, c.turns = round, []map[job.ID]Tally{turn}
	case round == c.round:
		c.turns = append(c.turns, turn)
	}
	return r.Err(true)
}

func (c *changes) of() map[job.ID]Tally {
	all := map[job.ID]Tally{}
	for _, turn := range c.turns {
		maps.Copy(all, turn)
	}
	return all
}

// Folded calls fn with the rows that a scan of a whole index gives to the function that it makes,
// as if each job had its row and nothing else were written; end gives the last ones. Two indexes
// that took in the same records in other batches are equal so.
func Folded(fn func(k, v []byte) error) (take func(k, v []byte) error, end func() error) {
	var c changes
	var since map[job.ID]Tally // what all changes say
	var behind []job.ID        // whose rows are still to come
	sum := func() {
		since = c.of()
		behind = slices.SortedFunc(maps.Keys(since), func(a, b job.ID) int { return bytes.Compare(a[:], b[:]) })
	}
	put := func(id job.ID) error {
		var w bin.Writer
		total := since[id]
		total.write(&w)
		return fn(key(rowTotal, id[:]...), w.B)
	}
	pass := func(k []byte) error { // those whose keys are less
		for len(behind) > 0 && (k == nil || bytes.Compare(key(rowTotal, behind[0][:]...), k) < 0) {
			if err := put(behind[0]); err != nil {
				return err
			}
			behind = behind[1:]
		}
		return nil
	}
	take = func(k, v []byte) error {
		if bytes.HasPrefix(k, key(rowChanges)) {
			return c.take(k, v)
		}
		if since == nil && bytes.Compare(k, key(rowChanges)) > 0 {
			sum()
		}
		if err := pass(k); err != nil {
			return err
		}
		if len(behind) > 0 && bytes.Equal(k, key(rowTotal, behind[0][:]...)) {
			return nil // what its changes say comes next
		}
		return fn(k, v)
	}
	return take, func() error {
		if since == nil {
			sum()
		}
		return pass(nil)
	}
}
