package parked

import (
	"fmt"

	"crier/internal/bin"
	"crier/internal/idset"
	"crier/job"
	"crier/state/ledger"
	"crier/state/parked/opens"
	"crier/state/parked/row"
)

// How a recipient came to be in doubt.
const (
	doubtUnanswered = 0 // the incarnation cannot tell yet; a Done decides it
	doubtMute       = 1 // written to a client that does not say what it has
	doubtOver       = 2 // the incarnation is over and left nothing readable
	// doubtDecided is no doubt any more: it was decided while the incarnation was
	// unanswered, which may therefore still write. Clients must remember the message
	// until that reserve is closed (rule 14).
	doubtDecided = 3
)

// done closes what is open of a reserve at an incarnation, or what is in doubt
// because that incarnation had not answered. A done about neither changes nothing.
func (t *txn) done(e *ledger.Done) error {
	if !inRange(e.Range, e.Waiting, e.NotHere, e.Unacked, e.Mute, e.Refused) {
		return fmt.Errorf("%w: a done of %s at %s leaves range %s", ErrLedger, e.Of, e.Inc, e.Range)
	}
	name := opens.Name{Range: e.Range, Job: e.Job, Ref: e.Of, Inc: e.Inc}
	o, late := t.ahead.openOf(name)
	switch {
	case late != nil: // there are rows of doubt that this may answer
		if err := t.settleDecided(e, name); err != nil {
			return err
		}
	case o == nil:
		return nil
	}
	var d Tally
	var moved *idset.Set
	if o != nil {
		moved = o.Set.Clone()
		if !e.Waiting.IsEmpty() {
			moved.AndNot(e.Waiting)
		}
		d.HandedOff -= uint64(moved.Card())
		t.shrinkOpen(o, moved)
	} else {
		s, err := t.takeDoubt(doubtKey(e.Range, e.Job, e.Of, e.Inc, doubtUnanswered))
		if err != nil || s == nil {
			return err
		}
		moved = s
		d.InDoubt -= uint64(moved.Card())
		if !e.Waiting.IsEmpty() && moved.Intersects(e.Waiting) {
			// It answers after all: what waits there is handed off again.
			waiting := moved.Clone()
			waiting.And(e.Waiting)
			moved.AndNot(waiting)
			t.opened = append(t.opened, &opens.Open{Name: name, Set: waiting})
			d.HandedOff += uint64(waiting.Card())
		}
	}
	return t.spread(e, moved, &d)
}

// settleDecided notes that the incarnation has answered: of those who were decided
// before, only who still waits there may be written to.
func (t *txn) settleDecided(e *ledger.Done, name opens.Name) error {
	key := doubtKey(e.Range, e.Job, e.Of, e.Inc, doubtDecided)
	s, err := t.takeDoubt(key)
	if err != nil {
		return err
	}
	if s != nil && !e.Waiting.IsEmpty() && s.Intersects(e.Waiting) {
		s.And(e.Waiting)
		t.putDoubt(key, s)
	} else {
		s = nil
	}
	t.late = append(t.late, &opens.Open{Name: name, Doubted: true, Set: s})
	return nil
}

// shrinkOpen takes moved out of what is open and closes it if nothing is left.
func (t *txn) shrinkOpen(o *opens.Open, moved *idset.Set) {
	left := o.Set.Clone()
	left.AndNot(moved)
	if left.IsEmpty() {
		left.Release()
		t.closed = append(t.closed, o.Name)
		return
	}
	t.opened = append(t.opened, &opens.Open{Name: o.Name, Set: left})
}

// spread gives each recipient in moved the outcome that the done says.
func (t *txn) spread(e *ledger.Done, moved *idset.Set, d *Tally) error {
	take := func(s *idset.Set) *idset.Set {
		if s.IsEmpty() {
			return nil
		}
		part := moved.Clone()
		part.And(s)
		if part.IsEmpty() {
			return nil
		}
		moved.AndNot(part)
		return part
	}
	for i, s := range []*idset.Set{take(e.NotHere), take(e.Unacked)} {
		if s == nil {
			continue
		}
		d.Parked += uint64(s.Card())
		if err := t.park(e.Range, e.Job, s, i == 1); err != nil {
			return err
		}
	}
	if mute := take(e.Mute); mute != nil {
		d.InDoubt += uint64(mute.Card())
		if err := t.addDoubt(doubtKey(e.Range, e.Job, e.Of, e.Inc, doubtMute), mute); err != nil {
			return err
		}
	}
	if refused := take(e.Refused); refused != nil {
		d.Gain(job.Failed, job.ReasonRefused, uint64(refused.Card()))
		if err := t.charges().Refund(&t.b, e.Job, refused); err != nil {
			return err
		}
	}
	d.Delivered += uint64(moved.Card())
	return t.count(e.Job, d)
}

