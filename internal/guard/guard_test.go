package guard_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"crier/internal/guard"
)

func TestRun(t *testing.T) {
	plain := errors.New("plain")
	if err := guard.Run(func() error { return plain }); err != plain || guard.Of(err) != nil {
		t.Errorf("an error: %v", err)
	}
	if err := guard.Run(func() error { return nil }); err != nil || guard.Of(err) != nil {
		t.Errorf("no error: %v", err)
	}
	var none []int
	for what, fn := range map[string]func() error{
		"boom":               func() error { panic("boom") },
		"index out of range": func() error { return fmt.Errorf("%d", none[len(none)]) },
		"nil pointer":        func() error { var b *guard.Broken; return errors.New(b.What) },
	} {
		err := guard.Run(fn)
		b := guard.Of(fmt.Errorf("working: %w", err))
		if b == nil || !strings.Contains(b.Error(), what) || !strings.Contains(b.Stack, "TestRun") {
			t.Errorf("%s: %v", what, err)
		}
	}
}
