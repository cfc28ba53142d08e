package crowd

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"crier/job"
)

// stream is a client that reads server-sent events as a page does: what the last event's id
// lists it has, and says so when it connects again, at the next gateway.
type stream struct {
	c    *Crowd
	m    Member
	last string // event's id
}

// streams keeps a client of server-sent events connected until ctx ends.
func (c *Crowd) streams(ctx context.Context, m Member, gateways []string) {
	s := stream{c: c, m: m}
	c.again(ctx, m, func(n int) error { return s.once(ctx, gateways[n%len(gateways)]) })
}

// once is one connection.
func (s *stream) once(ctx context.Context, gateway string) error {
	base, err := url.Parse(strings.Replace(strings.TrimSuffix(gateway, "/v1/connect"), "ws", "http", 1) + "/v1/stream?can=withdraw&have=&client=" + s.m.Recipient.String())
	if err != nil {
		return err
	}
	resp, err := s.ask(ctx, http.MethodGet, base.String(), nil)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("a stream is answered %s", resp.Status)
	}
	ack, events := base, bufio.NewReader(resp.Body)
	for {
		e, err := read(events)
		if err != nil {
			return err
		}
		had := strings.Split(s.last, ",")
		if e.last != "" {
			s.last = e.last
		}
		switch e.Type {
		case "hello":
			if ack, err = base.Parse(e.Ack); err != nil {
				return err
			}
			s.c.note(s.m.Recipient, true)
			continue
		case "message":
			if !slices.Contains(had, e.ID) {
				s.c.show(s.m.Recipient, e.ID, e.ServerTime)
			}
		case "withdraw":
			s.c.withdraw(s.m.Recipient, e.IDs)
		case "close", "redirect":
			return fmt.Errorf("the gateway says %s %s", e.Type, e.Reason)
		default:
			continue
		}
		if err := s.acknowledge(ctx, ack.String(), e.ID); err != nil {
			return err
		}
	}
}

// acknowledge says that the client has a message; of one that is refused it says so when it
// connects again.
func (s *stream) acknowledge(ctx context.Context, to, id string) error {
	body, err := json.Marshal(map[string][]string{"ids": {id}})
	if err != nil {
		return err
	}
	resp, err := s.ask(ctx, http.MethodPost, to, body)
	if err != nil {
		return err
	}
	resp.Body.Close()
	if resp.StatusCode != http.StatusNoContent {
		return fmt.Errorf("an acknowledgement is answered %s", resp.Status)
	}
	return nil
}

func (s *stream) ask(ctx context.Context, method, to string, body []byte) (*http.Response, error) {
	req, err := http.NewRequestWithContext(ctx, method, to, bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	req.Header.Set("Authorization", "Bearer "+s.m.Token)
	if s.last != "" {
		req.Header.Set("Last-Event-ID", s.last)
	}
	return s.c.http.Do(req)
}

// event is a frame as an event, and the event's id.
type event struct {
	Type, ID, Ack, Reason string
	IDs                   []string
	ServerTime            time.Time `json:"server_time"`
	last                  string
}

// read reads on to the end of an event.
func read(r *bufio.Reader) (e event, err error) {
	for {
		line, err := r.ReadString('\n')
		if err != nil {
			return e, err
		}
		name, value, _ := strings.Cut(strings.TrimSuffix(line, "\n"), ": ")
		switch {
		case line == "\n" && e.Type != "":
			return e, nil
		case name == "id":
			e.last = value
		case name == "data":
			if err := json.Unmarshal([]byte(value), &e); err != nil {
				return e, fmt.Errorf("an event: %w", err)
			}
		}
	}
}

// withdraw keeps that a client has taken messages off the display.
func (c *Crowd) withdraw(r job.Recipient, ids []string) {
	for _, id := range ids {
		j, err := job.ParseID(id)
		if err != nil {
			c.failed(r, err)
			continue
		}
		c.mu.Lock()
		if c.mu.withdrew[j] == nil {
			c.mu.withdrew[j] = map[job.Recipient]bool{}
		}
		c.mu.withdrew[j][r] = true
		c.mu.Unlock()
	}
}
