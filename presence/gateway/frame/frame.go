// Package frame holds what a gateway and its clients say to each other: JSON
// objects, one a WebSocket text message. PROTOCOL.md in presence/gateway is their
// description; this is their form in Go, for both sides.
//
// Fields and types that a side does not know are ignored by it. What it knows must
// be well formed: valid UTF-8, no name twice, ids that parse, lists within limits.
package frame

import (
	"errors"
	"fmt"
	"time"

	"github.com/go-json-experiment/json"

	"crier/job"
)

// Type says what a frame is.
type Type string

// The types.
const (
	Hello    Type = "hello"    // client: who it is and what it has; gateway: that it is connected
	Message  Type = "message"  // gateway: one message
	Ack      Type = "ack"      // client: it has these
	Settled  Type = "settled"  // gateway: it may forget these
	Withdraw Type = "withdraw" // gateway: these are recalled
	Redirect Type = "redirect" // gateway: connect there
	Error    Type = "error"    // gateway: a frame was not understood
)

// Limits of what a client sends.
const (
	MaxBytes  = 32 << 10 // of a frame
	MaxIDs    = 256      // of an ack, and of have
	MaxClient = 128      // bytes of a client id
)

// Client is a frame from a client: a hello or an ack.
type Client struct {
	Type   Type      `json:"type"`
	Client string    `json:"client,omitzero"` // hello: the client id
	Have   *[]job.ID `json:"have,omitzero"`   // hello: all unsettled ids; nil if the client does not say
	IDs    []job.ID  `json:"ids,omitzero"`    // ack
}

// Server is a frame from a gateway; which fields are set depends on Type.
type Server struct {
	Type        Type      `json:"type"`
	ID          job.ID    `json:"id,omitzero"`
	Job         job.ID    `json:"job,omitzero"`
	Account     string    `json:"account,omitzero"`
	Body        *string   `json:"body,omitzero"`
	SentAt      time.Time `json:"sent_at,omitzero"`
	DisplayAt   time.Time `json:"display_at,omitzero"`
	ExpiresAt   time.Time `json:"expires_at,omitzero"`
	CollapseKey string    `json:"collapse_key,omitzero"`
	Order       int64     `json:"order,omitzero"`
	IDs         []job.ID  `json:"ids,omitzero"`       // settled, withdraw
	URL         string    `json:"url,omitzero"`       // redirect
	Code        string    `json:"code,omitzero"`      // error
	Detail      string    `json:"message,omitzero"`   // error
	Gateway     string    `json:"gateway,omitzero"`   // hello
	Recipient   *uint32   `json:"recipient,omitzero"` // hello
	Window      int       `json:"window,omitzero"`    // hello
	ServerTime  time.Time `json:"server_time,omitzero"`
}

// ErrFrame is wrapped by every error about a malformed frame.
var ErrFrame = errors.New("malformed frame")

// Bytes encodes a frame of a client.
func (f *Client) Bytes() ([]byte, error) { return encode(f, f.Type) }

// Bytes encodes a frame of a gateway.
func (f *Server) Bytes() ([]byte, error) { return encode(f, f.Type) }

func encode(f any, t Type) ([]byte, error) {
	b, err := json.Marshal(f)
	if err != nil {
		return nil, fmt.Errorf("writing a %s frame: %w", t, err)
	}
	return b, nil
}

// ParseClient reads a frame of a client and holds it to the limits.
func ParseClient(b []byte) (*Client, error) {
	f := &Client{}
	if err := json.Unmarshal(b, f); err != nil {
		return nil, notJSON(err)
	}
	switch {
	case f.Type == "":
		return nil, fmt.Errorf("%w: it has no type", ErrFrame)
	case len(f.Client) > MaxClient:
		return nil, fmt.Errorf("%w: the client id has %d bytes, at most %d are allowed", ErrFrame, len(f.Client), MaxClient)
	case f.Have != nil && len(*f.Have) > MaxIDs:
		return nil, fmt.Errorf("%w: have lists %d ids, at most %d are allowed", ErrFrame, len(*f.Have), MaxIDs)
	case len(f.IDs) > MaxIDs:
		return nil, fmt.Errorf("%w: ids lists %d, at most %d are allowed", ErrFrame, len(f.IDs), MaxIDs)
	}
	return f, nil
}

// ParseServer reads a frame of a gateway.
func ParseServer(b []byte) (*Server, error) {
	f := &Server{}
	if err := json.Unmarshal(b, f); err != nil {
		return nil, notJSON(err)
	}
	switch {
	case f.Type == "":
		return nil, fmt.Errorf("%w: it has no type", ErrFrame)
	case f.Type == Message && (f.ID.IsZero() || f.Body == nil):
		return nil, fmt.Errorf("%w: a message without id or body", ErrFrame)
	case f.Type == Redirect && f.URL == "":
		return nil, fmt.Errorf("%w: a redirect without url", ErrFrame)
	}
	return f, nil
}

// notJSON says where a frame is wrong, in words for who wrote the other side.
func notJSON(err error) error {
	var semantic *json.SemanticError
	if errors.As(err, &semantic) && semantic.JSONPointer != "" {
		return fmt.Errorf("%w: a wrong value at %s", ErrFrame, semantic.JSONPointer)
	}
	return fmt.Errorf("%w: not a JSON object of this protocol", ErrFrame)
}
