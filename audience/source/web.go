package source

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"path"
	"strings"
	"time"

	"crier/job"
)

// Bounds of waiting for a server that files are fetched from.
const (
	answerWithin = 30 * time.Second // its first byte
	stallsAfter  = time.Minute      // a pause in the middle
)

// isURL reports whether a file's name is an address to fetch it from.
func isURL(file string) bool {
	return strings.HasPrefix(file, "http://") || strings.HasPrefix(file, "https://")
}

// onServer is the place of a file on a server. A password in its address is used, and
// shown nowhere.
func onServer(address string) (place, error) {
	u, err := url.Parse(address)
	if err != nil || u.Host == "" {
		return place{}, job.Invalid("file", "the address of a file cannot be read; want https://HOST/PATH", nil) // it may have a password
	}
	name := nameOf(path.Base(u.Path))
	if strings.Trim(name, "/.") == "" {
		name = "" // add asks for one
	}
	shown := u.Redacted()
	return place{name, shown, func(ctx context.Context) (io.ReadCloser, error) { return fetch(ctx, u, stallsAfter) }}, nil
}

// transport is http.DefaultTransport with a bound for the answer.
var transport = func() *http.Transport {
	t := http.DefaultTransport.(*http.Transport).Clone()
	t.ResponseHeaderTimeout = answerWithin
	t.DisableCompression = true // a file arrives as it is
	return t
}()

// fetch begins to read a file from a server, which may pause for stall at most. What it
// gives is all of the file, or there is an error.
func fetch(ctx context.Context, u *url.URL, stall time.Duration) (io.ReadCloser, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, u.String(), nil)
	if err != nil {
		cancel(nil)
		return nil, job.Invalid("file", "the address of "+u.Redacted()+" cannot be used", nil)
	}
	resp, err := (&http.Client{Transport: transport}).Do(req)
	if err != nil {
		cancel(nil)
		var redacted *url.Error
		if errors.As(err, &redacted) {
			err = redacted.Err
		}
		return nil, job.Unreachable("fetching "+u.Redacted(), err)
	}
	if resp.StatusCode != http.StatusOK {
		cancel(nil)
		err := fmt.Errorf("fetching %s: the server answers %s", u.Redacted(), resp.Status)
		if resp.StatusCode == http.StatusNotFound || resp.StatusCode == http.StatusGone {
			err = job.NotFound(fmt.Sprintf("there is no file at %s: the server answers %s", u.Redacted(), resp.Status))
		}
		return nil, errors.Join(err, resp.Body.Close())
	}
	b := &body{ReadCloser: resp.Body, ctx: ctx, cancel: cancel, wait: stall}
	b.timer = time.AfterFunc(stall, func() { cancel(fmt.Errorf("nothing came for %s", stall)) })
	return b, nil
}

// body is a file on its way from a server.
type body struct {
	io.ReadCloser
	ctx    context.Context // of the request; it has the cause if it stalled
	cancel context.CancelCauseFunc
	wait   time.Duration
	timer  *time.Timer
}

// Read reads what has come.
func (b *body) Read(p []byte) (int, error) {
	b.timer.Reset(b.wait)
	n, err := b.ReadCloser.Read(p)
	b.timer.Stop()
	switch {
	case err == nil || err == io.EOF:
		return n, err
	case errors.Is(err, io.ErrUnexpectedEOF):
		return n, errors.New("the server ended it in the middle") // and nothing is wrong with the file itself
	case context.Cause(b.ctx) != nil:
		return n, context.Cause(b.ctx)
	}
	return n, err
}

// Close ends the transfer.
func (b *body) Close() error {
	b.timer.Stop()
	b.cancel(nil)
	return b.ReadCloser.Close()
}
