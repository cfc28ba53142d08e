package backup

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"crier/internal/app/datadir"
	"crier/internal/auth"
	"crier/internal/bus/natsbus"
	"crier/job"
	"crier/state/blob"
	"crier/state/ledger"
	"crier/state/ledger/jetstream"
	"crier/state/sql"
)

var quiet = slog.New(slog.DiscardHandler)

// data is a data directory with something in each of its parts.
type data struct {
	dir      string
	srv      *natsbus.Server
	log, ctl *jetstream.Log
	store    *sql.DB
	blobs    *blob.Dir
	keys     *auth.Keys
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// openData opens the parts of a data directory as a process does.
func openData(t *testing.T, dir string) *data {
	t.Helper()
	d := &data{dir: dir}
	must(t, os.MkdirAll(filepath.Join(dir, "scratch"), 0o700))
	var err error
	d.srv, err = natsbus.Start(natsbus.Config{Dir: filepath.Join(dir, "nats"), Unsynced: true, Logger: quiet})
	must(t, err)
	t.Cleanup(d.srv.Shutdown)
	conn, err := d.srv.Connect(t.Name())
	must(t, err)
	t.Cleanup(conn.Close)
	d.log, err = jetstream.Open(t.Context(), conn, jetstream.Config{Stream: ledger.Stream, Subjects: []string{ledger.AllSubjects}, MaxBytes: 1 << 30, Logger: quiet})
	must(t, err)
	d.ctl, err = jetstream.Open(t.Context(), conn, jetstream.Config{Stream: ledger.ControlStream, Subjects: []string{ledger.AllControls}, MaxBytes: 1 << 20, Logger: quiet})
	must(t, err)
	d.store, err = sql.Open(t.Context(), sql.Config{Path: filepath.Join(dir, "crier.db")})
	must(t, err)
	t.Cleanup(func() { d.store.Close() })
	d.blobs, err = blob.OpenDir(filepath.Join(dir, "blobs"))
	must(t, err)
	d.keys, err = auth.Open(auth.Config{Data: dir})
	must(t, err)
	return d
}

func (d *data) source() Source {
	return Source{Version: "test", Name: "a", Starts: 3, HoldFolds: func() func() { return func() {} }, HoldSQL: func() func() { return func() {} },
		Ledger: Log{Name: ledger.Stream, Copy: d.log.Snapshot}, Controls: Log{Name: ledger.ControlStream, Copy: d.ctl.Snapshot},
		Checkpoint: func(context.Context) (job.Digest, error) { return job.Digest{}, nil },
		Database:   d.store.CopyTo, Blobs: d.blobs, Keys: filepath.Join(d.dir, "keys"), Scratch: filepath.Join(d.dir, "scratch"), Now: time.Now}
}

// put appends a record behind the last one of its subject.
func (d *data) put(t *testing.T, log *jetstream.Log, subject string, v any) {
	t.Helper()
	b, err := json.Marshal(v)
	must(t, err)
	var last uint64
	if st, err := log.Last(t.Context(), subject); err == nil {
		last = st.Seq
	}
	_, err = log.Append(t.Context(), subject, last, b)
	must(t, err)
}

// filled is a data directory with jobs in the given states, one each.
func filled(t *testing.T, states ...job.State) (*data, []job.ID) {
	d := openData(t, t.TempDir())
	var ids []job.ID
	for i, s := range states {
		id := job.ID{byte(i + 1)}
		ids = append(ids, id)
		spec := job.Spec{ID: id, Account: 1, Recipients: 10}
		d.put(t, d.log, ledger.JobSubject(id), job.Transition{Job: id, Version: 1, At: "2026-01-02T03:04:05Z", Spec: spec})
		d.put(t, d.log, ledger.JobSubject(id), job.Transition{Job: id, Version: 2, State: s, At: "2026-01-02T03:04:06Z", Spec: spec})
		_, _, err := d.blobs.Put(t.Context(), strings.NewReader(fmt.Sprint("body ", i)))
		must(t, err)
		must(t, d.store.Jobs.Project(t.Context(), sql.Projection{Recorder: "jobs", Through: 1, Counts: nil,
			Transitions: []job.Transition{{Job: id, Version: 1, At: "2026-01-02T03:04:05Z", Spec: spec}}}))
		must(t, d.store.Jobs.ProjectSlices(t.Context(), []sql.Slice{{Job: id, Version: 7, Since: time.Unix(1, 0)}}))
		must(t, d.store.Jobs.Project(t.Context(), sql.Projection{Recorder: "jobs", Counts: []sql.JobCounts{{Job: id, AsOf: 99, Counts: job.Counts{Package: 10, Pending: 10}}}}))
	}
	_, err := d.store.Accounts.Create(t.Context(), "news", nil)
	must(t, err)
	return d, ids
}

// taken is a backup in a directory, and the tar file that it came as.
func taken(t *testing.T, d *data) (dir string, raw []byte) {
	t.Helper()
	var b bytes.Buffer
	must(t, d.source().Write(t.Context(), &b))
	dir = filepath.Join(t.TempDir(), "backup")
	if _, err := Receive(bytes.NewReader(b.Bytes()), dir); err != nil {
		t.Fatal(err)
	}
	return dir, b.Bytes()
}

// TestRestore holds what is restored against what was there.
func TestRestore(t *testing.T) {
	d, ids := filled(t, job.Sending, job.Completed, job.Sent, job.Cancelling, job.Queued)
	from, _ := taken(t, d)
	_, err := d.store.Accounts.Create(t.Context(), "later", nil)
	must(t, err)
	to := filepath.Join(t.TempDir(), "data")
	done, err := Restore(t.Context(), Restoring{From: from, Data: to, Logger: quiet})
	must(t, err)
	if open := []job.ID{ids[0], ids[2], ids[3], ids[4]}; !slices.Equal(done.Open, open) || done.Jobs != 5 || !done.Paused || done.Name != "a" {
		t.Errorf("restored is %+v, want the open jobs %v", done, open)
	}
	lock, err := datadir.Lock(to)
	must(t, err)
	defer lock.Close()
	n, err := datadir.Take(to, "")
	if err != nil || n.Name != "a" || n.Starts != 4 || n.Home == 0 {
		t.Errorf("the next start of the process is %+v, %v", n, err)
	}
	r := openData(t, to)
	if old, here := records(t, d.log, ledger.AllSubjects), records(t, r.log, ledger.AllSubjects); !slices.Equal(old, here) || len(old) != 10 {
		t.Errorf("the ledger has %d records, had %d", len(here), len(old))
	}
	paused := map[string]bool{}
	for _, rec := range records(t, r.ctl, ledger.AllControls) {
		if !strings.Contains(rec, `"pause":true,"by":"restore","why":"nobody knows who was sent it since the backup"`) {
			t.Errorf("an unexpected control: %s", rec)
		}
		paused[strings.Fields(rec)[1]] = true
	}
	for i, id := range ids {
		if want := i != 1 && i != 3; paused[ledger.ControlSubject(id)] != want {
			t.Errorf("job %d is paused: %v, want %v", i, !want, want)
		}
		j, err := r.store.Jobs.Get(t.Context(), id)
		if err != nil || j.Version != 1 || j.CountsAsOf != 0 {
			t.Errorf("job %d in SQL: %+v, %v", i, j, err)
		}
		if left, err := r.store.Jobs.Slices(t.Context(), id, 0, 0); err != nil || len(left) != 0 {
			t.Errorf("job %d has the slices %+v, %v", i, left, err)
		}
	}
	if old, here := blobsOf(t, d.blobs), blobsOf(t, r.blobs); !slices.Equal(old, here) || len(here) != 5 {
		t.Errorf("%d blobs are restored of %d", len(here), len(old))
	}
	if _, err := r.store.Accounts.Find(t.Context(), "later"); job.CodeOf(err) != job.CodeNotFound {
		t.Errorf("an account that was made after the backup: %v", err)
	}
	if a, err := r.store.Accounts.Find(t.Context(), "news"); err != nil || a.Number != 1 {
		t.Errorf("the account is %+v, %v", a, err)
	}
	key, err := d.keys.AdminKey()
	must(t, err)
	if err := r.keys.VerifyAdmin(key); err != nil {
		t.Errorf("the old admin key: %v", err)
	}
}

func records(t *testing.T, l *jetstream.Log, subjects string) (out []string) {
	t.Helper()
	must(t, ledger.ReadAll(t.Context(), l, 1, subjects, func(st ledger.Stored) error {
		out = append(out, fmt.Sprint(st.Seq, " ", st.Subject, " ", st.Time.UnixNano(), " ", string(st.Data)))
		return nil
	}))
	return out
}

func blobsOf(t *testing.T, d *blob.Dir) (out []job.Digest) {
	t.Helper()
	for info, err := range d.List(t.Context()) {
		must(t, err)
		must(t, d.Verify(t.Context(), info.Digest))
		out = append(out, info.Digest)
	}
	return out
}

// TestResume leaves the jobs as they were.
func TestResume(t *testing.T) {
	d, _ := filled(t, job.Sending)
	from, _ := taken(t, d)
	to := t.TempDir() // there, and empty
	done, err := Restore(t.Context(), Restoring{From: from, Data: to, Resume: true, Logger: quiet})
	must(t, err)
	if done.Paused || len(done.Open) != 1 || len(records(t, openData(t, to).ctl, ledger.AllControls)) != 0 {
		t.Errorf("restored is %+v", done)
	}
}

// TestCutOnItsWay cuts what is sent at the begin and in the middle of each file, and
// before its end: what was received is no backup.
func TestCutOnItsWay(t *testing.T) {
	d, _ := filled(t, job.Sending, job.Sent)
	_, raw := taken(t, d)
	cuts := []int{0, 100, len(raw) - 1025}
	for at := 0; ; { // the heads of the files are at multiples of 512
		i := bytes.Index(raw[at:], []byte("ustar"))
		if i < 0 {
			break
		}
		at += i + 5
		cuts = append(cuts, at-262, at, at+600)
	}
	if len(cuts) < 30 {
		t.Fatalf("only %d cuts", len(cuts))
	}
	for _, n := range cuts {
		dir := t.TempDir()
		m, err := Receive(io.MultiReader(bytes.NewReader(raw[:n]), broke{}), dir)
		if err == nil {
			t.Fatalf("cut after %d of %d bytes: received %d files", n, len(raw), len(m.Files))
		}
		refused(t, dir, "manifest.json")
	}
}

// TestNothingCame leaves no directory behind that was not there before.
func TestNothingCame(t *testing.T) {
	there := t.TempDir()
	for _, dir := range []string{there, filepath.Join(t.TempDir(), "new")} {
		if _, err := Receive(broke{}, dir); err == nil || !strings.Contains(err.Error(), "nothing of a backup came") {
			t.Errorf("received nothing: %v", err)
		}
		if _, err := os.Stat(dir); (err == nil) != (dir == there) {
			t.Errorf("%s afterwards: %v", dir, err)
		}
	}
}

// broke is a connection that is cut.
type broke struct{}

// Read implements io.Reader.
func (broke) Read([]byte) (int, error) { return 0, io.ErrUnexpectedEOF }

// refused restores, and expects to be refused for a reason, with nothing done.
func refused(t *testing.T, from, why string) {
	t.Helper()
	to := filepath.Join(t.TempDir(), "data")
	_, err := Restore(t.Context(), Restoring{From: from, Data: to, Logger: quiet})
	if job.CodeOf(err) != job.CodeInvalid || !strings.Contains(err.Error(), why) {
		t.Errorf("restored to %v, want a refusal that says %q", err, why)
	}
	if _, err := os.Stat(to); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the refused restore left something: %v", err)
	}
}

