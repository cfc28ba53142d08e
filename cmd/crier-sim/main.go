// Command crier-sim runs the whole cluster in simulation, seed by seed, and fails if a
// seed breaks a promise or a planted bug is not found.
package main

import (
	"fmt"
	"os"
)

func main() {
	if err := command().Execute(); err != nil {
		fmt.Fprintln(os.Stderr, "crier-sim:", err)
		os.Exit(1)
	}
}
