package soakreal

import (
	"archive/tar"
	"bufio"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"crier/internal/testdata"
)

// act is what a line of a log, or the end of one, says about who is there.
type act uint8

const (
	joined act = iota
	spoke
	left
	ended // nobody is there any more
)

// event is one act, of a nick, at a time in minutes of the logs, which follow each other
// without the days between them.
type event struct {
	at   float64
	act  act
	nick string
}

// The lines of the logs. Only what is said has a time; what comes and goes has that of
// the line before.
var (
	saying  = regexp.MustCompile(`^\[(\d\d):(\d\d)\] <([^>\s]+)>`)
	joining = regexp.MustCompile(`^=== (\S+) \[.*\]\s+has joined #`)
	leaving = regexp.MustCompile(`^=== (\S+) \[.*\]\s+has left #`)
	naming  = regexp.MustCompile(`^=== (\S+) is now known as (\S+)$`)
)

// readLog reads one log, which begins at a minute.
func readLog(r io.Reader, begin float64) (events []event, err error) {
	lines := bufio.NewScanner(r)
	lines.Buffer(nil, 1<<20)
	first, minute := -1, 0 // of the day; minutes since the first line
	for lines.Scan() {
		line := lines.Text()
		add := func(a act, nick string) { events = append(events, event{begin + float64(minute), a, nick}) }
		if m := saying.FindStringSubmatch(line); m != nil {
			hours, _ := strconv.Atoi(m[1])
			minutes, _ := strconv.Atoi(m[2])
			now := 60*hours + minutes
			if first < 0 {
				first = now
			}
			// Midnight goes on with the next day; a clock that was set back stands still.
			if on := (now - first - minute + 7*1440) % 1440; on < 720 {
				minute += on
			}
			add(spoke, m[3])
		} else if m := joining.FindStringSubmatch(line); m != nil {
			add(joined, m[1])
		} else if m := leaving.FindStringSubmatch(line); m != nil {
			add(left, m[1])
		} else if m := naming.FindStringSubmatch(line); m != nil {
			add(left, m[1])
			add(joined, m[2])
		}
	}
	events = append(events, event{begin + float64(minute) + 1, ended, ""})
	spread(events)
	return events, lines.Err()
}

// spread puts the events of each minute at even distances.
func spread(events []event) {
	for from := 0; from < len(events); {
		to := from
		for to < len(events) && events[to].at == events[from].at {
			to++
		}
		for i := from; i < to; i++ {
			events[i].at += float64(i-from) / float64(to-from)
		}
		from = to
	}
}

// readLogs reads the first logs of an archive, and how many there are.
func readLogs(t *testing.T, path string, part float64) (events []event, logs int) {
	z := unzip(t, path)
	var all [][]event
	for r := tar.NewReader(z); ; {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		if h.Typeflag != tar.TypeReg {
			continue
		}
		one, err := readLog(r, 0)
		if err != nil {
			t.Fatalf("%s: %v", h.Name, err)
		}
		all = append(all, one)
	}
	logs = min(len(all), max(2, int(part*float64(len(all))+0.5)))
	begin := 0.0
	for _, one := range all[:logs] {
		for _, e := range one {
			e.at += begin
			events = append(events, e)
		}
		begin = events[len(events)-1].at
	}
	return events, logs
}

// move is what a device does.
type move uint8

const (
	comes move = iota
	goes       // says good-bye
	cut        // loses its connection
)

// stays tells from events who is there. Quits are not logged: who joins and is there
// already has lost its connection meanwhile.
type stays struct {
	here   map[string]bool
	number map[string]int // of each nick, in the order in which they first come
}

// step takes an event, and gives what which devices do.
func (s *stays) step(e event) (m move, who []int) {
	if s.here == nil {
		s.here, s.number = map[string]bool{}, map[string]int{}
	}
	if _, known := s.number[e.nick]; !known && (e.act == joined || e.act == spoke) {
		s.number[e.nick] = len(s.number)
	}
	switch n := s.number[e.nick]; {
	case e.act == ended:
		for nick := range s.here {
			who = append(who, s.number[nick])
		}
		clear(s.here)
		slices.Sort(who)
		return goes, who
	case e.act == left && s.here[e.nick]:
		delete(s.here, e.nick)
		return goes, []int{n}
	case e.act == joined && s.here[e.nick]:
		return cut, []int{n}
	case e.act != left && !s.here[e.nick]:
		s.here[e.nick] = true
		return comes, []int{n}
	}
	return comes, nil
}

// logs gives the path of the real logs, or of some that are made up in their form.
func logs(t *testing.T) string {
	if path, ok := testdata.Path(t, "presence/irc_ubuntu_joinleave.tar.gz"); ok {
		return path
	}
	rng := rand.New(rand.NewPCG(6, 667))
	path := filepath.Join(t.TempDir(), "logs.tar.gz")
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	z := gzip.NewWriter(f)
	w := tar.NewWriter(z)
	for n := range 33 {
		var text strings.Builder
		for i := range 1500 {
			minute := 23*60 + i/10
			nick := fmt.Sprintf("nick%d", n*150+rng.IntN(400))
			switch rng.IntN(10) {
			case 0, 1:
				fmt.Fprintf(&text, "=== %s [~%s@host.example]  has joined #made\n", nick, nick)
			case 2:
				fmt.Fprintf(&text, "=== %s [~%s@host.example]  has left #made []\n", nick, nick)
			case 3:
				fmt.Fprintf(&text, "=== %s is now known as %s_\n", nick, nick)
			default:
				fmt.Fprintf(&text, "[%02d:%02d] <%s> what is said\n", minute/60%24, minute%60, nick)
			}
		}
		err := w.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: fmt.Sprintf("2006-01-%02d.raw.txt", n), Mode: 0o600, Size: int64(text.Len())})
		if err == nil {
			_, err = io.WriteString(w, text.String())
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	if err := errors.Join(w.Close(), z.Close()); err != nil {
		t.Fatal(err)
	}
	return path
}

// A log is read as it is meant.
func TestLogIsRead(t *testing.T) {
	const text = `=== early [~e@host]  has joined #x
[23:58] <ann> hello
=== bob [n=bob@host]  has joined #x
[23:58] <bob> hello
=== bob eats
=== ann is now known as annie
[00:01] <bob> hello
=== bob [n=bob@host]  has joined #x
[00:00] <carl> <ann> hello
=== carl [n=carl@host]  has left #x ["bye"]
=== dave [n=dave@host]  has left #x []
=== mode/#x [+o bob]  by server
`
	events, err := readLog(strings.NewReader(text), 10)
	if err != nil {
		t.Fatal(err)
	}
	var s stays
	var got []string
	for _, e := range events {
		m, who := s.step(e)
		for _, n := range who {
			got = append(got, fmt.Sprintf("%.2f %s %d", e.at, [...]string{"comes", "goes", "cut"}[m], n))
		}
	}
	want := []string{"10.00 comes 0", "10.17 comes 1", "10.33 comes 2", "10.67 goes 1", "10.83 comes 3",
		"13.20 cut 2", "13.40 comes 4", "13.60 goes 4", "14.00 goes 0", "14.00 goes 2", "14.00 goes 3"}
	if !slices.Equal(got, want) {
		t.Errorf("%q\nwant\n%q", got, want)
	}
}
