package entry

import (
	"context"
	"fmt"
	"log/slog"
	"strings"
	"time"

	"crier/job"
)

// clockLimit is by how much a process's clock may be off from those of most of the
// servers that it can ask; the members' own bound for each other is the same.
const clockLimit = 2 * time.Minute

// clockWithin bounds asking one server.
const clockWithin = 2 * time.Second

// Clock is a server that tells the time.
type Clock struct {
	Name string // with its setting: ZooKeeper (coordination.zookeeper)
	Ask  func(context.Context) (time.Time, error)
}

// sample is how far this process's clock is ahead of a server's, to within err.
type sample struct {
	name     string
	off, err time.Duration
}

// wrong says what is wrong with this process's clock, if most servers say so: one that is
// off by itself convinces nobody.
func wrong(samples []sample) error {
	for _, side := range []struct {
		sign time.Duration
		word string
	}{{1, "ahead of"}, {-1, "behind"}} {
		var by []string
		var least time.Duration
		for _, s := range samples {
			if off := side.sign*s.off - s.err; off > clockLimit {
				by = append(by, s.name)
				if least == 0 || off < least {
					least = off
				}
			}
		}
		if 2*len(by) > len(samples) {
			return job.Conflict(fmt.Sprintf("clock: the clock of this machine is %s %s that of %s, and %s is the most that is allowed; set it (timedatectl set-ntp true) and start again",
				least.Round(time.Second), side.word, strings.Join(by, " and that of "), clockLimit))
		}
	}
	return nil
}

// CheckClock refuses a process whose clock is off: what is due, how old a message is, and
// when a token ends is by it. A server that does not answer is not counted.
func CheckClock(ctx context.Context, clocks []Clock, log *slog.Logger) error {
	var samples []sample
	for _, c := range clocks {
		began := time.Now()
		try, cancel := context.WithTimeout(ctx, clockWithin)
		theirs, err := c.Ask(try)
		cancel()
		if err != nil {
			log.Warn("a server does not tell the time, by which this machine's clock is checked", "server", c.Name, "error", err)
			continue
		}
		half := time.Since(began) / 2
		s := sample{c.Name, began.Add(half).Sub(theirs), half}
		if s.off.Abs()-s.err > clockLimit {
			log.Warn("a server's clock is another", "server", c.Name, "this one is ahead by", s.off.Round(time.Millisecond))
		}
		samples = append(samples, s)
	}
	return wrong(samples)
}
