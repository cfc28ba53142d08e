// Package space is what the disk of a process has free: whether it is full, and what then.
//
// It guarantees that the port is kept and every request answered there while the disk is
// full, and that whoever waits for space goes on by itself. So it is for who waits until the
// NATS servers keep what they acknowledge.
package space

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"net/http"
	"path/filepath"
	"syscall"
	"time"

	"github.com/prometheus/client_golang/prometheus/promhttp"

	"crier/api/server"
	"crier/internal/app/metrics"
	"crier/internal/bus/natsbus"
	"crier/job"
)

// A disk with less than MinFree, or a sixteenth of it if that is less, is full:
// stores that meet its very end have to be opened again, and cannot all be closed
// well. It has space again when it has enough times as much.
const (
	MinFree   = 16 << 20
	enough    = 2
	LookEvery = 200 * time.Millisecond
	// restAfter is how long a process that met the end of a disk waits at least.
	restAfter = time.Second
)

// MaxLedger is the most that the ledger takes unless told otherwise.
const MaxLedger = 64 << 30

// ErrNoSpace marks what ends a process's parts because its disk is full.
var ErrNoSpace = errors.New("the disk is full")

// Config says which disk, and where to answer.
type Config struct {
	Data    string // directory whose disk it is
	Address string // host:port that is kept
	Log     *slog.Logger
	Dirs    []Dir  // whose disks are told of when they fill up
	Limits  Limits // from when on; valid
}

// Space is what outlasts the parts of a process: it watches the disks of the data
// directory and of the stores in it, keeps the port, and answers there while the disk is full. One
// goroutine at a time uses it, besides Watch and requests.
type Space struct {
	// Free tells how many bytes the disk of a directory has free, and how many it must
	// have. Tests put another one in its place.
	Free     func(dir string) (free, floor int64, err error)
	Alarms   *Alarms
	cfg      Config
	port     *net.TCPListener // nil until it is needed
	refusing *http.Server     // nil unless the disk is full, or it is held
}

// New makes one. It looks at nothing yet.
func New(cfg Config) *Space {
	return &Space{cfg: cfg, Alarms: NewAlarms(cfg.Dirs, cfg.Limits, cfg.Log), Free: freeOf}
}

// Close lets the port go.
func (s *Space) Close() {
	if s.port != nil {
		s.port.Close() // only its copies were accepted from
	}
}

// Probe finds out whether the port can be had, long before it is needed: who finds that
// out later has become a member meanwhile.
func (s *Space) Probe() error {
	l, err := net.Listen("tcp", s.cfg.Address)
	if err != nil {
		return unheard(err)
	}
	return l.Close()
}

func unheard(err error) error {
	return job.Invalid("listen", "listen: the address cannot be had; give another, or stop who has it", err)
}

// Listen gives a listener at the port. Closing it leaves the port open, so that
// whoever connects waits for the next one and is not turned away.
func (s *Space) Listen() (net.Listener, error) {
	if s.port == nil {
		l, err := net.Listen("tcp", s.cfg.Address)
		if err != nil {
			return nil, unheard(err)
		}
		s.port = l.(*net.TCPListener)
	}
	f, err := s.port.File()
	if err != nil {
		return nil, fmt.Errorf("sharing the port: %w", err)
	}
	defer f.Close()
	return net.FileListener(f)
}

// freeOf is how much the disk of a directory has free, and how much it must have.
func freeOf(dir string) (free, floor int64, err error) {
	var fs syscall.Statfs_t
	if err := syscall.Statfs(dir, &fs); err != nil {
		return 0, 0, fmt.Errorf("looking how much the disk of %s has free: %w", dir, err)
	}
	return int64(fs.Bavail) * fs.Bsize, min(MinFree, int64(fs.Blocks)*fs.Bsize/16), nil
}

// Usage adds up the files under a path; what vanishes meanwhile counts nothing.
func Usage(root string) uint64 {
	var n uint64
	filepath.WalkDir(root, func(_ string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return nil
		}
		if info, err := d.Info(); err == nil {
			n += uint64(info.Size())
		}
		return nil
	})
	return n
}

// stores are the directories in the data directory without whose disks nothing goes on;
// an operator may have put them elsewhere.
var stores = []string{"nats", "parked"}

