package drill

import (
	"context"
	"fmt"
	"net"
	"strings"
	"time"

	"crier/internal/cluster"
	"crier/internal/drill/natsview"
)

// ledgerStream is the stream whose leader is killed.
const ledgerStream = "LEDGER"

func (r *run) natsServers() (list []*cluster.Process, err error) {
	all, err := r.cluster.Processes()
	for _, p := range all {
		if p.Kind == cluster.NATS {
			list = append(list, p)
		}
	}
	return list, err
}

// ledgerLeader is the NATS server that leads the ledger's stream.
func (r *run) ledgerLeader(ctx context.Context) (string, error) {
	list, err := r.natsServers()
	if err != nil {
		return "", err
	}
	return natsview.Leader(ctx, list, ledgerStream)
}

// natsOf is the NATS server to which a Crier process is connected.
func (r *run) natsOf(ctx context.Context, name string) (string, error) {
	server, err := r.natsOfOthers(ctx, name, "")
	if err == nil && server == "" {
		err = fmt.Errorf("%s is connected to no NATS server", name)
	}
	return server, err
}

// movedAway gives the time if a process that was cut off from a NATS server uses another.
func (r *run) movedAway(ctx context.Context) (at time.Time) {
	from, to := r.report.Fault.Victims[0], r.report.Fault.Victims[1]
	if !strings.HasPrefix(to, "nats-") {
		from, to = to, from
	}
	if !strings.HasPrefix(to, "nats-") {
		return at
	}
	now, err := r.natsOfOthers(ctx, from, to)
	if err == nil && now != "" {
		at = time.Now()
	}
	return at
}

// natsOfOthers is the server that a process uses among all but one.
func (r *run) natsOfOthers(ctx context.Context, name, not string) (string, error) {
	list, err := r.natsServers()
	if err != nil {
		return "", err
	}
	return natsview.Of(ctx, list, "crier "+name, not)
}

// answers reports whether somebody takes connections where a process did.
func answers(p *cluster.Process) (string, bool) {
	for what, address := range p.Addresses {
		if what == cluster.AddrProxy || what == cluster.AddrMember || what == cluster.AddrGateway {
			continue
		}
		address = strings.TrimPrefix(address, "http://")
		if conn, err := net.DialTimeout("tcp", address, time.Second); err == nil {
			conn.Close()
			return address, true
		}
	}
	return "", false
}
