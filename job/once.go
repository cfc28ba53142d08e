package job

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"time"
)

// DefaultOnceWindow is for how long what is sent once is not sent again.
const DefaultOnceWindow = 30 * 24 * time.Hour

// SendOnce says that whoever got what a key stands for gets nothing more under it, from
// this job or another.
type SendOnce struct {
	Key    OnceKey       `json:"key"`
	Window time.Duration `json:"window"` // from when a recipient is charged; rounded up to whole hours
}

// OnceKey stands for what a recipient gets once: 16 bytes of a SHA-256.
type OnceKey [16]byte

// KeyOnce makes the key of a text that a submitter chose, or, without one, of a content.
// With an account it stands for something else in each; account 0 is all of them.
func KeyOnce(account uint32, text string, content Digest) OnceKey {
	what := fmt.Sprintf("%d key %s", account, text)
	if text == "" {
		what = fmt.Sprintf("%d content %s", account, content)
	}
	sum := sha256.Sum256([]byte(what))
	return OnceKey(sum[:16])
}

// IsZero reports whether it stands for nothing.
func (k OnceKey) IsZero() bool { return k == OnceKey{} }

// String writes the key in hexadecimal.
func (k OnceKey) String() string { return hex.EncodeToString(k[:]) }

// MarshalText writes what String writes.
func (k OnceKey) MarshalText() ([]byte, error) { return []byte(k.String()), nil }

// UnmarshalText reads what MarshalText writes.
func (k *OnceKey) UnmarshalText(text []byte) error {
	b, err := hex.DecodeString(string(text))
	if err != nil || len(b) != len(k) {
		return fmt.Errorf("send-once key %q: want %d hexadecimal characters", text, 2*len(k))
	}
	copy(k[:], b)
	return nil
}
