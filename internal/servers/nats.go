package servers

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"
)

// natsModule is the server's main package; its version is the module's, so that what
// is embedded and what is started are the same.
const natsModule = "github.com/nats-io/nats-server/v2"

// Who may talk to the servers that StartNATS starts.
const (
	NATSUser     = "crier"  // of the account in which streams are
	NATSSystem   = "system" // of the system account, which may ask servers for their settings
	NATSPassword = "secret" // of both
)

const natsPayload = 8 << 20

// NATSConfig says which servers to start.
type NATSConfig struct {
	Dir      string // exists; each server has its directory and its log in it
	Binary   string // default: NATSBinary's
	Servers  int    // 1, or 3 that are a cluster
	Accounts int    // further accounts, each with an empty store; user t1 of the first, and so on
	Unsynced []int  // these servers, from 1, do not sync always, which Crier must refuse
	Stay     bool   // they outlive this process
	Quiet    bool   // clients are not told of servers that they were not given
}

// NATS is one server or a cluster; each runs by itself and can be killed, paused,
// and started again where it was.
type NATS struct {
	URL   string // of all, separated by commas, without who connects
	Nodes []*NATSNode
}

// NATSNode is one of the servers.
type NATSNode struct {
	*Process        // the last one
	Server   string // its name in the cluster
	URL      string
	monitor  string
	size     int // of the cluster
	command  Command
}

// StartNATS starts servers and waits until they are a cluster whose streams can be
// used.
func StartNATS(ctx context.Context, cfg NATSConfig) (*NATS, error) {
	c, err := PrepareNATS(ctx, cfg)
	if err != nil {
		return nil, err
	}
	var g errgroup.Group
	for _, n := range c.Nodes {
		g.Go(func() (err error) {
			n.Process, err = Start(ctx, n.command, n.Ready)
			return err
		})
	}
	if err := g.Wait(); err != nil {
		c.Kill()
		return nil, fmt.Errorf("starting NATS: %w", err)
	}
	return c, nil
}

// PrepareNATS lays servers out on free ports and starts none.
func PrepareNATS(ctx context.Context, cfg NATSConfig) (_ *NATS, err error) {
	if cfg.Servers != 1 && cfg.Servers != 3 {
		return nil, fmt.Errorf("starting NATS: %d servers, want 1 or 3", cfg.Servers)
	}
	if cfg.Binary == "" {
		if cfg.Binary, err = NATSBinary(ctx); err != nil {
			return nil, err
		}
	}
	ports, err := Ports(3 * cfg.Servers)
	if err != nil {
		return nil, err
	}
	c := &NATS{}
	var urls []string
	for i := range cfg.Servers {
		n, err := cfg.prepare(i, ports)
		if err != nil {
			return nil, err
		}
		c.Nodes, urls = append(c.Nodes, n), append(urls, n.URL)
	}
	c.URL = strings.Join(urls, ",")
	return c, nil
}

// prepare writes the files of one server. Of its ports the first is the clients',
// the next the monitor's, the last the cluster's.
func (cfg NATSConfig) prepare(i int, ports []int) (*NATSNode, error) {
	name := fmt.Sprintf("nats-%d", i+1)
	dir, err := filepath.Abs(filepath.Join(cfg.Dir, name))
	if err != nil {
		return nil, fmt.Errorf("finding the directory of %s: %w", name, err)
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("making the directory of %s: %w", name, err)
	}
	file := filepath.Join(dir, "nats.conf")
	if err := os.WriteFile(file, []byte(cfg.text(i, name, dir, ports)), 0o600); err != nil {
		return nil, fmt.Errorf("writing the configuration of %s: %w", name, err)
	}
	return &NATSNode{
		Server: name, URL: fmt.Sprintf("nats://127.0.0.1:%d", ports[3*i]), monitor: fmt.Sprintf("http://127.0.0.1:%d", ports[3*i+1]), size: cfg.Servers,
		command: Command{Name: name, Dir: filepath.Dir(dir), Path: cfg.Binary, Args: []string{"-c", file}, Stay: cfg.Stay},
	}, nil
}

func (cfg NATSConfig) text(i int, name, dir string, ports []int) string {
	var b strings.Builder
	p := func(format string, args ...any) { fmt.Fprintf(&b, format+"\n", args...) }
	sync := "always"
	for _, n := range cfg.Unsynced {
		if n == i+1 {
			sync = "2m"
		}
	}
	p("server_name: %s", name)
	p("listen: 127.0.0.1:%d", ports[3*i])
	p("http: 127.0.0.1:%d", ports[3*i+1])
	// Its pings stay at their default of minutes, as elsewhere: a process that is paused
	// finds its connection as it left it, with all that came meanwhile.
	p("max_payload: %d", natsPayload)
	// Streams reserve their limits; the tests' exceed any disk.
	p("jetstream { store_dir: %q, sync_interval: %s, max_file_store: 1PB, max_memory_store: 256MB }", dir, sync)
	p("accounts {")
	p("  CRIER { jetstream: enabled, users: [{user: %s, password: %s}] }", NATSUser, NATSPassword)
	p("  SYSTEM { users: [{user: %s, password: %s}] }", NATSSystem, NATSPassword)
	for n := range cfg.Accounts {
		p("  T%d { jetstream: enabled, users: [{user: t%d, password: %s}] }", n+1, n+1, NATSPassword)
	}
	p("}")
	p("system_account: SYSTEM")
	p("connect_error_reports: 60, reconnect_error_reports: 60") // tries a second apart, of a server that is away
	if cfg.Servers > 1 {
		p("cluster {")
		p("  name: crier, listen: 127.0.0.1:%d", ports[3*i+2])
		p("  authorization { user: route, password: %s }", NATSPassword)
		p("  ping_interval: 2s, ping_max: 2")
		p("  no_advertise: %v", cfg.Quiet)
		p("  routes: [")
		for j := range cfg.Servers {
			if j != i {
				p("    nats-route://route:%s@127.0.0.1:%d", NATSPassword, ports[3*j+2])
			}
		}
		p("  ]")
		p("}")
	}
	return b.String()
}

