// Package natsview asks NATS servers, at their monitors, who leads and who is connected.
//
// It guarantees that an answer is of the servers: no process of ours is asked.
package natsview

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"time"

	"crier/internal/cluster"
)

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

// Leader is the server that leads a stream.
func Leader(ctx context.Context, list []*cluster.Process, stream string) (string, error) {
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
				if s.Name == stream && s.Cluster.Leader != "" {
					return s.Cluster.Leader, nil
				}
			}
		}
	}
	return "", fmt.Errorf("no NATS server says who leads %s", stream)
}

// Of is the server to which a connection of a name goes, among all but one; "" if it goes
// to none.
func Of(ctx context.Context, list []*cluster.Process, connection, not string) (string, error) {
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
			if c.Name == connection {
				return p.Name, nil
			}
		}
	}
	return "", nil
}
