package charge

import (
	"errors"
	"fmt"

	"crier/internal/bin"
	"crier/internal/idset"
	"crier/job"
)

// planes are the counters of one container's recipients, as the bits of binary numbers:
// bit i of somebody's counter stands in plane i. They are added to and compared a word,
// that is 64 counters, at a time.
type planes []*idset.Container

// maxPlanes bounds a counter: 65,535.
const maxPlanes = 16

// add counts everybody in c once more.
func (p *planes) add(c *idset.Container) error {
	carry := *c
	for i := 0; ; i++ {
		if i == len(*p) {
			if carry == (idset.Container{}) {
				return nil
			}
			if i == maxPlanes {
				return errors.New("a counter is over 65535")
			}
			*p = append(*p, idset.GetContainer())
		}
		plane, more := (*p)[i], uint64(0)
		for w := range plane {
			plane[w], carry[w] = plane[w]^carry[w], plane[w]&carry[w]
			more |= carry[w]
		}
		if more == 0 {
			return nil
		}
	}
}

// sub counts everybody in c once less; all of them must have been counted.
func (p *planes) sub(c *idset.Container) error {
	borrow := *c
	for _, plane := range *p {
		for w := range plane {
			plane[w], borrow[w] = plane[w]^borrow[w], ^plane[w]&borrow[w]
		}
	}
	if borrow != (idset.Container{}) {
		return errors.New("somebody would be charged less than nothing")
	}
	p.trim()
	return nil
}

// forget makes one counter 0.
func (p *planes) forget(who job.Recipient) {
	for _, plane := range *p {
		plane[who>>6&(idset.Words-1)] &^= 1 << (who & 63)
	}
	p.trim()
}

// trim drops the highest planes that are empty.
func (p *planes) trim() {
	for n := len(*p); n > 0 && *(*p)[n-1] == (idset.Container{}); n-- {
		idset.PutContainer((*p)[n-1])
		*p = (*p)[:n-1]
	}
}

// atLeast puts into out everybody whose counter is n or more; n is at least 1.
func (p planes) atLeast(n int, out *idset.Container) {
	if n>>len(p) != 0 {
		return
	}
	for w := range out {
		over, equal := uint64(0), ^uint64(0)
		for i := len(p) - 1; i >= 0; i-- {
			if n>>i&1 == 1 {
				equal &= p[i][w]
			} else {
				over |= equal & p[i][w]
				equal &^= p[i][w]
			}
		}
		out[w] |= over | equal
	}
}

// of is one counter.
func (p planes) of(who job.Recipient) (n int) {
	for i, plane := range p {
		n |= int(plane[who>>6&(idset.Words-1)]>>(who&63)&1) << i
	}
	return n
}

func (p planes) release() {
	for _, plane := range p {
		idset.PutContainer(plane)
	}
}

// bytes writes the planes of the i-th container of a range.
func (p planes) bytes(r job.Range, i int) []byte {
	var w bin.Writer
	w.Uint(uint64(len(p)))
	for _, plane := range p {
		s := idset.New(r)
		*s.Ensure(i) = *plane
		w.Set(s)
		s.Release()
	}
	return w.B
}

func parsePlanes(b []byte, r job.Range, i int) (planes, error) {
	rd := bin.NewReader(b)
	var p planes
	for range rd.Max(maxPlanes) {
		s, c := rd.Set(), idset.GetContainer()
		if from := s.Container(i); from != nil && s.Range == r {
			*c = *from
		}
		s.Release()
		p = append(p, c)
	}
	if err := rd.Err(true); err != nil {
		p.release()
		return nil, fmt.Errorf("reading counters: %w", err)
	}
	return p, nil
}
