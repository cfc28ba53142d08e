// Package cluster runs a whole Crier cluster on one machine, for development and for
// drills: the servers it stands on and Crier processes that play one role each, every
// one a process of its own that stays until it is told to end.
//
// It guarantees that it signals what it started and nothing else: a process is known by
// its number and the moment it began, and is held by the kernel's handle while both are
// compared. What it started is in the file cluster.json before it is waited for, so that
// a launcher that dies leaves nothing that Down does not find.
package cluster

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// Kind is what a process is.
type Kind string

// The kinds of processes.
const (
	ZooKeeper Kind = "zookeeper"
	MariaDB   Kind = "mariadb"
	NATS      Kind = "nats"
	Proxy     Kind = "proxy"
	Crier     Kind = "crier"
)

// The addresses of a process, by what they are for.
const (
	AddrAPI     = "api"     // URL, of Crier
	AddrGateway = "gateway" // URL to which clients connect
	AddrMember  = "member"  // host:port for other members
	AddrClient  = "client"  // host:port, of a server
	AddrMonitor = "monitor" // URL, of NATS
	AddrProxy   = "proxy"   // host:port in front of the member's or the client's
)

// ErrNone says that a directory has no cluster.
var ErrNone = errors.New("there is no cluster")

const (
	stateFile = "cluster.json"
	lockDir   = "lock"
	lockWhole = lockDir + "/cluster" // held by who starts or ends it
	lockState = lockDir + "/state"   // held by who writes cluster.json
)

// Record is what cluster.json says of a process.
type Record struct {
	Name string `json:"name"` // worker-1
	Kind Kind   `json:"kind"`
	Role string `json:"role,omitempty"` // of Crier's roles
	// PID and Began name the process that was started last: its number, and when it
	// began, in ticks since the machine's start. 0: none.
	PID       int               `json:"pid"`
	Began     uint64            `json:"began"`
	StartedAt time.Time         `json:"started_at,omitzero"`
	Path      string            `json:"path"`
	Args      []string          `json:"args"`
	Dir       string            `json:"dir"`
	Log       string            `json:"log"`
	ReadyFile string            `json:"ready_file,omitempty"`
	Addresses map[string]string `json:"addresses"`
}

// State is the content of cluster.json.
type State struct {
	Boot      string   `json:"boot"`   // of the machine, in which the processes began
	Binary    string   `json:"binary"` // crier
	Deploy    string   `json:"deploy"` // directory of the configuration
	Topology  Topology `json:"topology"`
	SQL       string   `json:"sql,omitempty"`
	Processes []Record `json:"processes"` // in the order in which they are started
}

func (s *State) find(name string) *Record {
	i := slices.IndexFunc(s.Processes, func(r Record) bool { return r.Name == name })
	if i < 0 {
		return nil
	}
	return &s.Processes[i]
}

// Cluster is a cluster under a directory. Its methods are safe for use by several
// processes; each reads cluster.json anew.
type Cluster struct{ dir string }

// Load finds the cluster of a directory, or gives ErrNone.
func Load(dir string) (*Cluster, error) {
	c, err := at(dir)
	if err != nil {
		return nil, err
	}
	_, err = c.State()
	return c, err
}

func at(dir string) (*Cluster, error) {
	abs, err := filepath.Abs(dir)
	if err != nil {
		return nil, fmt.Errorf("finding the cluster's directory: %w", err)
	}
	return &Cluster{abs}, nil
}

// Dir is the cluster's directory.
func (c *Cluster) Dir() string { return c.dir }

func (c *Cluster) path(parts ...string) string {
	return filepath.Join(append([]string{c.dir}, parts...)...)
}

// State reads cluster.json.
func (c *Cluster) State() (State, error) {
	var s State
	b, err := os.ReadFile(c.path(stateFile))
	if errors.Is(err, fs.ErrNotExist) {
		return s, fmt.Errorf("%w in %s; crier cluster up makes one", ErrNone, c.dir)
	}
	if err != nil {
		return s, fmt.Errorf("reading what the cluster is: %w", err)
	}
	if err := json.Unmarshal(b, &s); err != nil {
		return s, fmt.Errorf("reading %s: %w", c.path(stateFile), err)
	}
	return s, nil
}

func (c *Cluster) save(s State) error {
	b, err := json.MarshalIndent(s, "", "  ")
	if err != nil {
		return fmt.Errorf("encoding what the cluster is: %w", err)
	}
	tmp := c.path("." + stateFile)
	if err := os.WriteFile(tmp, append(b, '\n'), 0o600); err != nil {
		return fmt.Errorf("writing what the cluster is: %w", err)
	}
	if err := os.Rename(tmp, c.path(stateFile)); err != nil {
		return fmt.Errorf("writing what the cluster is: %w", err)
	}
	return nil
}

// update changes cluster.json, one process at a time.
func (c *Cluster) update(change func(*State)) error {
	unlock, err := c.lock(lockState)
	if err != nil {
		return err
	}
	defer unlock()
	s, err := c.State()
	if err != nil {
		return err
	}
	change(&s)
	return c.save(s)
}

// lock waits for a lock of the directory.
func (c *Cluster) lock(name string) (unlock func(), err error) {
	f, err := os.OpenFile(c.path(name), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fmt.Errorf("opening the cluster's lock: %w", err)
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX); err != nil {
		f.Close()
		return nil, fmt.Errorf("locking %s: %w", c.dir, err)
	}
	return func() { f.Close() }, nil
}

// Process finds one of the processes.
func (c *Cluster) Process(name string) (*Process, error) {
	s, err := c.State()
	if err != nil {
		return nil, err
	}
	if r := s.find(name); r != nil {
		return &Process{Record: *r, c: c}, nil
	}
	var names []string
	for _, r := range s.Processes {
		names = append(names, r.Name)
	}
	return nil, fmt.Errorf("the cluster has no process %q; it has %s", name, strings.Join(names, ", "))
}

// Processes gives all of them, in the order in which they are started.
func (c *Cluster) Processes() ([]*Process, error) {
	s, err := c.State()
	if err != nil {
		return nil, err
	}
	list := make([]*Process, len(s.Processes))
	for i, r := range s.Processes {
		list[i] = &Process{Record: r, c: c}
	}
	return list, nil
}

// Role gives the Crier processes of a role.
func (c *Cluster) Role(role string) ([]*Process, error) {
	all, err := c.Processes()
	return slices.DeleteFunc(all, func(p *Process) bool { return p.Kind != Crier || p.Role != role }), err
}
