package proc

import (
	"os"
	"syscall"
	"testing"
	"time"
)

func TestCPU(t *testing.T) {
	got, err := parseCPU("17 (a ) b) S 1 2 3 4 5 6 7 8 9 10 250 30 0 0 20 0\n")
	if got != 2800*time.Millisecond || err != nil {
		t.Errorf("%v, %v", got, err)
	}
	for _, bad := range []string{"", "17 (x) S 1", "17 (x) S 1 2 3 4 5 6 7 8 9 10 many 30 0 0"} {
		if got, err := parseCPU(bad); err == nil {
			t.Errorf("%q gave %v", bad, got)
		}
	}
	mine, err := cpu(os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		t.Fatal(err)
	}
	used := time.Duration(u.Utime.Nano() + u.Stime.Nano()) // read later, in smaller units
	if mine > used+2*tick || used > mine+time.Second {
		t.Errorf("%v by /proc, %v by getrusage", mine, used)
	}
}
