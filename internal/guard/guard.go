// Package guard lets one piece of work break without whoever does it: a panic in it
// becomes an error, so that what is broken can be counted and set aside.
//
// It is for work on something that came from outside and changes nothing that others
// share until it is done: what such work leaves half done is thrown away with it. It
// cannot hold what ends the process at once, such as a lack of memory.
package guard

import (
	"errors"
	"fmt"
	"runtime/debug"
)

// Broken says that what was worked on broke the work.
type Broken struct {
	What  string // in words
	Stack string // where; "" if it broke elsewhere
}

// Error is what broke, without the stack.
func (e *Broken) Error() string { return e.What }

// Run calls fn and gives its error, or a *Broken if it panics.
func Run(fn func() error) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = &Broken{What: fmt.Sprintf("panic: %v", p), Stack: string(debug.Stack())}
		}
	}()
	return fn()
}

// Of finds what broke in an error; nil if nothing did.
func Of(err error) *Broken {
	var b *Broken
	if errors.As(err, &b) {
		return b
	}
	return nil
}