func (t *txn) doubt(e *ledger.Doubt) error {
	name := opens.Name{Range: e.Range, Job: e.Job, Ref: e.Of, Inc: e.Inc}
	o, late := t.ahead.openOf(name)
	row := doubtKey(e.Range, e.Job, e.Of, e.Inc, doubtUnanswered)
	var set *idset.Set // of those who become in doubt, or in doubt for good
	if e.Final {
		s, err := t.takeDoubt(row)
		if err != nil {
			return err
		}
		set = s
		t.b.Delete(doubtKey(e.Range, e.Job, e.Of, e.Inc, doubtDecided))
		t.late = append(t.late, &opens.Open{Name: name})
		row = doubtKey(e.Range, e.Job, e.Of, e.Inc, doubtOver)
	}
	if o == nil {
		if set != nil {
			t.putDoubt(row, set)
		}
		return nil
	}
	t.closed = append(t.closed, name)
	t.putDoubt(row, o.Set)
	if !e.Final {
		all := o.Set.Clone()
		if late != nil {
			all.Or(late.Set)
		}
		t.late = append(t.late, &opens.Open{Name: name, Doubted: true, Set: all})
	}
	n := uint64(o.Set.Card())
	return t.count(e.Job, &Tally{HandedOff: -n, InDoubt: n})
}

func (t *txn) putDoubt(key []byte, s *idset.Set) {
	var w bin.Writer
	w.Set(s)
	t.b.Put(key, w.B)
	t.ahead.doubtful = append(t.ahead.doubtful, s.Range)
}

// addDoubt joins recipients with those who are in the row already: a reserve's
// mute clients may end one after the other. The set is the caller's.
func (t *txn) addDoubt(key []byte, s *idset.Set) error {
	b, err := t.ahead.rows.Get(key)
	if err != nil {
		return err
	}
	if b != nil {
		before, err := row.Set(b)
		if err != nil {
			return err
		}
		before.Or(s)
		s = before
	}
	t.putDoubt(key, s)
	return nil
}

// takeDoubt removes a row of doubt and gives its recipients, or nil.
func (t *txn) takeDoubt(key []byte) (*idset.Set, error) {
	b, err := t.ahead.rows.Get(key)
	if err != nil || b == nil {
		return nil, err
	}
	t.b.Delete(key)
	return row.Set(b)
}

// decide ends doubt, in whichever rows it stands; ids not in doubt are passed over.
func (t *txn) decide(e *ledger.Decide) error {
	verdicts := [3]*idset.Set{e.Delivered, e.Parked, e.Failed}
	if !inRange(e.Range, verdicts[:]...) {
		return fmt.Errorf("%w: a decision about %s leaves range %s", ErrLedger, e.Job, e.Range)
	}
	var d Tally
	parked := idset.New(e.Range)
	prefix := row.Key(e.Range, rowDoubt, e.Job[:])
	err := t.ahead.rows.Scan(prefix, row.After(prefix), func(k, v []byte) error {
		how := k[len(k)-1]
		if how == doubtDecided {
			return nil
		}
		s, err := row.Set(v)
		if err != nil {
			return err
		}
		decided := idset.New(e.Range)
		for i, to := range [3]job.Outcome{job.Delivered, job.Parked, job.Failed} {
			if verdicts[i].IsEmpty() || !s.Intersects(verdicts[i]) {
				continue
			}
			part := s.Clone()
			part.And(verdicts[i])
			s.AndNot(part)
			decided.Or(part)
			d.Gain(to, map[bool]job.Reason{true: job.ReasonUnknown}[to == job.Failed], uint64(part.Card()))
			if i == 1 {
				parked.Or(part)
			}
		}
		d.InDoubt -= uint64(decided.Card())
		switch {
		case decided.IsEmpty():
			return nil
		case s.IsEmpty():
			t.b.Delete(k)
		default:
			t.putDoubt(k, s)
		}
		if how != doubtUnanswered {
			return nil
		}
		row := append([]byte(nil), k...)
		row[len(row)-1] = doubtDecided
		return t.addDoubt(row, decided)
	})
	if err != nil {
		return err
	}
	if err := t.park(e.Range, e.Job, parked, true); err != nil {
		return err
	}
	if !parked.IsEmpty() {
		t.fresh = Change{e.Job, e.Range, parked}
	}
	return t.count(e.Job, &d)
}
