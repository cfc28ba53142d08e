// Package fold moves the past of the ledger into the blob store: the journals'
// records into reports, the parked index as it is then into a checkpoint. What
// stands in both is purged from the journals, so that a ledger of bounded size has room for
// any number of recipients. The transitions and claims of jobs stay in it, about 10 KB a job.
//
// It guarantees that a record is purged only when its report, the checkpoint that
// covers it, and the record of the fold are all durable, and never the last record
// of a journal. After a crash at any instruction the next folding begins where the
// last recorded one ended; a blob that no fold names is all that may be left over.
package fold

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"time"

	"crier/internal/pause"
	"crier/job"
	"crier/state/ledger"
	"crier/state/parked"
	"crier/state/report"
)

// Index is the parked index; *parked.Index has it.
type Index interface {
	WriteCheckpoint(w io.Writer) (parked.Checkpoint, error)
	// Size is the bytes that it takes on disk, about as many as a checkpoint.
	Size() (uint64, error)
}

// Blobs is where reports and checkpoints go; *blob.Dir has it.
type Blobs interface {
	// Put stores what r gives and returns its digest once it is durable.
	Put(ctx context.Context, r io.Reader) (job.Digest, int64, error)
	// Delete removes a blob; one that is not there is fine.
	Delete(ctx context.Context, digest job.Digest) error
}

// Config is what a folder works with.
type Config struct {
	Log   ledger.Log
	Index Index
	Blobs Blobs
	// Every is the bytes by which the ledger grows between two foldings. Default
	// 256 MiB, or the size of the index if that is more, so that checkpoints are no more
	// to write than the ledger is. It is an eighth of the ledger's limit at most, and a ledger
	// that is more than five eighths full is folded again however little it grew.
	Every uint64
	// Report is about the bytes of one report. Default 64 MiB.
	Report uint64
	Now    func() time.Time // default time.Now
	Logger *slog.Logger     // default slog.Default()
}

const (
	defaultEvery  = 256 << 20
	defaultReport = 64 << 20
	lookEvery     = 500 * time.Millisecond
	retryAfter    = 10 * time.Second
)

// Folder folds one ledger. One at a time may be at work; a second one finds that
// the ledger was folded by another and gives up.
type Folder struct {
	cfg  Config
	base uint64        // bytes of the ledger after the last folding
	past uint64        // the last record before which all was purged that could be
	rest time.Time     // when a ledger that stays full may be folded again
	held chan struct{} // has room for one: who folds, or keeps it from folding
}

// New makes a folder; Run runs it.
func New(cfg Config) *Folder {
	if cfg.Report == 0 {
		cfg.Report = defaultReport
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.Default()
	}
	return &Folder{cfg: cfg, held: make(chan struct{}, 1)}
}

// Run folds whenever the ledger has grown enough, until ctx ends; it returns nil
// then. A folding that fails is tried again: nothing waits for it but space.
func (f *Folder) Run(ctx context.Context) error {
	wait := time.NewTimer(lookEvery)
	defer wait.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-wait.C:
		}
		next := lookEvery
		if err := f.look(ctx); err != nil && ctx.Err() == nil {
			f.cfg.Logger.Warn("folding the ledger; it is tried again", "error", err)
			next = retryAfter
		}
		wait.Reset(next)
	}
}

// Hold waits until no folding is under way and keeps the next one from beginning until
// release: nothing is purged meanwhile, and no checkpoint is deleted.
func (f *Folder) Hold() (release func()) {
	f.held <- struct{}{}
	return func() { <-f.held }
}

// look folds if the ledger has grown enough.
func (f *Folder) look(ctx context.Context) error {
	u, err := f.cfg.Log.Usage(ctx)
	if err != nil {
		return err
	}
	due, err := f.due(u)
	if err != nil || !due {
		return err
	}
	return f.fold(ctx, hasTime(u))
}

// due reports whether to fold. What an open reserve kept from being purged can be, once that
// is closed; near its limit the ledger takes no more, so that nobody may wait for it to grow.
func (f *Folder) due(u ledger.Usage) (bool, error) {
	f.base = min(f.base, u.Bytes)
	grown := u.Bytes - f.base
	switch {
	case u.Limit > 0 && grown >= u.Limit/8:
		return true, nil
	case u.Limit > 0 && u.Bytes > u.Limit/8*5 && u.Last > f.past && !f.cfg.Now().Before(f.rest):
		return true, nil
	case f.cfg.Every > 0:
		return grown >= f.cfg.Every, nil
	case grown < defaultEvery:
		return false, nil
	}
	size, err := f.cfg.Index.Size()
	return err == nil && grown >= size, err
}

// Fold folds everything that the parked index has taken in, and purges it.
func (f *Folder) Fold(ctx context.Context) error { return f.fold(ctx, false) }