// TestDamaged damages each file in each way.
func TestDamaged(t *testing.T) {
	d, _ := filled(t, job.Sending, job.Sent)
	from, _ := taken(t, d)
	m, err := Read(from)
	must(t, err)
	for _, f := range m.Files {
		path := filepath.Join(from, f.Name)
		whole, err := os.ReadFile(path)
		must(t, err)
		must(t, os.Remove(path))
		refused(t, from, f.Name+" is missing")
		must(t, os.WriteFile(path, whole[:len(whole)-1], 0o600))
		refused(t, from, f.Name+" has ")
		flipped := bytes.Clone(whole)
		flipped[len(flipped)/2] ^= 4
		must(t, os.WriteFile(path, flipped, 0o600))
		refused(t, from, f.Name+" has changed")
		must(t, os.WriteFile(path, whole, 0o600))
	}
	path := filepath.Join(from, manifestName)
	whole, err := os.ReadFile(path)
	must(t, err)
	for n := range len(whole) { // no prefix of it is one
		if _, err := parse(whole[:n]); job.CodeOf(err) != job.CodeInvalid {
			t.Fatalf("%d of the manifest's %d bytes: %v", n, len(whole), err)
		}
		flipped := bytes.Clone(whole)
		flipped[n] ^= 1
		if _, err := parse(flipped); job.CodeOf(err) != job.CodeInvalid {
			t.Fatalf("byte %d of the manifest changed: %v", n, err)
		}
	}
	m.Format = 2
	b, err := m.encode()
	must(t, err)
	must(t, os.WriteFile(path, b, 0o600))
	refused(t, from, "format 2")
	must(t, os.WriteFile(path, whole, 0o600))
	if _, err := Restore(t.Context(), Restoring{From: from, Data: t.TempDir(), Logger: quiet}); err != nil {
		t.Errorf("as it was before: %v", err)
	}
}

