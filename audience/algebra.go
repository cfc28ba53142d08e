package audience

import (
	"context"
	"errors"

	"crier/internal/idset"
	"crier/job"
)

// Step is one step of set algebra on the ids of a package that is being built.
type Step struct {
	Minus bool // the ids of Set are taken out; otherwise all others are
	Set   Ranged
}

// algebra applies steps to containers, which come in ascending order. It holds one range
// (128 KiB) of each step's set.
type algebra struct {
	steps []Step
	parts []*idset.Set // of the range under way; nil before the first
}

func newAlgebra(steps []Step) *algebra {
	return &algebra{steps: steps, parts: make([]*idset.Set, len(steps))}
}

// apply changes a container to what the steps leave of it.
func (a *algebra) apply(key uint16, part *idset.Container) error {
	r := job.Range(key / idset.Containers)
	for i, s := range a.steps {
		if a.parts[i] == nil || a.parts[i].Range != r {
			a.parts[i].Release()
			a.parts[i] = nil
			var err error
			if a.parts[i], err = s.Set.Range(r); err != nil {
				return err
			}
		}
		of := a.parts[i].Container(int(key % idset.Containers))
		switch {
		case of == nil && s.Minus:
		case of == nil:
			clear(part[:])
		case s.Minus:
			for w := range part {
				part[w] &^= of[w]
			}
		default:
			for w := range part {
				part[w] &= of[w]
			}
		}
	}
	return nil
}

func (a *algebra) release() {
	for _, p := range a.parts {
		p.Release()
	}
}

// Operand is a step as it is asked for: a package file.
type Operand struct {
	Minus bool
	Path  string
}

// OpenSteps opens and verifies the package files of steps; close frees them.
func OpenSteps(ctx context.Context, operands []Operand) (steps []Step, close func() error, err error) {
	var sets []*Set
	close = func() (err error) {
		for _, s := range sets {
			err = errors.Join(err, s.Close())
		}
		return err
	}
	for _, o := range operands {
		s, err := openVerified(ctx, o.Path)
		if err != nil {
			return nil, nil, errors.Join(err, close())
		}
		sets, steps = append(sets, s), append(steps, Step{o.Minus, s})
	}
	return steps, close, nil
}
