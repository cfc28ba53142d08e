// Package entry decides whether a process may take part in a cluster, before it leaves a
// trace in anything that the members share.
//
// The ledger says whose it is, in one record, its identity. What the members share besides
// (blobs, keys, the coordination store, the database) carries a mark with the identity's
// ID, so that a process is refused that was pointed at something else of the same kind:
// it would share a part of the work, and be blind for the rest.
//
// It guarantees that whoever is refused has written nothing but, at a cluster's very
// beginning, marks; and that each refusal names the setting and what to do.
package entry

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"time"

	"crier/internal/app/datadir"
	"crier/internal/pause"
	"crier/job"
	"crier/scheduler/apta/wire"
	"crier/state/ledger"
)

// Identity is the ledger's word of whose it is.
type Identity struct {
	// ID is random and made once; what the members share carries it as its mark.
	ID string `json:"id,omitempty"`
	// Cluster is the name that all members have.
	Cluster string `json:"cluster"`
	// Coordination says which store has the members' leases.
	Coordination string `json:"coordination"`
	// Protocol is the highest version of the members' protocol that was spoken.
	Protocol int `json:"protocol,omitempty"`
	// Bound are the settings of what carries the mark; anything else there is refused.
	Bound []string  `json:"bound,omitempty"`
	At    time.Time `json:"at"`
}

// settle decides what becomes of the ledger's identity (its zero value: there is none)
// when a process comes that has its own idea of it.
func settle(have, mine Identity) (Identity, error) {
	switch {
	case have.Cluster == "":
		return mine, nil
	case have.Cluster != mine.Cluster:
		return have, job.Invalid("cluster.id", fmt.Sprintf("cluster.id: the ledger is of cluster %q, this process of %q; correct it, or nats.servers", have.Cluster, mine.Cluster), nil)
	case have.Coordination != mine.Coordination:
		return have, job.Invalid("coordination.root", fmt.Sprintf("coordination.root, coordination.zookeeper: the cluster keeps its leases in %q, this process in %q; give it the others' settings",
			have.Coordination, mine.Coordination), nil)
	case have.Protocol > mine.Protocol:
		return have, job.Conflict(fmt.Sprintf("cluster.id: cluster %q speaks protocol version %d, and this program up to %d; run the newer program", have.Cluster, have.Protocol, mine.Protocol))
	}
	if have.ID == "" {
		have.ID = mine.ID // from before there were marks
	}
	have.Protocol = max(have.Protocol, 1)
	return have, nil
}

// Desk is where a process enters its cluster. It is for one goroutine.
type Desk struct {
	log   ledger.Log
	adopt []string
	have  Identity
}

// Config describes who enters.
type Config struct {
	Log          ledger.Log
	Cluster      string   // its name
	Coordination string   // which store it uses
	Adopt        []string // settings of what was lost and is begun anew
}

// Open looks whose ledger it is; the first process says so.
func Open(ctx context.Context, cfg Config) (*Desk, error) {
	var random [16]byte
	rand.Read(random[:]) // never fails
	mine := Identity{ID: hex.EncodeToString(random[:]), Cluster: cfg.Cluster, Coordination: cfg.Coordination, Protocol: wire.Protocol, At: time.Now().UTC()}
	d := &Desk{log: cfg.Log, adopt: cfg.Adopt}
	return d, d.update(ctx, func(have Identity) (Identity, error) { return settle(have, mine) })
}

// Times of a change of the identity: all of it, and the pauses between tries.
const (
	updateWithin    = 30 * time.Second
	firstUpdateWait = 5 * time.Millisecond
	lastUpdateWait  = time.Second
)

