package ws

import (
	"bufio"
	"net"
	"sync"
)

// Frames that wait together leave together: up to so many bytes, and what a frame has
// besides its payload. What is in one piece counts as written once the first byte is.
const (
	batchBytes = 4 << 10
	maxHeader  = 10
)

// cork is the socket below a WebSocket. While it is held, what is written is kept; then it
// leaves in one piece. The library writes a frame at a time, and each would cost a system
// call, and its reader another.
type cork struct {
	net.Conn
	mu struct {
		sync.Mutex
		kept *bufio.Writer // nil: not held
	}
}

var pieces = sync.Pool{New: func() any { return bufio.NewWriterSize(nil, batchBytes) }}

// Write implements net.Conn. Frames of control may come from anywhere at any time.
func (c *cork) Write(b []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.mu.kept != nil {
		return c.mu.kept.Write(b)
	}
	return c.Conn.Write(b)
}

// hold keeps what is written until release.
func (c *cork) hold() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.mu.kept = pieces.Get().(*bufio.Writer)
	c.mu.kept.Reset(c.Conn)
}

// release writes what was kept.
func (c *cork) release() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	kept := c.mu.kept
	c.mu.kept = nil
	err := kept.Flush()
	kept.Reset(nil)
	pieces.Put(kept)
	return err
}
