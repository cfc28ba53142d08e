package webhook

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"
)

const (
	// Timeout bounds an attempt, with looking the name up and reading the answer.
	Timeout = 10 * time.Second
	// maxAnswer is how much of a body is read, for the connection to be used again.
	maxAnswer = 16 << 10
	maxHeader = 32 << 10
	maxError  = 200
)

// sender makes requests. Connections with and without TLS are dialed apart, for other
// addresses may be had without.
type sender struct{ tls, plain *http.Client }

func newSender(g Guard, change func(*http.Transport)) *sender {
	make := func(plain bool) *http.Client {
		d := net.Dialer{Timeout: Timeout, Control: g.control(plain)}
		// No proxy: it would connect where the guard does not see.
		t := &http.Transport{Proxy: nil, DialContext: d.DialContext, ForceAttemptHTTP2: true, DisableCompression: true, MaxIdleConns: 64, MaxIdleConnsPerHost: 1,
			IdleConnTimeout: 30 * time.Second, TLSHandshakeTimeout: Timeout, MaxResponseHeaderBytes: maxHeader}
		if change != nil {
			change(t)
		}
		return &http.Client{Transport: t, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	}
	return &sender{make(false), make(true)}
}

func (s *sender) close() {
	s.tls.CloseIdleConnections()
	s.plain.CloseIdleConnections()
}

// send makes one attempt.
func (s *sender) send(ctx context.Context, t Task, secrets []Secret, now time.Time) Answer {
	if len(secrets) == 0 {
		return Answer{Error: "the tenant has no webhook secret"}
	}
	ctx, cancel := context.WithTimeout(ctx, Timeout)
	defer cancel()
	body, err := json.Marshal(t.Event)
	if err != nil {
		return Answer{Error: clip(err.Error())}
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, t.URL, bytes.NewReader(body))
	if err != nil {
		return Answer{Error: clip(err.Error())}
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("User-Agent", "Crier")
	Sign(req.Header, t.Event.ID(), now, body, secrets)
	client := s.plain
	if req.URL.Scheme == "https" {
		client = s.tls
	}
	resp, err := client.Do(req)
	if err != nil {
		return Answer{Error: reason(err)}
	}
	defer resp.Body.Close()
	_, _ = io.CopyN(io.Discard, resp.Body, maxAnswer) // the status decides, not what follows it
	a := Answer{Status: resp.StatusCode, RetryAfter: retryAfter(resp.Header.Get("Retry-After"), now)}
	switch a.Status / 100 {
	case 2:
	case 3:
		a.Error = fmt.Sprintf("the receiver answered %d: redirects are not followed", a.Status)
	default:
		a.Error = fmt.Sprintf("the receiver answered %d", a.Status)
	}
	return a
}

// reason says why there was no answer, without the URL, which may have a secret in it.
func reason(err error) string {
	if errors.Is(err, context.DeadlineExceeded) {
		return fmt.Sprintf("the receiver did not answer within %s", Timeout)
	}
	var wrapped *url.Error
	if errors.As(err, &wrapped) {
		err = wrapped.Err
	}
	return clip(err.Error())
}

// clip makes a short line of text that somebody else may have chosen.
func clip(text string) string {
	text = strings.Join(strings.FieldsFunc(text, func(r rune) bool { return r < ' ' || r == 0x7f }), " ")
	if len(text) > maxError {
		text = text[:maxError]
	}
	return strings.ToValidUTF8(text, "")
}
