package zk

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"
	"time"

	"crier/state/coord"

	"github.com/go-zookeeper/zk"
)

const (
	// defaultLook is Config.Look's. A look is a write to the clock, and a read of each
	// directory's state.
	defaultLook = 500 * time.Millisecond
	// listEvery is how often it lists directories that do not seem to have changed.
	listEvery = 30 * time.Second
	// minPause and maxPause bound the pause before events are followed, in which more
	// of them gather. Within them it is four times what the last reading took: a
	// directory with many keys and many changes is not read all the time.
	minPause = 5 * time.Millisecond
	maxPause = 250 * time.Millisecond
)

// Watch implements coord.Store. It holds the version of each key it has told of.
func (s *Store) Watch(ctx context.Context, prefix string, fn func(coord.Change) error, sawAll func()) error {
	if err := coord.CheckPrefix(prefix); err != nil {
		return err
	}
	dir := s.dirOf(prefix)
	w := &watcher{s: s, top: dir, fn: fn, sub: s.link.subscribe(dir), dirs: make(map[string]*directory), told: make(map[string]told), view: view{s: s}}
	defer s.link.unsubscribe(w.sub)
	t := time.NewTicker(s.every)
	defer t.Stop()
	for look := true; ; {
		var err error
		start := time.Now()
		if look {
			if err = w.look(ctx); err == nil && sawAll != nil {
				sawAll()
			}
		} else {
			err = w.follow(ctx)
		}
		if w.fnErr != nil {
			return w.fnErr
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
		w.complain(prefix, err)
		w.pause = min(max(4*time.Since(start), minPause), maxPause)
		if look = w.await(ctx, t.C); ctx.Err() != nil {
			return ctx.Err()
		}
	}
}

// watcher is one call of Watch; all its state belongs to the calling goroutine.
type watcher struct {
	s     *Store
	top   string
	fn    func(coord.Change) error
	fnErr error // what fn returned
	sub   *sub
	dirs  map[string]*directory
	told  map[string]told

	view   view // the last look's
	listed time.Time
	failed bool
	pause  time.Duration
}

// directory is what a watcher knows of a directory.
type directory struct {
	pzxid int64 // of its last change that was read; 0: read it again
	listing
}

// told is the state of a key that a watcher has told of.
type told struct {
	version coord.Version
	mzxid   int64
	ends    int64 // of a lease, ms of the store's clock
	doubt   bool  // the value is to be read again
}

func (w *watcher) complain(prefix string, err error) {
	if failed := err != nil; failed != w.failed {
		w.failed = failed
		if failed {
			w.s.logger.Warn("coordination store: a watcher is out of touch; it goes on trying", "prefix", prefix, "error", err)
		}
	}
}

// await waits until it is time to look (true) or events want to be followed.
func (w *watcher) await(ctx context.Context, tick <-chan time.Time) (look bool) {
	select {
	case <-tick:
		return true
	case <-ctx.Done():
		return true
	case <-w.sub.wake:
	}
	t := time.NewTimer(w.pause)
	defer t.Stop()
	select {
	case <-t.C:
		return false
	case <-tick:
	case <-ctx.Done():
	}
	return true
}

// look tells of all that changed up to now.
func (w *watcher) look(ctx context.Context) error {
	w.s.link.take(w.sub) // the look reads what they are about
	v, err := w.s.look(ctx)
	if err != nil {
		return err
	}
	if v.session != w.view.session {
		w.distrust()
	}
	w.view = v
	for _, key := range slices.Sorted(maps.Keys(w.told)) {
		if t := w.told[key]; t.ends > 0 && v.now > t.ends {
			if err := w.s.remove(ctx, key, t.version); err != nil && !errors.Is(err, coord.ErrConflict) {
				return fmt.Errorf("taking away the lease of %q, which has lapsed: %w", key, err)
			}
		}
	}
	now := time.Now()
	all := now.Sub(w.listed) >= listEvery
	if err := w.visit(ctx, w.top, all); err != nil {
		return err
	}
	if all {
		w.listed = now
	}
	return nil
}

// distrust has all values read again: a new session may be with a store that lost its
// last writes, or is another one.
func (w *watcher) distrust() {
	w.listed = time.Time{}
	for key, t := range w.told {
		t.doubt = true
		w.told[key] = t
	}
}

// follow tells what changed in the directories with events, by the last look's clock.
func (w *watcher) follow(ctx context.Context) error {
	for _, dir := range slices.Sorted(maps.Keys(w.s.link.take(w.sub))) {
		if err := w.visit(ctx, dir, false); err != nil {
			return err
		}
	}
	return nil
}

// visit tells of the changes in a directory and below it.
func (w *watcher) visit(ctx context.Context, dir string, list bool) error {
	st, err := w.stat(ctx, dir)
	if err != nil {
		return err
	}
	if st == nil {
		return w.forget(ctx, dir)
	}
	d := w.dirs[dir]
	if d == nil {
		d = &directory{}
		w.dirs[dir] = d
	}
	// The count of changes stops at its highest, and pzxid with it.
	if list || d.pzxid != st.Pzxid || st.Cversion == math.MaxInt32 || st.Cversion < 0 {
		if err := w.list(ctx, dir, d); err != nil {
			return err
		}
	}
	for _, sub := range d.dirs {
		if err := w.visit(ctx, sub, list); err != nil {
			return err
		}
	}
	return nil
}

// stat reads a directory's state; nil: there is none. Then its making is watched for.
func (w *watcher) stat(ctx context.Context, dir string) (*zk.Stat, error) {
	exists := func(watch bool) (*zk.Stat, error) {
		return call(ctx, w.s, func() (*zk.Stat, error) {
			var there bool
			var st *zk.Stat
			var err error
			if watch {
				there, st, _, err = w.s.conn.ExistsW(dir)
			} else {
				there, st, err = w.s.conn.Exists(dir)
			}
			if err != nil || !there {
				return nil, err
			}
			return st, nil
		})
	}
	st, err := exists(false)
	if err == nil && st == nil && w.s.link.arm(dir) {
		if st, err = exists(true); err != nil {
			w.s.link.disarm(dir)
		}
	}
	if err = w.view.still(err); err != nil {
		return nil, fmt.Errorf("looking at %s: %w", dir, err)
	}
	if st == nil && dir == w.s.root {
		return nil, fmt.Errorf("the root %s is gone", dir)
	}
	return st, nil
}

// list reads a directory and tells what is new.
func (w *watcher) list(ctx context.Context, dir string, d *directory) error {
	if d.pzxid != 0 {
		// It has changed, and an event comes before what it is about is read: a watch
		// that is set still was lost.
		w.s.link.disarm(dir)
	}
	watch := w.s.link.arm(dir)
	type answer struct {
		names []string
		stat  *zk.Stat
	}
	a, err := call(ctx, w.s, func() (answer, error) {
		var a answer
		var err error
		if watch {
			a.names, a.stat, _, err = w.s.conn.ChildrenW(dir)
		} else {
			a.names, a.stat, err = w.s.conn.Children(dir)
		}
		return a, err
	})
	if err != nil && watch {
		w.s.link.disarm(dir)
	}
	err = w.view.still(err)
	if errors.Is(err, zk.ErrNoNode) {
		return w.forget(ctx, dir)
	}
	if err != nil {
		return fmt.Errorf("listing %s: %w", dir, err)
	}
	if err := w.compare(ctx, d, w.s.parse(dir, a.names)); err != nil {
		return err
	}
	d.pzxid = a.stat.Pzxid
	return nil
}

// compare tells of the differences to what is known of a directory, and takes it in.
func (w *watcher) compare(ctx context.Context, d *directory, l listing) error {
	slices.Sort(l.dirs)
	var news []string
	for key, version := range l.versions {
		if t, ok := w.told[key]; !ok || t.version != version || t.doubt {
			news = append(news, key)
		}
	}
	slices.Sort(news)
	nodes, err := w.view.nodes(ctx, news)
	if err != nil {
		return err
	}
	for key := range d.versions {
		if _, ok := l.versions[key]; !ok {
			if err := w.lost(ctx, key); err != nil {
				return err
			}
		}
	}
	for _, dir := range d.dirs {
		if !slices.Contains(l.dirs, dir) {
			if err := w.forget(ctx, dir); err != nil {
				return err
			}
		}
	}
	d.listing = l
	for _, key := range news {
		n, ok := nodes[key]
		if ok {
			err = w.tell(ctx, n)
		} else {
			err = w.lost(ctx, key)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// tell tells of a state, if it is another.
func (w *watcher) tell(ctx context.Context, n node) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	t := w.told[n.Key]
	if t.version != n.Version || t.mzxid != n.mzxid {
		if w.fnErr = w.fn(coord.Change{Entry: n.Entry}); w.fnErr != nil {
			return w.fnErr
		}
	}
	w.told[n.Key] = told{version: n.Version, mzxid: n.mzxid, ends: n.ends()}
	return nil
}

// lost tells that a key is gone, if it was told of.
func (w *watcher) lost(ctx context.Context, key string) error {
	if _, ok := w.told[key]; !ok {
		return nil
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	delete(w.told, key)
	w.fnErr = w.fn(coord.Change{Entry: coord.Entry{Key: key}, Gone: true})
	return w.fnErr
}

// forget tells that all under a directory is gone.
func (w *watcher) forget(ctx context.Context, dir string) error {
	prefix := w.s.prefixOf(dir)
	for d := range w.dirs {
		if d == dir || strings.HasPrefix(d, dir+"/") {
			delete(w.dirs, d)
		}
	}
	for _, key := range slices.Sorted(maps.Keys(w.told)) {
		if coord.Under(key, prefix) {
			if err := w.lost(ctx, key); err != nil {
				return err
			}
		}
	}
	return nil
}
