package operator

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"crier/api"
	"crier/internal/bus"
)

const (
	askWithin = time.Second // for all answers
	askAtOnce = 64
)

// ask asks several the same thing at the same time, each at its subject, and gives the answers by
// name, and who did not answer.
func (o *Operator) ask(ctx context.Context, questions map[string]string, data []byte) (map[string][]byte, []api.Silent) {
	ctx, cancel := context.WithTimeout(ctx, askWithin)
	defer cancel()
	var (
		wg      sync.WaitGroup
		mu      sync.Mutex // for what follows
		answers = map[string][]byte{}
		silent  []api.Silent
		slots   = make(chan struct{}, askAtOnce)
	)
	for name, subject := range questions {
		wg.Go(func() {
			slots <- struct{}{}
			defer func() { <-slots }()
			b, err := o.cfg.Bus.Request(ctx, subject, data)
			mu.Lock()
			defer mu.Unlock()
			if err != nil {
				silent = append(silent, api.Silent{Name: name, Why: whySilent(err)})
				return
			}
			answers[name] = b
		})
	}
	wg.Wait()
	return answers, sorted(silent)
}

func whySilent(err error) string {
	switch {
	case errors.Is(err, bus.ErrNoResponders):
		return "nobody listens there"
	case errors.Is(err, bus.ErrCut):
		return bus.ErrCut.Error()
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, bus.ErrNoAnswer):
		return fmt.Sprintf("no answer within %s", askWithin)
	}
	return err.Error()
}

func sorted(list []api.Silent) []api.Silent {
	slices.SortFunc(list, func(a, b api.Silent) int { return cmp.Compare(a.Name, b.Name) })
	return list
}
