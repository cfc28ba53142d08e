package accepted

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// history is what must outlive the segments: which starts they ever spoke of, and
// which of them cannot be answered for.
type history struct {
	First      uint32   `json:"first"` // the first start that the directory saw; 0 if it is new
	Last       uint32   `json:"last"`  // the last one
	Unreadable []uint32 `json:"unreadable"`
}

// mostUnreadable bounds the list; when it is longer, First moves past its head.
const mostUnreadable = 1000

const historyName = "history.json"

func (h *history) has(start uint32) bool { return slices.Contains(h.Unreadable, start) }

func (h *history) add(start uint32) {
	h.Unreadable = append(h.Unreadable, start)
	slices.Sort(h.Unreadable)
	if n := len(h.Unreadable) - mostUnreadable; n > 0 {
		h.First = max(h.First, h.Unreadable[n-1]+1)
		h.Unreadable = slices.Delete(h.Unreadable, 0, n)
	}
}

func readHistory(dir string) (history, error) {
	var h history
	path := filepath.Join(dir, historyName)
	b, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return h, nil
	}
	if err == nil {
		err = json.Unmarshal(b, &h)
	}
	if err == nil && (h.First == 0 || h.Last < h.First) {
		err = fmt.Errorf("starts %d to %d", h.First, h.Last)
	}
	if err != nil {
		return h, fmt.Errorf("%s is damaged; without it what earlier starts accepted is in doubt: remove it to go on so: %w", path, err)
	}
	return h, nil
}

// Lost makes a directory that says of all starts up to one that what they accepted is not
// known: their files are gone for good. The directory is made, and must be empty.
func Lost(dir string, through uint32) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("making the directory of the accepted-files: %w", err)
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) > 0 {
		return errors.Join(fmt.Errorf("%s is not empty", dir), err)
	}
	h := history{First: 1, Last: through}
	if through > mostUnreadable {
		h.First = through - mostUnreadable + 1
	}
	for start := h.First; start <= through; start++ {
		h.Unreadable = append(h.Unreadable, start)
	}
	return writeHistory(dir, h)
}

// writeHistory makes the file whole: the old one is there until the new one is.
func writeHistory(dir string, h history) error {
	b, err := json.Marshal(h)
	if err != nil {
		return err
	}
	path := filepath.Join(dir, historyName)
	f, err := os.OpenFile(path+".tmp", os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(append(b, '\n'))
	if err == nil {
		err = f.Sync()
	}
	if e := f.Close(); err == nil {
		err = e
	}
	if err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err == nil {
		err = syncDir(dir)
	}
	if err != nil {
		return fmt.Errorf("writing %s: %w", path, err)
	}
	return nil
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer d.Close()
	return d.Sync()
}

func segmentName(start uint32, number int) string {
	return fmt.Sprintf("accepted-%010d-%06d", start, number)
}

// listSegments gives the names of the segments of each start, in order, and removes
// what a killed process was about to make.
func listSegments(dir string) (map[uint32][]string, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	names := map[uint32][]string{}
	for _, e := range entries {
		if strings.HasSuffix(e.Name(), ".tmp") {
			if err := os.Remove(filepath.Join(dir, e.Name())); err != nil {
				return nil, err
			}
			continue
		}
		parts := strings.Split(e.Name(), "-")
		if len(parts) != 3 || parts[0] != "accepted" {
			continue
		}
		start, err := strconv.ParseUint(parts[1], 10, 32)
		if err != nil {
			continue
		}
		names[uint32(start)] = append(names[uint32(start)], e.Name())
	}
	return names, nil
}
