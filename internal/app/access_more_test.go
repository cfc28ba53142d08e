package app_test

import (
	"bytes"
	"sync"
)

// logBuffer is a log that many write to.
type logBuffer struct {
	sync.Mutex
	b bytes.Buffer
}

// Write implements io.Writer.
func (l *logBuffer) Write(p []byte) (int, error) {
	l.Lock()
	defer l.Unlock()
	return l.b.Write(p)
}

func (l *logBuffer) has(text string) bool {
	l.Lock()
	defer l.Unlock()
	return bytes.Contains(l.b.Bytes(), []byte(text))
}
