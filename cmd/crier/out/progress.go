package out

import (
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/jedib0t/go-pretty/v6/text"
)

// Progress is a line on a terminal that is written over again: a bar, done of
// total, percentage, rate and the time that is left. It belongs to one goroutine.
type Progress struct {
	w       io.Writer
	width   int
	samples []sample // of the last window, the oldest first
	drawn   bool
}

type sample struct {
	at   time.Time
	done uint64
}

// window is what the rate is taken over.
const window = 5 * time.Second

// NewProgress makes a line for a terminal of a width; 0 means 80.
func NewProgress(w io.Writer, width int) *Progress {
	if width <= 0 {
		width = 80
	}
	return &Progress{w: w, width: width}
}

// Update draws the line as it is at a time.
func (p *Progress) Update(now time.Time, state string, done, total uint64) error {
	p.samples = append(p.samples, sample{now, done})
	for len(p.samples) > 2 && now.Sub(p.samples[1].at) >= window {
		p.samples = p.samples[1:]
	}
	p.drawn = true
	_, err := io.WriteString(p.w, "\r"+line(p.width-1, state, done, total, p.rate())+"\x1b[K")
	return err
}

// rate is in units a second, 0 if it is not known yet.
func (p *Progress) rate() float64 {
	first, last := p.samples[0], p.samples[len(p.samples)-1]
	if dt := last.at.Sub(first.at).Seconds(); dt > 0 && last.done > first.done {
		return float64(last.done-first.done) / dt
	}
	return 0
}

// Done ends the line, so that what follows starts on one of its own.
func (p *Progress) Done() error {
	if !p.drawn {
		return nil
	}
	_, err := io.WriteString(p.w, "\n")
	return err
}

// line lays the parts out in a width; the bar takes what is left.
func line(width int, state string, done, total uint64, rate float64) string {
	done = min(done, total)
	tail := fmt.Sprintf("%s/%s  %s", Count(done), Count(total), Percent(done, total))
	if rate > 0 {
		tail += "  " + Count(uint64(rate+0.5)) + "/s"
		if done < total {
			tail += "  ETA " + Span(time.Duration(float64(total-done)/rate*float64(time.Second))+time.Second-1)
		}
	}
	room := width - text.StringWidth(state) - len(tail) - 4
	if room < 10 {
		return text.Snip(state+"  "+tail, width, "…")
	}
	room = min(room, 40)
	full := room
	if total > 0 {
		full = int(float64(done) / float64(total) * float64(room))
	}
	return state + "  " + strings.Repeat("█", full) + strings.Repeat("░", room-full) + "  " + tail
}
