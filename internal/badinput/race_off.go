//go:build !race

package badinput

const share = 1
