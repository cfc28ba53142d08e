package cluster

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"strconv"

	"crier/internal/servers"
)

// ready gives no error when the process can be used; whole says that it must see all
// others of its kind.
func (p *Process) ready(ctx context.Context, s State, whole bool) error {
	switch p.Kind {
	case ZooKeeper:
		return (&servers.ZooKeeperNode{Addr: p.Addresses[AddrClient]}).Ready(ctx)
	case MariaDB:
		_, port, err := net.SplitHostPort(p.Addresses[AddrClient])
		if err != nil {
			return err
		}
		n, err := strconv.Atoi(port)
		if err != nil {
			return err
		}
		return (&servers.Database{Port: n}).Ready(ctx)
	case NATS:
		size := 1
		if whole {
			size = s.Topology.NATS
		}
		return servers.NATSAt(p.Name, p.Addresses[AddrMonitor], size).Ready(ctx)
	case Proxy:
		_, err := p.c.Cuts(ctx)
		return err
	case Crier:
		return p.announced()
	}
	return fmt.Errorf("%s is of no kind that is known: %q", p.Name, p.Kind)
}

// announced looks for the ready file of this very process.
func (p *Process) announced() error {
	b, err := os.ReadFile(p.ReadyFile)
	if errors.Is(err, fs.ErrNotExist) {
		return errors.New("it has not said that it takes requests")
	}
	if err != nil {
		return fmt.Errorf("reading the ready file: %w", err)
	}
	var r struct {
		PID int `json:"pid"`
	}
	if err := json.Unmarshal(b, &r); err != nil {
		return fmt.Errorf("reading the ready file: %w", err)
	}
	if r.PID != p.PID {
		return fmt.Errorf("the ready file is of process %d", r.PID)
	}
	return nil
}
