package natsbus

import (
	"fmt"
	"strings"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"golang.org/x/sys/unix"
)

// healEvery is how often the streams are looked at. After a failed write a stream
// answers nothing until JetStream starts anew, so this and the start bound how
// long appends go unanswered once there is space.
const healEvery = time.Second

// heal starts JetStream again when a stream has had a write error and the disk
// has space. Connections stay; streams on disk come back with all that was
// acknowledged, streams in memory come back empty.
func (s *Server) heal() {
	tick := time.NewTicker(healEvery)
	defer tick.Stop()
	waiting := false
	for {
		select {
		case <-s.stop:
			return
		case <-tick.C:
		}
		ill := s.illness()
		if ill == "" {
			waiting = false
			continue
		}
		free, err := freeBytes(s.storeDir())
		if !mayRestart(free, s.cfg.MinFree, err) {
			if !waiting {
				s.cfg.Logger.Error("the streams have stopped and wait for space on the disk",
					"cause", ill, "free", free, "need", s.cfg.MinFree, "error", err)
			}
			waiting = true
			continue
		}
		if err := s.restartStreams(); err != nil {
			s.cfg.Logger.Error("the streams have stopped and do not start", "cause", ill, "error", err)
			continue
		}
		waiting = false
		s.cfg.Logger.Warn("the streams had stopped and were started again", "cause", ill)
	}
}

// illness tells why a stream does not take records; it is empty if all do.
func (s *Server) illness() string {
	return causes(s.nats.Healthz(&server.HealthzOptions{Details: true}).Errors)
}

// causes says what is wrong with streams. The server gives itself 1 ms to find that
// it takes connections, which a busy machine takes away; that is no illness of a
// stream, and a restart for it would stop them all.
func causes(errs []server.HealthzError) string {
	var all []string
	for _, e := range errs {
		if e.Type != server.HealthzErrorConn {
			all = append(all, e.Error)
		}
	}
	return strings.Join(all, "; ")
}

// mayRestart decides: only when the disk is known to have space, because a start
// on a full disk stops again at the first record.
func mayRestart(free, need uint64, err error) bool { return err == nil && free >= need }

func (s *Server) restartStreams() error {
	if err := s.nats.ShutdownJetStream(); err != nil {
		return fmt.Errorf("stopping the streams in %s: %w", s.cfg.Dir, err)
	}
	err := s.nats.EnableJetStream(&server.JetStreamConfig{
		StoreDir:   s.storeDir(),
		MaxMemory:  s.cfg.MaxMemory,
		MaxStore:   noStoreLimit,
		SyncAlways: !s.cfg.Unsynced,
		Strict:     true,
	})
	if err != nil {
		return fmt.Errorf("starting the streams in %s: %w", s.cfg.Dir, err)
	}
	return nil
}

func freeBytes(dir string) (uint64, error) {
	var st unix.Statfs_t
	if err := unix.Statfs(dir, &st); err != nil {
		return 0, fmt.Errorf("asking the free space of %s: %w", dir, err)
	}
	return st.Bavail * uint64(st.Bsize), nil
}
