package inspect

import (
	"context"
	"strings"
	"testing"
	"time"

	"crier/api"
	"crier/api/apitest"
	"crier/cmd/crier/cli"
)

// eventsOf is a server that remembers which events it was asked for.
type eventsOf struct {
	*apitest.Fake
	asked *api.TailEvents
}

func (e *eventsOf) TailEvents(_ context.Context, req api.TailEvents, _ func(api.Event) error) error {
	e.asked = &req
	return nil
}

// Who watches sees what happens from now on, and the past if it is asked for.
func TestWhereATailBegins(t *testing.T) {
	for args, want := range map[string]api.TailEvents{
		"":                          {Follow: true, Within: fromNow},
		"--kind job":                {Follow: true, Within: fromNow, Kind: "job"},
		"--all":                     {Follow: true},
		"--since 1h":                {Follow: true, Within: api.Duration(time.Hour)},
		"--since 12":                {Follow: true, After: 12},
		"--follow=false":            {},
		"--follow=false --all":      {},
		"--follow=false --since 12": {After: 12},
	} {
		e := &eventsOf{Fake: apitest.New()}
		if code, _, stderr := runAny(e, append([]string{"events", "tail"}, strings.Fields(args)...)...); code != cli.ExitOK || e.asked == nil || *e.asked != want {
			t.Errorf("%q: %d, asked for %+v, want %+v; %s", args, code, e.asked, want, stderr)
		}
	}
	if code, _, stderr := runAny(apitest.New(), "events", "tail", "--all", "--since", "1h"); code != cli.ExitUsage || !strings.Contains(stderr, "do not go together") {
		t.Errorf("both: %d, %s", code, stderr)
	}
}
