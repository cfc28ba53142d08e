package parked

import "crier/state/parked/totals"

// Tally counts a job's recipients by outcome; what is pending is not in it.
type Tally = totals.Tally
