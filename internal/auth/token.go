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

// A token is 60 characters of URL-safe base 64, which are 45 bytes; of a recipient that was
// erased before, 68 and 51:
//
//	0   version: 1, or 2 with the field after the expiry
//	1   number of the key, 2, big-endian like the rest
//	3   recipient, 4
//	7   expiry in Unix seconds, 6
//	13  version 2: the record by which the recipient was erased last, 6
//	13  or 19  HMAC-SHA256 of tokenPurpose and the bytes before, 32
const (
	tokenPlain   = 1
	tokenErased  = 2
	tokenChars   = 68 // at most
	tokenPurpose = "crier recipient token\x00"
)

// tokenSigned is how many bytes of a token of a version are signed.
var tokenSigned = map[byte]int{tokenPlain: 13, tokenErased: 19}

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
	at, erased := k.now().Add(ttl).Unix(), k.erased(r)
	b := []byte{tokenPlain}
	if erased > 0 {
		b[0] = tokenErased
	}
	b = binary.BigEndian.AppendUint16(b, k.ring.Current)
	b = binary.BigEndian.AppendUint32(b, uint32(r))
	b = append48(b, uint64(at))
	if erased > 0 {
		b = append48(b, erased)
	}
	b = append(b, sign(k.ring.secret(k.ring.Current), b)...)
	return base64.RawURLEncoding.EncodeToString(b), time.Unix(at, 0).UTC(), nil
}

// VerifyRecipient tells whose token this is. Its errors are denied.
func (k *Keys) VerifyRecipient(token string) (job.Recipient, error) {
	denied := &job.Error{Code: job.CodeDenied, Message: "this is not a valid token of a recipient"}
	if len(token) > tokenChars {
		return 0, denied
	}
	b, err := base64.RawURLEncoding.DecodeString(token)
	if err != nil || len(b) == 0 || base64.RawURLEncoding.EncodedLen(len(b)) != len(token) { // longer if new lines are in it
		return 0, denied
	}
	signed, known := tokenSigned[b[0]]
	if !known || len(b) != signed+sha256.Size {
		return 0, denied
	}
	secret := k.ring.secret(binary.BigEndian.Uint16(b[1:]))
	if secret == nil || !hmac.Equal(b[signed:], sign(secret, b[:signed])) {
		return 0, denied
	}
	if k.now().Unix() >= int64(uint48(b[7:])) {
		return 0, &job.Error{Code: job.CodeDenied, Message: "the token has expired; mint a new one"}
	}
	who, after := job.Recipient(binary.BigEndian.Uint32(b[3:])), uint64(0)
	if b[0] == tokenErased {
		after = uint48(b[13:])
	}
	if k.erased(who) > after {
		return 0, &job.Error{Code: job.CodeDenied, Message: "the recipient was erased after the token was made; mint a new one"}
	}
	return who, nil
}

// append48 appends the low 48 bits of a number.
func append48(b []byte, v uint64) []byte {
	return binary.BigEndian.AppendUint32(binary.BigEndian.AppendUint16(b, uint16(v>>32)), uint32(v))
}

func uint48(b []byte) uint64 {
	return uint64(binary.BigEndian.Uint16(b))<<32 | uint64(binary.BigEndian.Uint32(b[2:]))
}

func sign(secret, data []byte) []byte {
	mac := hmac.New(sha256.New, secret)
	_, _ = mac.Write([]byte(tokenPurpose)) // never returns an error
	_, _ = mac.Write(data)
	return mac.Sum(nil)
}