// update changes the identity, if it is to be another; change may be called again.
func (d *Desk) update(ctx context.Context, change func(Identity) (Identity, error)) error {
	ctx, cancel := context.WithTimeout(ctx, updateWithin)
	defer cancel()
	for wait := firstUpdateWait; ; wait = min(2*wait, lastUpdateWait) {
		st, err := d.log.Last(ctx, ledger.ClusterSubject)
		if err != nil && !errors.Is(err, ledger.ErrNoRecord) {
			return fmt.Errorf("reading the cluster's identity in the ledger: %w", err)
		}
		var have Identity
		if err == nil {
			if err := json.Unmarshal(st.Data, &have); err != nil {
				return fmt.Errorf("decoding the cluster's identity in record %d: %w", st.Seq, err)
			}
		}
		next, err := change(have)
		if err != nil {
			return err
		}
		if reflect.DeepEqual(have, next) {
			d.have = next
			return nil
		}
		b, err := json.Marshal(next)
		if err != nil {
			return fmt.Errorf("encoding the cluster's identity: %w", err)
		}
		_, err = d.log.Append(ctx, ledger.ClusterSubject, st.Seq, b)
		if err != nil && (errors.Is(err, ledger.ErrFull) || !pause.For(ctx, wait)) {
			return fmt.Errorf("writing the cluster's identity: %w", err)
		}
		// Another was first, or it is not known, or it is stored: the next look tells.
	}
}

// Bound reports whether what a setting names carries the cluster's mark already, and
// is not to be begun anew.
func (d *Desk) Bound(setting string) bool {
	return slices.Contains(d.have.Bound, setting) && !slices.Contains(d.adopt, setting)
}

// Admit decides about something that carries a mark, or none (""). If it gives no error
// and there is no mark, the caller sets it, and calls Bind.
func (d *Desk) Admit(setting, what, mark string) error {
	switch {
	case mark == d.have.ID:
		return nil
	case mark != "":
		return job.Invalid(setting, fmt.Sprintf("%s: %s belongs to the cluster with the mark %s, and the ledger in nats.servers to that with %s; correct one of the two", setting, what, mark, d.have.ID), nil)
	case d.Bound(setting):
		return job.Invalid(setting, fmt.Sprintf("%s: %s is not what the members of cluster %q share, for it does not carry their mark; give this process the others' setting, "+
			"or, if they have lost theirs for good, start it with cluster.adopt: [%s]", setting, what, d.have.Cluster, setting), nil)
	}
	return nil
}

// Bind notes that what a setting names carries the mark.
func (d *Desk) Bind(ctx context.Context, setting string) error {
	return d.update(ctx, func(have Identity) (Identity, error) {
		if !slices.Contains(have.Bound, setting) {
			have.Bound = append(slices.Clone(have.Bound), setting)
		}
		return have, nil
	})
}

// Seat notes the version of the protocol that is spoken from now on.
func (d *Desk) Seat(ctx context.Context) error {
	return d.update(ctx, func(have Identity) (Identity, error) {
		have.Protocol = max(have.Protocol, wire.Protocol)
		return have, nil
	})
}

// markFile has the mark of a directory.
const markFile = "cluster.mark"

// Dir admits a directory, which is made if it may be begun.
func (d *Desk) Dir(ctx context.Context, setting, dir string) error {
	path := filepath.Join(dir, markFile)
	mark, err := d.readMark(setting, path)
	if err != nil {
		return err
	}
	if err := d.Admit(setting, dir, mark); err != nil {
		return err
	}
	if mark == "" {
		if mark, err = d.mark(setting, path); err != nil {
			return err
		}
		if err := d.Admit(setting, dir, mark); err != nil {
			return err
		}
	}
	return d.Bind(ctx, setting)
}

// readMark gives the mark in a file, "" if there is none.
func (d *Desk) readMark(setting, path string) (string, error) {
	b, err := os.ReadFile(path)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return "", job.Invalid(setting, fmt.Sprintf("%s: reading the cluster's mark; give a directory that this process may read", setting), err)
	}
	return strings.TrimSpace(string(b)), nil
}

// mark makes the file of a mark, whole and durable, and gives the mark that is there then:
// another process may be faster, of this cluster or of another.
func (d *Desk) mark(setting, path string) (string, error) {
	content := []byte(d.have.ID + "\n")
	err := os.MkdirAll(filepath.Dir(path), 0o700)
	if err == nil {
		err = datadir.WriteNew(path, content, 0o600)
	}
	if errors.Is(err, fs.ErrExist) {
		if mark, err := d.readMark(setting, path); err != nil || mark != "" {
			return mark, err
		}
	}
	if err != nil { // the file is empty, or the file system has no links
		err = datadir.WriteWhole(path, content, 0o600)
	}
	if err != nil {
		return "", job.Invalid(setting, fmt.Sprintf("%s: writing the cluster's mark; give a directory that this process may write", setting), err)
	}
	return d.have.ID, nil
}
