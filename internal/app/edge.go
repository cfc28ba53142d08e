package app

import (
	"crier/presence/gateway/ws"
	"crier/state/ledger"
	"crier/state/parked/kv"
)

// Edge is what stands between a process and what it writes that outlives it: a test ends
// the process there, just before a write or just after it. The zero value adds nothing.
type Edge struct {
	Log      func(ledger.Log) ledger.Log // the ledger, and the stream of controls
	Index    func(kv.Store) kv.Store
	Accepted func(ws.Accepted) ws.Accepted
}

// beyond gives what is used in the place of v.
func beyond[T any](edge func(T) T, v T) T {
	if edge == nil {
		return v
	}
	return edge(v)
}
