package drill

import (
	"context"
	"errors"
	"time"

	"crier/api"
	"crier/job"
)

// apis is the API processes of a cluster: what one does not answer another is asked.
type apis struct {
	list []api.Service
	at   int
}

// askEvery is between rounds of asking.
const askEvery = 100 * time.Millisecond

// do asks one process after the other until one answers, or ctx ends. What is asked is
// idempotent.
func (a *apis) do(ctx context.Context, ask func(context.Context, api.Service) error) error {
	var last error
	for tries := 0; ; tries++ {
		once, cancel := context.WithTimeout(ctx, 10*time.Second)
		err := ask(once, a.list[a.at])
		cancel()
		var known *job.Error
		if err == nil || errors.As(err, &known) && known.Code != job.CodeUnavailable {
			return err
		}
		last = err
		a.at = (a.at + 1) % len(a.list)
		if tries%len(a.list) < len(a.list)-1 {
			continue
		}
		select {
		case <-ctx.Done():
			return errors.Join(ctx.Err(), last)
		case <-time.After(askEvery):
		}
	}
}
