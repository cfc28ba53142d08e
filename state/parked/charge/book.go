// Package charge is the book of what recipients were charged: the counters of the
// frequency caps, a day at a time, the sets of those who got what is sent once, and the
// verdicts by which they were charged (protocol rule 7). Its rows stand among those of
// the parked index and are made, like these, from the ledger alone.
//
// It guarantees that a recipient is charged for a job once, by the first record that
// says so in the order of the ledger, and that a refund takes back just that, from nobody who
// may have seen the message; and that nothing counts for a recipient that stands before their
// erasure.
package charge

import (
	"bytes"
	"encoding/binary"
	"fmt"

	"crier/internal/bin"
	"crier/internal/idset"
	"crier/job"
	"crier/state/ledger"
	"crier/state/parked/row"
)

// Rows is where the book is kept. What it gives may be kept; Scan's may not.
type Rows interface {
	Get(key []byte) ([]byte, error)
	Scan(start, end []byte, fn func(key, value []byte) error) error
}

// Writes takes the changes of one entry of the ledger, of which Rows shows nothing until
// all of them are made.
type Writes interface {
	Put(key, value []byte)
	Delete(key []byte)
}

// Book reads the rows and works out how they change. It holds nothing and is safe for
// concurrent use.
type Book struct{ Rows Rows }

// Verdict gives what was decided about a span of a job, which lies in one range: of the
// gaps nobody is charged yet; dropped is who was, by a charge that is not wholly reserved.
// The caller owns the sets.
func (b Book) Verdict(id job.ID, span job.Span) (gaps []job.Span, dropped []ledger.Drop, err error) {
	r := job.Range(span.Lo >> job.RangeBits)
	l, err := b.charged(r, id)
	if err != nil {
		return nil, nil, err
	}
	if len(l) == 0 {
		return []job.Span{span}, nil, nil
	}
	err = b.verdicts(r, id, func(_ []byte, _ job.Span, drops []ledger.Drop) {
		dropped = append(dropped, dropsIn(drops, span)...)
	})
	return l.gaps(span), dropped, err
}

// Has reports whether anybody of a range was charged for a job.
func (b Book) Has(r job.Range, id job.ID) (bool, error) {
	v, err := b.Rows.Get(chargedKey(r, id))
	return v != nil, err
}

func (b Book) charged(r job.Range, id job.ID) (chargedSpans, error) {
	v, err := b.Rows.Get(chargedKey(r, id))
	if err != nil || v == nil {
		return nil, err
	}
	return parseCharged(v)
}

// verdicts calls fn for the verdicts on a job whose recipients are not all reserved.
func (b Book) verdicts(r job.Range, id job.ID, fn func(key []byte, of job.Span, drops []ledger.Drop)) error {
	prefix := row.Key(r, rowVerdict, id[:])
	return b.Rows.Scan(prefix, row.After(prefix), func(k, v []byte) error {
		of, drops, err := parseVerdict(k, v)
		if err == nil {
			fn(k, of, drops)
		}
		return err
	})
}

func verdictBytes(hi uint64, drops []ledger.Drop) []byte {
	var w bin.Writer
	w.Uint(hi)
	w.Uint(uint64(len(drops)))
	for _, d := range drops {
		w.Byte(byte(d.Reason))
		w.Set(d.Set)
	}
	return w.B
}

func parseVerdict(k, v []byte) (of job.Span, drops []ledger.Drop, err error) {
	r := bin.NewReader(v)
	of = job.Span{Lo: binary.BigEndian.Uint64(k[len(k)-8:]), Hi: r.Uint()}
	for range r.Max(255) {
		drops = append(drops, ledger.Drop{Reason: job.Reason(r.Byte()), Set: r.Set()})
	}
	return of, drops, r.Err(true)
}

