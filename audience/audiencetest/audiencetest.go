// Package audiencetest has what tests of sources share.
package audiencetest

import (
	"context"
	"errors"
	"fmt"
	"io"

	"crier/audience"
)

// Read reads a source to its end, in batches of n, holds it to what audience.Source
// promises of the end, and closes it.
func Read(ctx context.Context, s audience.Source, n int) (ids []uint32, err error) {
	buf := make([]uint32, n)
	for {
		k, err := s.NextBatch(ctx, buf)
		ids = append(ids, buf[:k]...)
		if err == io.EOF {
			if _, again := s.NextBatch(ctx, buf); again != io.EOF {
				return nil, fmt.Errorf("after the end: %w", again)
			}
			return ids, s.Close()
		}
		if err != nil {
			return nil, errors.Join(err, s.Close())
		}
		if k == 0 {
			return nil, errors.New("neither ids nor an error")
		}
	}
}
