package zk

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"

	"crier/state/coord"

	"github.com/go-zookeeper/zk"
)

// readers is how many values are asked for at a time.
const readers = 16

// view is what a session reads after its write to the clock: nothing older.
type view struct {
	s       *Store
	session int64
	now     int64 // ms of the store's clock, at or before any read of the view
}

// look begins to read.
func (s *Store) look(ctx context.Context) (view, error) {
	v, err := call(ctx, s, func() (view, error) {
		session := s.conn.SessionID()
		st, err := s.conn.Set(s.root+clockNode, nil, -1)
		if err != nil {
			return view{}, err
		}
		v := view{s: s, session: session, now: st.Mtime}
		return v, v.still(nil) // a session's number does not come again: it was this one all the time
	})
	if err != nil {
		return view{}, fmt.Errorf("writing %s: %w", s.root+clockNode, err)
	}
	return v, nil
}

// still passes the error of a read on, if the read was in the view's session.
func (v view) still(err error) error {
	if v.s.conn.SessionID() != v.session {
		return errMoved
	}
	return err
}

type content struct {
	data []byte
	stat *zk.Stat
}

// read reads the node of a key, whatever its time.
func (s *Store) read(ctx context.Context, key string) (node, error) {
	c, err := call(ctx, s, func() (content, error) {
		data, st, err := s.conn.Get(s.pathOf(key))
		return content{data, st}, err
	})
	if errors.Is(err, zk.ErrNoNode) {
		return node{}, coord.ErrNotFound
	}
	if err != nil {
		return node{}, err
	}
	return decode(key, c.data, c.stat)
}

// node reads a key's node. If its lease is over it is taken away first; ErrNotFound
// says that it is gone for everybody.
func (v view) node(ctx context.Context, key string) (node, error) {
	for {
		n, err := v.s.read(ctx, key)
		if err = v.still(err); err != nil || !n.over(v.now) {
			return n, err
		}
		switch err := v.s.remove(ctx, key, n.Version); {
		case errors.Is(err, coord.ErrConflict): // somebody was quicker: what is there now?
		case err != nil:
			return node{}, fmt.Errorf("taking away a lease that has lapsed: %w", err)
		default:
			return node{}, coord.ErrNotFound
		}
	}
}

// now reads a key's node as it is at the moment.
func (s *Store) now(ctx context.Context, key string) (n node, err error) {
	err = retry(ctx, func() error {
		v, err := s.look(ctx)
		if err == nil {
			n, err = v.node(ctx, key)
		}
		return err
	})
	return n, err
}

// nodes reads keys' nodes; those that are not there are missing.
func (v view) nodes(ctx context.Context, keys []string) (map[string]node, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var (
		wg    sync.WaitGroup
		mu    sync.Mutex
		found = make(map[string]node, len(keys))
		next  = make(chan string)
	)
	for range min(readers, len(keys)) {
		wg.Go(func() {
			for key := range next {
				n, err := v.node(ctx, key)
				switch {
				case errors.Is(err, coord.ErrNotFound):
				case err != nil:
					cancel(fmt.Errorf("reading %q: %w", key, err))
				default:
					mu.Lock()
					found[key] = n
					mu.Unlock()
				}
			}
		})
	}
	for _, key := range keys {
		next <- key
	}
	close(next)
	wg.Wait()
	return found, context.Cause(ctx)
}

// children gives the names in a directory.
func children(ctx context.Context, s *Store, dir string) ([]string, *zk.Stat, error) {
	type answer struct {
		names []string
		stat  *zk.Stat
	}
	a, err := call(ctx, s, func() (answer, error) {
		names, st, err := s.conn.Children(dir)
		return answer{names, st}, err
	})
	return a.names, a.stat, err
}

// Get implements coord.Store.
func (s *Store) Get(ctx context.Context, key string) (coord.Entry, error) {
	if err := coord.CheckKey(key); err != nil {
		return coord.Entry{}, err
	}
	ctx, cancel := s.bound(ctx, s.wait)
	defer cancel()
	n, err := s.now(ctx, key)
	if errors.Is(err, coord.ErrNotFound) {
		return coord.Entry{}, fmt.Errorf("reading %q: %w", key, err)
	}
	if err != nil {
		return coord.Entry{}, fmt.Errorf("coordination: reading %q: %w", key, err)
	}
	return n.Entry, nil
}

// List implements coord.Store.
func (s *Store) List(ctx context.Context, prefix string) ([]coord.Entry, error) {
	if err := coord.CheckPrefix(prefix); err != nil {
		return nil, err
	}
	ctx, cancel := s.bound(ctx, listTimeout)
	defer cancel()
	var list []coord.Entry
	err := retry(ctx, func() error {
		v, err := s.look(ctx)
		if err == nil {
			list, err = v.list(ctx, s.dirOf(prefix))
		}
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("coordination: listing %q: %w", prefix, err)
	}
	slices.SortFunc(list, func(a, b coord.Entry) int { return cmp.Compare(a.Key, b.Key) })
	return list, nil
}

// list reads what lies under a directory.
func (v view) list(ctx context.Context, dir string) ([]coord.Entry, error) {
	names, _, err := children(ctx, v.s, dir)
	if err = v.still(err); errors.Is(err, zk.ErrNoNode) && dir != v.s.root {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("reading %s: %w", dir, err)
	}
	l := v.s.parse(dir, names)
	keys := make([]string, 0, len(l.versions))
	for key := range l.versions {
		keys = append(keys, key)
	}
	nodes, err := v.nodes(ctx, keys)
	if err != nil {
		return nil, err
	}
	list := make([]coord.Entry, 0, len(nodes))
	for _, n := range nodes {
		list = append(list, n.Entry)
	}
	for _, sub := range l.dirs {
		below, err := v.list(ctx, sub)
		if err != nil {
			return nil, err
		}
		list = append(list, below...)
	}
	return list, nil
}
