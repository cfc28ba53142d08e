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
var few = cluster.Topology{ZooKeeper: 1, MariaDB: 1, NATS: 3, Scheduler: 2, Worker: 2, Gateway: 2, API: 1, Relay: 1, Proxy: true, AccountCap: 5}

// fault is a drill of the test, and how long it lasts.
type fault struct {
	name   string
	seed   uint64
	lasts  time.Duration
	others bool // have to take over
}

// TestReal does one fault of each kind to clusters of real processes. How long things
// take is up to the machine; what must never be, must not be here either. An outage is
// waited out for minutes, in which nothing else may change hands; the others have a cluster
// of their own meanwhile.
func TestReal(t *testing.T) {
	binary := built(t)
	for name, faults := range map[string][]fault{
		"outage": {{"stop-zookeeper", 1, 5 * time.Second, false}},
		"others": {{"kill-worker", 2, 0, true}, {"pause-worker", 3, 7 * time.Second, true}, {CutPair, 4, 7 * time.Second, false}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			ctx, cancel := context.WithTimeout(t.Context(), 8*time.Minute)
			defer cancel()
			cfg := Config{Dir: up(ctx, t, binary), Binary: binary, Jobs: 3, Online: 120, Late: 15, Parked: 500, Rate: 15, Say: t.Logf}
			for _, f := range faults {
				f.on(ctx, t, cfg)
			}
		})
	}
}

// on does the fault to a cluster, and judges it.
func (f fault) on(ctx context.Context, t *testing.T, cfg Config) {
	t.Helper()
	began := time.Now()
	cfg.Seed, cfg.For = f.seed, f.lasts
	rep, err := Run(ctx, f.name, cfg)
	if err != nil {
		t.Fatalf("%s: %v", f.name, err)
	}
	t.Logf("%s: %s in %s: %q, %+v", f.name, rep.Verdict, time.Since(began).Round(time.Second), rep.Reasons, rep.Oracle)
	if bad := verdict.Wrong(rep); len(bad) > 0 {
		t.Errorf("%s: %s", f.name, strings.Join(bad, "; "))
	}
	if !rep.Fault.Bit || rep.Oracle.Shown == 0 {
		t.Errorf("%s: it shows nothing: %s", f.name, rep.Fault.Proof)
	}
	if f.others && (rep.Times.Detected == nil || rep.Times.Resumed == nil) {
		t.Errorf("%s: nobody took over: %+v", f.name, rep.Times)
	}
}

// built builds crier, for all clusters.
func built(t *testing.T) string {
	t.Helper()
	binary := filepath.Join(t.TempDir(), "crier")
	build := exec.CommandContext(t.Context(), "go", "build", "-o", binary, "crier/cmd/crier")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("building crier: %v\n%s", err, out)
	}
	return binary
}

// up starts a cluster, and ends it with the test. It gives its directory.
func up(ctx context.Context, t *testing.T, binary string) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "crier-drill-") // short: there is a socket in it
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
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
