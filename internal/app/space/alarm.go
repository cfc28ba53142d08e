package space

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"crier/job"
)

// Level says how full a disk is.
type Level uint8

// The levels.
const (
	Fine Level = iota
	Warning
	Critical
)

var levelNames = [...]string{"ok", "warning", "critical"}

// String is the word used in the API.
func (l Level) String() string { return levelNames[l] }

// back is by how many percent of a disk its use must fall below a limit to be below it:
// a disk that hovers there is told of once.
const back = 2

// Limits are the percent of a disk from which on it is told of.
type Limits struct {
	Warn float64 // default 70
	Crit float64 // default 85
}

// Validate fills in the defaults and refuses limits that would never be met, or not in
// their order.
func (l *Limits) Validate() error {
	if l.Warn == 0 {
		l.Warn = 70
	}
	if l.Crit == 0 {
		l.Crit = 85
	}
	if !(l.Warn > 0 && l.Warn < l.Crit && l.Crit <= 100) {
		return job.Invalid("limits.disk_warn", fmt.Sprintf("limits.disk_warn %v and limits.disk_crit %v: want percentages of which the first is the lower", l.Warn, l.Crit), nil)
	}
	return nil
}

// next is the level of a disk that had one and is used to so many percent.
func (l Limits) next(was Level, percent float64) Level {
	at := func(level Level, limit float64) bool {
		if was >= level {
			limit -= back
		}
		return percent >= limit
	}
	switch {
	case at(Critical, l.Crit):
		return Critical
	case at(Warning, l.Warn):
		return Warning
	}
	return Fine
}

// Dir is a directory whose disk is watched.
type Dir struct{ Name, Path string }

// Disk is a file system and what is on it.
type Disk struct {
	Of    []string // names of directories
	Used  uint64   // bytes, without what only root may still take
	Size  uint64   // bytes that are used or free
	Level Level
}

// Percent is how much of it is used.
func (d Disk) Percent() float64 {
	if d.Size == 0 {
		return 100
	}
	return 100 * float64(d.Used) / float64(d.Size)
}

// statted is one directory's file system.
type statted struct {
	id         uint64 // of the file system
	used, size uint64
}

// stat looks at a directory's file system.
func stat(dir string) (s statted, err error) {
	var on syscall.Statfs_t
	if err := syscall.Statfs(dir, &on); err != nil {
		return s, fmt.Errorf("looking how full the disk of %s is: %w", dir, err)
	}
	info, err := os.Stat(dir)
	if err != nil {
		return s, err
	}
	block := uint64(on.Bsize)
	s = statted{used: (on.Blocks - on.Bfree) * block, size: (on.Blocks - on.Bfree + on.Bavail) * block}
	if sys, ok := info.Sys().(*syscall.Stat_t); ok {
		s.id = uint64(sys.Dev)
	}
	return s, nil
}

// Alarms tells when disks fill up: once when one crosses a limit, and once when it is
// below again. It is safe for concurrent use.
type Alarms struct {
	dirs   []Dir
	limits Limits
	log    *slog.Logger
	stat   func(dir string) (statted, error)
	mu     struct {
		sync.Mutex
		levels map[string]Level // by the names of what is on a disk
		failed map[string]bool  // directories that could not be looked at
	}
}

// NewAlarms watches the disks of some directories. The limits are valid.
func NewAlarms(dirs []Dir, limits Limits, log *slog.Logger) *Alarms {
	a := &Alarms{dirs: dirs, limits: limits, log: log, stat: stat}
	a.mu.levels, a.mu.failed = map[string]Level{}, map[string]bool{}
	return a
}

// Limits are those that it goes by.
func (a *Alarms) Limits() Limits { return a.limits }

// Look gives the disks as they are now, one of each, and tells what has changed. A
// directory that is not there is passed over.
func (a *Alarms) Look() []Disk {
	a.mu.Lock()
	defer a.mu.Unlock()
	var disks []Disk
	at := map[uint64]int{}
	for _, d := range a.dirs {
		s, err := a.stat(d.Path)
		if err != nil {
			if !a.mu.failed[d.Name] && !errors.Is(err, fs.ErrNotExist) {
				a.log.Warn("a disk cannot be looked at", "of", d.Name, "error", err)
				a.mu.failed[d.Name] = true
			}
			continue
		}
		a.mu.failed[d.Name] = false
		if i, ok := at[s.id]; ok {
			disks[i].Of = append(disks[i].Of, d.Name)
			continue
		}
		at[s.id] = len(disks)
		disks = append(disks, Disk{Of: []string{d.Name}, Used: s.used, Size: s.size})
	}
	for i := range disks {
		a.judgeLocked(&disks[i])
	}
	return disks
}

func (a *Alarms) judgeLocked(d *Disk) {
	name := d.Of[0] // the first directory on a disk names it: more may be made later
	was := a.mu.levels[name]
	d.Level = a.limits.next(was, d.Percent())
	a.mu.levels[name] = d.Level
	if d.Level == was {
		return
	}
	tell := a.log.Info
	switch d.Level {
	case Warning:
		tell = a.log.Warn
	case Critical:
		tell = a.log.Error
	}
	tell("how full a disk is has changed", "of", strings.Join(d.Of, ", "), "level", d.Level.String(), "before", was.String(),
		"percent", fmt.Sprintf("%.1f", d.Percent()), "free", d.Size-d.Used)
}

// alarmEvery is how often disks are looked at if nobody asks.
const alarmEvery = 5 * time.Second

// Run looks again and again until ctx ends.
func (a *Alarms) Run(ctx context.Context) error {
	t := time.NewTicker(alarmEvery)
	defer t.Stop()
	for {
		a.Look()
		select {
		case <-ctx.Done():
			return nil
		case <-t.C:
		}
	}
}

var (
	usedRatio = prometheus.NewDesc("crier_disk_used_ratio", "How much of a file system is used, by the first of what is on it: 0 to 1.", []string{"of"}, nil)
	alarm     = prometheus.NewDesc("crier_disk_alarm", "How full a file system is by its limits: 0 ok, 1 warning, 2 critical.", []string{"of"}, nil)
)

// Describe implements prometheus.Collector.
func (a *Alarms) Describe(ch chan<- *prometheus.Desc) { ch <- usedRatio; ch <- alarm }

// Collect implements prometheus.Collector.
func (a *Alarms) Collect(ch chan<- prometheus.Metric) {
	for _, d := range a.Look() {
		ch <- prometheus.MustNewConstMetric(usedRatio, prometheus.GaugeValue, d.Percent()/100, d.Of[0])
		ch <- prometheus.MustNewConstMetric(alarm, prometheus.GaugeValue, float64(d.Level), d.Of[0])
	}
}
