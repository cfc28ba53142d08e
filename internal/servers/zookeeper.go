package servers

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

// What Debian's packages zookeeper and default-jre-headless install.
const (
	zooKeeperJar   = "/usr/share/java/zookeeper.jar"
	zooKeeperPath  = zooKeeperJar + ":/usr/share/java/log4j-1.2.jar:/usr/share/java/slf4j-log4j12.jar"
	zooKeeperMain  = "org.apache.zookeeper.server.quorum.QuorumPeerMain"
	zooKeeperReady = 60 * time.Second
	askWithin      = time.Second
)

// zooKeeperLog sends warnings to the process's log.
const zooKeeperLog = `log4j.rootLogger=WARN, CONSOLE
log4j.appender.CONSOLE=org.apache.log4j.ConsoleAppender
log4j.appender.CONSOLE.layout=org.apache.log4j.PatternLayout
log4j.appender.CONSOLE.layout.ConversionPattern=%d %p %c{1}: %m%n
`

// ZooKeeperConfig says what ensemble to start.
type ZooKeeperConfig struct {
	// Dir exists; each node has a directory in it, and its log is there.
	Dir string
	// Nodes is 1 or 3. Default 1.
	Nodes int
	// Stay lets them outlive this process.
	Stay bool
}

// Ensemble is ZooKeeper servers that make up one store. Its methods are for one
// goroutine at a time.
type Ensemble struct {
	Nodes []*ZooKeeperNode
	cfg   ZooKeeperConfig
}

// ZooKeeperNode is one server of an ensemble.
type ZooKeeperNode struct {
	Addr string // for clients
	// Process is the running one, or the last one that ran.
	Process *Process
	dir     string
	cfg     ZooKeeperConfig
}

// ZooKeeper starts an ensemble and waits until each node serves, which takes a
// quorum.
func ZooKeeper(ctx context.Context, cfg ZooKeeperConfig) (*Ensemble, error) {
	e, err := PrepareZooKeeper(cfg)
	if err != nil {
		return nil, err
	}
	all := make([]int, len(e.Nodes))
	for i := range all {
		all[i] = i
	}
	if err := e.Start(ctx, all...); err != nil {
		e.Stop()
		return nil, err
	}
	return e, nil
}

// PrepareZooKeeper lays an ensemble out on free ports and starts nothing.
func PrepareZooKeeper(cfg ZooKeeperConfig) (*Ensemble, error) {
	if cfg.Nodes == 0 {
		cfg.Nodes = 1
	}
	if cfg.Nodes != 1 && cfg.Nodes != 3 {
		return nil, fmt.Errorf("ZooKeeper configuration: Nodes is %d, want 1 or 3", cfg.Nodes)
	}
	if err := zooKeeperInstalled(); err != nil {
		return nil, err
	}
	dir, err := filepath.Abs(cfg.Dir)
	if err != nil {
		return nil, fmt.Errorf("ZooKeeper configuration: Dir: %w", err)
	}
	cfg.Dir = dir
	e := &Ensemble{cfg: cfg}
	if err := e.write(); err != nil {
		return nil, fmt.Errorf("configuring ZooKeeper in %s: %w", cfg.Dir, err)
	}
	return e, nil
}

func zooKeeperInstalled() error {
	if _, err := exec.LookPath("java"); err != nil {
		return fmt.Errorf("ZooKeeper needs java, of the package default-jre-headless (make zookeeper installs it): %w", err)
	}
	if _, err := os.Stat(zooKeeperJar); err != nil {
		return fmt.Errorf("ZooKeeper is in the package zookeeper (make zookeeper installs it): %w", err)
	}
	return nil
}

// write lays out each node's directory: its configuration, number and data.
func (e *Ensemble) write() error {
	ports, err := Ports(3 * e.cfg.Nodes)
	if err != nil {
		return err
	}
	var peers strings.Builder
	for i := range e.cfg.Nodes {
		fmt.Fprintf(&peers, "server.%d=127.0.0.1:%d:%d\n", i+1, ports[3*i], ports[3*i+1])
	}
	for i := range e.cfg.Nodes {
		n := &ZooKeeperNode{cfg: e.cfg, dir: filepath.Join(e.cfg.Dir, fmt.Sprintf("zookeeper-%d", i+1))}
		n.Addr = fmt.Sprintf("127.0.0.1:%d", ports[3*i+2])
		data := filepath.Join(n.dir, "data")
		if err := os.MkdirAll(data, 0o700); err != nil {
			return err
		}
		for path, text := range map[string]string{
			filepath.Join(n.dir, "log4j.properties"): zooKeeperLog,
			filepath.Join(data, "myid"):              fmt.Sprintln(i + 1),
			filepath.Join(n.dir, "zoo.cfg"):          zooCfg(data, ports[3*i+2]) + peers.String(),
		} {
			if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
				return err
			}
		}
		e.Nodes = append(e.Nodes, n)
	}
	return nil
}

