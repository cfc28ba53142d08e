package parked

import (
	"crier/internal/bin"
	"crier/internal/idset"
	"crier/state/ledger"
)

// How a recipient came to be in doubt.
const (
	doubtUnanswered = 0 // the incarnation cannot tell yet; a Done decides it
	doubtMute       = 1 // written to a client that does not say what it has
	doubtOver       = 2 // the incarnation is over and left nothing readable
)

// done closes what is open of a reserve at an incarnation, or what is in doubt
// because that incarnation had not answered. A done about neither changes nothing.
func (t *txn) done(e *ledger.Done) error {
	key := string(openKey(e.Range, e.Job, e.Of, e.Inc))
	t.x.mu.RLock()
	o := t.x.mu.open[key]
	t.x.mu.RUnlock()
	var d Tally
	var moved *idset.Set
	if o != nil {
		moved = o.Set.Clone()
		if !e.Waiting.IsEmpty() {
			moved.AndNot(e.Waiting)
		}
		d.HandedOff -= uint64(moved.Card())
		t.shrinkOpen(o, key, moved)
	} else {
		s, err := t.takeDoubt(doubtKey(e.Range, e.Job, e.Of, e.Inc, doubtUnanswered))
		if err != nil || s == nil {
			return err
		}
		moved = s
		if !e.Waiting.IsEmpty() {
			// It answers after all: what waits there is handed off again.
			waiting := moved.Clone()
			waiting.And(e.Waiting)
			moved.AndNot(waiting)
			t.putOpen(&Open{Ref: e.Of, At: t.at, Inc: e.Inc, Job: e.Job, Range: e.Range, Set: waiting})
			d.HandedOff += uint64(waiting.Card())
			d.InDoubt -= uint64(waiting.Card())
		}
		d.InDoubt -= uint64(moved.Card())
	}
	return t.spread(e, moved, &d)
}

// shrinkOpen takes moved out of an open row and closes it if nothing is left.
func (t *txn) shrinkOpen(o *Open, key string, moved *idset.Set) {
	left := o.Set.Clone()
	left.AndNot(moved)
	if left.IsEmpty() {
		left.Release()
		t.b.Delete([]byte(key))
		t.closed = append(t.closed, key)
		return
	}
	n := *o
	n.Set, n.whole = left, false
	t.putOpen(&n)
}

// spread gives each recipient in moved the outcome that the done says.
func (t *txn) spread(e *ledger.Done, moved *idset.Set, d *Tally) error {
	take := func(s *idset.Set) *idset.Set {
		if s.IsEmpty() {
			return nil
		}
		part := moved.Clone()
		part.And(s)
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
		d.Failed += uint64(refused.Card())
	}
	d.Delivered += uint64(moved.Card())
	return t.count(e.Range, e.Job, d, nil, nil)
}

func (t *txn) doubt(e *ledger.Doubt) error {
	key := string(openKey(e.Range, e.Job, e.Of, e.Inc))
	t.x.mu.RLock()
	o := t.x.mu.open[key]
	t.x.mu.RUnlock()
	unanswered := doubtKey(e.Range, e.Job, e.Of, e.Inc, doubtUnanswered)
	if o == nil {
		if !e.Final {
			return nil
		}
		s, err := t.takeDoubt(unanswered)
		if err == nil && s != nil {
			t.putDoubt(doubtKey(e.Range, e.Job, e.Of, e.Inc, doubtOver), s)
		}
		return err
	}
	t.b.Delete([]byte(key))
	t.closed = append(t.closed, key)
	row := unanswered
	if e.Final {
		row = doubtKey(e.Range, e.Job, e.Of, e.Inc, doubtOver)
	}
	t.putDoubt(row, o.Set)
	n := uint64(o.Set.Card())
	return t.count(e.Range, e.Job, &Tally{HandedOff: -n, InDoubt: n}, nil, nil)
}

func (t *txn) putDoubt(key []byte, s *idset.Set) {
	var w bin.Writer
	w.Set(s)
	t.b.Put(key, w.B)
}

// addDoubt joins recipients with those who are in the row already: a reserve's
// mute clients may end one after the other.
func (t *txn) addDoubt(key []byte, s *idset.Set) error {
	b, err := t.x.kv.Get(key)
	if err != nil {
		return err
	}
	if b != nil {
		before, err := readSet(b)
		if err != nil {
			return err
		}
		s.Or(before)
		before.Release()
	}
	t.putDoubt(key, s)
	return nil
}

// takeDoubt removes a row of doubt and gives its recipients, or nil.
func (t *txn) takeDoubt(key []byte) (*idset.Set, error) {
	b, err := t.x.kv.Get(key)
	if err != nil || b == nil {
		return nil, err
	}
	t.b.Delete(key)
	return readSet(b)
}

func readSet(b []byte) (*idset.Set, error) {
	r := bin.NewReader(b)
	s := r.Set()
	return s, r.Err(true)
}

// decide ends doubt, in whichever rows it stands; ids not in doubt are passed over.
func (t *txn) decide(e *ledger.Decide) error {
	var d Tally
	parked := idset.New(e.Range)
	prefix := rangeKey(e.Range, rowDoubt, e.Job[:])
	err := t.x.kv.Scan(prefix, after(prefix), func(k, v []byte) error {
		s, err := readSet(v)
		if err != nil {
			return err
		}
		before := s.Card()
		for i, verdict := range []*idset.Set{e.Delivered, e.Parked, e.Failed} {
			if verdict.IsEmpty() || !s.Intersects(verdict) {
				continue
			}
			part := s.Clone()
			part.And(verdict)
			s.AndNot(part)
			n := uint64(part.Card())
			switch i {
			case 0:
				d.Delivered += n
			case 1:
				d.Parked += n
				parked.Or(part)
			case 2:
				d.Failed += n
			}
		}
		left := s.Card()
		d.InDoubt -= uint64(before - left)
		if left == 0 {
			t.b.Delete(k)
		} else if left != before {
			t.putDoubt(append([]byte(nil), k...), s)
		}
		return nil
	})
	if err != nil {
		return err
	}
	if err := t.park(e.Range, e.Job, parked, true); err != nil {
		return err
	}
	return t.count(e.Range, e.Job, &d, nil, parked)
}
