package presence

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"sync/atomic"
	"unsafe"

	"crier/internal/idset"
	"crier/job"
)

// patience is how often a reader looks again at a container that is being
// written before it takes its recipients for offline. A write lasts some
// microseconds; only a writer that died in the middle of one is waited for longer.
const patience = 100_000

// View reads planes. It is safe for concurrent use, also with the writer, which
// may be another process.
type View struct {
	r      *region
	tables atomic.Pointer[table] // the last one read
}

// Target is the part of a set that is at one gateway incarnation.
type Target struct {
	Inc job.Incarnation
	Set *idset.Set
}

// OpenView maps the planes file at path for reading. The file must exist.
func OpenView(path string) (*View, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("opening the presence planes: %w", err)
	}
	planes, err := filePlanes(f)
	if err == nil && planes == 0 {
		err = errors.New("the file is empty")
	}
	var r *region
	if err == nil {
		r, err = mapRegion(f, planes, false)
	}
	if err != nil {
		f.Close()
		return nil, fmt.Errorf("opening the presence planes %s: %w", path, err)
	}
	return &View{r: r}, nil
}

// Close unmaps the planes. Nothing may use the view any more.
func (v *View) Close() error { return v.r.close() }

// Count is the number of recipients online.
func (v *View) Count() uint64 { return atomic.LoadUint64(&v.r.head[wordOnline]) }

// Lookup tells at which incarnation a recipient is.
func (v *View) Lookup(id job.Recipient) (job.Incarnation, bool) {
	var inc job.Incarnation
	v.stable(func(t *table) {
		ordinal := 0
		v.read(int(id>>idset.ContainerBits), func(words []uint64) { ordinal = v.ordinal(words, uint32(id)) }, func() { ordinal = 0 })
		inc = t.inc[ordinal]
	})
	return inc, !inc.IsZero()
}

// Online gives those of a set who are online. The set is not changed; the result
// is the caller's.
func (v *View) Online(set *idset.Set) *idset.Set {
	out := idset.New(set.Range)
	if few, ok := set.Few(); ok {
		v.ordinals(few, func(id uint32, ordinal int) {
			if ordinal != 0 {
				out.Add(id)
			}
		})
		return out
	}
	for i := range idset.Containers {
		in := set.Container(i)
		if in == nil || v.card(firstContainer(set.Range)+i) == 0 {
			continue
		}
		dst := out.Ensure(i)
		var any uint64
		v.read(firstContainer(set.Range)+i, func(words []uint64) {
			any = 0
			for w := range dst {
				var on uint64
				for p := range v.r.planes {
					on |= atomic.LoadUint64(&words[p*idset.Words+w])
				}
				dst[w] = in[w] & on
				any |= dst[w]
			}
		}, func() { any = 0 })
		if any == 0 {
			out.Drop(i)
		}
	}
	return out
}

// ordinals calls fn with the ordinal of each of a few ids of one range, ascending; 0 is offline.
func (v *View) ordinals(ids []uint32, fn func(id uint32, ordinal int)) {
	for len(ids) > 0 {
		c, n := int(ids[0]>>idset.ContainerBits), 1
		for n < len(ids) && int(ids[n]>>idset.ContainerBits) == c {
			n++
		}
		at := make([]int, n)
		v.read(c, func(words []uint64) {
			for i, id := range ids[:n] {
				at[i] = v.ordinal(words, id)
			}
		}, func() { clear(at) })
		for i, id := range ids[:n] {
			fn(id, at[i])
		}
		ids = ids[n:]
	}
}

// ordinal reads an id's out of the words of its container.
func (v *View) ordinal(words []uint64, id uint32) (ordinal int) {
	word, bit := int(id>>6)&(idset.Words-1), id&63
	for p := range v.r.planes {
		ordinal |= int(atomic.LoadUint64(&words[p*idset.Words+word])>>bit&1) << p
	}
	return ordinal
}

// Split parts a set, of one range, by gateway: disjoint by construction. What is
// in none of the targets is offline. The set is not changed; the results are the
// caller's, the targets in the order of their ordinals.
func (v *View) Split(keep *idset.Set) (targets []Target, offline *idset.Set) {
	v.stable(func(t *table) {
		for _, x := range targets { // of a try that met a change of the table
			x.Set.Release()
		}
		offline.Release()
		targets, offline = v.split(keep, t)
	})
	return targets, offline
}

func (v *View) split(keep *idset.Set, t *table) ([]Target, *idset.Set) {
	var sets [1 << maxPlanes]*idset.Set
	offline := idset.New(keep.Range)
	few, isFew := keep.Few()
	v.ordinals(few, func(id uint32, ordinal int) {
		switch {
		case t.inc[ordinal].IsZero():
			offline.Add(id)
			return
		case sets[ordinal] == nil:
			sets[ordinal] = idset.New(keep.Range)
		}
		sets[ordinal].Add(id)
	})
	for i := range idset.Containers {
		if isFew {
			break
		}
		if in := keep.Container(i); in != nil {
			v.splitContainer(i, in, offline.Ensure(i), &sets, t, keep.Range)
		}
	}
	var targets []Target
	for o, s := range sets {
		if s == nil {
			continue
		}
		if s.IsEmpty() {
			s.Release()
			continue
		}
		targets = append(targets, Target{Inc: t.inc[o], Set: s})
	}
	return targets, offline
}

