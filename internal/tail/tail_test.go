package tail

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// What is shown of a log is whole lines of this start.
func TestOf(t *testing.T) {
	long := strings.Repeat("x", 2*size)
	for name, x := range map[string]struct{ before, since, want string }{
		"few":          {"old\n", "one\ntwo\n", "one\ntwo"},
		"nothing":      {"old\n", "", "nothing since it was started"},
		"a long line":  {"old\n", "one\n" + long + "\n", long},
		"before long":  {"old\n", long + "\nlast\n", "last"},
		"just as many": {"", "y\n" + strings.Repeat("z", size-2), "y\n" + strings.Repeat("z", size-2)},
		"one too many": {"", "y\n" + strings.Repeat("z", size-1), strings.Repeat("z", size-1)},
	} {
		path := filepath.Join(t.TempDir(), "log")
		if err := os.WriteFile(path, []byte(x.before+x.since), 0o600); err != nil {
			t.Fatal(err)
		}
		if got := Of(path, int64(len(x.before))); got != x.want {
			t.Errorf("%s: %q, want %q", name, got, x.want)
		}
	}
	if got := Of(filepath.Join(t.TempDir(), "none"), 0); !strings.Contains(got, "no such file") {
		t.Errorf("none there: %q", got)
	}
}
