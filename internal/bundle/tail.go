package bundle

import (
	"bytes"
	"fmt"
	"io"
	"os"

	"crier/job"
)

// Tail gives the last lines of a file, of the last most bytes of it. A line that began
// before those is left out.
func Tail(path string, lines int, most int64) ([]byte, error) {
	info, err := os.Stat(path) // what is no file might never be opened
	if err != nil {
		return nil, fmt.Errorf("reading the log: %w", err)
	}
	if !info.Mode().IsRegular() {
		return nil, job.Invalid("log", "log: "+path+" is no file", nil)
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("reading the log: %w", err)
	}
	defer f.Close()
	from := max(info.Size()-most, 0)
	data, err := io.ReadAll(io.NewSectionReader(f, max(from-1, 0), info.Size()-max(from-1, 0)))
	if err != nil {
		return nil, fmt.Errorf("reading the log %s: %w", path, err)
	}
	if from > 0 { // the byte before tells whether a line begins there
		_, data, _ = bytes.Cut(data, []byte("\n"))
	}
	end := len(bytes.TrimSuffix(data, []byte("\n")))
	for n := 0; n < lines && end >= 0; n++ {
		end = bytes.LastIndexByte(data[:end], '\n')
	}
	return data[end+1:], nil
}
