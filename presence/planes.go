// Package presence knows at which gateway incarnation each recipient is: bit
// planes of a gateway ordinal (n planes serve 2^n - 1 gateways) over all 2^32
// ids, in one sparse mapped file with one writer and any number of readers, in
// this process and in others.
//
// Work goes a container (65,536 ids) and a word (64 ids) at a time; nothing
// allocates per recipient. A reader never sees an ordinal half written, nor an
// ordinal under the name of its former owner. Physical memory: planes × 8 KiB
// for each container with somebody online, 2 GiB with four planes if there are some
// in every container, plus an index of 512 KiB; all of it outside the Go heap.
//
// Planes are what a machine believes now, never a record: they start empty.
package presence

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"iter"
	"log/slog"
	"math/bits"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"unsafe"

	"golang.org/x/sys/unix"

	"crier/internal/idset"
	"crier/job"
)

// ErrFull is returned by Join when every ordinal belongs to some other gateway.
var ErrFull = errors.New("presence: no ordinal is free; more planes are needed")

// Config says where the planes are and how many gateways they serve.
type Config struct {
	Path   string       // the planes file; "" keeps them in memory without a file
	Planes int          // bits of an ordinal, 1 to 8; default 4, which serves 15 gateways
	Logger *slog.Logger // default slog.Default()
}

// Planes is the writer. Its methods are safe for concurrent use; a recipient is
// at one incarnation at a time, the one of the newest Join.
type Planes struct {
	*View
	mu struct {
		sync.Mutex
		ordinals map[job.Incarnation]int
		newest   map[string]uint64 // per gateway the newest start joined, or one more than the newest that is over; 40 bytes a gateway
	}
}

// Open makes the planes, empty, and takes the file for itself; whoever has it
// open for reading sees it become empty. One that is cut short, as by a full disk or a copy
// that did not end, gets its size again: nothing in it is needed. A file with another number
// of planes must be removed first.
func Open(cfg Config) (*Planes, error) {
	if cfg.Planes == 0 {
		cfg.Planes = 4
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.Default()
	}
	if cfg.Planes < 1 || cfg.Planes > maxPlanes {
		return nil, job.Invalid("planes", fmt.Sprintf("%d presence planes: want 1 to %d", cfg.Planes, maxPlanes), nil)
	}
	var f *os.File
	var err error
	if cfg.Path != "" {
		if f, err = prepare(cfg); err != nil {
			return nil, fmt.Errorf("opening the presence planes %s for writing: %w", cfg.Path, err)
		}
	}
	r, err := mapRegion(f, cfg.Planes, true)
	if err != nil {
		if f != nil {
			f.Close()
		}
		return nil, err
	}
	p := &Planes{View: &View{r: r}}
	p.mu.ordinals, p.mu.newest = map[job.Incarnation]int{}, map[string]uint64{}
	p.reset()
	return p, nil
}

