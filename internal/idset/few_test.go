package idset

import (
	"bytes"
	"maps"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"crier/job"
)

// pair is a set, and a second one of the same ids that never was a list.
type pair struct {
	set, dense *Set
	ids        map[uint32]bool
}

func drawPair(t *rapid.T, name string) pair {
	p := pair{New(7), New(7), map[uint32]bool{}}
	p.dense.spill()
	near := rapid.Uint32Range(0, 140).Draw(t, name+" from")
	for range rapid.IntRange(0, 2*fewMost).Draw(t, name+" ids") {
		// Close together, about the border between two containers, or anywhere.
		id := rapid.OneOf(rapid.Uint32Range(near, near+80), rapid.Uint32Range(65_500, 65_600), rapid.Uint32Range(0, 1<<20-1)).Draw(t, name)
		p.add(New(7).Range.Lo() + id)
	}
	return p
}

func (p pair) add(id uint32) {
	p.set.Add(id)
	p.dense.Add(id)
	p.ids[id] = true
}

func (p pair) clone() pair { return pair{p.set.Clone(), p.dense.Clone(), maps.Clone(p.ids)} }

func (p pair) check(t *rapid.T, what string) {
	want := slices.Sorted(maps.Keys(p.ids))
	if got := slices.Collect(p.set.All()); !slices.Equal(got, want) {
		t.Fatalf("%s: the set has %d, want %d", what, got, want)
	}
	if got := slices.Collect(p.dense.All()); !slices.Equal(got, want) {
		t.Fatalf("%s: the containers have %d, want %d", what, got, want)
	}
	if p.set.Card() != len(want) || p.set.IsEmpty() != (len(want) == 0) || !p.set.Equal(p.dense) || !p.dense.Equal(p.set) {
		t.Fatalf("%s: %d ids, want %d", what, p.set.Card(), len(want))
	}
	a, b := p.set.AppendTo(nil), p.dense.AppendTo(nil)
	if !bytes.Equal(a, b) {
		t.Fatalf("%s: written as %x, the containers as %x", what, a, b)
	}
	if back, n, err := Decode(a); err != nil || n != len(a) || !back.Equal(p.dense) {
		t.Fatalf("%s: %x is read as %v, %v", what, a, back, err)
	}
	for i := range Containers {
		if !maps.Equal(maps.Collect(p.set.WordsIn(i)), maps.Collect(p.dense.WordsIn(i))) || p.set.Reaches(i) && !p.dense.Reaches(i) {
			t.Fatalf("%s: the words of container %d differ", what, i)
		}
		x, y := p.set.Container(i), p.dense.Container(i)
		if (x == nil || *x == Container{}) != (y == nil || *y == Container{}) || x != nil && y != nil && *x != *y {
			t.Fatalf("%s: container %d differs", what, i)
		}
	}
	words := map[uint32]uint64{}
	for id, w := range p.set.AllWords() {
		words[id] = w
		if p.set.Word(id) != w || p.dense.Word(id) != w {
			t.Fatalf("%s: word %d", what, id)
		}
	}
	if !maps.Equal(words, maps.Collect(p.dense.AllWords())) {
		t.Fatalf("%s: words %x", what, words)
	}
}

// TestAListIsAsContainers: what a set does as a list, or as one that became containers, is what
// a map of ids says, and what containers do.
func TestAListIsAsContainers(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		a, b := drawPair(t, "a"), drawPair(t, "b")
		a.check(t, "added")
		for _, with := range []*Set{b.set, b.dense} {
			for what, op := range map[string]struct {
				do   func(*Set, *Set)
				keep func(id uint32) bool
			}{
				"and":     {(*Set).And, func(id uint32) bool { return a.ids[id] && b.ids[id] }},
				"and not": {(*Set).AndNot, func(id uint32) bool { return a.ids[id] && !b.ids[id] }},
				"or":      {(*Set).Or, func(uint32) bool { return true }},
			} {
				c := a.clone()
				op.do(c.set, with)
				op.do(c.dense, with)
				maps.Copy(c.ids, b.ids)
				maps.DeleteFunc(c.ids, func(id uint32, _ bool) bool { return !op.keep(id) })
				c.check(t, what)
			}
			shared := slices.ContainsFunc(slices.Collect(maps.Keys(a.ids)), func(id uint32) bool { return b.ids[id] })
			if a.set.Intersects(with) != shared || a.dense.Intersects(with) != shared {
				t.Fatalf("they share ids: %v", shared)
			}
		}
		b.check(t, "only read")
		span := job.Span{Lo: uint64(a.set.Range.Lo()) + rapid.Uint64Range(0, 200).Draw(t, "lo")}
		span.Hi = span.Lo + rapid.Uint64Range(0, 1<<20).Draw(t, "length")
		c := a.clone()
		c.set.KeepSpan(span)
		c.dense.KeepSpan(span)
		maps.DeleteFunc(c.ids, func(id uint32, _ bool) bool { return uint64(id) < span.Lo || uint64(id) >= span.Hi })
		c.check(t, "kept of a span")
		n := rapid.IntRange(1, 10).Draw(t, "most")
		if x, y := c.set.Cut(span.Lo, span.Hi, n), c.dense.Cut(span.Lo, span.Hi, n); x != y {
			t.Fatalf("cut for %d at %d, the containers at %d", n, x, y)
		}
		for id := range maps.Clone(a.ids) {
			if rapid.Bool().Draw(t, "remove") {
				a.set.Remove(id)
				a.dense.Remove(id)
				delete(a.ids, id)
			}
			if a.set.Has(id) != a.ids[id] {
				t.Fatalf("has %d: %v", id, !a.ids[id])
			}
		}
		a.check(t, "removed")
		i := rapid.IntRange(0, Containers-1).Draw(t, "container")
		a.set.Drop(i)
		a.dense.Drop(i)
		maps.DeleteFunc(a.ids, func(id uint32, _ bool) bool { return int(id>>16)%Containers == i })
		a.check(t, "dropped")
		id := a.set.Range.Lo() + rapid.Uint32Range(0, 1<<14-1).Draw(t, "word")*64
		word := rapid.Uint64().Draw(t, "bits")
		a.set.AddWord(id, word)
		a.dense.AddWord(id, word)
		for k := range uint32(64) {
			if word>>k&1 == 1 {
				a.ids[id+k] = true
			}
		}
		a.check(t, "a word added")
		a.set.AddSpan(span)
		a.dense.AddSpan(span)
		if !a.set.Equal(a.dense) {
			t.Fatal("a span added")
		}
	})
}
