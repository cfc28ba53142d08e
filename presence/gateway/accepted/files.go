// Package accepted keeps what a gateway incarnation accepted in files that outlive
// its process, so that the next incarnation can answer for it (protocol rule 10).
//
// It guarantees: a record that Append returned for, and every Mark, is there after
// kill -9; after a stop of the machine (another boot id), or if a byte of a record
// has changed, the incarnation is unreadable as a whole and says so, for ever; what
// a killed process left half written is not there. An incarnation that is neither
// listed nor older than First left nothing.
//
// Files works on mapped segments in a directory; Disk is its twin in memory; the
// suite in acceptedtest holds both to the same behaviour. Neither is safe for
// concurrent use: the goroutine that owns the gateway's state uses them.
package accepted

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"crier/job"
	"crier/presence/gateway"
)

// ErrFull is returned by Append when the files are at their limit.
var ErrFull = errors.New("accepted: the files are full")

// keepEnded is how many earlier incarnations are kept with records that their
// owners have not yet recorded. Older ones are made unreadable.
const keepEnded = 16

// Config says where the files are and how large they may grow.
type Config struct {
	Dir          string // made if need be; one gateway only
	Incarnation  job.Incarnation
	Limit        int64  // bytes of this incarnation's segments; default 256 MiB; each kept earlier one had the same
	SegmentBytes int    // size of a segment, allocated at once; default 4 MiB, at least 1 MiB: the largest record has 700 KB
	Boot         string // names the machine's start; default that of the kernel
}

func (c *Config) fill() error {
	if c.Limit == 0 {
		c.Limit = 256 << 20
	}
	if c.SegmentBytes == 0 {
		c.SegmentBytes = 4 << 20
	}
	if c.SegmentBytes < 1<<20 || c.SegmentBytes%headerBytes != 0 || c.SegmentBytes > 1<<30 {
		return job.Invalid("segment_bytes", fmt.Sprintf("segments of %d bytes: want 1 MiB to 1 GiB in pages of %d", c.SegmentBytes, headerBytes), nil)
	}
	if c.Limit < int64(c.SegmentBytes) {
		return job.Invalid("limit", fmt.Sprintf("a limit of %d bytes holds no segment of %d", c.Limit, c.SegmentBytes), nil)
	}
	if c.Boot == "" {
		b, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
		if err != nil {
			return fmt.Errorf("reading the machine's boot id: %w", err)
		}
		c.Boot = strings.TrimSpace(string(b))
	}
	return nil
}

type key struct {
	start uint32
	ref   job.Ref
}

// Files is the accepted-file of one running incarnation, and what is left of
// earlier ones.
type Files struct {
	cfg    Config
	active *segment
	made   int           // segments made by this incarnation
	bytes  int64         // of its segments
	all    []*segment    // of every incarnation
	places map[key]place // 150 bytes for each record that is not freed
}

// Open loads what earlier incarnations left and starts a new one, whose start must
// be larger than any before.
func Open(cfg Config) (*Files, gateway.History, error) {
	fail := func(err error) (*Files, gateway.History, error) {
		return nil, gateway.History{}, fmt.Errorf("opening the accepted-files in %s: %w", cfg.Dir, err)
	}
	if err := cfg.fill(); err != nil {
		return fail(err)
	}
	if err := os.MkdirAll(cfg.Dir, 0o700); err != nil {
		return fail(err)
	}
	names, err := listSegments(cfg.Dir)
	if err != nil {
		return fail(err)
	}
	h, err := readHistory(cfg.Dir)
	if err != nil {
		return fail(err)
	}
	starts := slices.Sorted(maps.Keys(names))
	if h.First == 0 { // a new directory, or one whose history is lost
		h.First = cfg.Incarnation.Start
		if len(starts) > 0 {
			h.First = min(h.First, starts[0])
		}
	}
	if n := len(starts); n > 0 {
		h.Last = max(h.Last, starts[n-1])
	}
	if cfg.Incarnation.Start <= h.Last {
		return fail(job.Conflict(fmt.Sprintf("start %d of gateway %s is not new, %d was the last; was the directory copied?", cfg.Incarnation.Start, cfg.Incarnation.Gateway, h.Last)))
	}
	f := &Files{cfg: cfg, places: map[key]place{}}
	ended, err := f.load(&h, starts, names)
	if err == nil {
		h.Last = cfg.Incarnation.Start
		err = writeHistory(cfg.Dir, h)
	}
	if err == nil {
		err = f.removeUnreadable(h, names)
	}
	if err != nil {
		f.Close()
		return fail(err)
	}
	return f, gateway.History{First: h.First, Ended: ended}, nil
}

// load reads the segments of earlier incarnations. What cannot be read, or is too
// old to be kept, goes into the history as unreadable.
func (f *Files) load(h *history, starts []uint32, names map[uint32][]string) ([]gateway.Ended, error) {
	var ended []gateway.Ended
	for i, start := range starts {
		e := gateway.Ended{Start: start}
		if h.has(start) {
			continue
		}
		if len(starts)-i > keepEnded {
			h.add(start)
			continue
		}
		records, err := f.loadStart(start, names[start])
		switch {
		case errors.Is(err, errDamaged):
			f.dropStart(start)
			h.add(start)
		case err != nil:
			return nil, err
		case len(records) > 0:
			e.Records = records
			ended = append(ended, e)
		}
	}
	for _, start := range h.Unreadable {
		ended = append(ended, gateway.Ended{Start: start, Unreadable: true})
	}
	return ended, nil
}