// fold folds; slowly, if there is time.
func (f *Folder) fold(ctx context.Context, slowly bool) error {
	select {
	case f.held <- struct{}{}:
	case <-ctx.Done():
		return ctx.Err()
	}
	defer func() { <-f.held }()
	began := f.cfg.Now()
	folds, err := ledger.ReadFolds(ctx, f.cfg.Log)
	if err != nil {
		return err
	}
	var at parked.Checkpoint
	checkpoint, err := f.put(ctx, slowly, func(w io.Writer) (err error) {
		at, err = f.cfg.Index.WriteCheckpoint(w)
		return err
	})
	if err != nil {
		return fmt.Errorf("storing a checkpoint: %w", err)
	}
	before, hadOne := folds.Checkpoint()
	if at.Watermark < folds.Through() {
		return fmt.Errorf("the index is at record %d, the ledger is folded up to %d", at.Watermark, folds.Through())
	}
	recorded := len(folds.List)
	if err := f.report(ctx, slowly, &folds, at.Watermark, checkpoint); err != nil {
		return err
	}
	recorded = len(folds.List) - recorded
	if err := f.purge(ctx, at.Needs); err != nil {
		return err
	}
	if hadOne && before.Checkpoint != checkpoint {
		if err := f.cfg.Blobs.Delete(ctx, before.Checkpoint); err != nil {
			return fmt.Errorf("deleting the checkpoint before: %w", err)
		}
	}
	u, err := f.cfg.Log.Usage(ctx)
	if err != nil {
		return err
	}
	now := f.cfg.Now()
	f.base, f.past = u.Bytes, at.Needs-1+uint64(recorded)
	f.rest = now.Add(max(retryAfter, rests*now.Sub(began)))
	f.cfg.Logger.Info("ledger folded", "through", at.Watermark, "bytes left", u.Bytes, "seconds", now.Sub(began).Seconds())
	return nil
}

// report writes what is not folded yet, before sequence through, into reports, and
// records each; the last one with the checkpoint.
func (f *Folder) report(ctx context.Context, slowly bool, folds *ledger.Folds, through uint64, checkpoint job.Digest) error {
	for {
		next := ledger.Fold{From: folds.Through(), At: f.cfg.Now().UTC()}
		digest, err := f.put(ctx, slowly, func(w io.Writer) error { return f.stretch(ctx, w, &next, through) })
		if err != nil {
			return fmt.Errorf("storing a report: %w", err)
		}
		last := next.Through == through
		if last {
			next.Checkpoint = checkpoint
		}
		if next.Records > 0 {
			next.Report = digest
		} else if err := f.cfg.Blobs.Delete(ctx, digest); err != nil {
			return fmt.Errorf("deleting a report of nothing: %w", err)
		}
		seq, err := f.cfg.Log.Append(ctx, ledger.FoldSubject, folds.Last, next.Bytes())
		if err != nil {
			// Stored or not, the next folding reads which (rule 2).
			return fmt.Errorf("recording a fold: %w", err)
		}
		folds.List, folds.Last = append(folds.List, next), seq
		if last {
			return nil
		}
	}
}

// stretch writes one report, and fills in how far it goes.
func (f *Folder) stretch(ctx context.Context, out io.Writer, next *ledger.Fold, through uint64) error {
	w, err := report.NewWriter(out)
	if err != nil {
		return err
	}
	next.Through = through
	full := errors.New("the report is full")
	err = ledger.ReadAll(ctx, f.cfg.Log, next.From, ledger.AllJournals, func(st ledger.Stored) error {
		if st.Seq >= through {
			return full
		}
		if next.Records > 0 && w.Bytes() >= f.cfg.Report {
			next.Through = st.Seq
			return full
		}
		next.Records++
		return w.Add(st)
	})
	if err != nil && !errors.Is(err, full) {
		return err
	}
	return w.Finish()
}

// purge removes the journals' records before a sequence.
func (f *Folder) purge(ctx context.Context, before uint64) error {
	journals, err := f.cfg.Log.Subjects(ctx, ledger.AllJournals)
	if err != nil {
		return fmt.Errorf("listing the journals: %w", err)
	}
	for subject, records := range journals {
		if records < 2 {
			continue
		}
		if err := f.cfg.Log.Purge(ctx, subject, before); err != nil {
			return fmt.Errorf("purging what is folded: %w", err)
		}
	}
	return nil
}

// put stores what write writes.
func (f *Folder) put(ctx context.Context, slowly bool, write func(io.Writer) error) (job.Digest, error) {
	r, w := io.Pipe()
	written := make(chan error, 1)
	go func() {
		var out io.Writer = w
		if slowly {
			out = &slow{ctx: ctx, to: w, log: f.cfg.Log, began: time.Now(), asked: time.Now()}
		}
		err := write(out)
		w.CloseWithError(err) // nil is the end of the file
		written <- err
	}()
	digest, _, err := f.cfg.Blobs.Put(ctx, r)
	r.CloseWithError(errors.Join(err, io.ErrClosedPipe))
	if wrote := <-written; err == nil {
		err = wrote
	}
	return digest, err
}

// hasTime reports whether a folding may take its time.
func hasTime(u ledger.Usage) bool { return u.Limit == 0 || u.Bytes < u.Limit/2 }

// slow lets whoever writes, and the disk, rest three times as long as they worked, as long as the
// ledger has room: the index may be gigabytes, and is read and written beside all that is sent and
// drained meanwhile.
type slow struct {
	ctx   context.Context
	to    io.Writer
	log   ledger.Log
	began time.Time // the work
	asked time.Time // whether there is time; zero: there is none any more
}

const (
	rests    = 3 // times the work
	askEvery = time.Second
)

// Write implements io.Writer.
func (s *slow) Write(b []byte) (int, error) {
	n, err := s.to.Write(b)
	if err != nil || s.asked.IsZero() {
		return n, err
	}
	if !pause.For(s.ctx, rests*time.Since(s.began)) {
		return n, s.ctx.Err()
	}
	if s.began = time.Now(); s.began.Sub(s.asked) < askEvery {
		return n, nil
	}
	s.asked = s.began
	if u, err := s.log.Usage(s.ctx); err != nil || !hasTime(u) {
		s.asked = time.Time{}
	}
	return n, nil
}
