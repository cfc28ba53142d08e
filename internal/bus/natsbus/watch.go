package natsbus

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/nats-io/nats-server/v2/server"
)

// ErrWrite is wrapped when a stream could not write to its disk. It takes no records
// until the server is started again.
var ErrWrite = errors.New("a stream could not write to its disk")

// watchEvery bounds how long appends go unanswered before it is noticed.
const watchEvery = time.Second

// Watch returns with ErrWrite when a stream has stopped taking records, and with nil
// when ctx ends.
func (s *Server) Watch(ctx context.Context) error {
	tick := time.NewTicker(watchEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		if ill := illness(s.nats.Healthz(&server.HealthzOptions{Details: true}).Errors); ill != "" {
			return fmt.Errorf("%w: %s", ErrWrite, ill)
		}
	}
}

// illness says which streams had an error of writing. Other findings are none: on a
// busy machine the server finds that it was slow to take a connection, or that a
// stream that is just being made is not there.
func illness(errs []server.HealthzError) string {
	var all []string
	for _, e := range errs {
		if e.Type == server.HealthzErrorStream && strings.Contains(e.Error, "write error") {
			all = append(all, e.Error)
		}
	}
	return strings.Join(all, "; ")
}
