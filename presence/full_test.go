package presence_test

import (
	"errors"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"crier/internal/idset"
	"crier/job"
	"crier/presence"
)

// TestFullDisk puts recipients of ever more containers into planes whose disk fills up: a
// join is refused whole, nothing else is, and after space was freed it is done.
func TestFullDisk(t *testing.T) {
	dir := t.TempDir()
	if err := syscall.Mount("crier-test", dir, "tmpfs", 0, "size=1m"); err != nil {
		t.Logf("no small file system (%v): the full disk is tested where one can be mounted", err)
		return
	}
	defer func() {
		if err := syscall.Unmount(dir, syscall.MNT_DETACH); err != nil {
			t.Error(err)
		}
	}()
	p, err := presence.Open(presence.Config{Path: filepath.Join(dir, "planes")})
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	ballast := filepath.Join(dir, "ballast")
	if err := os.WriteFile(ballast, make([]byte, 128<<10), 0o600); err != nil {
		t.Fatal(err)
	}
	g, h := job.Incarnation{Gateway: "g", Start: 1}, job.Incarnation{Gateway: "h", Start: 1}
	two := func(n int) *idset.Set { // two recipients, in two containers
		id := uint32(n) << (idset.ContainerBits + 1)
		return idset.Of(id, id+1<<idset.ContainerBits)
	}
	n := 0
	for ; ; n++ {
		if err = p.Join(g, two(n)); err != nil {
			break
		}
	}
	if !errors.Is(err, syscall.ENOSPC) || n < 3 || n > 20 {
		t.Fatalf("after %d joins: %v", n, err)
	}
	if p.Count() != uint64(2*n) || !p.Online(two(n)).IsEmpty() {
		t.Errorf("%d are online after %d joins of two and one that was refused", p.Count(), n)
	}
	if err := p.Join(h, two(0)); err != nil { // where there is somebody already
		t.Errorf("a join to what has room: %v", err)
	}
	p.Leave(h, two(0))
	p.Forget(two(1).Range)
	p.Over(g) // gives the room back of those who are nobody's place now
	if err := os.Remove(ballast); err != nil {
		t.Fatal(err)
	}
	g.Start = 2
	for i := range n + 1 {
		if err := p.Join(g, two(i)); err != nil {
			t.Errorf("join %d after space was freed: %v", i, err)
		}
	}
}
