//go:build race

package members_test

// raced says that this binary looks for races, which makes it ten times slower.
const raced = true
