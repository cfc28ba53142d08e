package kv_test

import (
	"testing"

	"crier/state/parked/kv"
	"crier/state/parked/kvtest"
)

func TestMemory(t *testing.T) {
	kvtest.Run(t, func(*testing.T) kv.Store { return kv.NewMemory() })
}
