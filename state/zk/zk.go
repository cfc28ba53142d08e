// Package zk is the coordination store on ZooKeeper.
//
// # Layout
//
// The key a/b is the node a.d/b under the root: directories have names of their own,
// so that a and a/b can both be keys, and are containers, which the server removes
// once they are empty. A key's node holds a line of ours and the value. Beside it
// stands an empty node, its guard, whose name is the key and its version: a.d/b.VERSION.
//
// # Versions
//
// ZooKeeper's own version of a node starts at 0 again when a key is deleted and
// created, so a write that expects version 0 and comes late would hit the wrong one.
// Here a write is one transaction that deletes the guard named by the expected
// version, creates the next and sets the value: it takes effect if that very state is
// there, whenever it arrives. A version is the number that the store gave to this
// client at Open and a count, so it comes once, without randomness. Guards also make
// one list of a directory's children tell every key's version, and the time of the
// directory's last change (pzxid) whether anything changed at all.
//
// # Reads
//
// A server may lag behind the leader. So a read begins with a write, to the node
// .clock, which takes a quorum: what the same session reads after it is no older. Sync
// would be cheaper, but a leader that was deposed and does not know it may answer it,
// and it does not tell the time; the answer of a write does, by the leader's clock.
// Reads cost a write; the store mirrors the ledger and is not read on the way of a
// message.
//
// # Leases
//
// A lease's node holds its time to live; ZooKeeper has the time of the last write
// (mtime), by the clock of the leader. Whoever reads a lease whose time has passed, by
// a .clock written before, first removes it, conditional on its version, and only then
// calls it gone: so it ends at one moment for everybody, holder and observers. A
// renewal carries the time at which the lease before it ended; one that was written
// later, because its holder was paused, is void by its own mtime for every reader, also
// if nobody has looked meanwhile. A step of the leader's clock moves leases by as much.
// The mechanisms of the server's own do not do: TTL nodes need extended types, which
// are off by default (a test shows the refusal), and are looked for once a minute;
// sessions with ephemeral nodes last as long as the process lives, not as long as it
// renews, are bounded by the server (4 to 40 s by default) and cost a connection each.
//
// # The library
//
// Its calls can hang and its event channel drops events: each call is bounded here,
// runs only while there is a session, and events come by the callback. A watcher
// looks twice a second whether directories changed; watches only make it sooner.
package zk

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"crier/state/coord"

	"github.com/go-zookeeper/zk"
)

const (
	defaultSession = 4 * time.Second
	defaultWait    = 5 * time.Second
	// listTimeout bounds a List whose context does not end.
	listTimeout = 30 * time.Second
	// clockNode is written before a read; writersNode counts those who opened the
	// store, and tells by being there that the root is one of a store.
	clockNode   = "/.clock"
	writersNode = "/.writers"
	// A version is a client's number and its count of writes.
	writerBits = 28
	countBits  = 36
	// writerEvery is the time for one client's number, in ms: clients of two lives of a
	// store have other numbers if no more open it.
	writerEvery = 50
)

// ErrRoot is wrapped when the servers answer, and have no store under the root.
var ErrRoot = errors.New("the root cannot be used")

// Config describes a store on ZooKeeper.
type Config struct {
	// Servers are host:port each. Required.
	Servers []string
	// Root is the path under which all is kept: /crier. Required; "/" is refused.
	Root string
	// Create makes the last node of Root if it is not there; the ones above it must
	// be. Without it Root must be there and be a store's.
	Create bool
	// Session is how long the server keeps the session of a client that it does not
	// hear; a client notices a dead connection after two thirds of it. The server may
	// grant another. Default 4 s.
	Session time.Duration
	// Digest is user:password. With it new nodes are its user's alone; without it
	// anybody's. Default none.
	Digest string
	// Wait bounds each call, also one whose context does not end. Default 5 s.
	Wait time.Duration
	// Look is how often a watcher looks, whatever watches say: leases lapse in silence.
	// Default 500 ms.
	Look time.Duration
	// Logger takes warnings of watchers. Default slog.Default().
	Logger *slog.Logger
}

func (c *Config) check() error {
	if len(c.Servers) == 0 {
		return errors.New("ZooKeeper configuration: Servers is empty")
	}
	for _, s := range c.Servers {
		if _, _, err := net.SplitHostPort(s); err != nil {
			return fmt.Errorf("ZooKeeper configuration: Servers: %q: want host:port: %w", s, err)
		}
	}
	if !strings.HasPrefix(c.Root, "/") || slices.Contains(strings.Split(c.Root[1:], "/"), "") {
		return fmt.Errorf("ZooKeeper configuration: Root %q: want a path as /crier", c.Root)
	}
	if c.Digest != "" && !strings.Contains(c.Digest, ":") {
		return errors.New("ZooKeeper configuration: Digest: want user:password")
	}
	if c.Session == 0 {
		c.Session = defaultSession
	}
	if c.Session < time.Second {
		return fmt.Errorf("ZooKeeper configuration: Session %s is below 1s", c.Session)
	}
	if c.Wait == 0 {
		c.Wait = defaultWait
	}
	if c.Wait < 0 {
		return fmt.Errorf("ZooKeeper configuration: Wait %s is below 0", c.Wait)
	}
	if c.Look == 0 {
		c.Look = defaultLook
	}
	if c.Look < 0 || c.Look > time.Second {
		return fmt.Errorf("ZooKeeper configuration: Look %s is not within 0 and 1s", c.Look)
	}
	if c.Logger == nil {
		c.Logger = slog.Default()
	}
	return nil
}

