// Package redisset reads the ids of a recipient package from the members of a Redis set
// or sorted set.
//
// It reads some thousand members at a time by the server's cursor: what is in the set from
// the beginning to the end is in the package, what comes or goes meanwhile may be or not.
// A set that is removed meanwhile is an error, never a short package.
package redisset

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/redis/go-redis/v9"

	"crier/job"
)

// scanCount is how many members the server is asked for at a time.
const scanCount = 10_000

// Config says what to read.
type Config struct {
	Name string // of the package
	URL  string // redis://user:password@host:port/database, or rediss:// with TLS
	Key  string
}

// Source is the members of a set, as an audience.Source.
type Source struct {
	cfg    Config
	opt    *redis.Options
	client *redis.Client
	sorted bool
	cursor uint64
	ended  bool     // the server's cursor is at the end
	page   []string // what it gave and was not read yet; of a sorted set, members and scores in turn
	err    error    // sticky
}

// silent takes what the library would write to standard error; errors say the same.
type silent struct{}

// Printf implements the library's interface.
func (silent) Printf(context.Context, string, ...any) {}

func init() { redis.SetLogger(silent{}) }

// New makes a source; it names what is wrong with the configuration.
func New(cfg Config) (*Source, error) {
	opt, err := redis.ParseURL(cfg.URL)
	if err != nil { // it may have the password
		return nil, job.Invalid("dsn", "the address of the Redis server cannot be read; want redis://user:password@host:6379/0", nil)
	}
	if cfg.Key == "" {
		return nil, job.Invalid("key", "no key of a Redis set is given", nil)
	}
	return &Source{cfg: cfg, opt: opt}, nil
}

// Name is the package's name.
func (s *Source) Name() string { return s.cfg.Name }

// NextBatch reads ids.
func (s *Source) NextBatch(ctx context.Context, ids []uint32) (n int, err error) {
	if s.err == nil && s.client == nil {
		s.err = s.start(ctx)
	}
	for n < len(ids) && s.err == nil {
		if len(s.page) == 0 {
			s.err = s.next(ctx)
			continue
		}
		if ids[n], s.err = s.take(); s.err == nil {
			n++
		}
	}
	if s.err == nil || errors.Is(s.err, io.EOF) && n > 0 {
		return n, nil
	}
	return 0, s.err
}

// start connects and looks what the key is.
func (s *Source) start(ctx context.Context) error {
	s.client = redis.NewClient(s.opt)
	kind, err := s.client.Type(ctx, s.cfg.Key).Result()
	if err != nil {
		return s.reading(err)
	}
	switch kind {
	case "set":
	case "zset":
		s.sorted = true
	case "none":
		return job.NotFound(fmt.Sprintf("the Redis server has no key %q", s.cfg.Key))
	default:
		return job.Invalid("key", fmt.Sprintf("key %q of the Redis server is a %s, not a set", s.cfg.Key, kind), nil)
	}
	return nil
}

func (s *Source) reading(err error) error {
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) { // it hung up, which no error of the network says
		return &job.Error{Code: job.CodeUnavailable, Message: fmt.Sprintf("reading %q: the Redis server at %s ended the connection", s.cfg.Key, s.opt.Addr), Err: err}
	}
	return job.Unreachable(fmt.Sprintf("reading %q from the Redis server at %s", s.cfg.Key, s.opt.Addr), err)
}

// next reads the next members; io.EOF at the end.
func (s *Source) next(ctx context.Context) (err error) {
	if s.ended {
		n, err := s.client.Exists(ctx, s.cfg.Key).Result()
		switch {
		case err != nil:
			return s.reading(err)
		case n == 0:
			return job.Conflict(fmt.Sprintf("key %q was removed from the Redis server while it was read; nothing was kept", s.cfg.Key))
		}
		return io.EOF
	}
	scan := s.client.SScan
	if s.sorted {
		scan = s.client.ZScan
	}
	if s.page, s.cursor, err = scan(ctx, s.cfg.Key, s.cursor, "", scanCount).Result(); err != nil {
		return s.reading(err)
	}
	if s.sorted && len(s.page)%2 != 0 {
		return s.reading(errors.New("members and scores do not go together"))
	}
	s.ended = s.cursor == 0
	return nil
}

// take gives the next id of what was read.
func (s *Source) take() (uint32, error) {
	member := s.page[0]
	s.page = s.page[1:]
	if s.sorted {
		s.page = s.page[1:] // its score
	}
	id, err := job.ParseRecipient(member)
	if err != nil {
		return 0, job.Invalid("key", fmt.Sprintf("a member of key %q cannot be used; nothing was kept", s.cfg.Key), err)
	}
	return uint32(id), nil
}

// Close ends the connection.
func (s *Source) Close() error {
	if s.err == nil {
		s.err = io.EOF
	}
	if s.client == nil {
		return nil
	}
	c := s.client
	s.client, s.page = nil, nil
	return c.Close()
}
