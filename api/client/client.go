// Package client is the HTTP client of the API: one more api.Service.
//
// It guarantees that an error of the service comes back as the same *job.Error,
// that an operation whose outcome cannot be known says so, that no call waits for
// ever on a server that is gone, and that waiting and watching outlive its restart.
package client

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/go-json-experiment/json"

	"crier/api"
	"crier/api/problem"
	"crier/api/wire"
	"crier/job"
)

// Config says where the server is. Server and Key are required.
type Config struct {
	// Server is the API's URL, such as http://127.0.0.1:7420.
	Server string
	// Key is a key of the API.
	Key string
	// Timeout bounds an operation that answers at once. Default: 60 s.
	Timeout time.Duration
	// LongTimeout bounds reconcile, verify and the answer to an upload. Default: 30 min.
	LongTimeout time.Duration
	// Silence is how long a stream may be silent before it counts as cut; the server
	// sends an empty line every 15 s. Default: 45 s.
	Silence time.Duration
	// Patience is for how long, in all, WaitJob and WatchJob pause between tries to
	// reach a server that went away. Default: 30 s.
	Patience time.Duration
	// Sleep pauses between tries; tests give their own. Default: a timer.
	Sleep func(context.Context, time.Duration) error
}

// Validate names what is missing or malformed.
func (c Config) Validate() error {
	u, err := url.Parse(c.Server)
	switch {
	case err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https":
		return job.Invalid("server", fmt.Sprintf("server %q: want a URL such as http://127.0.0.1:7420", c.Server), nil)
	case c.Key == "":
		return &job.Error{Code: job.CodeDenied, Field: "token",
			Message: "no key: set CRIER_TOKEN, name with --data the directory that has keys/admin.key (the server's --keys, else its --data), or start a server with \"crier serve\""}
	case strings.ContainsFunc(c.Key, func(r rune) bool { return r <= ' ' || r > '~' }):
		return &job.Error{Code: job.CodeDenied, Field: "token", Message: "the key has a blank or another character that no key has"}
	}
	return nil
}

// Client is a Service that asks a server. The reason of the act in a call's context
// (api.WithAct) goes along. It keeps connections open for reuse;
// Close ends the idle ones.
type Client struct {
	cfg  Config
	base string
	http *http.Client
}

var _ api.Service = (*Client)(nil)

// New makes a client; it contacts nobody yet.
func New(cfg Config) (*Client, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	setDefault(&cfg.Timeout, time.Minute)
	setDefault(&cfg.LongTimeout, 30*time.Minute)
	setDefault(&cfg.Silence, 45*time.Second)
	setDefault(&cfg.Patience, 30*time.Second)
	if cfg.Sleep == nil {
		cfg.Sleep = sleep
	}
	return &Client{cfg: cfg, base: strings.TrimRight(cfg.Server, "/"), http: &http.Client{
		// A redirect would hand the key to whoever answers.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		Transport: &http.Transport{
			Proxy:                 http.ProxyFromEnvironment,
			DialContext:           (&net.Dialer{Timeout: 5 * time.Second, KeepAlive: 15 * time.Second}).DialContext,
			TLSHandshakeTimeout:   10 * time.Second,
			ExpectContinueTimeout: time.Second,
			IdleConnTimeout:       90 * time.Second,
			MaxIdleConnsPerHost:   64,
		},
	}}, nil
}

func setDefault(d *time.Duration, v time.Duration) {
	if *d == 0 {
		*d = v
	}
}

func sleep(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-t.C:
		return nil
	}
}

// Close ends idle connections.
func (c *Client) Close() { c.http.CloseIdleConnections() }

// request is one operation of the client.
type request struct {
	method, path string
	query        url.Values
	header       map[string]string
	json         any       // body, if not nil
	upload       io.Reader // body, if not nil
	timeout      time.Duration
	once         bool // not idempotent: after a cut its outcome is unknown
}

func (r request) url(base string) string {
	if len(r.query) == 0 {
		return base + r.path
	}
	return base + r.path + "?" + r.query.Encode()
}

// send makes the request and gives the answer, if it is one of success.
func (c *Client) send(ctx context.Context, r request) (*http.Response, error) {
	body := r.upload
	contentType := "application/octet-stream"
	if r.json != nil {
		data, err := wire.Marshal(r.json)
		if err != nil {
			return nil, job.Invalid("", "the request cannot be written as JSON: text must be UTF-8", err)
		}
		body, contentType = bytes.NewReader(data), "application/json"
	}
	req, err := http.NewRequestWithContext(ctx, r.method, r.url(c.base), body)
	if err != nil {
		return nil, fmt.Errorf("make the request: %w", err)
	}
	req.Header.Set("Authorization", "Bearer "+c.cfg.Key)
	if reason := api.ActOf(ctx).Reason; reason != "" && r.method != http.MethodGet {
		if err := job.ValidReason(reason); err != nil {
			return nil, err
		}
		req.Header.Set("Crier-Reason", reason)
	}
	if body != nil {
		req.Header.Set("Content-Type", contentType)
	}
	if r.upload != nil {
		req.Header.Set("Expect", "100-continue") // refused before it is sent, if it is refused
	}
	for k, v := range r.header {
		req.Header.Set(k, v)
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return nil, c.cut(ctx, r, err)
	}
	if resp.StatusCode/100 != 2 {
		defer resp.Body.Close()
		return nil, c.refusal(resp)
	}
	return resp, nil
}

