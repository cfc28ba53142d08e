package auth

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"io"
	"os"
	"path/filepath"
	"strings"

	"crier/job"
)

// A key is a prefix and 48 characters of URL-safe base 64: 32 random bytes and their
// CRC-32, which tells a mistyped key from a wrong one. The prefix tells people and
// scanners of sources what they have found.
const (
	keyPrefix = "crier_" // of the admin key
	apiPrefix = "crk_"   // of keys that are made with the API
	keyBytes  = 32
	keyChars  = (keyBytes + crc32.Size) / 3 * 4
)

// NewKey makes a key for the API.
func NewKey(random io.Reader) (string, error) { return newKey(random, apiPrefix) }

// IsKey reports whether text has the form of a key for the API, checksum included.
func IsKey(text string) bool { return validForm(text, apiPrefix) }

// HashKey is what is stored of a key, and looked for.
func HashKey(key string) job.Digest { return sha256.Sum256([]byte(key)) }

func newKey(random io.Reader, prefix string) (string, error) {
	var b [keyBytes + crc32.Size]byte
	if _, err := io.ReadFull(random, b[:keyBytes]); err != nil {
		return "", err
	}
	binary.BigEndian.PutUint32(b[keyBytes:], crc32.ChecksumIEEE(b[:keyBytes]))
	return prefix + base64.RawURLEncoding.EncodeToString(b[:]), nil
}

// validForm checks the prefix, the length and the checksum.
func validForm(key, prefix string) bool {
	text, ok := strings.CutPrefix(key, prefix)
	if !ok || len(text) != keyChars {
		return false
	}
	b, err := base64.RawURLEncoding.Strict().DecodeString(text)
	return err == nil && len(b) == keyBytes+crc32.Size &&
		binary.BigEndian.Uint32(b[keyBytes:]) == crc32.ChecksumIEEE(b[:keyBytes])
}

// writeWhole makes a file that only its owner can read, whole or not at all.
func writeWhole(path string, data []byte) error {
	f, err := os.CreateTemp(filepath.Dir(path), filepath.Base(path)+".*.tmp") // 0600
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	if err == nil {
		err = f.Sync()
	}
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	if err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		_ = os.Remove(f.Name()) // the first error is the one to tell
		return err
	}
	return syncDir(filepath.Dir(path))
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer d.Close() // only read
	if err := d.Sync(); err != nil {
		return fmt.Errorf("make the entries of %s durable: %w", dir, err)
	}
	return nil
}
