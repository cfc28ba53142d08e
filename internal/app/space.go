package app

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"path/filepath"
	"syscall"
	"time"

	"crier/api/server"
	"crier/internal/auth"
	"crier/internal/authority"
	"crier/internal/bus/natsbus"
	"crier/job"
)

// A disk with less than minFree, or a sixteenth of it if that is less, is full:
// stores that meet its very end have to be opened again, and cannot all be closed
// well. It has space again when it has twice as much.
const (
	minFree   = 16 << 20
	lookEvery = 200 * time.Millisecond
	// restAfter is how long a process that met the end of a disk waits at least.
	restAfter = time.Second
)

// maxLedger is the most that the ledger takes unless told otherwise.
const maxLedger = 64 << 30

// errNoSpace marks what ends a process's parts because its disk is full.
var errNoSpace = errors.New("the disk is full")

// space is what outlasts the parts of a process: it watches the disk of the data
// directory, keeps the port, and answers there while the disk is full. One
// goroutine at a time uses it, besides watch.
type space struct {
	data, keys, address string
	free                func() (free, floor int64, err error) // bytes; what the disk must have is the second
	log                 *slog.Logger
	port                *net.TCPListener // nil until it is needed
	refusing            *http.Server     // nil unless the disk is full
}

func newSpace(cfg Config) *space {
	return &space{data: cfg.Data, keys: cfg.Keys, address: cfg.Listen, log: cfg.Logger, free: func() (int64, int64, error) { return freeOf(cfg.Data) }}
}

func (s *space) close() {
	if s.port != nil {
		s.port.Close() // only its copies were accepted from
	}
}

// probe finds out whether the port can be had, long before it is needed: who finds that
// out later has become a member meanwhile.
func (s *space) probe() error {
	l, err := net.Listen("tcp", s.address)
	if err != nil {
		return unheard(err)
	}
	return l.Close()
}

func unheard(err error) error {
	return job.Invalid("listen", "listen: the address cannot be had; give another, or stop who has it", err)
}

// listen gives a listener at the port. Closing it leaves the port open, so that
// whoever connects waits for the next one and is not turned away.
func (s *space) listen() (net.Listener, error) {
	if s.port == nil {
		l, err := net.Listen("tcp", s.address)
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
	return int64(fs.Bavail) * fs.Bsize, min(minFree, int64(fs.Blocks)*fs.Bsize/16), nil
}

// short says what is wrong if the disk has less than so many times what it must have.
func (s *space) short(times int64) error {
	free, floor, err := s.free()
	if err != nil {
		return err
	}
	if free >= times*floor {
		return nil
	}
	return &job.Error{Code: job.CodeFull, Err: errNoSpace, Message: fmt.Sprintf(
		"the disk of the data directory has %d KiB free and needs %d KiB; free some and the server goes on by itself", free>>10, times*floor>>10)}
}

// forLedger is the ledger's limit: half of what it has and could have, but at least
// some more than it has, so that the next process can take over.
func (s *space) forLedger() (int64, error) {
	free, _, err := s.free()
	if err != nil {
		return 0, err
	}
	has := int64(diskUsage(filepath.Join(s.data, "nats")))
	return max(min(maxLedger, (free+has)/2), has+free/8), nil
}

// ranOut reports whether parts ended because the disk is full.
func (s *space) ranOut(err error) bool {
	return err != nil && (errors.Is(err, errNoSpace) || errors.Is(err, syscall.ENOSPC) || errors.Is(err, natsbus.ErrWrite) || errors.Is(s.short(1), errNoSpace))
}

// watch returns when the disk is full.
func (s *space) watch(ctx context.Context) error {
	look := time.NewTicker(lookEvery)
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

// wait returns when the disk has space, or with nil when ctx ends. After an end of
// the parts that was due to the disk it takes its time.
func (s *space) wait(ctx context.Context, after error) error {
	full := s.short(1)
	if full == nil && after == nil || full != nil && !errors.Is(full, errNoSpace) {
		return full
	}
	s.log.Error("nothing is accepted or sent until the disk has space", "data", s.data, "after", after, "error", full)
	if err := s.refuse(); err != nil {
		return err
	}
	defer s.relent()
	for again := restAfter; ; again = lookEvery {
		select {
		case <-time.After(again):
		case <-ctx.Done():
			return nil
		}
		if s.short(2) == nil {
			s.log.Info("the disk has space; starting again")
			return nil
		}
	}
}

// refuse answers requests with what is wrong, until relent.
func (s *space) refuse() error {
	if s.refusing != nil {
		return nil
	}
	why := s.short(1)
	if why == nil {
		why = &job.Error{Code: job.CodeFull, Message: "the disk of the data directory was full; the server starts again", Err: errNoSpace}
	}
	keys, err := auth.Open(auth.Config{Data: s.keys})
	if err != nil {
		return err
	}
	h, err := server.New(server.Config{Keys: authority.New(authority.Config{Admin: keys}), Refuse: why, Log: s.log, Connect: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Retry-After", "1")
		http.Error(w, "the gateway takes no connections now", http.StatusServiceUnavailable)
	})})
	if err != nil {
		return err
	}
	l, err := s.listen()
	if err != nil {
		return err
	}
	s.refusing = &http.Server{Handler: h, ReadHeaderTimeout: 10 * time.Second, ErrorLog: slog.NewLogLogger(s.log.Handler(), slog.LevelDebug)}
	go s.refusing.Serve(l) // ends with an error that says that it ended
	return nil
}

// relent ends what refuse began, after the answers that are under way.
func (s *space) relent() {
	ctx, cancel := context.WithTimeout(context.Background(), restAfter)
	defer cancel()
	if s.refusing.Shutdown(ctx) != nil {
		s.refusing.Close()
	}
	s.refusing = nil
}
