package home

import "crier/internal/idset"

// admitMost is how many recipients one pass looks at, unless a single container has more:
// in a storm of logins passes are about a container each, in the order of the ids, so that
// what a pass reads lies together and takes memory of one container a job.
const admitMost = 256

// listed is up to how many recipients a pass has them as a list, which costs less than a container.
const listed = 16

// admit takes out of who those whom the next pass is about: whole containers from the
// given one on, around the end if need be, until there are most recipients or nobody is
// left. It gives where the pass after it begins.
func admit(who *idset.Set, from, most int) (now *idset.Set, next int) {
	now = idset.New(who.Range)
	if few, ok := who.Few(); ok && len(few) <= most {
		now.Or(who)
		who.Release()
		return now, from
	}
	n := 0
	for i := range idset.Containers {
		at := (from + i) % idset.Containers
		c := who.Container(at)
		if c == nil {
			continue
		}
		if n > 0 && n+c.Card() > most {
			return now, at
		}
		if n += c.Card(); n <= listed {
			first := who.Range.Lo() + uint32(at)<<idset.ContainerBits
			for w, word := range who.WordsIn(at) {
				now.AddWord(first+uint32(w)<<6, word)
			}
		} else {
			*now.Ensure(at) = *c
		}
		who.Drop(at)
	}
	who.Release() // what comes next may be a list again
	return now, from
}
