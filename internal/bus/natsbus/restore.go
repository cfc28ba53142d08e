package natsbus

import (
	"encoding/json"
	"fmt"
	"io"

	"github.com/nats-io/nats-server/v2/server"
)

// Restore makes a stream of what natsstream's Snapshot wrote: its records have the same
// sequences and times. The server must not have a stream of that name.
func (s *Server) Restore(config json.RawMessage, r io.Reader) error {
	var cfg server.StreamConfig
	if err := json.Unmarshal(config, &cfg); err != nil {
		return fmt.Errorf("reading the configuration of a stream: %w", err)
	}
	if _, err := s.nats.GlobalAccount().RestoreStreamV2(&cfg, r); err != nil {
		return fmt.Errorf("making the stream %s again: %w", cfg.Name, err)
	}
	return nil
}
