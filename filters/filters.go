// Package filters decides who of a block's recipients does not get a job: a chain
// of stages, each a file, in the order of one literal (New).
//
// Every stage works on the ids of one block as a set, a word at a time, and moves
// ids from Keep to Dropped; together they are always what came in.
package filters

import (
	"context"
	"fmt"
	"slices"

	"crier/internal/idset"
	"crier/job"
)

// Batch is the recipients of one block on their way through the chain.
type Batch struct {
	Keep    *idset.Set // who is left
	Dropped []Drop     // who was taken out, in the order of the stages
}

// Drop is who one stage took out; never empty.
type Drop struct {
	Reason job.Reason
	Set    *idset.Set
}

// Stage is one filter. Its Refuse gives who of keep it takes out, as a set of its
// caller's, and changes nothing; asked again with the same keep it answers the
// same until the lists behind it change.
type Stage interface {
	Reason() job.Reason
	Refuse(ctx context.Context, keep *idset.Set) (*idset.Set, error)
}

// Set is a big set that is read a range at a time; the caller owns what it gets.
// It is safe for concurrent use.
type Set interface {
	Range(r job.Range) (*idset.Set, error)
}

// Chain is the stages in their order.
type Chain []Stage

// Mode says what kind of job a block is of.
type Mode uint8

// The modes.
const (
	Message  Mode = iota // goes through all stages
	Withdraw             // goes through none: whoever may have seen the message is to lose it
)

// Segment is a segment at the revision that the job recorded.
type Segment struct {
	Name     string
	Revision uint64
	Set
}

// Lists is what the stages of a job read.
type Lists struct {
	Mode       Mode
	Followers  Set          // of the account, at the revision that the job recorded
	Suppressed Set          // global and the account's, as they are now
	Include    []Segment    // who is in none of them is out; none: nobody is
	Exclude    []Segment    // who is in any of them is out
	Control    ControlGroup // of the account; its zero value has nobody
	// What a home knows of who was charged: who got what is sent once, and who has had the
	// messages of the day. Without them nothing is charged.
	Marked Set
	Full   []Set
}

// New is the chain: which stages a message goes through, in which order.
func New(l Lists) Chain {
	if l.Mode == Withdraw {
		return nil
	}
	all := Chain{
		Relation{l.Followers},
		Suppression{l.Suppressed},
		Targeting{l.Include, l.Exclude},
		l.Control,
		SendOnce{l.Marked},
		Frequency{l.Full},
	}
	return slices.DeleteFunc(all, func(s Stage) bool {
		once, isOnce := s.(SendOnce)
		frequency, isFrequency := s.(Frequency)
		return isOnce && once.Marked == nil || isFrequency && len(frequency.Full) == 0
	})
}

// Recorded is the stages whose lists the job recorded, so that whoever asks them again
// gets the same answer: all but suppression, which reads its lists as they are.
func Recorded(l Lists) Chain {
	return slices.DeleteFunc(New(l), func(s Stage) bool { return s.Reason() == job.ReasonSuppressed })
}

// Run passes a block's recipients through the chain. keep becomes the batch's.
func (c Chain) Run(ctx context.Context, keep *idset.Set) (Batch, error) {
	b := Batch{Keep: keep}
	for _, stage := range c {
		out, err := stage.Refuse(ctx, b.Keep)
		if err != nil {
			return b, fmt.Errorf("filter %s: %w", stage.Reason(), err)
		}
		if out.IsEmpty() {
			out.Release()
			continue
		}
		b.Keep.AndNot(out)
		b.Dropped = append(b.Dropped, Drop{stage.Reason(), out})
	}
	return b, nil
}
