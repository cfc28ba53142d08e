package cluster

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// finder says which process of the cluster is at the other end of a connection on this
// machine: the kernel knows the socket, and a scan of /proc who has it open.
type finder struct {
	cluster *Cluster
	mu      struct {
		sync.Mutex                   // held during a scan, which serves all who wait for it
		names      map[uint32]string // by inode, of the sockets that the last scan found
		began      time.Time         // the last scan
		rest       time.Time         // no scan begins before
	}
}

// scanShare bounds the share of one processor that scans take to a fifth: after each there
// is none for this many times as long as it took.
const scanShare = 4

// name gives the process's name, or "" if it is none of the cluster's Crier processes, or
// has closed the connection by now.
func (f *finder) name(conn net.Conn) string {
	inode, err := socketOf(conn.RemoteAddr(), conn.LocalAddr())
	if err != nil || inode == 0 {
		return ""
	}
	asked := time.Now()
	f.mu.Lock()
	defer f.mu.Unlock()
	if name, ok := f.mu.names[inode]; ok || f.mu.began.After(asked) {
		return name // the socket was there when that scan began
	}
	time.Sleep(time.Until(f.mu.rest))
	f.mu.began = time.Now()
	f.mu.names = f.scan()
	now := time.Now()
	f.mu.rest = now.Add(scanShare * now.Sub(f.mu.began))
	return f.mu.names[inode]
}

// scan reads which sockets the processes of the cluster have open.
func (f *finder) scan() map[uint32]string {
	names := map[uint32]string{}
	// The command line tells, for a process connects before it is in cluster.json.
	all, _ := os.ReadDir("/proc") // the kernel has it
	for _, entry := range all {
		if entry.Name()[0] < '0' || entry.Name()[0] > '9' {
			continue
		}
		dir := filepath.Join("/proc", entry.Name())
		name := f.processName(dir)
		if name == "" {
			continue
		}
		fds, err := os.ReadDir(filepath.Join(dir, "fd"))
		if err != nil {
			continue // it is gone
		}
		for _, fd := range fds {
			to, err := os.Readlink(filepath.Join(dir, "fd", fd.Name()))
			if err != nil {
				continue // it is closed
			}
			if number, ok := strings.CutPrefix(to, "socket:["); ok {
				if inode, err := strconv.ParseUint(strings.TrimSuffix(number, "]"), 10, 32); err == nil {
					names[uint32(inode)] = name
				}
			}
		}
	}
	return names
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

// The lengths of struct nlmsghdr, inet_diag_req_v2 and inet_diag_msg, and where the last
// one has the inode.
const (
	headerSize  = unix.SizeofNlMsghdr
	requestSize = 56
	inodeAt     = headerSize + 68
	answerSize  = headerSize + 72
)

// socketOf asks the kernel for the inode of the socket that is bound to one address of
// IPv4 and connected to another one: sock_diag(7) looks that one up, however many there
// are. 0: it was there, and nobody has it open any more.
func socketOf(local, remote net.Addr) (uint32, error) {
	l, ok1 := local.(*net.TCPAddr)
	r, ok2 := remote.(*net.TCPAddr)
	if !ok1 || !ok2 || l.IP.To4() == nil || r.IP.To4() == nil {
		return 0, fmt.Errorf("finding the connection from %s to %s: these are no addresses of IPv4", local, remote)
	}
	order := binary.NativeEndian
	ask := make([]byte, headerSize+requestSize)
	order.PutUint32(ask, uint32(len(ask)))
	order.PutUint16(ask[4:], unix.SOCK_DIAG_BY_FAMILY)
	order.PutUint16(ask[6:], unix.NLM_F_REQUEST)
	body := ask[headerSize:]
	body[0], body[1] = unix.AF_INET, unix.IPPROTO_TCP
	order.PutUint32(body[4:], ^uint32(0)) // in any state
	binary.BigEndian.PutUint16(body[8:], uint16(l.Port))
	binary.BigEndian.PutUint16(body[10:], uint16(r.Port))
	copy(body[12:], l.IP.To4())
	copy(body[28:], r.IP.To4())
	order.PutUint64(body[48:], ^uint64(0)) // with any cookie
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, unix.NETLINK_INET_DIAG)
	if err != nil {
		return 0, fmt.Errorf("asking the kernel for a connection: %w", err)
	}
	defer unix.Close(fd)
	if err := unix.Sendto(fd, ask, 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
		return 0, fmt.Errorf("asking the kernel for a connection: %w", err)
	}
	said := make([]byte, 4096)
	n, _, err := unix.Recvfrom(fd, said, 0)
	switch {
	case err != nil:
		return 0, fmt.Errorf("hearing of the connection from %s to %s: %w", local, remote, err)
	case n >= headerSize+4 && order.Uint16(said[4:]) == unix.NLMSG_ERROR:
		return 0, fmt.Errorf("finding the connection from %s to %s: %w", local, remote, unix.Errno(-int32(order.Uint32(said[headerSize:]))))
	case n < answerSize:
		return 0, fmt.Errorf("finding the connection from %s to %s: the kernel said %d bytes, want %d", local, remote, n, answerSize)
	}
	return order.Uint32(said[inodeAt:]), nil
}
