package wire

import (
	"encoding/json"
	"fmt"
)

// MaxFrame bounds an encoded message.
const MaxFrame = 1 << 20

// Encode writes a message as JSON: it can be read in a capture, and unknown fields of
// a later version do no harm.
func Encode(m *Message) ([]byte, error) {
	b, err := json.Marshal(m)
	if err != nil {
		return nil, fmt.Errorf("encoding a message: %w", err)
	}
	if len(b) > MaxFrame {
		return nil, fmt.Errorf("encoding a message: %d bytes, more than %d", len(b), MaxFrame)
	}
	return b, nil
}

// Decode reads what Encode wrote, or anything else that came from outside, and checks
// it.
func Decode(b []byte) (*Message, error) {
	if len(b) > MaxFrame {
		return nil, fmt.Errorf("decoding a message: %d bytes, more than %d", len(b), MaxFrame)
	}
	m := &Message{}
	if err := json.Unmarshal(b, m); err != nil {
		return nil, fmt.Errorf("decoding a message: %w", err)
	}
	return m, m.Validate()
}
