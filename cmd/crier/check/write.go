package check

import (
	"encoding/json"
	"fmt"
	"io"
	"strconv"
	"strings"

	"crier/cmd/crier/out"
)

var formatNames = []string{"nagios", "json", "prometheus"}

var formats = map[string]func(io.Writer, []Result) error{"nagios": writeNagios, "json": WriteJSON, "prometheus": writePrometheus}

// verdict is what several checks may come to.
type verdict struct {
	state State
	text  string
}

// writeNagios writes one line: the verdict, what is not well, and performance data. What is
// not known comes last.
func writeNagios(w io.Writer, all []Result) error {
	var bad, data []string
	var verdicts, unknowns []verdict
	names := map[verdict][]string{} // of the checks that came to it
	for _, r := range all {
		v := verdict{r.State, r.Text}
		switch {
		case r.State == OK || names[v] != nil:
		case r.State == Unknown:
			unknowns = append(unknowns, v)
		default:
			verdicts = append(verdicts, v)
		}
		names[v] = append(names[v], r.Name)
		if r.Value != nil {
			data = append(data, fmt.Sprintf("%s=%s%s;%s;%s", r.Name, decimal(*r.Value), r.Unit, bound(r, r.Warn), bound(r, r.Crit)))
		}
	}
	for _, v := range append(verdicts, unknowns...) {
		bad = append(bad, fmt.Sprintf("%s %s: %s", strings.Join(names[v], ", "), v.state, v.text))
	}
	text := fmt.Sprintf("%d checks", len(all))
	if len(bad) > 0 {
		text = strings.Join(bad, "; ")
	}
	// A bar ends the text, and a line break the line.
	text = strings.ReplaceAll(out.Clean(text), "|", "/")
	line := fmt.Sprintf("CRIER %s - %s", Worst(all), text)
	if len(data) > 0 {
		line += " | " + strings.Join(data, " ")
	}
	_, err := fmt.Fprintln(w, line)
	return err
}

// writeMisuse says in one line that nothing was judged.
func writeMisuse(w io.Writer, why error) error {
	_, err := fmt.Fprintf(w, "CRIER %s - %s\n", Unknown, strings.ReplaceAll(out.Clean(why.Error()), "|", "/"))
	return err
}

// bound writes a threshold as Nagios does: 1: is at least 1, 10 is at most 10.
func bound(r Result, limit *float64) string {
	switch {
	case limit == nil:
		return ""
	case r.Name == "members_working", strings.HasSuffix(r.Name, "_replicas"):
		return decimal(*limit) + ":"
	}
	return decimal(*limit)
}

func decimal(x float64) string { return strconv.FormatFloat(roundTo(x), 'f', -1, 64) }

// roundTo keeps three digits behind the point.
func roundTo(x float64) float64 {
	y, err := strconv.ParseFloat(strconv.FormatFloat(x, 'f', 3, 64), 64)
	if err != nil {
		return x
	}
	return y
}

// WriteJSON writes the worst verdict and all of them.
func WriteJSON(w io.Writer, all []Result) error {
	enc := json.NewEncoder(w)
	enc.SetIndent("", "  ")
	enc.SetEscapeHTML(false)
	return enc.Encode(struct {
		State  State    `json:"state"`
		Checks []Result `json:"checks"`
	}{Worst(all), all})
}

// writePrometheus writes the text format that Prometheus reads.
func writePrometheus(w io.Writer, all []Result) error {
	var b strings.Builder
	b.WriteString("# HELP crier_check_state Verdict of a check: 0 OK, 1 warning, 2 critical, 3 unknown.\n# TYPE crier_check_state gauge\n")
	for _, r := range all {
		fmt.Fprintf(&b, "crier_check_state{check=%q} %d\n", r.Name, r.State)
	}
	b.WriteString("# HELP crier_check_value What was judged, in seconds, percent or a number; absent if it is not known.\n# TYPE crier_check_value gauge\n")
	for _, r := range all {
		if r.Value != nil {
			fmt.Fprintf(&b, "crier_check_value{check=%q} %s\n", r.Name, decimal(*r.Value))
		}
	}
	b.WriteString("# HELP crier_check_threshold From when on it is bad.\n# TYPE crier_check_threshold gauge\n")
	for _, r := range all {
		for _, l := range []struct {
			level string
			limit *float64
		}{{"warning", r.Warn}, {"critical", r.Crit}} {
			if l.limit != nil {
				fmt.Fprintf(&b, "crier_check_threshold{check=%q,level=%q} %s\n", r.Name, l.level, decimal(*l.limit))
			}
		}
	}
	_, err := io.WriteString(w, b.String())
	return err
}
