package parked_test

import (
	"testing"

	"crier/state/parked"
	"crier/state/parked/kvtest"
)

func TestMemory(t *testing.T) {
	kvtest.Run(t, func(*testing.T) parked.KV { return parked.NewMemory() })
}