// TestTarget: what is not empty is not restored into, and of what was left midway no
// process starts.
func TestTarget(t *testing.T) {
	d, _ := filled(t, job.Sending)
	from, _ := taken(t, d)
	to := t.TempDir()
	must(t, os.WriteFile(filepath.Join(to, "mine"), nil, 0o600))
	restore := func() error {
		_, err := Restore(t.Context(), Restoring{From: from, Data: to, Logger: quiet})
		return err
	}
	if err := restore(); job.CodeOf(err) != job.CodeInvalid || !strings.Contains(err.Error(), "mine") {
		t.Errorf("restored over something: %v", err)
	}
	if _, err := os.Stat(filepath.Join(to, "mine")); err != nil {
		t.Error(err)
	}
	must(t, os.Remove(filepath.Join(to, "mine")))
	must(t, datadir.BeginRestore(to)) // and killed
	if err := restore(); job.CodeOf(err) != job.CodeInvalid {
		t.Errorf("restored into what was left: %v", err)
	}
	if _, err := datadir.Take(to, ""); job.CodeOf(err) != job.CodeInvalid || !strings.Contains(err.Error(), "restore again") {
		t.Errorf("a process starts on what was left: %v", err)
	}
	must(t, datadir.Clear(to))
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := Restore(ctx, Restoring{From: from, Data: to, Logger: quiet}); !errors.Is(err, context.Canceled) {
		t.Errorf("a restore that is interrupted: %v", err)
	}
	must(t, restore()) // there is nothing left of that
	if _, err := Receive(bytes.NewReader(nil), to); job.CodeOf(err) != job.CodeInvalid {
		t.Errorf("a backup into a directory that is not empty: %v", err)
	}
}

