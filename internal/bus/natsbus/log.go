package natsbus

import (
	"fmt"
	"log/slog"
	"sync"

	"github.com/nats-io/nats-server/v2/server"
)

// serverLog hands the server's messages to slog. Its notices are details to us.
type serverLog struct {
	to *slog.Logger
	mu struct {
		sync.Mutex
		fatal error // the first fatal message
	}
}

var _ server.Logger = (*serverLog)(nil)

func (l *serverLog) fatal() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.mu.fatal
}

// Noticef takes what a server says while all is well.
func (l *serverLog) Noticef(format string, v ...any) { l.to.Debug(fmt.Sprintf(format, v...)) }

// Warnf takes warnings.
func (l *serverLog) Warnf(format string, v ...any) { l.to.Warn(fmt.Sprintf(format, v...)) }

// Errorf takes errors.
func (l *serverLog) Errorf(format string, v ...any) { l.to.Error(fmt.Sprintf(format, v...)) }

// Debugf and Tracef are not asked for.
func (l *serverLog) Debugf(string, ...any) {}

// Tracef is not asked for.
func (l *serverLog) Tracef(string, ...any) {}

// Fatalf keeps why the server cannot start; the process goes on.
func (l *serverLog) Fatalf(format string, v ...any) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.mu.fatal == nil {
		l.mu.fatal = fmt.Errorf(format, v...)
	}
}
