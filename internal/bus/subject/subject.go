// Package subject says which subjects a pattern matches, by the rules of NATS:
// a subject is tokens with dots between them, "*" in a pattern stands for one
// token and a last ">" for one or more. The in-memory twins use it, so that they
// agree with the server.
package subject

import "strings"

// Match reports whether a subject matches a pattern.
func Match(pattern, subject string) bool {
	for {
		p, prest, pmore := strings.Cut(pattern, ".")
		s, srest, smore := strings.Cut(subject, ".")
		if p == ">" && !pmore {
			return s != ""
		}
		if s == "" || p != "*" && p != s {
			return false
		}
		if pmore != smore {
			return false
		}
		if !pmore {
			return true
		}
		pattern, subject = prest, srest
	}
}

// Valid reports whether s is a subject that can be published to: tokens that are
// not empty, without wildcards, blanks or control characters.
func Valid(s string) bool { return tokens(s, false) }

// ValidPattern reports whether s is a subject or a pattern.
func ValidPattern(s string) bool { return tokens(s, true) }

func tokens(s string, wild bool) bool {
	for rest, more := s, true; more; {
		var t string
		t, rest, more = strings.Cut(rest, ".")
		switch {
		case t == "":
			return false
		case t == "*" || t == ">" && !more:
			if !wild {
				return false
			}
		case strings.ContainsFunc(t, func(r rune) bool { return r <= ' ' || r == '*' || r == '>' || r == 0x7f }):
			return false
		}
	}
	return true
}
