// Package bus is the seam for messages between processes: publish, request and
// subscribe. It imports no driver, so that workers, gateways and schedulers do
// not either.
//
// A message is delivered at most once. Whoever needs its effect repeats it until
// the effect shows: nothing here is a record of completion. Messages of one
// sender reach one subscription in the order sent; a gap is possible (a cut, a
// subscriber too slow), a swap or a repeat is not.
//
// natsbus is the adapter for NATS, embedded or remote; Memory is the twin for
// tests; bustest holds both to the same behaviour.
package bus

import (
	"context"
	"errors"
	"time"
)

// MaxData is the most bytes one message carries.
const MaxData = 8<<20 - 64<<10

// Errors of a Bus. Any error may be wrapped.
var (
	// ErrNoResponders: nobody subscribes to the subject; the request was not
	// delivered to anyone.
	ErrNoResponders = errors.New("bus: nobody listens there")
	// ErrNoAnswer: no answer came in time; the message may have had its effect.
	ErrNoAnswer = errors.New("bus: no answer in time")
	// ErrCut: there is no server to send it to at this moment; nothing was sent.
	ErrCut = errors.New("bus: no server is reached; see whether those in nats.servers run")
	// ErrNoReply: the message was published, not asked; there is nobody to answer.
	ErrNoReply = errors.New("bus: the message wants no reply")
	// ErrTooLarge: the data is over MaxData; nothing was sent.
	ErrTooLarge = errors.New("bus: message too large")
	// ErrSubject: the subject is malformed, or has wildcards where none may be.
	ErrSubject = errors.New("bus: bad subject")
)

// Bus sends and receives messages. All methods are safe for concurrent use.
type Bus interface {
	// Publish hands a message over for sending. A nil error does not say that
	// anybody got it. While there is no connection it fails at once: nothing is
	// kept to be sent later. data may be changed after it returns.
	Publish(subject string, data []byte) error
	// Request sends a message and waits for the first answer. It gives
	// ErrNoResponders at once when nobody subscribes, and ctx's error when ctx
	// ends first; the message may then have had its effect. The caller owns the
	// answer. It is not idempotent: the receiver makes it so.
	Request(ctx context.Context, subject string, data []byte) ([]byte, error)
	// Ask is a Request that does not wait: it sends in the order of the calls. Unless
	// it gives an error, it calls done once: with the first answer, answers in the order
	// in which they come in, one after the other; or with ErrNoResponders, or with
	// ErrNoAnswer after patience or once the connection is another, for the answer goes
	// to the one that was lost. done must not block for long.
	Ask(q Question, done func(answer []byte, err error)) error
	// Subscribe calls fn for each message that matches pattern, one after the
	// other. All that is published after it returned is received, until Unsubscribe;
	// what is published at another server of a cluster, once that has heard of it, a
	// moment later. fn may block: what waits meanwhile is bounded, beyond that it
	// is dropped and logged. fn may use the Bus, and may keep the message.
	Subscribe(pattern string, fn func(Msg)) (Subscription, error)
}

// Question is a message that wants an answer.
type Question struct {
	Subject  string
	Data     []byte        // may be changed after it is sent
	Patience time.Duration // how long the answer may take
}

// Subscription is one interest in a pattern.
type Subscription interface {
	// Unsubscribe ends it; what still waits is dropped. A call of fn under way
	// may still be running when it returns. It is idempotent.
	Unsubscribe() error
}

// Msg is a received message. Its receiver owns Data.
type Msg struct {
	Subject string
	Data    []byte
	answer  func(data []byte) error // nil: no reply is wanted
}

// NewMsg makes a message; an adapter calls it, and a test of a handler. answer
// sends the reply; it is nil if none is wanted.
func NewMsg(subject string, data []byte, answer func([]byte) error) Msg {
	return Msg{Subject: subject, Data: data, answer: answer}
}

// WantsReply reports whether the sender waits for an answer.
func (m Msg) WantsReply() bool { return m.answer != nil }

// Respond answers a request; only the first answer of all that its subscribers
// give reaches the sender. It gives ErrNoReply if none is wanted.
func (m Msg) Respond(data []byte) error {
	if m.answer == nil {
		return ErrNoReply
	}
	return m.answer(data)
}
