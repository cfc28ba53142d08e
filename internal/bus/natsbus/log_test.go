package natsbus

import (
	"bytes"
	"errors"
	"log/slog"
	"strings"
	"testing"
	"time"
)

// What the server says in the course of a crash, or while another is away, is told for what
// it is; all else keeps its level.
func TestServerLogLevels(t *testing.T) {
	var b bytes.Buffer
	l := &serverLog{to: slog.New(slog.NewTextHandler(&b, nil)), now: time.Now}
	gone := errors.New("connection refused")
	for _, x := range []struct {
		say  func()
		want []string
	}{
		{func() {
			l.Warnf("Filestore [LEDGER] Recovering stream state from index errored: %v", errors.New("prior state file"))
		}, []string{"level=INFO", "nothing is lost", "LEDGER", "prior state file"}},
		{func() { l.Warnf("Filestore [LEDGER] Stream state encountered internal inconsistency on write") }, []string{"level=WARN", "inconsistency"}},
		{func() { l.Errorf("Error trying to connect to route (attempt %v): %v", 60, gone) }, []string{"level=WARN", "every second", "attempt 60", "refused"}},
		{func() { l.Errorf("Error creating the file %v", gone) }, []string{"level=ERROR", "refused"}},
		{func() { l.Noticef("Server is ready") }, nil},
	} {
		b.Reset()
		x.say()
		if len(x.want) == 0 && b.Len() > 0 {
			t.Errorf("it tells %s", &b)
		}
		for _, w := range x.want {
			if !strings.Contains(b.String(), w) {
				t.Errorf("it does not say %q: %s", w, &b)
			}
		}
	}
}

// That a server is away is told once a minute, however many connections to it are tried; of
// another one by itself.
func TestAServerThatIsAwayIsToldOnceAMinute(t *testing.T) {
	var b bytes.Buffer
	now := time.Unix(1_700_000_000, 0)
	l := &serverLog{to: slog.New(slog.NewTextHandler(&b, nil)), now: func() time.Time { return now }}
	for _, x := range []struct {
		after time.Duration
		why   string
		told  bool
	}{{0, "dial a", true}, {0, "dial a", false}, {time.Second, "dial b", true}, {58 * time.Second, "dial a", false}, {time.Second, "dial a", true}, {0, "dial b", false}} {
		b.Reset()
		now = now.Add(x.after)
		if l.Errorf(noRoute+" (attempt %v): %v", 1, errors.New(x.why)); (b.Len() > 0) != x.told {
			t.Errorf("%s is told: %q, want that %t", x.why, &b, x.told)
		}
	}
}
