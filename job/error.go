package job

import (
	"errors"
	"fmt"
	"net"
	"time"
)

// Code classes an error for the edge: the HTTP status and the exit code follow
// from it.
type Code string

// The codes. An error without one is internal.
const (
	CodeInvalid     Code = "invalid"      // bad input; nothing was done
	CodeNotFound    Code = "not_found"    // no such object
	CodeConflict    Code = "conflict"     // it exists already, or its state forbids this
	CodeDenied      Code = "denied"       // no key, or one without this right
	CodeTooLarge    Code = "too_large"    // over a written limit
	CodeUnavailable Code = "unavailable"  // try again later
	CodeFull        Code = "storage_full" // a store is at its limit
	CodeLimited     Code = "limited"      // a tenant's limit; try again later
)

// Error is an error that a user sees: what was being done to what, why it did
// not happen, and which field of the input is to blame, if one is.
type Error struct {
	Code    Code
	Message string
	Field   string // empty unless one input field is at fault
	Err     error  // cause, for logs; may be nil
	// After is when to try again, of what may succeed later; 0: nothing is known of that.
	After time.Duration
}

// Error writes the message and its cause.
func (e *Error) Error() string {
	if e.Err != nil {
		return e.Message + ": " + e.Err.Error()
	}
	return e.Message
}

// Unwrap gives the cause.
func (e *Error) Unwrap() error { return e.Err }

// CodeOf finds the code in a chain of errors; "" means internal.
func CodeOf(err error) Code {
	var e *Error
	if errors.As(err, &e) {
		return e.Code
	}
	return ""
}

// Invalid makes an error about an input field; cause may be nil.
func Invalid(field, message string, cause error) error {
	return &Error{Code: CodeInvalid, Field: field, Message: message, Err: cause}
}

// NotFound makes an error about an object that does not exist.
func NotFound(message string) error { return &Error{Code: CodeNotFound, Message: message} }

// Unavailable makes an error of something that cannot be done now, or not here.
func Unavailable(message string) error { return &Error{Code: CodeUnavailable, Message: message} }

// Unreachable says what was being done when an error came: if that is one of the network,
// such as a refused connection, the same may succeed later.
func Unreachable(doing string, err error) error {
	var network net.Error
	if errors.As(err, &network) {
		return &Error{Code: CodeUnavailable, Message: doing, Err: err}
	}
	return fmt.Errorf("%s: %w", doing, err)
}

// Conflict makes an error about an object whose state forbids the request.
func Conflict(message string) error { return &Error{Code: CodeConflict, Message: message} }
