//go:build race

package badinput

// share of the mutants that is tried by default: the race detector makes all of it slower,
// and has nothing to find in a decoder.
const share = 20