func (v *View) splitContainer(i int, in, off *idset.Container, sets *[1 << maxPlanes]*idset.Set, t *table, rng job.Range) {
	c := firstContainer(rng) + i
	if v.card(c) == 0 {
		*off = *in
		return
	}
	var live [1 << maxPlanes]*idset.Container
	ordinals := t.used
	for _, o := range ordinals {
		if sets[o] == nil {
			sets[o] = idset.New(rng)
		}
		live[o] = sets[o].Ensure(i)
	}
	var any [1 << maxPlanes]uint64
	v.read(c, func(words []uint64) {
		clear(any[:])
		if v.r.planes == 4 {
			splitFour(words, in, off, &live, &any, ordinals)
		} else {
			splitAny(words, v.r.planes, in, off, &live, &any, ordinals)
		}
	}, func() {
		clear(any[:])
		*off = *in
	})
	for _, o := range ordinals {
		if any[o] == 0 {
			sets[o].Drop(i)
		}
	}
}

// splitAny works out, word by word, whose ordinal is which: terms holds the ids
// whose ordinal begins with the bits seen so far and doubles with each plane.
func splitAny(words []uint64, planes int, in, off *idset.Container, live *[1 << maxPlanes]*idset.Container, any *[1 << maxPlanes]uint64, ordinals []int) {
	var terms [1 << maxPlanes]uint64
	for w := range in {
		terms[0] = in[w]
		for p := range planes {
			plane := atomic.LoadUint64(&words[p*idset.Words+w])
			for k := range 1 << p {
				terms[k|1<<p] = terms[k] & plane
				terms[k] &^= plane
			}
		}
		rest := in[w]
		for _, o := range ordinals {
			live[o][w] = terms[o]
			any[o] |= terms[o]
			rest &^= terms[o]
		}
		off[w] = rest
	}
}

// splitFour is splitAny for four planes, with the terms in registers.
func splitFour(words []uint64, in, off *idset.Container, live *[1 << maxPlanes]*idset.Container, any *[1 << maxPlanes]uint64, ordinals []int) {
	planes := (*[4 * idset.Words]uint64)(words)
	for w := range in {
		a, b := atomic.LoadUint64(&planes[w]), atomic.LoadUint64(&planes[idset.Words+w])
		c, d := atomic.LoadUint64(&planes[2*idset.Words+w]), atomic.LoadUint64(&planes[3*idset.Words+w])
		k := in[w]
		low := [4]uint64{k &^ a &^ b, k & a &^ b, k & b &^ a, k & a & b}
		high := [4]uint64{^c &^ d, c &^ d, d &^ c, c & d}
		rest := k
		for _, o := range ordinals {
			term := low[o&3] & high[o>>2&3]
			live[o][w] = term
			any[o] |= term
			rest &^= term
		}
		off[w] = rest
	}
}

// card is the number of recipients online in a container.
func (v *View) card(c int) uint32 { return uint32(atomic.LoadUint64(&v.r.index[c])) }

// read calls fn with the words of a container until one call has met no writer,
// so that no reader sees an ordinal of which some planes are old and some new. If
// nobody is online there, or the writer does not finish, it calls none last.
func (v *View) read(c int, fn func(words []uint64), none func()) {
	for range patience {
		before := atomic.LoadUint64(&v.r.index[c])
		if before>>32&1 == 1 {
			runtime.Gosched()
			continue
		}
		if uint32(before) == 0 {
			break
		}
		fn(v.r.container(c))
		if atomic.LoadUint64(&v.r.index[c]) == before {
			return
		}
	}
	none()
}

// table is a copy of which incarnation has which ordinal.
type table struct {
	inc  [1 << maxPlanes]job.Incarnation
	used []int // ordinals in use, ascending
	seq  uint64
}

// stable calls fn with the table until one call has met no change of it: an
// ordinal may have got another owner meanwhile.
func (v *View) stable(fn func(*table)) {
	for {
		t := v.readTable()
		fn(t)
		if atomic.LoadUint64(&v.r.head[wordTableSeq]) == t.seq {
			return
		}
	}
}

func (v *View) readTable() *table {
	for try := 0; ; try++ {
		seq := atomic.LoadUint64(&v.r.head[wordTableSeq])
		if last := v.tables.Load(); last != nil && last.seq == seq {
			return last
		}
		t := &table{seq: seq}
		if t.seq&1 == 1 && try < patience {
			runtime.Gosched()
			continue
		}
		if t.seq&1 == 1 { // the writer died in the middle: nobody is online until it is back
			return t
		}
		for o := 1; o < 1<<v.r.planes; o++ {
			if inc := v.entry(o); !inc.IsZero() {
				t.inc[o] = inc
				t.used = append(t.used, o)
			}
		}
		if atomic.LoadUint64(&v.r.head[wordTableSeq]) == t.seq {
			v.tables.Store(t)
			return t
		}
	}
}

// entry reads which incarnation has an ordinal.
func (v *View) entry(ordinal int) job.Incarnation {
	words := v.r.head[tableAt+ordinal*entryWords:][:entryWords]
	var e [entryWords]uint64
	for i := range e {
		e[i] = atomic.LoadUint64(&words[i])
	}
	n := min(e[0]>>32, 8*(entryWords-1))
	name := unsafe.Slice((*byte)(unsafe.Pointer(&e[1])), 8*(entryWords-1))
	return job.Incarnation{Gateway: string(name[:n]), Start: uint32(e[0])}
}
