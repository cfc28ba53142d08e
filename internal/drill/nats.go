package drill

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"strings"
	"time"

	"crier/internal/cluster"
)

// ledgerStream is the stream whose leader is killed.
const ledgerStream = "LEDGER"

// page gets a page of a NATS server's monitor.
func page(ctx context.Context, p *cluster.Process, path string, into any) error {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, p.Addresses[cluster.AddrMonitor]+path, nil)
	if err != nil {
		return fmt.Errorf("asking %s: %w", p.Name, err)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return fmt.Errorf("asking %s: %w", p.Name, err)
	}
	defer resp.Body.Close()
	if err := json.NewDecoder(resp.Body).Decode(into); err != nil {
		return fmt.Errorf("reading what %s says: %w", p.Name, err)
	}
	return nil
}

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
	for _, p := range list {
		var answer struct {
			Accounts []struct {
				Streams []struct {
					Name    string `json:"name"`
					Cluster struct {
						Leader string `json:"leader"`
					} `json:"cluster"`
				} `json:"stream_detail"`
			} `json:"account_details"`
		}
		if err := page(ctx, p, "/jsz?streams=true&accounts=true", &answer); err != nil {
			return "", err
		}
		for _, a := range answer.Accounts {
			for _, s := range a.Streams {
				if s.Name == ledgerStream && s.Cluster.Leader != "" {
					return s.Cluster.Leader, nil
				}
			}
		}
	}
	return "", fmt.Errorf("no NATS server says who leads %s", ledgerStream)
}

// natsOf is the NATS server to which a Crier process is connected.
func (r *run) natsOf(ctx context.Context, name string) (string, error) {
	server, err := r.natsOfOthers(ctx, name, "")
	if err == nil && server == "" {
		err = fmt.Errorf("%s is connected to no NATS server", name)
	}
	return server, err
}

// movedAway reports whether a process that was cut off from a NATS server uses another.
func (r *run) movedAway(ctx context.Context) bool {
	from, to := r.report.Fault.Victims[0], r.report.Fault.Victims[1]
	if !strings.HasPrefix(to, "nats-") {
		from, to = to, from
	}
	if !strings.HasPrefix(to, "nats-") {
		return false
	}
	now, err := r.natsOfOthers(ctx, from, to)
	return err == nil && now != ""
}

// natsOfOthers is the server that a process uses among all but one.
func (r *run) natsOfOthers(ctx context.Context, name, not string) (string, error) {
	list, err := r.natsServers()
	if err != nil {
		return "", err
	}
	for _, p := range list {
		if p.Name == not {
			continue
		}
		var answer struct {
			Connections []struct {
				Name string `json:"name"`
			} `json:"connections"`
		}
		if err := page(ctx, p, "/connz", &answer); err != nil {
			return "", err
		}
		for _, c := range answer.Connections {
			if c.Name == "crier "+name {
				return p.Name, nil
			}
		}
	}
	return "", nil
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