func zooCfg(data string, port int) string {
	return fmt.Sprintf(`tickTime=500
initLimit=20
syncLimit=10
dataDir=%s
clientPort=%d
clientPortAddress=127.0.0.1
admin.enableServer=false
4lw.commands.whitelist=ruok,srvr,mntr
maxClientCnxns=0
minSessionTimeout=1000
maxSessionTimeout=40000
standaloneEnabled=false
reconfigEnabled=false
`, data, port)
}

// Start starts nodes, all at once, that do not run, on the data and ports that
// they had, and waits until they serve.
func (e *Ensemble) Start(ctx context.Context, nodes ...int) error {
	ctx, cancel := context.WithTimeout(ctx, zooKeeperReady)
	defer cancel()
	errs := make(chan error, len(nodes))
	for _, i := range nodes {
		go func() { errs <- e.start(ctx, e.Nodes[i]) }()
	}
	var all error
	for range nodes {
		all = errors.Join(all, <-errs)
	}
	return all
}

func (e *Ensemble) start(ctx context.Context, n *ZooKeeperNode) error {
	p, err := Start(ctx, n.Command(), n.Ready)
	if err != nil {
		return err
	}
	n.Process = p
	return nil
}

// Command is how the node is started.
func (n *ZooKeeperNode) Command() Command {
	return Command{
		Name: filepath.Base(n.dir),
		Dir:  n.cfg.Dir,
		Path: "java",
		Args: []string{
			"-Xms64m", "-Xmx128m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-Dzookeeper.jmx.log4j.disable=true",
			"-cp", n.dir + ":" + zooKeeperPath, zooKeeperMain, filepath.Join(n.dir, "zoo.cfg"),
		},
		Stay: n.cfg.Stay,
	}
}

// Ready gives no error when the node serves.
func (n *ZooKeeperNode) Ready(ctx context.Context) error {
	_, err := n.Mode(ctx)
	return err
}

// Mode asks a node what it is: leader or follower; it has neither without a quorum.
func (n *ZooKeeperNode) Mode(ctx context.Context) (string, error) {
	answer, err := n.ask(ctx, "srvr")
	if err != nil {
		return "", err
	}
	_, rest, ok := strings.Cut(answer, "Mode: ")
	mode, _, _ := strings.Cut(rest, "\n")
	if !ok {
		return "", fmt.Errorf("ZooKeeper at %s does not serve: %q", n.Addr, strings.TrimSpace(answer))
	}
	return mode, nil
}

// ask sends one of ZooKeeper's four-letter words.
func (n *ZooKeeperNode) ask(ctx context.Context, word string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, askWithin)
	defer cancel()
	conn, err := new(net.Dialer).DialContext(ctx, "tcp", n.Addr)
	if err != nil {
		return "", err
	}
	defer conn.Close()
	end, _ := ctx.Deadline()
	if err := conn.SetDeadline(end); err != nil {
		return "", err
	}
	if _, err := io.WriteString(conn, word); err != nil {
		return "", err
	}
	answer, err := io.ReadAll(conn)
	return string(answer), err
}

// Leader tells which node leads.
func (e *Ensemble) Leader(ctx context.Context) (int, error) {
	var all error
	for i, n := range e.Nodes {
		mode, err := n.Mode(ctx)
		if err == nil && mode == "leader" {
			return i, nil
		}
		all = errors.Join(all, err)
	}
	return 0, fmt.Errorf("no node of ZooKeeper leads: %w", all)
}

// Addrs are where clients connect.
func (e *Ensemble) Addrs() []string {
	addrs := make([]string, len(e.Nodes))
	for i, n := range e.Nodes {
		addrs[i] = n.Addr
	}
	return addrs
}

// Stop ends all nodes at once, as a crash does; what they acknowledged is on disk.
func (e *Ensemble) Stop() {
	for _, n := range e.Nodes {
		if n.Process != nil {
			n.Process.Kill()
		}
	}
}