// Store is a connection to a store; see coord.Store for what its methods promise.
type Store struct {
	conn   *zk.Conn
	link   *link
	root   string
	acl    []zk.ACL
	wait   time.Duration
	every  time.Duration // between two looks of a watcher
	logger *slog.Logger
	writer uint64 // this client's number, in the upper bits of versions
	count  atomic.Uint64
}

var _ coord.Store = (*Store)(nil)

// Open connects, and looks whether Root is there and is ours. It gives up after Wait;
// then the store may be down, and Open can be called again.
func Open(ctx context.Context, cfg Config) (*Store, error) {
	if err := cfg.check(); err != nil {
		return nil, err
	}
	s := &Store{link: newLink(cfg.Session), root: cfg.Root, acl: zk.WorldACL(zk.PermAll), wait: cfg.Wait, every: cfg.Look, logger: cfg.Logger}
	var err error
	s.conn, _, err = zk.Connect(cfg.Servers, cfg.Session,
		zk.WithEventCallback(s.link.event), zk.WithDialer(s.link.dial), zk.WithLogger(driverLog{cfg.Logger}), zk.WithLogInfo(false))
	if err != nil {
		return nil, fmt.Errorf("connecting to ZooKeeper at %s: %w", strings.Join(cfg.Servers, ","), err)
	}
	ctx, cancel := s.bound(ctx, s.wait)
	defer cancel()
	if err := s.enter(ctx, cfg); err != nil {
		s.Close()
		return nil, fmt.Errorf("opening the store %s on ZooKeeper at %s: %w", cfg.Root, strings.Join(cfg.Servers, ","), err)
	}
	return s, nil
}

// Close ends the session. Calls fail after it; watchers end with their contexts.
func (s *Store) Close() { s.conn.Close() }

// enter makes what is missing and takes a number.
func (s *Store) enter(ctx context.Context, cfg Config) error {
	if cfg.Digest != "" {
		s.acl = zk.AuthACL(zk.PermAll)
		if err := s.do(ctx, func() error { return s.conn.AddAuth("digest", []byte(cfg.Digest)) }); err != nil {
			return fmt.Errorf("giving the digest: %w", err)
		}
	}
	if err := s.takeRoot(ctx, cfg.Create); err != nil {
		return err
	}
	// The one that tells whose the root is comes first: whoever is ended between them leaves a
	// root that can be used.
	for _, node := range []string{writersNode, clockNode} {
		if err := s.make(ctx, s.root+node); err != nil {
			return err
		}
	}
	st, err := call(ctx, s, func() (*zk.Stat, error) { return s.conn.Set(s.root+writersNode, nil, -1) })
	if err != nil {
		return fmt.Errorf("taking a number from %s: %w", s.root+writersNode, err)
	}
	// A store that was lost and made again counts from another time, so that versions of
	// the lost one do not come again.
	s.writer = (uint64(st.Ctime/writerEvery) + uint64(uint32(st.Version))) & (1<<writerBits - 1)
	return nil
}

// takeRoot looks at the root, or makes it.
func (s *Store) takeRoot(ctx context.Context, create bool) error {
	children, _, err := children(ctx, s, s.root)
	switch {
	case err == nil && len(children) == 0 && !create:
		return fmt.Errorf("%w: %s is empty; look whether the path is right", ErrRoot, s.root)
	case err == nil && len(children) > 0 && !slices.Contains(children, writersNode[1:]):
		return fmt.Errorf("%w: %s has nodes of something else (%s); give a path of its own", ErrRoot, s.root, children[0])
	case err == nil:
		return nil
	case !errors.Is(err, zk.ErrNoNode):
		return fmt.Errorf("reading %s: %w", s.root, err)
	case !create:
		return fmt.Errorf("%w: there is no node %s; look whether the path and the servers are right: %w", ErrRoot, s.root, err)
	}
	err = s.make(ctx, s.root)
	if errors.Is(err, zk.ErrNoNode) {
		return fmt.Errorf("%w: there is no node above %s, and only the last one is created; look whether the path is right: %w", ErrRoot, s.root, err)
	}
	return err
}

// make creates an empty node, or finds it.
func (s *Store) make(ctx context.Context, path string) error {
	_, err := call(ctx, s, func() (string, error) { return s.conn.Create(path, nil, zk.FlagPersistent, s.acl) })
	if err != nil && !errors.Is(err, zk.ErrNodeExists) {
		return fmt.Errorf("creating %s: %w", path, err)
	}
	return nil
}

// Time asks the leader for its time.
func (s *Store) Time(ctx context.Context) (time.Time, error) {
	st, err := call(ctx, s, func() (*zk.Stat, error) { return s.conn.Set(s.root+clockNode, nil, -1) })
	if err != nil {
		return time.Time{}, fmt.Errorf("asking ZooKeeper for the time: %w", err)
	}
	return time.UnixMilli(st.Mtime), nil
}

// next is a version that no other write of any client has, up to 68 thousand million
// writes of one.
func (s *Store) next() coord.Version {
	return coord.Version(s.writer<<countBits | s.count.Add(1)&(1<<countBits-1))
}
