package drill

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"crier/internal/cluster"
	"crier/internal/drill/verdict"
)

// few is a cluster in which one process of each kind that sends can be missing.
var few = cluster.Topology{ZooKeeper: 1, MariaDB: 1, NATS: 3, Scheduler: 2, Worker: 2, Gateway: 2, API: 1, Relay: 1, Proxy: true}

// TestReal does one fault of each kind to a cluster of real processes. How long things
// take is up to the machine; what must never be, must not be here either.
func TestReal(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 8*time.Minute)
	defer cancel()
	cfg := Config{Dir: up(ctx, t), Jobs: 3, Online: 90, Late: 15, Parked: 500, Rate: 15, Say: t.Logf}
	cfg.Binary = filepath.Join(cfg.Dir, "crier")
	for i, c := range []struct {
		name   string
		lasts  time.Duration
		others bool // have to take over
	}{{"stop-zookeeper", 5 * time.Second, false}, {"kill-worker", 0, true}, {"pause-worker", 7 * time.Second, true}, {CutPair, 7 * time.Second, false}} {
		began := time.Now()
		cfg.Seed, cfg.For = uint64(i+1), c.lasts
		rep, err := Run(ctx, c.name, cfg)
		if err != nil {
			t.Fatalf("%s: %v", c.name, err)
		}
		t.Logf("%s: %s in %s: %q, %+v", c.name, rep.Verdict, time.Since(began).Round(time.Second), rep.Reasons, rep.Oracle)
		if bad := verdict.Wrong(rep); len(bad) > 0 {
			t.Errorf("%s: %s", c.name, strings.Join(bad, "; "))
		}
		if !rep.Fault.Bit || rep.Oracle.Shown == 0 {
			t.Errorf("%s: it shows nothing: %s", c.name, rep.Fault.Proof)
		}
		if c.others && (rep.Times.Detected == nil || rep.Times.Resumed == nil) {
			t.Errorf("%s: nobody took over: %+v", c.name, rep.Times)
		}
	}
}

// up builds crier, starts the cluster, and ends it with the test. It gives the cluster's
// directory, in which the binary is.
func up(ctx context.Context, t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "crier-drill-") // short: there is a socket in it
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	binary := filepath.Join(dir, "crier")
	build := exec.CommandContext(ctx, "go", "build", "-o", binary, "crier/cmd/crier")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("building crier: %v\n%s", err, out)
	}
	t.Cleanup(func() {
		if c, err := cluster.Load(dir); err == nil {
			if _, err := c.Down(); err != nil {
				t.Error(err)
			}
		}
	})
	for { // a process that its servers keep waiting, on a busy machine, ends
		_, started, err := cluster.Up(ctx, cluster.Config{Dir: dir, Deploy: "../../deploy/cluster", Binary: binary, Topology: few})
		if err == nil {
			return dir
		}
		if ctx.Err() != nil {
			t.Fatal(err)
		}
		t.Logf("%d processes were started, and then: %v", len(started), err)
	}
}