// Apply takes in a charge. ids is the package in its span, and becomes the book's; free
// is what of the span no reserve covers. Only who is not charged for the job yet, and not
// reserved, is.
func (b Book) Apply(w Writes, e *ledger.Charge, ids *idset.Set, free []job.Span) error {
	defer ids.Release()
	r := e.Range()
	for _, d := range e.Dropped {
		if !within(d.Set, ids) {
			return fmt.Errorf("who is dropped for %s is not in the block, or twice", d.Reason)
		}
		ids.AndNot(d.Set)
	}
	l, err := b.charged(r, e.Job)
	if err != nil {
		return err
	}
	kept := idset.New(r)
	defer kept.Release()
	var fresh []job.Span
	for _, s := range free {
		fresh = append(fresh, l.gaps(s)...)
	}
	for _, s := range fresh {
		l = l.add(charged{s, e.Terms})
		part := ids.Clone()
		part.KeepSpan(s)
		kept.Or(part)
		part.Release()
		if drops := dropsIn(e.Dropped, s); len(drops) > 0 {
			w.Put(verdictKey(r, e.Job, s.Lo), verdictBytes(s.Hi, drops))
		}
	}
	if len(fresh) == 0 {
		return nil
	}
	w.Put(chargedKey(r, e.Job), l.bytes())
	for _, by := range countersOf(e.Terms) {
		if err := b.count(w, by, kept); err != nil {
			return err
		}
	}
	if !e.Terms.Once.IsZero() && !kept.IsEmpty() {
		key := onceKey(r, e.Terms, e.Job)
		before, err := b.set(key)
		if err != nil {
			return err
		}
		if before != nil {
			kept.Or(before)
			before.Release()
		}
		putSet(w, key, kept)
	}
	return b.clean(w, r, e.Terms.Day)
}

// within reports whether all of s is in of, a set of its range.
func within(s, of *idset.Set) bool {
	if s.IsEmpty() {
		return true
	}
	if s.Range != of.Range {
		return false
	}
	stray := s.Clone()
	defer stray.Release()
	stray.AndNot(of)
	return stray.IsEmpty()
}

func dropsIn(drops []ledger.Drop, span job.Span) (in []ledger.Drop) {
	for _, d := range drops {
		s := d.Set.Clone()
		if s.KeepSpan(span); !s.IsEmpty() {
			in = append(in, ledger.Drop{Reason: d.Reason, Set: s})
		}
	}
	return in
}

// counter names the counters that somebody is counted by: of a day, and of one account or
// of all.
type counter struct {
	day     uint32
	account ledger.AccountOf
}

// everyAccount is under what the counters over all accounts stand.
const everyAccount ledger.AccountOf = 0

func countersOf(t ledger.Terms) (list []counter) {
	if t.All {
		list = append(list, counter{t.Day, everyAccount})
	}
	if t.Account != everyAccount {
		list = append(list, counter{t.Day, t.Account})
	}
	return list
}

// count counts recipients once more.
func (b Book) count(w Writes, by counter, who *idset.Set) error {
	return b.change(w, by, who, (*planes).add)
}

// uncount counts them once less. The counters of a day that is long over are gone.
func (b Book) uncount(w Writes, by counter, who *idset.Set) error {
	return b.change(w, by, who, func(p *planes, c *idset.Container) error {
		if len(*p) == 0 {
			return nil
		}
		return p.sub(c)
	})
}

// change changes the counters of recipients, a container at a time. One entry of the
// ledger changes each of them once.
func (b Book) change(w Writes, by counter, who *idset.Set, change func(*planes, *idset.Container) error) error {
	for i := range idset.Containers {
		c := who.Container(i)
		if c == nil || *c == (idset.Container{}) {
			continue
		}
		key := countersKey(who.Range, by, i)
		v, err := b.Rows.Get(key)
		if err != nil {
			return err
		}
		var p planes
		if v != nil {
			if p, err = parsePlanes(v, who.Range, i); err != nil {
				return err
			}
		}
		if err := change(&p, c); err != nil {
			return fmt.Errorf("counting for day %d: %w", by.day, err)
		}
		switch {
		case len(p) > 0:
			w.Put(key, p.bytes(who.Range, i))
		case v != nil:
			w.Delete(key)
		}
		p.release()
	}
	return nil
}

