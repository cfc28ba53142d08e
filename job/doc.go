// Package job is Crier's vocabulary: what a job is, the states it goes through,
// the outcomes a recipient can have, and the names the rest of the system gives
// to journals, reserves and gateways.
//
// It imports the standard library only and every other package may import it.
// All of its types are values: safe to copy, to compare and to share.
package job
