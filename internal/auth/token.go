package auth

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"time"

	"crier/job"
)

// A token is 60 characters of URL-safe base 64, which are 45 bytes:
//
//	0   version, 1
//	1   number of the key, 2, big-endian like the rest
//	3   recipient, 4
//	7   expiry in Unix seconds, 6
//	13  HMAC-SHA256 of tokenPurpose and the 13 bytes before, 32
const (
	tokenVersion = 1
	tokenSigned  = 13
	tokenBytes   = tokenSigned + sha256.Size
	tokenChars   = tokenBytes / 3 * 4
	tokenPurpose = "crier recipient token\x00"
)

// ring is the file of keys that sign tokens. Current signs; all of them verify,
// so that a key can be replaced without ending the tokens of the one before.
type ring struct {
	Current uint16    `json:"current"`
	Keys    []ringKey `json:"keys"`
}

type ringKey struct {
	ID  uint16 `json:"id"`
	Key []byte `json:"key"`
}

// secret gives the key of a number, nil if there is none.
func (r ring) secret(id uint16) []byte {
	for _, k := range r.Keys {
		if k.ID == id {
			return k.Key
		}
	}
	return nil
}

func (r ring) validate() error {
	seen := map[uint16]bool{}
	for _, k := range r.Keys {
		if len(k.Key) != keyBytes || seen[k.ID] {
			return fmt.Errorf("key %d is not %d bytes long or there twice", k.ID, keyBytes)
		}
		seen[k.ID] = true
	}
	if !seen[r.Current] {
		return fmt.Errorf("the current key %d is not among the keys", r.Current)
	}
	return nil
}

// openRing reads the file of keys and makes it with one key if it is not there.
func openRing(path string, random io.Reader) (ring, error) {
	data, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		r := ring{Current: 1, Keys: []ringKey{{ID: 1, Key: make([]byte, keyBytes)}}}
		if _, err := io.ReadFull(random, r.Keys[0].Key); err != nil {
			return r, fmt.Errorf("make the key of recipients' tokens: %w", err)
		}
		data, err := json.Marshal(r)
		if err != nil {
			return r, fmt.Errorf("write the key of recipients' tokens: %w", err)
		}
		if err := writeWhole(path, append(data, '\n')); err != nil {
			return r, fmt.Errorf("write the key of recipients' tokens: %w", err)
		}
		return r, nil
	}
	if err != nil {
		return ring{}, fmt.Errorf("read the keys of recipients' tokens: %w", err)
	}
	var r ring
	if err := json.Unmarshal(data, &r); err != nil {
		return ring{}, fmt.Errorf("read %s: %w", path, err)
	}
	if err := r.validate(); err != nil {
		return ring{}, fmt.Errorf("read %s: %w", path, err)
	}
	return r, nil
}

// Mint makes a token for a recipient. It is good until expires, which is in whole
// seconds.
func (k *Keys) Mint(r job.Recipient, ttl time.Duration) (token string, expires time.Time, err error) {
	if ttl < time.Second || ttl > job.MaxTTL {
		return "", time.Time{}, job.Invalid("ttl", fmt.Sprintf("a token is good for at least 1s and at most %d days", job.MaxTTL/(24*time.Hour)), nil)
	}
	at := k.now().Add(ttl).Unix()
	var b [tokenBytes]byte
	b[0] = tokenVersion
	binary.BigEndian.PutUint16(b[1:], k.ring.Current)
	binary.BigEndian.PutUint32(b[3:], uint32(r))
	binary.BigEndian.PutUint16(b[7:], uint16(at>>32))
	binary.BigEndian.PutUint32(b[9:], uint32(at))
	copy(b[tokenSigned:], sign(k.ring.secret(k.ring.Current), b[:tokenSigned]))
	return base64.RawURLEncoding.EncodeToString(b[:]), time.Unix(at, 0).UTC(), nil
}

// VerifyRecipient tells whose token this is. Its errors are denied.
func (k *Keys) VerifyRecipient(token string) (job.Recipient, error) {
	denied := &job.Error{Code: job.CodeDenied, Message: "this is not a valid token of a recipient"}
	if len(token) != tokenChars {
		return 0, denied
	}
	b, err := base64.RawURLEncoding.DecodeString(token)
	if err != nil || len(b) != tokenBytes || b[0] != tokenVersion { // shorter if new lines were in it
		return 0, denied
	}
	secret := k.ring.secret(binary.BigEndian.Uint16(b[1:]))
	if secret == nil || !hmac.Equal(b[tokenSigned:], sign(secret, b[:tokenSigned])) {
		return 0, denied
	}
	at := int64(binary.BigEndian.Uint16(b[7:]))<<32 | int64(binary.BigEndian.Uint32(b[9:]))
	if k.now().Unix() >= at {
		return 0, &job.Error{Code: job.CodeDenied, Message: "the token has expired; mint a new one"}
	}
	return job.Recipient(binary.BigEndian.Uint32(b[3:])), nil
}

func sign(secret, data []byte) []byte {
	mac := hmac.New(sha256.New, secret)
	_, _ = mac.Write([]byte(tokenPurpose)) // never returns an error
	_, _ = mac.Write(data)
	return mac.Sum(nil)
}
