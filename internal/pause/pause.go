// Package pause waits in a way that ends with a context.
package pause

import (
	"context"
	"time"
)

// For waits, and reports whether ctx lasted for so long.
func For(ctx context.Context, d time.Duration) bool {
	if ctx.Err() != nil {
		return false
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}