// Command is how the server is started.
func (n *NATSNode) Command() Command { return n.command }

// Ready gives no error when the server sees all of its cluster.
func (n *NATSNode) Ready(ctx context.Context) error { return n.ready(ctx, n.size) }

// NATSAt is a server that somebody else started, known by its Monitor, one of a cluster
// of a size. It can be asked whether it is ready.
func NATSAt(server, monitor string, size int) *NATSNode {
	return &NATSNode{Server: server, monitor: monitor, size: size}
}

// Monitor is the URL of the server's own pages.
func (n *NATSNode) Monitor() string { return n.monitor }

// ready gives no error when the server is in a cluster of at least a number of
// servers, has a leader for what is stored, and has recovered its streams.
func (n *NATSNode) ready(ctx context.Context, size int) error {
	if err := n.ask(ctx, "/healthz", nil); err != nil {
		return err
	}
	if size == 1 && n.size == 1 {
		return nil
	}
	var stored struct {
		Meta struct {
			Leader   string `json:"leader"`
			Size     int    `json:"cluster_size"`
			Replicas []struct {
				Offline bool `json:"offline"`
			} `json:"replicas"`
		} `json:"meta_cluster"`
	}
	if err := n.ask(ctx, "/jsz", &stored); err != nil {
		return err
	}
	if stored.Meta.Leader == "" || stored.Meta.Size < size {
		return fmt.Errorf("%s is in a cluster of %d with the leader %q", n.Server, stored.Meta.Size, stored.Meta.Leader)
	}
	// Only the leader knows its peers.
	for _, r := range stored.Meta.Replicas {
		if r.Offline && size > 1 {
			return fmt.Errorf("%s does not see all of the cluster", n.Server)
		}
	}
	return nil
}

// ask gets a page of the server's monitor.
func (n *NATSNode) ask(ctx context.Context, page string, into any) error {
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, n.monitor+page, nil)
	if err != nil {
		return fmt.Errorf("asking %s: %w", n.Server, err)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return fmt.Errorf("asking %s: %w", n.Server, err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("%s answers %s for %s", n.Server, resp.Status, page)
	}
	if into == nil {
		return nil
	}
	if err := json.NewDecoder(resp.Body).Decode(into); err != nil {
		return fmt.Errorf("reading what %s says: %w", n.Server, err)
	}
	return nil
}

// Restart starts a server that has ended on its directory and ports, and waits until
// it has a leader. Alone of three it cannot have one: see RestartOnly.
func (n *NATSNode) Restart(ctx context.Context) error {
	return n.restart(ctx, func(ctx context.Context) error { return n.ready(ctx, 1) })
}

// RestartOnly starts a server that has ended and waits until it answers at all.
func (n *NATSNode) RestartOnly(ctx context.Context) error {
	return n.restart(ctx, func(ctx context.Context) error { return n.ask(ctx, "/varz", nil) })
}

func (n *NATSNode) restart(ctx context.Context, ready func(context.Context) error) error {
	p, err := Start(ctx, n.command, ready)
	if err != nil {
		return err
	}
	n.Process = p
	return nil
}

// Node is the server with a name.
func (c *NATS) Node(server string) (*NATSNode, error) {
	for _, n := range c.Nodes {
		if n.Server == server {
			return n, nil
		}
	}
	return nil, fmt.Errorf("there is no server %q", server)
}

// Kill ends all servers.
func (c *NATS) Kill() {
	for _, n := range c.Nodes {
		if n.Process != nil {
			n.Process.Kill()
		}
	}
}

// Stop asks all servers to end, together, and waits.
func (c *NATS) Stop() {
	var wg sync.WaitGroup
	for _, n := range c.Nodes {
		if n.Process != nil {
			wg.Go(n.Process.Stop)
		}
	}
	wg.Wait()
}

// NATSBinary builds the server of this module's version, once for all processes of a
// user, and returns its path. It needs go, and to run inside the module.
func NATSBinary(ctx context.Context) (string, error) {
	out, err := exec.CommandContext(ctx, "go", "list", "-m", "-f", "{{.Version}}", natsModule).CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("asking go for the version of %s: %w: %s; the NATS server is built with go, in the repository: run it there, with go installed", natsModule, err, strings.TrimSpace(string(out)))
	}
	cache, err := os.UserCacheDir()
	if err != nil {
		cache = os.TempDir()
	}
	dir := filepath.Join(cache, "crier")
	path := filepath.Join(dir, fmt.Sprintf("nats-server-%s-%s", strings.TrimSpace(string(out)), runtime.Version()))
	if _, err := os.Stat(path); err == nil {
		return path, nil
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return "", fmt.Errorf("making the directory of the NATS server: %w", err)
	}
	// Under a name of its own first: another process may look for it meanwhile.
	tmp := fmt.Sprintf("%s.%d", path, os.Getpid())
	build := exec.CommandContext(ctx, "go", "build", "-trimpath", "-o", tmp, natsModule)
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		return "", fmt.Errorf("building %s: %w: %s", natsModule, err, out)
	}
	if err := os.Rename(tmp, path); err != nil {
		return "", fmt.Errorf("placing the NATS server: %w", err)
	}
	return path, nil
}
