package app_test

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"crier/internal/proc"
	"crier/internal/servers"
)

// A process that is pointed at another's database or coordination store, with a ledger of
// its own, is refused: it would take in the other's work. The one whose they are starts
// again.
func TestAStrayOnWhatIsAnothers(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	e, err := servers.ZooKeeper(ctx, servers.ZooKeeperConfig{Dir: t.TempDir(), Nodes: 1})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(e.Stop)
	sql, zk := []string{"--sql-dsn", mariaDB(t).DSN}, []string{"--coordination-zookeeper", strings.Join(e.Addrs(), ",")}
	x := &trial{t: t, cfg: newTrialConfig(t, append(sql, zk...)...)}
	x.restart(ctx)
	for setting, args := range map[string][]string{"sql.dsn: ": sql, "coordination.root: ": zk} {
		cfg := newTrialConfig(t, args...)
		if stray, err := proc.Start(ctx, cfg); err == nil {
			stray.Kill()
			t.Errorf("%sa stray started", setting)
		}
		said, err := os.ReadFile(filepath.Join(cfg.Dir, "server.log"))
		x.must(err)
		if last := said[bytes.LastIndexByte(bytes.TrimSpace(said), '\n')+1:]; !bytes.Contains(last, []byte(setting)) || !bytes.Contains(last, []byte("belongs to others")) {
			t.Errorf("%sthe stray says: %s", setting, said)
		}
	}
	x.must(x.srv.Stop())
	x.restart(ctx)
	x.must(x.srv.Stop())
}
