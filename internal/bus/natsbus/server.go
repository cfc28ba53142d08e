// Package natsbus is the bus on NATS: a server inside the process, connections
// to it or to one elsewhere, and the adapter of bus.Bus.
//
// The server syncs each record of a stream to disk before it acknowledges it,
// unless the stream opts out; of servers elsewhere CheckSync asks whether they do. A
// connection never gives up and never keeps what was sent while it was cut: a
// publish then fails at once. Watch tells that a stream has stopped because its disk
// is full; of servers elsewhere that is not known here, where appends fail with it.
//
// Three such servers, each in a process of its own, may be a cluster: see
// Config.Routes. A connection inside the process stays there, and ends with it.
package natsbus

import (
	"errors"
	"fmt"
	"log/slog"
	"net"
	"strconv"
	"sync"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
)

// MaxPayload is the most bytes of one message, headers included.
const MaxPayload = 8 << 20

const (
	defaultMaxMemory = 256 << 20
	startTimeout     = 30 * time.Second
	// noStoreLimit takes away the server's own guess at the disk; each stream
	// has a limit of its own.
	noStoreLimit = 1 << 50
)

// Config says how the server runs.
type Config struct {
	// Dir is where streams keep their files. Required. The caller holds a lock
	// on it: two servers on one directory are not refused and destroy it.
	Dir string
	// Listen is the host:port for connections of other processes; port 0 takes a
	// free one. Empty (the default): connections inside the process only; in a cluster
	// the server then takes a port of this machine, but tells it to nobody.
	Listen string
	// Token must be presented by every connection. Required with Listen.
	Token string
	// Name is the server's in a cluster, where no two may have the same. Required
	// with ClusterListen.
	Name string
	// ClusterListen is the host:port for the other servers of a cluster. Empty (the
	// default): no cluster. It needs a Token, the same on all servers.
	ClusterListen string
	// Routes are the ClusterListen of all servers of the cluster; its own may be
	// among them. Required with ClusterListen.
	Routes []string
	// MaxMemory bounds, in bytes, what streams kept in memory may take together.
	// Default 256 MiB.
	MaxMemory int64
	// Unsynced acknowledges before the disk has it: records are lost in a crash
	// of the machine. For benchmarks and tests that need many records. Default off.
	Unsynced bool
	// Logger takes the server's and the connections' messages. Default slog.Default().
	Logger *slog.Logger
}

// Validate names the first field that cannot be used.
func (c Config) Validate() error {
	if c.Dir == "" {
		return errors.New("bus configuration: Dir is empty; give the directory for the streams")
	}
	if c.MaxMemory < 0 {
		return fmt.Errorf("bus configuration: MaxMemory %d is negative", c.MaxMemory)
	}
	if err := c.validCluster(); err != nil {
		return err
	}
	if c.Listen == "" {
		return nil
	}
	if _, _, err := address("Listen", c.Listen); err != nil {
		return err
	}
	if c.Token == "" {
		return errors.New("bus configuration: Token is empty; connections over the network need one")
	}
	return nil
}

func address(field, listen string) (host string, port int, err error) {
	host, text, err := net.SplitHostPort(listen)
	if err != nil {
		return "", 0, fmt.Errorf("bus configuration: %s %q is not host:port: %w", field, listen, err)
	}
	n, err := strconv.ParseUint(text, 10, 16)
	if err != nil {
		return "", 0, fmt.Errorf("bus configuration: %s %q: bad port: %w", field, listen, err)
	}
	if n == 0 {
		return host, server.RANDOM_PORT, nil
	}
	return host, int(n), nil
}

func (c Config) withDefaults() Config {
	if c.MaxMemory == 0 {
		c.MaxMemory = defaultMaxMemory
	}
	if c.Logger == nil {
		c.Logger = slog.Default()
	}
	return c
}

func (c Config) options() (*server.Options, error) {
	o := &server.Options{
		DontListen:         true,
		JetStream:          true,
		StoreDir:           c.Dir,
		SyncAlways:         !c.Unsynced,
		JetStreamMaxMemory: c.MaxMemory,
		JetStreamMaxStore:  noStoreLimit,
		MaxPayload:         MaxPayload,
		NoSigs:             true,
		Authorization:      c.Token,
	}
	if err := c.cluster(o); err != nil {
		return nil, err
	}
	if c.Listen != "" {
		host, port, err := address("Listen", c.Listen)
		if err != nil {
			return nil, err
		}
		o.DontListen, o.Host, o.Port = false, host, port
	}
	return o, nil
}

// Server is a NATS server inside the process.
type Server struct {
	cfg  Config
	nats *server.Server
	once sync.Once
}

// Start starts a server and returns when it takes connections and its streams
// are recovered.
func Start(cfg Config) (*Server, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	cfg = cfg.withDefaults()
	opts, err := cfg.options()
	if err != nil {
		return nil, err
	}
	ns, err := server.NewServer(opts)
	if err != nil {
		return nil, fmt.Errorf("making the bus server on %s: %w", cfg.Dir, err)
	}
	log := &serverLog{to: cfg.Logger.With("part", "bus"), now: time.Now}
	ns.SetLoggerV2(log, false, false, false)
	ns.Start()
	if err := log.fatal(); err != nil || !ns.ReadyForConnections(startTimeout) {
		ns.Shutdown()
		ns.WaitForShutdown()
		return nil, fmt.Errorf("starting the bus server on %s: %w", cfg.Dir, errors.Join(err, log.fatal(), errors.New("it is not ready")))
	}
	return &Server{cfg: cfg, nats: ns}, nil
}

// URL gives the address for connections of other processes, without the token;
// it is empty if the server does not listen.
func (s *Server) URL() string {
	if s.cfg.Listen == "" {
		return ""
	}
	return s.nats.ClientURL()
}

// Connect makes a connection inside the process. The name shows in logs.
func (s *Server) Connect(name string) (*nats.Conn, error) {
	return connect(Dial{Name: name, Token: s.cfg.Token, Logger: s.cfg.Logger}, nats.InProcessServer(s.nats), nats.PingInterval(pingInside))
}

// Shutdown stops the server, after the connections to it were closed by their
// owners; those left are cut. It is idempotent.
func (s *Server) Shutdown() {
	s.once.Do(func() {
		s.nats.Shutdown()
		s.nats.WaitForShutdown()
	})
}
