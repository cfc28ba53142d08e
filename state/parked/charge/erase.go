package charge

import (
	"encoding/binary"
	"slices"

	"crier/internal/idset"
	"crier/job"
	"crier/state/ledger"
	"crier/state/parked/row"
)

// Erase takes in that a recipient asked to be forgotten: they were charged nothing, and got
// nothing that is sent once. What they were charged is not refunded any more, as if they had
// seen it. What is charged behind the erasure counts from nothing, and may be refunded.
func (b Book) Erase(w Writes, who job.Recipient) error {
	gone, err := b.eraseCounters(w, who)
	if err != nil {
		return err
	}
	if err := b.eraseOnce(w, who); err != nil || len(gone) == 0 {
		return err
	}
	var paid []job.ID
	prefix := row.Key(who.Range(), rowCharged)
	err = b.Rows.Scan(prefix, row.After(prefix), func(k, v []byte) error {
		l, err := parseCharged(v)
		if err == nil && slices.ContainsFunc(l, func(c charged) bool {
			return c.span.Has(who) && slices.ContainsFunc(countersOf(c.terms), func(by counter) bool { return gone[by] })
		}) {
			paid = append(paid, job.ID(k[len(prefix):]))
		}
		return err
	})
	for i := 0; i < len(paid) && err == nil; i++ {
		err = b.Seen(w, paid[i], idset.Of(uint32(who)))
	}
	return err
}

// eraseCounters makes a recipient's counters 0, and gives those that were not.
func (b Book) eraseCounters(w Writes, who job.Recipient) (map[counter]bool, error) {
	r, i := who.Range(), int(who>>idset.ContainerBits)&(idset.Containers-1)
	gone, prefix := map[counter]bool{}, row.Key(r, rowCounters)
	err := b.Rows.Scan(prefix, row.After(prefix), func(k, v []byte) error {
		if int(k[len(k)-1]) != i {
			return nil
		}
		p, err := parsePlanes(v, r, i)
		if err != nil {
			return err
		}
		defer func() { p.release() }()
		if p.of(who) == 0 {
			return nil
		}
		by := k[len(prefix):]
		gone[counter{binary.BigEndian.Uint32(by), ledger.AccountOf(binary.BigEndian.Uint64(by[4:]))}] = true
		if p.forget(who); len(p) == 0 {
			w.Delete(k)
		} else {
			w.Put(k, p.bytes(r, i))
		}
		return nil
	})
	return gone, err
}

// eraseOnce takes a recipient out of the sets of those who got what is sent once.
func (b Book) eraseOnce(w Writes, who job.Recipient) error {
	prefix := row.Key(who.Range(), rowOnce)
	return b.Rows.Scan(prefix, row.After(prefix), func(k, v []byte) error {
		s, err := row.Set(v)
		if err != nil {
			return err
		}
		defer s.Release()
		if !s.Has(uint32(who)) {
			return nil
		}
		if s.Remove(uint32(who)); s.IsEmpty() {
			w.Delete(k)
		} else {
			putSet(w, k, s)
		}
		return nil
	})
}