// prepare opens the file, locks it against a second writer and gives it its size.
func prepare(cfg Config) (*os.File, error) {
	f, err := os.OpenFile(cfg.Path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	if err = unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		err = fmt.Errorf("another process writes them: %w", err)
	}
	var has int
	if err == nil {
		has, err = filePlanes(f)
	}
	if errors.Is(err, errCut) {
		cfg.Logger.Warn("the presence planes are cut short; they are made anew, and gateways announce again who is online", "file", cfg.Path)
		err = nil
	}
	if err == nil && has != 0 && has != cfg.Planes {
		err = fmt.Errorf("the file has %d planes, not %d; stop every process that uses it and remove it", has, cfg.Planes)
	}
	if err == nil {
		err = f.Truncate(int64(regionBytes(cfg.Planes)))
	}
	if err == nil { // what is read and written from the first moment on
		err = allocate(f, 0, 8*(headerWords+containers))
	}
	if err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

var errNotPlanes = errors.New("this is not a planes file")

// errCut is a planes file that lacks its end. Whoever maps it would die of reading there.
var errCut = errors.New("the planes file is cut short")

// filePlanes reads how many planes a file has; 0 if it was never used. With errCut it is 0 as
// well if that is not in it any more.
func filePlanes(f *os.File) (int, error) {
	var head [2]uint64
	b := unsafe.Slice((*byte)(unsafe.Pointer(&head)), 16)
	n, err := f.ReadAt(b, 0)
	if err != nil && !errors.Is(err, io.EOF) {
		return 0, err
	}
	kind := uint64(magic)
	begins := unsafe.Slice((*byte)(unsafe.Pointer(&kind)), 8)
	switch {
	case n == 0 || n == len(b) && head[wordMagic] == 0:
		return 0, nil
	case !bytes.Equal(b[:min(n, 8)], begins[:min(n, 8)]):
		return 0, errNotPlanes
	case n < len(b):
		return 0, errCut
	case head[wordPlanes] < 1 || head[wordPlanes] > maxPlanes:
		return 0, errNotPlanes
	}
	info, err := f.Stat()
	if err == nil && info.Size() < int64(regionBytes(int(head[wordPlanes]))) {
		err = errCut
	}
	return int(head[wordPlanes]), err
}

// reset empties the planes, whatever an earlier writer left in the middle of.
func (p *Planes) reset() {
	r := p.r
	p.writeTable(func() {
		for o := 1; o < 1<<r.planes; o++ {
			p.setEntry(o, job.Incarnation{})
		}
	})
	for c := range r.index {
		was := r.index[c]
		if was == 0 {
			continue
		}
		odd := was>>32 | 1
		atomic.StoreUint64(&r.index[c], odd<<32)
		words := r.container(c)
		if uint32(was) != 0 || was>>32&1 == 1 {
			for w := range words {
				atomic.StoreUint64(&words[w], 0)
			}
			r.free(c)
		}
		atomic.StoreUint64(&r.index[c], uint64(uint32(odd)+1)<<32)
	}
	atomic.StoreUint64(&r.head[wordOnline], 0)
	atomic.StoreUint64(&r.head[wordPlanes], uint64(r.planes))
	atomic.StoreUint64(&r.head[wordMagic], magic)
}

// Join puts the recipients of a set at an incarnation, wherever they were. A first
// join makes older incarnations of that gateway over; a join of one that is over
// changes nothing. Idempotent.
func (p *Planes) Join(inc job.Incarnation, set *idset.Set) error {
	if !job.ValidName(inc.Gateway) {
		return fmt.Errorf("joining recipients to %q: not a gateway's name", inc.Gateway)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if err := p.roomLocked(set); err != nil {
		return fmt.Errorf("joining recipients to %s: %w", inc, err)
	}
	o, err := p.ordinalLocked(inc)
	if err != nil || o == 0 {
		return err
	}
	p.eachLocked(set, false, func(words []uint64, w int, in uint64) {
		for k := range p.r.planes {
			at := &words[k*idset.Words+w]
			v := *at &^ in
			if o>>k&1 == 1 {
				v |= in
			}
			if v != *at {
				atomic.StoreUint64(at, v)
			}
		}
	})
	return nil
}

// Leave takes offline those of a set who are still at that incarnation; a leave that
// comes after a join elsewhere changes nothing. With a nil set it is everybody there, and
// the ordinal is free for another gateway until one of them joins again: most that fall
// silent never come back. Idempotent.
func (p *Planes) Leave(inc job.Incarnation, set *idset.Set) {
	p.mu.Lock()
	defer p.mu.Unlock()
	o := p.mu.ordinals[inc]
	switch {
	case o == 0:
	case set == nil:
		p.freeLocked(inc, o)
	default:
		p.eachLocked(set, true, func(words []uint64, w int, in uint64) { p.clearWord(words, w, o, in) })
	}
}

// Forget takes everybody of a range offline: another is its home now. Idempotent.
func (p *Planes) Forget(r job.Range) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for c := firstContainer(r); c < firstContainer(r)+idset.Containers; c++ {
		if p.card(c) == 0 {
			continue
		}
		p.writeLocked(c, everybody, func(words []uint64, w int, _ uint64) {
			for k := range p.r.planes {
				atomic.StoreUint64(&words[k*idset.Words+w], 0)
			}
		})
		p.r.free(c)
	}
}

// Over takes everybody at that incarnation, and at older ones of its gateway,
// offline for good: the ordinal is free for another gateway, and a late join
// changes nothing. Idempotent.
func (p *Planes) Over(inc job.Incarnation) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.overLocked(inc.Gateway, uint64(inc.Start)+1)
	if next := uint64(inc.Start) + 1; next > p.mu.newest[inc.Gateway] {
		p.mu.newest[inc.Gateway] = next
	}
}

// Incarnations lists the incarnations that have an ordinal, by name.
func (p *Planes) Incarnations() []job.Incarnation {
	p.mu.Lock()
	defer p.mu.Unlock()
	all := make([]job.Incarnation, 0, len(p.mu.ordinals))
	for inc := range p.mu.ordinals {
		all = append(all, inc)
	}
	slices.SortFunc(all, func(a, b job.Incarnation) int {
		if a.Gateway != b.Gateway {
			if a.Gateway < b.Gateway {
				return -1
			}
			return 1
		}
		return int(int64(a.Start) - int64(b.Start))
	})
	return all
}

// ordinalLocked gives the incarnation's ordinal, 0 if it is over.
func (p *Planes) ordinalLocked(inc job.Incarnation) (int, error) {
	if o := p.mu.ordinals[inc]; o != 0 {
		return o, nil
	}
	if uint64(inc.Start) < p.mu.newest[inc.Gateway] {
		return 0, nil
	}
	p.overLocked(inc.Gateway, uint64(inc.Start))
	for o := 1; o < 1<<p.r.planes; o++ {
		if p.entry(o).IsZero() {
			p.writeTable(func() { p.setEntry(o, inc) })
			p.mu.ordinals[inc] = o
			p.mu.newest[inc.Gateway] = uint64(inc.Start)
			return o, nil
		}
	}
	return 0, ErrFull
}

