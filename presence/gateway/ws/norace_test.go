//go:build !race

package ws

// slack is how much more memory a connection takes under the race detector.
const slack = 1