// Reserved takes in that the recipients of a span are reserved, and gives the verdicts on
// them; the caller owns the sets. covered reports whether all of a span is reserved then.
func (b Book) Reserved(w Writes, id job.ID, span job.Span, covered func(job.Span) bool) (dropped []ledger.Drop, err error) {
	err = b.verdicts(job.Range(span.Lo>>job.RangeBits), id, func(key []byte, of job.Span, drops []ledger.Drop) {
		if of.Hi <= span.Lo || span.Hi <= of.Lo {
			return
		}
		dropped = append(dropped, dropsIn(drops, span)...)
		if covered(of) {
			w.Delete(key)
		}
	})
	return dropped, err
}

// Seen takes in that recipients may have seen a job's message.
func (b Book) Seen(w Writes, id job.ID, who *idset.Set) error {
	if who.IsEmpty() {
		return nil
	}
	if charged, err := b.Has(who.Range, id); err != nil || !charged {
		return err
	}
	key := seenKey(who.Range, id)
	all, err := b.set(key)
	if err != nil {
		return err
	}
	if all == nil {
		all = idset.New(who.Range)
	}
	defer all.Release()
	all.Or(who)
	putSet(w, key, all)
	return nil
}

// Refund takes back what recipients of a job were charged; who was not, or may have seen
// the message, is passed over.
func (b Book) Refund(w Writes, id job.ID, who *idset.Set) error {
	if who.IsEmpty() {
		return nil
	}
	l, err := b.charged(who.Range, id)
	if err != nil || len(l) == 0 {
		return err
	}
	seen, err := b.set(seenKey(who.Range, id))
	if err != nil {
		return err
	}
	if seen != nil {
		who = who.Clone()
		defer who.Release()
		who.AndNot(seen)
		seen.Release()
	}
	counted, marked := map[counter]*idset.Set{}, map[ledger.Terms]*idset.Set{}
	for _, c := range l {
		part := who.Clone()
		if part.KeepSpan(c.span); !part.IsEmpty() {
			for _, by := range countersOf(c.terms) {
				join(counted, by, part)
			}
			if !c.terms.Once.IsZero() {
				join(marked, ledger.Terms{Once: c.terms.Once, Until: c.terms.Until}, part)
			}
		}
		part.Release()
	}
	for by, part := range counted {
		if err := b.uncount(w, by, part); err != nil {
			return err
		}
		part.Release()
	}
	for terms, part := range marked {
		if err := b.unmark(w, onceKey(who.Range, terms, id), part); err != nil {
			return err
		}
		part.Release()
	}
	return nil
}

func join[K comparable](sets map[K]*idset.Set, k K, s *idset.Set) {
	if sets[k] == nil {
		sets[k] = idset.New(s.Range)
	}
	sets[k].Or(s)
}

// unmark takes recipients out of the set of those who got what is sent once. One that was
// over is gone.
func (b Book) unmark(w Writes, key []byte, who *idset.Set) error {
	s, err := b.set(key)
	if err != nil || s == nil {
		return err
	}
	defer s.Release()
	if s.AndNot(who); s.IsEmpty() {
		w.Delete(key)
	} else {
		putSet(w, key, s)
	}
	return nil
}

func (b Book) set(key []byte) (*idset.Set, error) {
	v, err := b.Rows.Get(key)
	if err != nil || v == nil {
		return nil, err
	}
	return row.Set(v)
}

func putSet(w Writes, key []byte, s *idset.Set) {
	var v bin.Writer
	v.Set(s)
	w.Put(key, v.B)
}