// overLocked takes offline who is at an incarnation of the gateway below start.
func (p *Planes) overLocked(gateway string, start uint64) {
	for inc, o := range p.mu.ordinals {
		if inc.Gateway != gateway || uint64(inc.Start) >= start {
			continue
		}
		p.freeLocked(inc, o)
	}
}

// freeLocked takes everybody at an incarnation offline and takes its ordinal away.
func (p *Planes) freeLocked(inc job.Incarnation, o int) {
	delete(p.mu.ordinals, inc)
	for c := range p.r.index {
		if p.card(c) > 0 {
			p.clearLocked(c, o)
		}
	}
	// Only now may the ordinal get another owner.
	p.writeTable(func() { p.setEntry(o, job.Incarnation{}) })
}

func (p *Planes) clearLocked(c, ordinal int) {
	p.writeLocked(c, everybody, func(words []uint64, w int, in uint64) { p.clearWord(words, w, ordinal, in) })
	if p.card(c) == 0 {
		p.r.free(c)
	}
}

// clearWord takes those of one word who have ordinal o offline.
func (p *Planes) clearWord(words []uint64, w, o int, in uint64) {
	for k := range p.r.planes {
		v := words[k*idset.Words+w]
		if o>>k&1 == 0 {
			v = ^v
		}
		in &= v
	}
	if in == 0 {
		return
	}
	for k := range p.r.planes {
		at := &words[k*idset.Words+w]
		if *at&in != 0 {
			atomic.StoreUint64(at, *at&^in)
		}
	}
}

// roomLocked sees to it that the containers of a set can be written to: a store into a
// hole of a file whose disk is full would end the process.
func (p *Planes) roomLocked(set *idset.Set) error {
	if set == nil || p.r.file == nil {
		return nil
	}
	for i := range idset.Containers {
		c := firstContainer(set.Range) + i
		if !set.Reaches(i) || p.r.room[c] {
			continue
		}
		at, n := p.r.place(c)
		if err := allocate(p.r.file, at, n); err != nil {
			return err
		}
		p.r.room[c] = true
	}
	return nil
}

// eachLocked calls fn for each word of the set that holds somebody, if wanted only
// where somebody is online.
func (p *Planes) eachLocked(set *idset.Set, online bool, fn func(words []uint64, w int, in uint64)) {
	if set == nil {
		return
	}
	for i := range idset.Containers {
		c := firstContainer(set.Range) + i
		if !set.Reaches(i) || online && p.card(c) == 0 {
			continue
		}
		p.writeLocked(c, set.WordsIn(i), fn)
	}
}

// everybody is all the words of a container.
func everybody(yield func(w int, in uint64) bool) {
	for w := range idset.Words {
		if !yield(w, ^uint64(0)) {
			return
		}
	}
}

// writeLocked changes words of a container inside its sequence, and counts those anew.
func (p *Planes) writeLocked(c int, who iter.Seq2[int, uint64], change func(words []uint64, w int, in uint64)) {
	at := &p.r.index[c]
	was := *at
	atomic.StoreUint64(at, was+1<<32)
	words := p.r.container(c)
	more := 0
	for w, in := range who {
		more -= p.online(words, w)
		change(words, w, in)
		more += p.online(words, w)
	}
	atomic.AddUint64(&p.r.head[wordOnline], uint64(more))
	atomic.StoreUint64(at, uint64(uint32(was>>32)+2)<<32|uint64(int(uint32(was))+more))
}

// online counts those of a word who are online.
func (p *Planes) online(words []uint64, w int) int {
	var on uint64
	for k := range p.r.planes {
		on |= words[k*idset.Words+w]
	}
	return bits.OnesCount64(on)
}

// writeTable changes the table inside its sequence.
func (p *Planes) writeTable(change func()) {
	seq := atomic.LoadUint64(&p.r.head[wordTableSeq]) | 1
	atomic.StoreUint64(&p.r.head[wordTableSeq], seq)
	change()
	atomic.StoreUint64(&p.r.head[wordTableSeq], seq+1)
}

func (p *Planes) setEntry(ordinal int, inc job.Incarnation) {
	var e [entryWords]uint64
	e[0] = uint64(len(inc.Gateway))<<32 | uint64(inc.Start)
	copy(unsafe.Slice((*byte)(unsafe.Pointer(&e[1])), 8*(entryWords-1)), inc.Gateway)
	words := p.r.head[tableAt+ordinal*entryWords:][:entryWords]
	for i := range e {
		atomic.StoreUint64(&words[i], e[i])
	}
}
