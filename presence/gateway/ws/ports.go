package ws

import (
	"context"

	"crier/internal/bus"
	"crier/job"
	"crier/presence/gateway"
)

// Bus carries hand-offs, fences, reports and announcements. A message may be lost;
// whoever needs its effect repeats it. bus.Bus is one.
type Bus interface {
	// Publish sends a message; a nil error does not say that anybody got it.
	Publish(subject string, data []byte) error
	// Request sends a message and waits for the first answer until ctx ends. Not
	// idempotent in itself: the receiver makes it so.
	Request(ctx context.Context, subject string, data []byte) ([]byte, error)
	// Subscribe calls fn for each message, one after the other in the order sent.
	Subscribe(pattern string, fn func(bus.Msg)) (bus.Subscription, error)
}

// Homes finds who is home to a range. It may lag.
type Homes interface {
	// Home is the worker that is home to a range, "" if nobody is known to be.
	Home(r job.Range) string
}

// Verifier tells who a recipient's token belongs to. Idempotent. An error with
// job.CodeUnavailable means that it cannot tell now; any other, that the token is
// not valid.
type Verifier interface {
	VerifyRecipient(token string) (job.Recipient, error)
}

// Accepted is the accepted-file of this incarnation, used by one goroutine.
// accepted.Files is one.
type Accepted interface {
	// Append writes a record; on an error nothing of it is there. Not idempotent.
	Append(r gateway.Record) error
	// Mark notes an acknowledgement. Idempotent.
	Mark(ref job.Ref, rank uint32)
	// Free drops a record of this incarnation or an earlier one. Idempotent.
	Free(start uint32, ref job.Ref) error
}
