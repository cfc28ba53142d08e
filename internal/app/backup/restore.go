package backup

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"crier/internal/app/datadir"
	"crier/internal/bus/natsbus"
	"crier/job"
	"crier/presence/gateway/accepted"
	"crier/state/blob"
	"crier/state/jobs"
	"crier/state/ledger"
	"crier/state/ledger/jetstream"
	"crier/state/sql"
)

// Restoring says what to make of what.
type Restoring struct {
	From string // directory of a backup
	Data string // data directory to be made; it is empty, or not there
	// Resume leaves the jobs that are not over as they were, to go on by themselves: for
	// a backup after which nothing was sent.
	Resume bool
	Logger *slog.Logger // default slog.Default()
}

// Restored is what was made.
type Restored struct {
	Data   string    `json:"data"`
	Name   string    `json:"name"`
	Taken  time.Time `json:"taken"` // what was acknowledged before is in it
	Files  int       `json:"files"`
	Bytes  uint64    `json:"bytes"`
	Jobs   int       `json:"jobs"`   // in the ledger
	Open   []job.ID  `json:"open"`   // those that are not over
	Paused bool      `json:"paused"` // the open ones wait for an operator
}

// Restore makes a data directory. Nothing is begun before the backup was read whole and
// found good; after an error the directory is empty again, and of one that was killed
// midway no process starts.
func Restore(ctx context.Context, r Restoring) (done Restored, err error) {
	if r.Logger == nil {
		r.Logger = slog.Default()
	}
	m, err := Check(r.From)
	if err != nil {
		return done, err
	}
	lock, err := datadir.Lock(r.Data)
	if err != nil {
		return done, err
	}
	defer lock.Close()
	if err := datadir.BeginRestore(r.Data); err != nil {
		return done, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, datadir.Clear(r.Data))
		}
	}()
	done = Restored{Data: r.Data, Name: m.Name, Taken: m.Began, Files: len(m.Files), Bytes: m.Bytes(), Paused: !r.Resume}
	if err := r.files(ctx, m); err != nil {
		return done, err
	}
	// What was handed off by then is in doubt, and the homes decide it.
	if err := accepted.Lost(filepath.Join(r.Data, "accepted"), m.Starts); err != nil {
		return done, err
	}
	if err := sql.Rewound(ctx, filepath.Join(r.Data, databaseName)); err != nil {
		return done, err
	}
	if err := r.streams(ctx, m, &done); err != nil {
		return done, err
	}
	if err := syncAll(r.Data); err != nil {
		return done, err
	}
	return done, datadir.EndRestore(r.Data, m.Name, m.Starts)
}

// files puts blobs, keys and the SQL store in their places.
func (r Restoring) files(ctx context.Context, m Manifest) error {
	blobs, err := blob.OpenDir(filepath.Join(r.Data, blobsDir))
	if err != nil {
		return err
	}
	for _, f := range m.Files {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		switch {
		case strings.HasPrefix(f.Name, blobsDir+"/"):
			err = r.blob(ctx, blobs, f)
		case strings.HasPrefix(f.Name, keysDir+"/"), f.Name == databaseName:
			err = r.copy(f)
		}
		if err != nil {
			return fmt.Errorf("restoring %s: %w", f.Name, err)
		}
	}
	return nil
}

func (r Restoring) blob(ctx context.Context, blobs *blob.Dir, f File) error {
	from, err := os.Open(filepath.Join(r.From, f.Name))
	if err != nil {
		return err
	}
	defer from.Close()
	digest, _, err := blobs.Put(ctx, from)
	if err == nil && digest.String() != path.Base(f.Name) {
		err = broken("%s has the bytes of blob %s", f.Name, digest)
	}
	return err
}