// cut words the loss of the connection. What was never sent, or may be sent
// again, is unavailable; for the rest the outcome is unknown.
func (c *Client) cut(ctx context.Context, r request, err error) error {
	if ctx.Err() != nil && context.Cause(ctx) != errTimeout && context.Cause(ctx) != errSilent {
		return ctx.Err()
	}
	var dial *net.OpError
	if errors.As(err, &dial) && dial.Op == "dial" {
		return &job.Error{Code: job.CodeUnavailable, Err: dial,
			Message: fmt.Sprintf("no server answers at %s", c.base)}
	}
	if r.once {
		return fmt.Errorf("%s %s: the connection was lost; it is unknown whether the request took effect: %w", r.method, r.path, err)
	}
	return &job.Error{Code: job.CodeUnavailable, Message: fmt.Sprintf("the connection to %s was lost; try again", c.base), Err: err}
}

// refusal reads the problem in an answer that is not one of success.
func (c *Client) refusal(resp *http.Response) error {
	data, err := io.ReadAll(io.LimitReader(resp.Body, 1<<20))
	var p problem.Problem
	if err == nil {
		err = json.Unmarshal(data, &p)
	}
	if err != nil || p.Detail == "" {
		if resp.StatusCode >= http.StatusBadGateway && resp.StatusCode <= http.StatusGatewayTimeout {
			return &job.Error{Code: job.CodeUnavailable, // a proxy in between
				Message: fmt.Sprintf("%s answered with status %d; try again", c.base, resp.StatusCode), Err: err}
		}
		return fmt.Errorf("%s answered with status %d, which is not an answer of Crier", c.base, resp.StatusCode)
	}
	p.Status = resp.StatusCode
	return p.Err()
}

// Causes with which the client itself ends a request.
var (
	errTimeout = errors.New("the operation took too long")
	errSilent  = errors.New("the stream was silent for too long")
)

// maxAnswer bounds an answer in bytes: 500 jobs of the largest size are 1 MiB.
const maxAnswer = 64 << 20

// call makes a request and decodes its answer.
func call[O any](ctx context.Context, c *Client, r request) (O, error) {
	var out O
	if r.timeout == 0 {
		r.timeout = c.cfg.Timeout
	}
	ctx, cancel := context.WithTimeoutCause(ctx, r.timeout, errTimeout)
	defer cancel()
	resp, err := c.send(ctx, r)
	if err != nil {
		return out, err
	}
	defer resp.Body.Close()
	data, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
	if err != nil {
		return out, c.cut(ctx, r, err)
	}
	if err := json.Unmarshal(data, &out); err != nil {
		return out, fmt.Errorf("%s %s: read the answer: %w", r.method, r.path, err)
	}
	return out, nil
}

// download makes a request whose answer is a file, and writes it.
func (c *Client) download(ctx context.Context, r request, w io.Writer) error {
	ctx, cancel := context.WithTimeoutCause(ctx, c.cfg.LongTimeout, errTimeout)
	defer cancel()
	resp, err := c.send(ctx, r)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	from := &source{r: resp.Body}
	if _, err = io.Copy(w, from); from.err != nil {
		return c.cut(ctx, r, from.err)
	}
	return err
}

// source remembers why it could not be read, to tell that from what its reader could not do.
type source struct {
	r   io.Reader
	err error
}

// Read implements io.Reader.
func (s *source) Read(b []byte) (int, error) {
	n, err := s.r.Read(b)
	if err != nil && err != io.EOF {
		s.err = err
	}
	return n, err
}

// maxLine bounds a line of a stream in bytes: the detail of a ledger record.
const maxLine = 4 << 20

// follow makes a request whose answer is a stream and calls fn for each line. A
// stream that breaks off, or is silent for too long, is unavailable.
func follow[O any](ctx context.Context, c *Client, r request, fn func(O) error) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	silence := time.AfterFunc(c.cfg.Silence, func() { cancel(errSilent) })
	defer silence.Stop()
	resp, err := c.send(ctx, r)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	scan := bufio.NewScanner(resp.Body)
	scan.Buffer(make([]byte, 0, 64<<10), maxLine)
	for scan.Scan() {
		silence.Reset(c.cfg.Silence)
		line := scan.Bytes()
		if len(line) == 0 {
			continue
		}
		if p, failed := problem.ParseLine(line); failed {
			return p.Err()
		}
		var item O
		if err := json.Unmarshal(line, &item); err != nil {
			return fmt.Errorf("%s %s: read a line: %w", r.method, r.path, err)
		}
		if err := fn(item); err != nil {
			return err
		}
	}
	if err := scan.Err(); err != nil {
		return c.cut(ctx, r, err)
	}
	return nil
}

// patiently repeats try while the server is unavailable, or a limit is hit, with growing pauses
// that add up to Patience since the last progress.
func (c *Client) patiently(ctx context.Context, try func() (progress bool, err error)) error {
	pause, waited := 100*time.Millisecond, time.Duration(0)
	for {
		progress, err := try()
		if code := job.CodeOf(err); code != job.CodeUnavailable && code != job.CodeLimited || ctx.Err() != nil {
			return err
		}
		if progress {
			pause, waited = 100*time.Millisecond, 0
		}
		if waited >= c.cfg.Patience {
			return err
		}
		if err := c.cfg.Sleep(ctx, pause); err != nil {
			return err
		}
		waited += pause
		pause = min(2*pause, 2*time.Second)
	}
}