// TestDamagedBlob: a blob that is not what it was is not copied as if it were.
func TestDamagedBlob(t *testing.T) {
	d, _ := filled(t, job.Sending)
	digest := blobsOf(t, d.blobs)[0]
	name := digest.String()
	must(t, os.WriteFile(filepath.Join(d.dir, "blobs", "sha256", name[:2], name[2:4], name), []byte("body 1"), 0o600))
	if err := d.source().Write(t.Context(), io.Discard); !errors.Is(err, blob.ErrDamaged) || !strings.Contains(err.Error(), name) {
		t.Errorf("a backup with a damaged blob: %v", err)
	}
}

// TestCheckpointDeleted: the checkpoint that goes with the ledger is in a backup, though
// the next folding deletes it as soon as it may; another one that comes and goes does
// not matter.
func TestCheckpointDeleted(t *testing.T) {
	d, _ := filled(t, job.Sending)
	old, _, err := d.blobs.Put(t.Context(), strings.NewReader("the checkpoint"))
	must(t, err)
	s := d.source()
	held := false
	s.HoldFolds = func() func() {
		held = true
		return func() { held = false; must(t, d.blobs.Delete(t.Context(), old)) }
	}
	s.Checkpoint = func(context.Context) (job.Digest, error) {
		if !held {
			t.Error("the checkpoint is asked for without a hold")
		}
		return old, nil
	}
	var b bytes.Buffer
	must(t, s.Write(t.Context(), &b))
	m, err := Receive(&b, filepath.Join(t.TempDir(), "to"))
	must(t, err)
	if !slices.ContainsFunc(m.Files, func(f File) bool { return f.Name == blobName(old) }) {
		t.Error("the checkpoint is not in the backup")
	}
}

// TestSQLFitsTheLedger: the copy of the SQL store is made after it is clear how far the
// ledger goes, while it is held back, and no longer.
func TestSQLFitsTheLedger(t *testing.T) {
	d, _ := filled(t, job.Sending)
	for _, broken := range []error{nil, errors.New("the copy broke off")} {
		s := d.source()
		var events []string
		released := make(chan struct{})
		s.HoldSQL = func() func() {
			events = append(events, "held")
			return func() { events = append(events, "released"); close(released) }
		}
		s.Ledger.Copy = func(ctx context.Context, w io.Writer, begun func()) (jetstream.Snapshot, error) {
			events = append(events, "ledger begins")
			snap, err := d.log.Snapshot(ctx, w, begun)
			<-released // whoever gets the ledger may take its time
			events = append(events, "ledger ends")
			return snap, err
		}
		s.Database = func(ctx context.Context, path string) error {
			events = append(events, "SQL")
			return errors.Join(broken, d.store.CopyTo(ctx, path))
		}
		if err := s.Write(t.Context(), io.Discard); !errors.Is(err, broken) {
			t.Errorf("the backup: %v, want %v", err, broken)
		}
		if got, want := strings.Join(events, ", "), "held, ledger begins, SQL, released, ledger ends"; got != want {
			t.Errorf("in the order %s; want %s", got, want)
		}
	}
	s := d.source()
	s.Ledger.Copy = func(context.Context, io.Writer, func()) (jetstream.Snapshot, error) {
		return jetstream.Snapshot{}, io.EOF
	}
	s.Database = func(context.Context, string) error { t.Error("a copy without a ledger"); return nil }
	if err := s.Write(t.Context(), io.Discard); !errors.Is(err, io.EOF) {
		t.Errorf("a backup without a ledger: %v", err)
	}
}