// short says what is wrong if a disk has less than so many times what it must have.
func (s *Space) short(times int64) error {
	for _, name := range append([]string{""}, stores...) {
		free, floor, err := s.Free(filepath.Join(s.cfg.Data, name))
		if name != "" && errors.Is(err, fs.ErrNotExist) {
			continue // it is not made yet
		}
		if err != nil {
			return err
		}
		if free < times*floor {
			return &job.Error{Code: job.CodeFull, Err: ErrNoSpace, Message: fmt.Sprintf(
				"the disk of %s has %d KiB free; free some: once %d KiB are free the server goes on by itself", filepath.Join("the data directory", name), free>>10, enough*floor>>10)}
		}
	}
	return nil
}

// ForLedger is the ledger's limit: half of what it has and could have, but at least
// some more than it has, so that the next process can take over.
func (s *Space) ForLedger() (int64, error) {
	dir := filepath.Join(s.cfg.Data, "nats")
	free, _, err := s.Free(dir)
	if errors.Is(err, fs.ErrNotExist) {
		free, _, err = s.Free(s.cfg.Data) // where it will be
	}
	if err != nil {
		return 0, err
	}
	has := int64(Usage(dir))
	return max(min(MaxLedger, (free+has)/2), has+free/8), nil
}

// RanOut reports whether parts ended because the disk is full.
func (s *Space) RanOut(err error) bool {
	return err != nil && (errors.Is(err, ErrNoSpace) || errors.Is(err, syscall.ENOSPC) || errors.Is(err, natsbus.ErrWrite) || errors.Is(s.short(1), ErrNoSpace))
}

// Watch returns when the disk is full.
func (s *Space) Watch(ctx context.Context) error {
	look := time.NewTicker(LookEvery)
	defer look.Stop()
	for {
		if err := s.short(1); err != nil {
			return err
		}
		select {
		case <-look.C:
		case <-ctx.Done():
			return nil
		}
	}
}

// Wait returns when the disk has space, or with nil when ctx ends. After an end of
// the parts that was due to the disk it takes its time.
func (s *Space) Wait(ctx context.Context, after error) error {
	full := s.short(1)
	if full == nil && after == nil || full != nil && !errors.Is(full, ErrNoSpace) {
		return full
	}
	s.cfg.Log.Error("nothing is accepted or sent until the disk has space", "data", s.cfg.Data, "after", after, "error", full)
	if err := s.Refuse(s.full()); err != nil {
		return err
	}
	defer s.relent()
	for again := restAfter; ; again = LookEvery {
		select {
		case <-time.After(again):
		case <-ctx.Done():
			return nil
		}
		if s.short(enough) == nil {
			s.cfg.Log.Info("the disk has space; starting again")
			return nil
		}
	}
}

// full says what is wrong with the disk now, or was.
func (s *Space) full() error {
	if why := s.short(enough); why != nil {
		return why
	}
	return &job.Error{Code: job.CodeFull, Message: "the disk of the data directory was full; the server starts again", Err: ErrNoSpace}
}

// Refuse answers requests with what is wrong, until relent: if it is the disk, with how
// that is at each of them. The metrics have nothing but the disks and the process then.
func (s *Space) Refuse(why error) error {
	if s.refusing != nil {
		return nil
	}
	now := func() error {
		if errors.Is(why, ErrNoSpace) {
			return s.full()
		}
		return why
	}
	reg := metrics.New()
	reg.MustRegister(s.Alarms)
	h, err := server.New(server.Config{Refuse: now, Metrics: promhttp.HandlerFor(reg.Registry, promhttp.HandlerOpts{}), Log: s.cfg.Log, Connect: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Retry-After", "1")
		http.Error(w, "the gateway takes no connections now", http.StatusServiceUnavailable)
	})})
	if err != nil {
		return err
	}
	l, err := s.Listen()
	if err != nil {
		return err
	}
	s.refusing = &http.Server{Handler: h, ReadHeaderTimeout: 10 * time.Second, ErrorLog: slog.NewLogLogger(s.cfg.Log.Handler(), slog.LevelDebug)}
	go s.refusing.Serve(l) // ends with an error that says that it ended
	return nil
}

// relent ends what refuse began, after the answers that are under way.
func (s *Space) relent() {
	ctx, cancel := context.WithTimeout(context.Background(), restAfter)
	defer cancel()
	if s.refusing.Shutdown(ctx) != nil {
		s.refusing.Close()
	}
	s.refusing = nil
}
