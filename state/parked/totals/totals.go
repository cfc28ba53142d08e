package totals

import (
	"bytes"
	"maps"
	"slices"

	"crier/internal/bin"
	"crier/job"
	"crier/state/parked/kv"
	"crier/state/parked/row"
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

func totalKey(id job.ID) []byte   { return row.Global(rowTotal, id[:]) }
func changesKey(turn byte) []byte { return row.Global(rowChanges, []byte{turn}) }

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
	c := changes{since: map[job.ID]Tally{}}
	if err := rows.Scan(row.Global(rowChanges), row.Global(rowChanges+1), c.take); err != nil {
		return err
	}
	*t = Table{since: c.since, known: map[job.ID]Tally{}, round: c.round, turn: c.turns}
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
func Read(rows kv.Store, id job.ID) (Tally, error) {
	b, err := rows.Get(totalKey(id))
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
			b.Put(totalKey(id), w.B)
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
	b.Put(changesKey(turn), w.B)
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

// changes is what the rows of changes of the last round say.
type changes struct {
	round uint64
	turns byte // how many were used in it
	since map[job.ID]Tally
}

// take takes in a row; they come by turn, so that the first is of the last round.
func (c *changes) take(_, v []byte) error {
	r := bin.NewReader(v)
	if round := r.Uint(); c.turns == 0 {
		c.round = round
	} else if round != c.round {
		return r.Err(false)
	}
	for r.Len() > 0 && r.Err(false) == nil {
		id := r.JobID()
		c.since[id] = readTally(r)
	}
	c.turns++
	return r.Err(true)
}

// Folded calls fn with the rows that a scan of a whole index gives to the function that it makes,
// as if each job had its row and nothing else were written; end gives the last ones. Two indexes
// that took in the same records in other batches are equal so.
func Folded(fn func(k, v []byte) error) (take func(k, v []byte) error, end func() error) {
	c := changes{since: map[job.ID]Tally{}}
	var behind []job.ID // with changes, whose rows are still to come
	summed := false
	sum := func() {
		if !summed {
			summed, behind = true, slices.SortedFunc(maps.Keys(c.since), func(a, b job.ID) int { return bytes.Compare(a[:], b[:]) })
		}
	}
	put := func(id job.ID) error {
		var w bin.Writer
		total := c.since[id]
		total.write(&w)
		return fn(totalKey(id), w.B)
	}
	pass := func(k []byte) error { // those whose keys are less
		for len(behind) > 0 && (k == nil || bytes.Compare(totalKey(behind[0]), k) < 0) {
			if err := put(behind[0]); err != nil {
				return err
			}
			behind = behind[1:]
		}
		return nil
	}
	take = func(k, v []byte) error {
		if bytes.HasPrefix(k, row.Global(rowChanges)) {
			return c.take(k, v)
		}
		if bytes.Compare(k, row.Global(rowChanges)) > 0 {
			sum()
		}
		if err := pass(k); err != nil {
			return err
		}
		if len(behind) > 0 && bytes.Equal(k, totalKey(behind[0])) {
			return nil // what its changes say comes next
		}
		return fn(k, v)
	}
	return take, func() error {
		sum()
		return pass(nil)
	}
}
