package zk

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"crier/state/coord"

	"github.com/go-zookeeper/zk"
)

// createTries bounds how often a create runs into a directory that is removed or a
// key that comes and goes.
const createTries = 5

// Put implements coord.Store.
func (s *Store) Put(ctx context.Context, key string, value []byte, expect coord.Version) (coord.Version, error) {
	return s.put(ctx, key, value, expect, 0)
}

// Lease implements coord.Store.
func (s *Store) Lease(ctx context.Context, key string, value []byte, expect coord.Version, ttl time.Duration) (coord.Version, error) {
	ttl, err := coord.RoundTTL(ttl)
	if err != nil {
		return 0, err
	}
	return s.put(ctx, key, value, expect, ttl)
}

func (s *Store) put(ctx context.Context, key string, value []byte, expect coord.Version, ttl time.Duration) (coord.Version, error) {
	if err := errors.Join(coord.CheckKey(key), coord.CheckValue(value)); err != nil {
		return 0, err
	}
	ctx, cancel := s.bound(ctx, s.wait)
	defer cancel()
	n := node{Entry: coord.Entry{Key: key, Value: value, Version: s.next()}, ttl: ttl.Milliseconds()}
	var err error
	switch {
	case expect == 0:
		err = s.create(ctx, n)
	case ttl == 0:
		_, err = s.set(ctx, n, expect)
	default:
		err = s.renew(ctx, n, expect)
	}
	if err != nil {
		return 0, named("storing", key, err)
	}
	return n.Version, nil
}

// create stores a key that is not there. Each try but the last was refused.
func (s *Store) create(ctx context.Context, n node) error {
	path, data := s.pathOf(n.Key), n.encode()
	last := fmt.Errorf("%w: it came and went at each of %d tries", coord.ErrConflict, createTries)
	for range createTries {
		err := s.multi(ctx,
			&zk.CreateRequest{Path: path, Data: data, Acl: s.acl},
			&zk.CreateRequest{Path: s.guardOf(n.Key, n.Version), Acl: s.acl})
		switch {
		case errors.Is(err, zk.ErrNoNode):
			if err = s.makeDirs(ctx, n.Key); errors.Is(err, zk.ErrNoNode) {
				last, err = err, nil // an empty directory was removed meanwhile
			}
		case errors.Is(err, zk.ErrNodeExists):
			if _, err = s.now(ctx, n.Key); err == nil {
				return fmt.Errorf("%w: it is there", coord.ErrConflict)
			}
			if errors.Is(err, coord.ErrNotFound) {
				err = nil // it has gone, or its lease was over
			}
		default:
			return err
		}
		if err != nil {
			return err
		}
	}
	return last
}

// makeDirs makes the directories above a key.
func (s *Store) makeDirs(ctx context.Context, key string) error {
	for i := 0; ; {
		j := strings.IndexByte(key[i:], '/')
		if j < 0 {
			break
		}
		dir := s.dirOf(key[:i+j])
		_, err := call(ctx, s, func() (string, error) { return s.conn.CreateContainer(dir, nil, zk.FlagContainer, s.acl) })
		if err != nil && !errors.Is(err, zk.ErrNodeExists) {
			return fmt.Errorf("creating the directory %s: %w", dir, err)
		}
		i += j + 1
	}
	return nil
}

// set stores over one state of a key, and tells when by the store's clock. The guard
// of that state is there as long as the state is.
func (s *Store) set(ctx context.Context, n node, expect coord.Version) (mtime int64, err error) {
	results, err := s.transact(ctx,
		&zk.DeleteRequest{Path: s.guardOf(n.Key, expect), Version: -1},
		&zk.CreateRequest{Path: s.guardOf(n.Key, n.Version), Acl: s.acl},
		&zk.SetDataRequest{Path: s.pathOf(n.Key), Data: n.encode(), Version: -1})
	if errors.Is(err, zk.ErrNoNode) {
		return 0, fmt.Errorf("%w: it is not %d", coord.ErrConflict, expect)
	}
	if err != nil {
		return 0, err
	}
	if len(results) != 3 || results[2].Stat == nil {
		return 0, fmt.Errorf("ZooKeeper answers a transaction with %d results", len(results))
	}
	return results[2].Stat.Mtime, nil
}

// renew stores over a lease, if that is not over when the write arrives.
func (s *Store) renew(ctx context.Context, n node, expect coord.Version) error {
	before, err := s.read(ctx, n.Key)
	if err == nil && before.Version != expect || errors.Is(err, coord.ErrNotFound) {
		before, err = s.now(ctx, n.Key) // the server may lag
	}
	if errors.Is(err, coord.ErrNotFound) || err == nil && before.Version != expect {
		return fmt.Errorf("%w (%d, not %d)", coord.ErrConflict, before.Version, expect)
	}
	if err != nil {
		return err
	}
	n.due = before.ends()
	n.mtime, err = s.set(ctx, n, expect)
	if err == nil && n.over(n.mtime) {
		// It is void for everybody already; nobody need find it.
		_ = s.remove(ctx, n.Key, n.Version)
		return fmt.Errorf("%w: its lease lapsed %d ms ago", coord.ErrConflict, n.mtime-n.due)
	}
	return err
}

// Delete implements coord.Store.
func (s *Store) Delete(ctx context.Context, key string, expect coord.Version) error {
	if err := coord.CheckKey(key); err != nil {
		return err
	}
	if expect == 0 {
		return fmt.Errorf("deleting %q: %w (0 is the version of no key)", key, coord.ErrConflict)
	}
	ctx, cancel := s.bound(ctx, s.wait)
	defer cancel()
	n, err := s.read(ctx, key)
	if err == nil && n.ttl > 0 {
		_, err = s.now(ctx, key) // takes it away if it is over
	}
	if err == nil || errors.Is(err, coord.ErrNotFound) {
		err = s.remove(ctx, key, expect) // the leader decides
	}
	if err != nil {
		return named("deleting", key, err)
	}
	return nil
}

// remove deletes one state of a key.
func (s *Store) remove(ctx context.Context, key string, expect coord.Version) error {
	err := s.multi(ctx,
		&zk.DeleteRequest{Path: s.guardOf(key, expect), Version: -1},
		&zk.DeleteRequest{Path: s.pathOf(key), Version: -1})
	if errors.Is(err, zk.ErrNoNode) {
		return fmt.Errorf("%w: it is not %d", coord.ErrConflict, expect)
	}
	return err
}

func (s *Store) multi(ctx context.Context, ops ...any) error {
	_, err := s.transact(ctx, ops...)
	return err
}

func (s *Store) transact(ctx context.Context, ops ...any) ([]zk.MultiResponse, error) {
	return call(ctx, s, func() ([]zk.MultiResponse, error) { return s.conn.Multi(ops...) })
}

func named(doing, key string, err error) error {
	if errors.Is(err, coord.ErrConflict) {
		return fmt.Errorf("%s %q: %w", doing, key, err)
	}
	return fmt.Errorf("coordination: %s %q: %w", doing, key, err)
}
