package zk

import (
	"bytes"
	"fmt"
	"path"
	"strconv"
	"strings"

	"crier/state/coord"

	"github.com/go-zookeeper/zk"
)

// headerForm is the first line of a key's node: version, time to live in ms (0: it
// stays) and, of a renewal, the time by which it had to be written (0: any).
const headerForm = "crier1 %016x %d %d\n"

// node is the node of a key.
type node struct {
	coord.Entry
	ttl   int64 // ms
	due   int64 // ms of the store's clock
	mtime int64 // ms of the store's clock
	mzxid int64
}

// ends is when a lease lapses; 0: never.
func (n node) ends() int64 {
	if n.ttl == 0 {
		return 0
	}
	return n.mtime + n.ttl
}

// over reports whether a lease is not there at a time: its own has passed, or it was
// renewed when it had lapsed already. Times are cut to ms, so that equal is too early.
func (n node) over(now int64) bool {
	return n.ttl > 0 && (now > n.ends() || n.due > 0 && n.mtime > n.due)
}

func (n node) encode() []byte {
	return fmt.Appendf(nil, headerForm+"%s", uint64(n.Version), n.ttl, n.due, n.Value)
}

func decode(key string, data []byte, st *zk.Stat) (node, error) {
	n := node{Entry: coord.Entry{Key: key}, mtime: st.Mtime, mzxid: st.Mzxid}
	line, value, ok := bytes.Cut(data, []byte{'\n'})
	var version uint64
	_, err := fmt.Sscanf(string(line)+"\n", headerForm, &version, &n.ttl, &n.due)
	if !ok || err != nil || n.ttl < 0 || version == 0 {
		return node{}, fmt.Errorf("the node of %q does not begin as one of ours (%.40q); was it written by another program?", key, line)
	}
	n.Version, n.Value = coord.Version(version), value
	return n, nil
}

// dirOf is the path of the directory with the keys under a prefix.
func (s *Store) dirOf(prefix string) string {
	if prefix == "" {
		return s.root
	}
	return s.root + "/" + strings.ReplaceAll(prefix, "/", ".d/") + ".d"
}

func (s *Store) pathOf(key string) string {
	i := strings.LastIndexByte(key, '/')
	return s.dirOf(key[:max(i, 0)]) + "/" + key[i+1:]
}

func (s *Store) guardOf(key string, v coord.Version) string {
	return fmt.Sprintf("%s.%016x", s.pathOf(key), uint64(v))
}

// prefixOf is the prefix whose keys a directory has.
func (s *Store) prefixOf(dir string) string {
	rest := strings.TrimPrefix(strings.TrimPrefix(dir, s.root), "/")
	return strings.ReplaceAll(strings.TrimSuffix(rest, ".d"), ".d/", "/")
}

// listing is what the names of a directory's children say.
type listing struct {
	versions map[string]coord.Version // by key
	dirs     []string                 // paths
}

func (s *Store) parse(dir string, names []string) listing {
	l := listing{versions: make(map[string]coord.Version, len(names)/2)}
	prefix := s.prefixOf(dir)
	for _, name := range names {
		i := strings.LastIndexByte(name, '.')
		if i <= 0 {
			continue // a key's node, or one of the store's own
		}
		if name[i+1:] == "d" {
			l.dirs = append(l.dirs, dir+"/"+name)
		} else if v, err := strconv.ParseUint(name[i+1:], 16, 64); err == nil {
			l.versions[path.Join(prefix, name[:i])] = coord.Version(v)
		}
	}
	return l
}
