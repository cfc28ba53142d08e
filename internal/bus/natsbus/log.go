package natsbus

import (
	"fmt"
	"log/slog"
	"maps"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats-server/v2/server"
)

// serverLog hands the server's messages to slog. Its notices are details to us.
type serverLog struct {
	to  *slog.Logger
	now func() time.Time
	mu  struct {
		sync.Mutex
		fatal error                // the first fatal message
		told  map[string]time.Time // when it was told last why a server is not reached
	}
}

// toldEvery is how often it is told that another server is away: several connections to
// it are tried, each anew.
const toldEvery = time.Minute

// due reports whether something is to be told, which was not within toldEvery.
func (l *serverLog) due(what string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	now := l.now()
	maps.DeleteFunc(l.mu.told, func(_ string, at time.Time) bool { return now.Sub(at) >= toldEvery })
	if _, ok := l.mu.told[what]; ok {
		return false
	}
	if l.mu.told == nil {
		l.mu.told = map[string]time.Time{}
	}
	l.mu.told[what] = now
	return true
}

var _ server.Logger = (*serverLog)(nil)

func (l *serverLog) fatal() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.mu.fatal
}

// Noticef takes what a server says while all is well.
func (l *serverLog) Noticef(format string, v ...any) { l.to.Debug(fmt.Sprintf(format, v...)) }

// Words of messages of the server that sound worse than they are.
const (
	// After a crash the file beside a stream that sums it up is old or missing. The server
	// reads the stream instead.
	rebuilt = "from index errored"
	// Another server of the cluster is away. It is tried again for ever.
	noRoute = "Error trying to connect to route"
)

// Warnf takes warnings.
func (l *serverLog) Warnf(format string, v ...any) {
	text := fmt.Sprintf(format, v...)
	if strings.Contains(format, rebuilt) {
		l.to.Info("the server builds what it knows of a stream anew, as after a crash: nothing is lost", "it says", text)
		return
	}
	l.to.Warn(text)
}

// Errorf takes errors.
func (l *serverLog) Errorf(format string, v ...any) {
	text := fmt.Sprintf(format, v...)
	if strings.HasPrefix(format, noRoute) {
		if l.due(fmt.Sprint(v[max(0, len(v)-1):]...)) { // the error, without how often it came
			l.to.Warn("another server of the cluster does not answer; it is tried again every second", "it says", text)
		}
		return
	}
	l.to.Error(text)
}

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
