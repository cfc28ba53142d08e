// Package auth makes keys, and checks the two kinds that need no store: the admin key,
// with which one may do everything, and recipients' tokens, with which they connect.
// Which of the other keys are in force, internal/authority knows.
//
// It guarantees: keys are made once for a data directory and survive a crash at
// any moment of it, whole or not at all; of the admin key the server needs only
// the SHA-256; every other string than a key that was given out, a mutation of a
// single character included, is refused; a comparison takes the same time whatever
// it is given.
package auth

import (
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"crier/job"
)

// The files in the directory "keys" of the data directory.
const (
	dirName       = "keys"
	adminFile     = "admin.key"    // the key itself, for the command line on this machine; may be deleted
	adminHashFile = "admin.sha256" // what the server checks against
	recipientFile = "recipient.json"
)

// Config says where the keys are. Data is required.
type Config struct {
	// Data is the data directory, or one that the processes of a cluster share.
	Data string
	// Now is the clock for the expiry of tokens. Default: time.Now.
	Now func() time.Time
	// Random gives the bits of new keys. Default: crypto/rand.Reader.
	Random io.Reader
	// Erased gives the record by which a recipient was erased last, 0 if it never was:
	// tokens made before are refused. Default: nobody ever was.
	Erased func(job.Recipient) uint64
}

// Keys checks keys and mints tokens. It never changes after Open and is safe for
// concurrent use.
type Keys struct {
	now       func() time.Time
	erased    func(job.Recipient) uint64
	adminHash [sha256.Size]byte
	adminPath string
	ring      ring
}

// Open reads the keys of a data directory and makes those that are missing. Processes
// that open one directory at the same moment wait for each other, and have the same keys.
func Open(cfg Config) (*Keys, error) {
	if cfg.Data == "" {
		return nil, errors.New("auth: Config.Data is needed")
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.Random == nil {
		cfg.Random = rand.Reader
	}
	if cfg.Erased == nil {
		cfg.Erased = func(job.Recipient) uint64 { return 0 }
	}
	dir := filepath.Join(cfg.Data, dirName)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("make the directory of keys: %w", err)
	}
	if err := syncDir(cfg.Data); err != nil {
		return nil, err
	}
	lock, err := lockDir(dir)
	if err != nil {
		return nil, err
	}
	defer lock.Close()
	k := &Keys{now: cfg.Now, erased: cfg.Erased, adminPath: filepath.Join(dir, adminFile)}
	if k.adminHash, err = openAdmin(dir, cfg.Random); err != nil {
		return nil, err
	}
	if k.ring, err = openRing(filepath.Join(dir, recipientFile), cfg.Random); err != nil {
		return nil, err
	}
	return k, nil
}

// lockDir waits until no other process opens the keys; closing the file lets others.
func lockDir(dir string) (*os.File, error) {
	f, err := os.OpenFile(filepath.Join(dir, "lock"), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("open the lock of the keys: %w", err)
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX); err != nil {
		f.Close()
		return nil, fmt.Errorf("lock the keys in %s: %w", dir, err)
	}
	return f, nil
}

// openAdmin gives the hash of the admin key and makes the key if there is none.
// The key is written before its hash: a crash in between leaves a key whose hash
// the next start writes, never a hash whose key nobody knows.
func openAdmin(dir string, random io.Reader) (hash [sha256.Size]byte, err error) {
	stored, err := os.ReadFile(filepath.Join(dir, adminHashFile))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return hash, fmt.Errorf("read the admin key's hash: %w", err)
	}
	known := err == nil
	if known {
		b, err := hex.DecodeString(strings.TrimSpace(string(stored)))
		if err != nil || len(b) != len(hash) {
			return hash, fmt.Errorf("%s is not a SHA-256 in hexadecimal; restore it, or delete it and %s for a new key",
				filepath.Join(dir, adminHashFile), adminFile)
		}
		copy(hash[:], b)
	}
	key, err := readKey(filepath.Join(dir, adminFile))
	switch {
	case errors.Is(err, fs.ErrNotExist) && known:
		return hash, nil
	case errors.Is(err, fs.ErrNotExist):
		if key, err = newKey(random, keyPrefix); err != nil {
			return hash, fmt.Errorf("make the admin key: %w", err)
		}
		if err := writeWhole(filepath.Join(dir, adminFile), []byte(key+"\n")); err != nil {
			return hash, fmt.Errorf("write the admin key: %w", err)
		}
	case err != nil:
		return hash, err
	}
	sum := sha256.Sum256([]byte(key))
	if known && sum != hash {
		return hash, fmt.Errorf("%s does not fit %s; delete the first to keep the key whose hash is stored, or both for a new key",
			filepath.Join(dir, adminFile), adminHashFile)
	}
	if !known {
		if err := writeWhole(filepath.Join(dir, adminHashFile), []byte(hex.EncodeToString(sum[:])+"\n")); err != nil {
			return hash, fmt.Errorf("write the admin key's hash: %w", err)
		}
	}
	return sum, nil
}

// VerifyAdmin returns nil if this is the admin key, and a denied error otherwise.
func (k *Keys) VerifyAdmin(key string) error {
	sum := sha256.Sum256([]byte(key))
	if subtle.ConstantTimeCompare(sum[:], k.adminHash[:]) != 1 || !validForm(key, keyPrefix) {
		return &job.Error{Code: job.CodeDenied, Message: "this is not a valid admin key"}
	}
	return nil
}

// AdminKey reads the admin key itself, or not found if it was deleted from the
// directory.
func (k *Keys) AdminKey() (string, error) { return readAdmin(k.adminPath) }

// ReadAdminKey reads the admin key of a data directory for the command line, or
// not found.
func ReadAdminKey(data string) (string, error) {
	return readAdmin(filepath.Join(data, dirName, adminFile))
}

func readAdmin(path string) (string, error) {
	key, err := readKey(path)
	if errors.Is(err, fs.ErrNotExist) {
		return "", job.NotFound("there is no admin key at " + path)
	}
	return key, err
}

func readKey(path string) (string, error) {
	f, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer f.Close() // only read
	b, err := io.ReadAll(io.LimitReader(f, 1024))
	if err != nil {
		return "", fmt.Errorf("read %s: %w", path, err)
	}
	key := strings.TrimSpace(string(b))
	if !validForm(key, keyPrefix) {
		return "", fmt.Errorf("%s does not hold an admin key: its checksum is wrong", path)
	}
	return key, nil
}
