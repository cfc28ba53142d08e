package app

import (
	"strings"
	"sync"
	"testing"

	"crier/job"
	"crier/state/ledger"
)

// The first process of a cluster says whose the ledger is; who has other settings is
// refused by the name of the setting, whatever becomes of an answer.
func TestIdentity(t *testing.T) {
	log := ledger.NewMemory(ledger.MemoryConfig{})
	log.Inject(ledger.ClusterSubject, ledger.FaultStored)
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			if err := checkIdentity(t.Context(), log, identity{Cluster: "a", Coordination: "nats"}); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if n, err := log.Subjects(t.Context(), ledger.ClusterSubject); err != nil || n[ledger.ClusterSubject] != 1 {
		t.Fatalf("%v records, %v", n, err)
	}
	for want, mine := range map[string]identity{"cluster.id": {Cluster: "b", Coordination: "nats"}, "coordination.root": {Cluster: "a", Coordination: "zookeeper /x"}} {
		err := checkIdentity(t.Context(), log, mine)
		if job.CodeOf(err) != job.CodeInvalid || !strings.Contains(err.Error(), want) {
			t.Errorf("%+v: %v, want %s refused", mine, err, want)
		}
	}
}
