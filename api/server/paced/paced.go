// Package paced reads requests and writes answers of any length, and gives up on a peer
// that stands still.
//
// It guarantees that nobody waits for a peer longer than a bound, that the status of an
// answer is sent with its first bytes only, and that nothing is kept in memory but one
// piece.
package paced

import (
	"context"
	"errors"
	"io"
	"net/http"
	"sync"
	"time"

	"crier/api/wire"
	"crier/job"
)

// ErrGone is what a stream returns when its client is gone.
var ErrGone = errors.New("the client is gone")

// Hurry gives the client so much time for what it has still to send of its body; 0 takes the
// bound away, which would end the request while the service works on what is read. A
// connection without deadlines, as tests have, is used without them.
func Hurry(w http.ResponseWriter, limit time.Duration) {
	var until time.Time
	if limit > 0 {
		until = time.Now().Add(limit)
	}
	_ = http.NewResponseController(w).SetReadDeadline(until)
}

// lineTimeout is how long a client may take to read one line of a stream.
const lineTimeout = 30 * time.Second

// uploadTimeout is how long an upload may stand still.
const uploadTimeout = time.Minute

// Upload is an upload: it fails once more than its limit was read, and when
// nothing came for uploadTimeout.
type Upload struct {
	ctx  context.Context
	r    io.Reader
	left int64
	w    http.ResponseWriter
}

// NewUpload makes the upload of a request, of at most so many bytes, that ends with ctx.
func NewUpload(ctx context.Context, w http.ResponseWriter, r io.Reader, most int64) *Upload {
	return &Upload{ctx: ctx, r: r, left: most, w: w}
}

// Read gives too_large as its error beyond the limit, and unavailable if the
// upload breaks off, so that the service need not know about HTTP.
func (c *Upload) Read(b []byte) (int, error) {
	if c.left < 0 {
		return 0, &job.Error{Code: job.CodeTooLarge, Message: "the upload is over the server's limit"}
	}
	if int64(len(b)) > c.left+1 {
		b = b[:c.left+1]
	}
	Hurry(c.w, uploadTimeout) // before the look at ctx, whose end hurries it more
	if over := context.Cause(c.ctx); over != nil {
		return 0, over
	}
	n, err := c.r.Read(b)
	if err == io.EOF {
		Hurry(c.w, 0)
	}
	c.left -= int64(n)
	if c.left < 0 {
		return n - 1, &job.Error{Code: job.CodeTooLarge, Message: "the upload is over the server's limit"}
	}
	if err != nil && err != io.EOF {
		err = &job.Error{Code: job.CodeUnavailable, Message: "the upload broke off; nothing was kept", Err: err}
	}
	return n, err
}

// Lines writes a stream of JSON objects, one a line. The status is sent with the
// first line. A stream that is silent gets an empty line now and then, by which
// both sides learn whether the other one is alive.
type Lines struct {
	mu struct {
		sync.Mutex
		w       http.ResponseWriter
		control *http.ResponseController
		started bool
		err     error
	}
}

// NewLines makes the stream of an answer.
func NewLines(w http.ResponseWriter) *Lines {
	l := &Lines{}
	l.mu.w, l.mu.control = w, http.NewResponseController(w)
	return l
}

// Send writes one line; v nil is an empty one.
func (l *Lines) Send(v any) error {
	line := []byte("\n")
	if v != nil {
		data, err := wire.Marshal(v)
		if err != nil {
			return err
		}
		line = append(data, '\n')
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.mu.err != nil {
		return l.mu.err
	}
	if !l.mu.started {
		l.mu.started = true
		l.mu.w.Header().Set("Content-Type", "application/x-ndjson")
		l.mu.w.Header().Set("Cache-Control", "no-store")
		l.mu.w.WriteHeader(http.StatusOK)
	}
	// A writer without deadlines, as tests have, is used without them.
	_ = l.mu.control.SetWriteDeadline(time.Now().Add(lineTimeout))
	_, err := l.mu.w.Write(line)
	if err == nil {
		err = l.mu.control.Flush()
	}
	if err != nil {
		l.mu.err = errors.Join(ErrGone, err)
	}
	return l.mu.err
}

// Begun reports whether the status was sent.
func (l *Lines) Begun() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.mu.started
}

// Beat sends an empty line at every interval until ctx ends.
func (l *Lines) Beat(ctx context.Context, interval time.Duration) {
	tick := time.NewTicker(interval)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			if l.Send(nil) != nil {
				return
			}
		}
	}
}

// End lets the connection serve other requests.
func (l *Lines) End() {
	l.mu.Lock()
	defer l.mu.Unlock()
	_ = l.mu.control.SetWriteDeadline(time.Time{})
}

// fileTimeout is how long a client may take to read a piece of a file.
const fileTimeout = time.Minute

// File is an answer that is a file of unknown size. It is used by one goroutine.
type File struct {
	ctx         context.Context
	w           http.ResponseWriter
	control     *http.ResponseController
	contentType string
	begun       bool
}

// NewFile makes an answer of a type, of which nothing is sent once ctx is over.
func NewFile(ctx context.Context, w http.ResponseWriter, contentType string) *File {
	return &File{ctx: ctx, w: w, control: http.NewResponseController(w), contentType: contentType}
}

// Write implements io.Writer.
func (f *File) Write(b []byte) (int, error) {
	if len(b) == 0 {
		return 0, nil
	}
	if over := context.Cause(f.ctx); over != nil {
		return 0, over
	}
	f.begin()
	// A writer without deadlines, as tests have, is used without them.
	_ = f.control.SetWriteDeadline(time.Now().Add(fileTimeout))
	n, err := f.w.Write(b)
	if err != nil {
		err = errors.Join(ErrGone, err)
	}
	return n, err
}

// begin sends the status.
func (f *File) begin() {
	if f.begun {
		return
	}
	f.begun = true
	f.w.Header().Set("Content-Type", f.contentType)
	f.w.Header().Set("Cache-Control", "no-store")
	f.w.WriteHeader(http.StatusOK)
}

// Begun reports whether the status was sent.
func (f *File) Begun() bool { return f.begun }

// End lets the connection serve other requests. A file without a byte is sent as one, if
// whole says that it is.
func (f *File) End(whole bool) {
	if whole {
		f.begin()
	}
	_ = f.control.SetWriteDeadline(time.Time{})
}
