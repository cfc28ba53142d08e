// Package tail shows how a log ends, to whom a process failed that wrote it.
package tail

import (
	"os"
	"path/filepath"
	"strings"
)

// size is how much of a log is shown, in bytes; the last line is whole in any case.
const size = 500

// Of is the last lines of a file behind a number of bytes, or why they cannot be read.
func Of(path string, from int64) string {
	b, err := os.ReadFile(filepath.Clean(path))
	if err != nil {
		return err.Error()
	}
	text := strings.TrimSpace(string(b[min(from, int64(len(b))):]))
	if text == "" {
		return "nothing since it was started"
	}
	lines := strings.Split(text, "\n")
	first := len(lines) - 1
	for n := len(lines[first]); first > 0; first-- {
		if n += len(lines[first-1]) + 1; n > size {
			break
		}
	}
	return strings.Join(lines[first:], "\n")
}
