package level

import (
	"bufio"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"strconv"
	"testing"
)

const childEnv = "CRIER_TEST_LEVEL_CHILD"

func TestMain(m *testing.M) {
	if dir := os.Getenv(childEnv); dir != "" {
		childWrites(dir)
		return
	}
	os.Exit(m.Run())
}

// childWrites goes on with the script until it is killed, and says after each
// batch that it was answered.
func childWrites(dir string) {
	db, err := Open(Config{Dir: dir, WriteBuffer: 64 << 10})
	if err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	n, err := batchesIn(db)
	if err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	for {
		n++
		if err := db.Write(scriptBatch(n)); err != nil {
			fmt.Println(err)
			os.Exit(1)
		}
		fmt.Println(n)
	}
}

// TestKill kills a process that writes, again and again: after each kill the store
// has all that was answered, at most one batch more, and nothing else.
func TestKill(t *testing.T) {
	dir := t.TempDir()
	rnd := rand.New(rand.NewPCG(8, 9))
	answered := 0
	for range 8 {
		answered = writeUntilKilled(t, dir, answered+50+rnd.IntN(400))
		db, err := Open(Config{Dir: dir, WriteBuffer: 64 << 10})
		if err != nil {
			t.Fatalf("after a kill behind batch %d: %v", answered, err)
		}
		n, err := batchesIn(db)
		if err != nil || n < answered || n > answered+1 {
			t.Fatalf("after a kill behind batch %d the store has %d batches, %v", answered, n, err)
		}
		if err := db.Close(); err != nil {
			t.Fatal(err)
		}
		answered = n
	}
}

// writeUntilKilled runs a child, kills it when it has written a batch, and gives
// the last one that was answered.
func writeUntilKilled(t *testing.T, dir string, killAt int) (answered int) {
	t.Helper()
	child := exec.Command(os.Args[0])
	child.Env = append(os.Environ(), childEnv+"="+dir)
	out, err := child.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := child.Start(); err != nil {
		t.Fatal(err)
	}
	killed := false
	for lines := bufio.NewScanner(out); lines.Scan(); {
		n, err := strconv.Atoi(lines.Text())
		if err != nil {
			t.Fatalf("the child says %q", lines.Text())
		}
		if answered = n; n >= killAt && !killed {
			killed = true
			if err := child.Process.Kill(); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := child.Wait(); err == nil || !killed {
		t.Fatalf("the child ended by itself: %v", err)
	}
	return answered
}