func (r Restoring) copy(f File) error {
	to := filepath.Join(r.Data, f.Name)
	if err := os.MkdirAll(filepath.Dir(to), 0o700); err != nil {
		return err
	}
	from, err := os.Open(filepath.Join(r.From, f.Name))
	if err != nil {
		return err
	}
	defer from.Close()
	w, err := os.OpenFile(to, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	_, err = io.Copy(w, from)
	return errors.Join(err, w.Close())
}

// streams makes the streams again, in a server of their own, and tells the jobs to wait.
func (r Restoring) streams(ctx context.Context, m Manifest, done *Restored) (err error) {
	// What is written is made durable as a whole afterwards.
	srv, err := natsbus.Start(natsbus.Config{Dir: filepath.Join(r.Data, "nats"), Unsynced: true, Logger: r.Logger})
	if err != nil {
		return err
	}
	defer srv.Shutdown()
	conn, err := srv.Connect("crier restore")
	if err != nil {
		return err
	}
	defer conn.Close()
	logs := map[string]ledger.Log{}
	for _, s := range m.Streams {
		if err := r.stream(srv, s); err != nil {
			return err
		}
		subjects, known := subjectsOf[s.Name]
		if !known {
			return broken("the stream %s is none of this version's", s.Name)
		}
		log, err := jetstream.Open(ctx, conn, jetstream.Config{Stream: s.Name, Subjects: []string{subjects}, MaxBytes: 1, Keep: true, Logger: r.Logger})
		if err != nil {
			return err
		}
		if err := s.compare(ctx, log, subjects); err != nil {
			return err
		}
		logs[s.Name] = log
	}
	return settle(ctx, logs[ledger.Stream], logs[ledger.ControlStream], done)
}

// subjectsOf are the streams of a process and what is in them.
var subjectsOf = map[string]string{ledger.Stream: ledger.AllSubjects, ledger.ControlStream: ledger.AllControls}

func (r Restoring) stream(srv *natsbus.Server, s Stream) error {
	readers := make([]io.Reader, s.Parts)
	for i := range readers {
		readers[i] = &lazy{path: filepath.Join(r.From, streamPart(s.Name, i+1))}
	}
	return srv.Restore(s.Config, io.MultiReader(readers...))
}

// lazy is a file that is open while it is read.
type lazy struct {
	path string
	f    *os.File
}

// Read implements io.Reader.
func (l *lazy) Read(b []byte) (n int, err error) {
	if l.f == nil {
		if l.f, err = os.Open(l.path); err != nil {
			return 0, err
		}
	}
	n, err = l.f.Read(b)
	if errors.Is(err, io.EOF) {
		if bad := l.f.Close(); bad != nil {
			err = bad
		}
	}
	return n, err
}

// compare holds a stream against what it was when it was copied.
func (s Stream) compare(ctx context.Context, log ledger.Log, subjects string) error {
	u, err := log.Usage(ctx)
	if err != nil {
		return err
	}
	counts, err := log.Subjects(ctx, subjects)
	if err != nil {
		return err
	}
	var records uint64
	for _, n := range counts {
		records += n
	}
	if records != s.Records || u.Last != s.Last || records > 0 && u.First != s.First {
		return broken("of the stream %s there are %d records, %d to %d; there were %d, %d to %d", s.Name, records, u.First, u.Last, s.Records, s.First, s.Last)
	}
	return nil
}

// settle lists the jobs, and pauses those that are not over, unless they are to go on.
func settle(ctx context.Context, log, controls ledger.Log, done *Restored) error {
	if log == nil || controls == nil {
		return broken("the ledger or the controls are not in it")
	}
	states := map[job.ID]job.State{} // 24 bytes a job
	err := ledger.ReadAll(ctx, log, 1, ledger.AllJobs, func(st ledger.Stored) error {
		var tr job.Transition
		if err := json.Unmarshal(st.Data, &tr); err != nil {
			return fmt.Errorf("decoding the transition in record %d: %w", st.Seq, err)
		}
		states[tr.Job] = tr.State
		return nil
	})
	if err != nil {
		return fmt.Errorf("reading the jobs: %w", err)
	}
	done.Jobs = len(states)
	for id, state := range states {
		if !state.Terminal() {
			done.Open = append(done.Open, id)
		}
	}
	slices.SortFunc(done.Open, func(a, b job.ID) int { return slices.Compare(a[:], b[:]) })
	if !done.Paused {
		return nil
	}
	yes, table := true, jobs.New(log, controls)
	for _, id := range done.Open {
		if states[id] == job.Cancelling { // nobody is sent it any more
			continue
		}
		if _, err := table.Control(ctx, id, job.Control{Pause: &yes, By: job.RestoreKey, Why: "nobody knows who was sent it since the backup", At: time.Now().UTC()}); err != nil {
			return fmt.Errorf("pausing job %s: %w", id, err)
		}
	}
	return nil
}