// loadStart reads the segments of one incarnation; what another start of the machine
// wrote counts as damaged.
func (f *Files) loadStart(start uint32, names []string) ([]gateway.Record, error) {
	inc := job.Incarnation{Gateway: f.cfg.Incarnation.Gateway, Start: start}
	var records []gateway.Record
	for _, name := range names {
		s, boot, err := loadSegment(filepath.Join(f.cfg.Dir, name), inc)
		if err != nil {
			return nil, fmt.Errorf("reading %s: %w", name, err)
		}
		f.all = append(f.all, s)
		if boot != f.cfg.Boot {
			return nil, fmt.Errorf("%w: the machine has stopped since", errDamaged)
		}
		err = s.records(func(r gateway.Record, p place) {
			records = append(records, r)
			f.places[key{start, r.Ref}] = p
		})
		if err != nil {
			return nil, fmt.Errorf("reading %s: %w", name, err)
		}
		if s.open == 0 {
			if err := f.remove(s); err != nil {
				return nil, err
			}
		}
	}
	return records, nil
}

func (f *Files) dropStart(start uint32) {
	maps.DeleteFunc(f.places, func(k key, _ place) bool { return k.start == start })
	f.all = slices.DeleteFunc(f.all, func(s *segment) bool {
		if s.start == start {
			s.unmap()
		}
		return s.start == start
	})
}

// removeUnreadable runs when the history names them durably.
func (f *Files) removeUnreadable(h history, names map[uint32][]string) error {
	for start, files := range names {
		if !h.has(start) && start >= h.First {
			continue
		}
		for _, name := range files {
			if err := os.Remove(filepath.Join(f.cfg.Dir, name)); err != nil && !errors.Is(err, fs.ErrNotExist) {
				return err
			}
		}
	}
	return nil
}

// Append writes a record. When it returns an error nothing of it is there; that of
// full files is ErrFull, and there may be room later. A reserve is appended once.
func (f *Files) Append(r gateway.Record) error {
	body := payload(r)
	size := recordBytes(len(body), len(r.IDs))
	if f.active == nil || f.active.used+size > len(f.active.mem) {
		if err := f.next(size); err != nil {
			return fmt.Errorf("appending reserve %s to the accepted-file: %w", r.Ref, err)
		}
	}
	f.places[key{f.cfg.Incarnation.Start, r.Ref}] = f.active.append(r, body)
	return nil
}

// next makes the segment that takes a record of that size.
func (f *Files) next(size int) error {
	if size > f.cfg.SegmentBytes-headerBytes {
		return fmt.Errorf("a record of %d bytes does not go into a segment of %d", size, f.cfg.SegmentBytes)
	}
	if old := f.active; old != nil && old.open == 0 {
		f.active = nil
		if err := f.remove(old); err != nil {
			return err
		}
	}
	if f.bytes+int64(f.cfg.SegmentBytes) > f.cfg.Limit {
		return ErrFull
	}
	s, err := createSegment(f.cfg.Dir, f.cfg.Incarnation, f.made+1, f.cfg.SegmentBytes, f.cfg.Boot)
	if err != nil {
		return fmt.Errorf("making a segment: %w", err)
	}
	f.made++
	f.bytes += int64(f.cfg.SegmentBytes)
	f.all = append(f.all, s)
	f.active = s
	return nil
}

// Mark notes that the recipient with a rank has acknowledged. Idempotent; a reserve
// that is not there is ignored.
func (f *Files) Mark(ref job.Ref, rank uint32) {
	if p, ok := f.places[key{f.cfg.Incarnation.Start, ref}]; ok {
		p.mark(int(rank))
	}
}

// Free drops a record of this incarnation or an earlier one; a segment without
// records is removed. Idempotent.
func (f *Files) Free(start uint32, ref job.Ref) error {
	p, ok := f.places[key{start, ref}]
	if !ok {
		return nil
	}
	delete(f.places, key{start, ref})
	p.free()
	if p.seg.open == 0 && p.seg != f.active {
		return f.remove(p.seg)
	}
	return nil
}

func (f *Files) remove(s *segment) error {
	f.all = slices.DeleteFunc(f.all, func(o *segment) bool { return o == s })
	if s.start == f.cfg.Incarnation.Start {
		f.bytes -= int64(len(s.mem))
	}
	s.unmap()
	if err := os.Remove(s.path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("removing a segment of the accepted-file: %w", err)
	}
	return nil
}

// Close ends the use of the files. What is not freed stays for the next incarnation.
func (f *Files) Close() error {
	var err error
	if f.active != nil && f.active.open == 0 {
		err = f.remove(f.active)
	}
	f.active = nil
	for _, s := range f.all {
		s.unmap()
	}
	f.all, f.places = nil, map[key]place{}
	return err
}
