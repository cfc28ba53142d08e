package audience

import "context"

// Source gives the ids of one package, in any order and with repeats. It is
// used by one goroutine.
type Source interface {
	// Name is the name of the package to build. It never changes.
	Name() string
	// NextBatch puts up to len(ids) ids at the front of ids and says how many.
	// At the end it gives 0 and io.EOF, again at each further call. Any other
	// error ends the source: what it gave before is to be thrown away. An error
	// of the input is a *job.Error that names file, line and column.
	NextBatch(ctx context.Context, ids []uint32) (n int, err error)
	// Close frees what the source holds; it may be called twice and before the
	// end.
	Close() error
}
