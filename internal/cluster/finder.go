package cluster

import (
	"bufio"
	"bytes"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
)

// finder says which process of the cluster is at the other end of a connection on this
// machine: the kernel lists the sockets, and who has them open.
type finder struct{ cluster *Cluster }

// name gives the process's name, or "" if it is none of the cluster's Crier processes.
func (f *finder) name(conn net.Conn) string {
	inode, err := socketOf(conn.RemoteAddr(), conn.LocalAddr())
	if err != nil {
		return ""
	}
	want := "socket:[" + inode + "]"
	// The command line tells, for a process connects before it is in cluster.json.
	dirs, _ := filepath.Glob("/proc/[0-9]*") // the pattern is good
	for _, dir := range dirs {
		name := f.processName(dir)
		if name == "" {
			continue
		}
		fds, err := os.ReadDir(filepath.Join(dir, "fd"))
		if err != nil {
			continue // it is gone
		}
		for _, fd := range fds {
			if to, err := os.Readlink(filepath.Join(dir, "fd", fd.Name())); err == nil && to == want {
				return name
			}
		}
	}
	return ""
}

// processName reads a process's name from its command line: its configuration file is
// named after it.
func (f *finder) processName(dir string) string {
	b, err := os.ReadFile(filepath.Join(dir, "cmdline"))
	if err != nil {
		return ""
	}
	prefix := []byte(f.cluster.path("conf") + string(filepath.Separator))
	for word := range bytes.SplitSeq(b, []byte{0}) {
		if rest, ok := bytes.CutPrefix(word, prefix); ok {
			return strings.TrimSuffix(string(rest), ".yaml")
		}
	}
	return ""
}

// socketOf finds the number of the socket that is bound to one address and connected to
// another one.
func socketOf(local, remote net.Addr) (string, error) {
	f, err := os.Open("/proc/net/tcp")
	if err != nil {
		return "", fmt.Errorf("reading the kernel's connections: %w", err)
	}
	defer f.Close()
	a, b := kernelForm(local), kernelForm(remote)
	for lines := bufio.NewScanner(f); lines.Scan(); {
		fields := strings.Fields(lines.Text())
		if len(fields) > 9 && fields[1] == a && fields[2] == b {
			return fields[9], nil
		}
	}
	return "", fmt.Errorf("the kernel has no connection from %s to %s", local, remote)
}

// kernelForm writes an address of IPv4 as /proc/net/tcp does: the bytes in the order of
// the machine, which is little-endian, then the port.
func kernelForm(addr net.Addr) string {
	t, ok := addr.(*net.TCPAddr)
	if !ok || t.IP.To4() == nil {
		return ""
	}
	ip := t.IP.To4()
	return fmt.Sprintf("%02X%02X%02X%02X:%04X", ip[3], ip[2], ip[1], ip[0], t.Port)
}