// clean drops, when a range is first charged for a new day, the counters of the days
// before the one before, and the sets of those who may be sent to again. Zones are at
// most 14 hours from UTC, so that at the beginning of a day it is past noon of the day
// before everywhere.
func (b Book) clean(w Writes, r job.Range, day uint32) error {
	v, err := b.Rows.Get(row.Key(r, rowDay))
	if err != nil {
		return err
	}
	if len(v) == 4 && binary.BigEndian.Uint32(v) >= day {
		return nil
	}
	w.Put(row.Key(r, rowDay), be32(day))
	if day == 0 {
		return nil
	}
	drop := func(k, _ []byte) error {
		w.Delete(k)
		return nil
	}
	if err := b.Rows.Scan(row.Key(r, rowCounters), row.Key(r, rowCounters, be32(day-1)), drop); err != nil {
		return err
	}
	once := row.Key(r, rowOnce)
	return b.Rows.Scan(once, row.After(once), func(k, v []byte) error {
		at := len(once) + len(job.OnceKey{})
		if until := binary.BigEndian.Uint32(k[at:]); uint64(until) <= 24*uint64(day-1) {
			w.Delete(k)
		}
		return nil
	})
}

// Marked gives whoever of a range got what is sent once under a key, and may not be sent
// to in an hour since 1970-01-01 UTC.
func (b Book) Marked(r job.Range, key job.OnceKey, hour uint32) (*idset.Set, error) {
	all := idset.New(r)
	prefix := row.Key(r, rowOnce, key[:])
	err := b.Rows.Scan(append(bytes.Clone(prefix), be32(hour+1)...), row.After(prefix), func(_, v []byte) error {
		s, err := row.Set(v)
		if err == nil {
			all.Or(s)
			s.Release()
		}
		return err
	})
	return all, err
}

// AtLeast gives whoever of a range was charged at least n messages of a day, n of 1 or
// more; of one account, or of all.
func (b Book) AtLeast(r job.Range, day uint32, account ledger.AccountOf, n int) (*idset.Set, error) {
	all := idset.New(r)
	prefix := row.Key(r, rowCounters, be32(day), be64(account))
	err := b.Rows.Scan(prefix, row.After(prefix), func(k, v []byte) error {
		i := int(k[len(k)-1])
		p, err := parsePlanes(v, r, i)
		if err != nil {
			return err
		}
		if n>>len(p) == 0 {
			p.atLeast(n, all.Ensure(i))
		}
		p.release()
		return nil
	})
	return all, err
}

// Day gives the last day on which anybody of a recipient's range was charged, 0 if nobody
// was, and how many messages of it the recipient was, by account and of all.
func (b Book) Day(who job.Recipient) (day uint32, used map[ledger.AccountOf]int, err error) {
	r, container := who.Range(), byte(who>>idset.ContainerBits)&(idset.Containers-1)
	v, err := b.Rows.Get(row.Key(r, rowDay))
	if err != nil || len(v) != 4 {
		return 0, nil, err
	}
	day, used = binary.BigEndian.Uint32(v), map[ledger.AccountOf]int{}
	prefix := row.Key(r, rowCounters, v)
	err = b.Rows.Scan(prefix, row.After(prefix), func(k, v []byte) error {
		if k[len(k)-1] != container {
			return nil
		}
		p, err := parsePlanes(v, r, int(container))
		if err != nil {
			return err
		}
		if n := p.of(who); n > 0 {
			used[ledger.AccountOf(binary.BigEndian.Uint64(k[len(prefix):]))] = n
		}
		p.release()
		return nil
	})
	return day, used, err
}

// Used is how many messages of a day a recipient was charged, of one account or of all.
func (b Book) Used(who job.Recipient, day uint32, account ledger.AccountOf) (int, error) {
	r, i := who.Range(), int(who>>idset.ContainerBits)&(idset.Containers-1)
	v, err := b.Rows.Get(countersKey(r, counter{day, account}, i))
	if err != nil || v == nil {
		return 0, err
	}
	p, err := parsePlanes(v, r, i)
	defer p.release()
	return p.of(who), err
}
