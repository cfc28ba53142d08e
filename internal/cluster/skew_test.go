package cluster_test

import (
	"encoding/binary"
	"io"
	"net"
	"regexp"
	"sync"
	"testing"
	"time"
)

// skewed stands before a server whose clock it makes one that is off: what the server
// says of the time is changed on its way, by a rule for its protocol.
func skewed(t *testing.T, addr string, change func([]byte)) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var all sync.WaitGroup
	t.Cleanup(all.Wait)
	t.Cleanup(func() { l.Close() })
	all.Go(func() {
		for {
			in, err := l.Accept()
			if err != nil {
				return
			}
			out, err := net.Dial("tcp", addr)
			if err != nil {
				in.Close()
				continue
			}
			both := func() { in.Close(); out.Close() }
			all.Go(func() { defer both(); _, _ = io.Copy(out, in) }) // until one of them ends
			all.Go(func() {
				defer both()
				buf := make([]byte, 64<<10)
				for {
					n, err := out.Read(buf)
					change(buf[:n])
					if _, werr := in.Write(buf[:n]); err != nil || werr != nil {
						return
					}
				}
			})
		}
	})
	return l.Addr().String()
}

// texts changes times that are written out, in the form of a layout without fractions.
func texts(pattern, layout string, by time.Duration) func([]byte) {
	re := regexp.MustCompile(pattern)
	return func(b []byte) {
		for _, at := range re.FindAllIndex(b, -1) {
			when, err := time.Parse(layout, string(b[at[0]:at[1]]))
			if err == nil && time.Since(when).Abs() < time.Hour {
				copy(b[at[0]:at[1]], when.Add(by).Format(layout))
			}
		}
	}
}

// millis changes times in milliseconds in eight bytes, wherever they stand.
func millis(by time.Duration) func([]byte) {
	return func(b []byte) {
		for i := 0; i+8 <= len(b); i++ {
			when := time.UnixMilli(int64(binary.BigEndian.Uint64(b[i:])))
			if time.Since(when).Abs() < time.Hour {
				binary.BigEndian.PutUint64(b[i:], uint64(when.Add(by).UnixMilli()))
				i += 7
			}
		}
	}
}
