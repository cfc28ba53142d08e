// Package backup copies the data of a running process, and makes a data directory of such
// a copy.
//
// What is copied is what nothing else can be built from: the streams of the ledger and the
// controls, the SQLite file, the blobs, the keys. Not copied are the parked index, which
// is built again; who is online; the accepted-files of gateways, so that what was handed
// off and not settled is in doubt; the stream of events.
//
// It guarantees that everything which was acknowledged before a copy began is in it; that
// the SQL store of it is not ahead of its ledger, and its ledger names nothing that the
// other parts lack; that a copy which was cut anywhere, or of which a byte has changed, is
// refused; and that a directory is either made whole or is none that a process starts on.
//
// It cannot know what a process did after the copy: whom it sent something meanwhile is
// sent it again, unless a client still has it. So Restore pauses every job that is not
// over, until an operator resumes it or cancels it.
package backup

import (
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"crier/job"
)

// Format is the number of the form of a backup; another one is refused.
const Format = 1

// manifestName is the file that comes last: without it there is no backup.
const manifestName = "manifest.json"

// Manifest says what is in a backup.
type Manifest struct {
	Format  int       `json:"format"`
	Version string    `json:"version"` // of the crier that made it
	Began   time.Time `json:"began"`   // everything acknowledged before is in it
	Ended   time.Time `json:"ended"`
	Name    string    `json:"name"`   // of the process
	Starts  uint32    `json:"starts"` // of the process so far
	Streams []Stream  `json:"streams"`
	Files   []File    `json:"files"` // without the manifest
}

// Stream is a stream of records, in the files streams/Name/000001, … one after the other.
type Stream struct {
	Name    string          `json:"name"`
	Config  json.RawMessage `json:"config"`
	First   uint64          `json:"first"`
	Last    uint64          `json:"last"`
	Records uint64          `json:"records"`
	Parts   int             `json:"parts"`
}

// File is one file.
type File struct {
	Name   string     `json:"name"` // with slashes
	Size   int64      `json:"size"` // bytes
	SHA256 job.Digest `json:"sha256"`
}

// Bytes is how many bytes all files have.
func (m Manifest) Bytes() (n uint64) {
	for _, f := range m.Files {
		n += uint64(f.Size)
	}
	return n
}

// sealed is a manifest as it is stored, with its own digest.
type sealed struct {
	Manifest json.RawMessage `json:"manifest"`
	SHA256   job.Digest      `json:"sha256"`
}

func (m Manifest) encode() ([]byte, error) {
	b, err := json.Marshal(m)
	if err != nil {
		return nil, fmt.Errorf("encoding the manifest: %w", err)
	}
	return json.Marshal(sealed{b, sha256.Sum256(b)})
}

// parse reads what encode wrote.
func parse(b []byte) (m Manifest, err error) {
	var s sealed
	if err := json.Unmarshal(b, &s); err != nil {
		return m, broken("its manifest cannot be read: %v", err)
	}
	var version struct {
		Format  int    `json:"format"`
		Version string `json:"version"`
	}
	if err := json.Unmarshal(s.Manifest, &version); err != nil {
		return m, broken("its manifest cannot be read: %v", err)
	}
	if version.Format != Format {
		return m, broken("it has format %d and this crier reads format %d; it was made by version %q", version.Format, Format, version.Version)
	}
	if sha256.Sum256(s.Manifest) != s.SHA256 {
		return m, broken("its manifest has changed since it was written")
	}
	d := json.NewDecoder(bytes.NewReader(s.Manifest))
	d.DisallowUnknownFields()
	if err := d.Decode(&m); err != nil {
		return m, broken("its manifest cannot be read: %v", err)
	}
	for _, f := range m.Files {
		if !filepath.IsLocal(f.Name) || f.Name == manifestName {
			return m, broken("its manifest names the file %q", f.Name)
		}
	}
	return m, nil
}

// broken is the error of a backup that cannot be used.
func broken(format string, args ...any) error {
	return job.Invalid("from", "from: this backup cannot be used: "+fmt.Sprintf(format, args...), nil)
}

// Read reads the manifest of a backup.
func Read(dir string) (Manifest, error) {
	b, err := os.ReadFile(filepath.Join(dir, manifestName))
	if errors.Is(err, fs.ErrNotExist) {
		return Manifest{}, broken("%s has no %s: it was cut short, or is no backup", dir, manifestName)
	}
	if err != nil {
		return Manifest{}, fmt.Errorf("reading the manifest: %w", err)
	}
	return parse(b)
}

// streamPart names a file of a stream, from 1.
func streamPart(stream string, n int) string { return fmt.Sprintf("streams/%s/%06d", stream, n) }

const (
	databaseName = "crier.db"
	keysDir      = "keys"
	blobsDir     = "blobs"
)
