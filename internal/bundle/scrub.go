package bundle

import (
	"cmp"
	"encoding/json"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// Hidden stands where a secret was.
const Hidden = "***"

// leastSecret is the length, in bytes, from which on a secret is looked for: a shorter one
// would be found everywhere. Whoever writes a part leaves such ones out by itself.
const leastSecret = 4

// Scrubber takes secrets out of texts: those that are known, as they are and as texts of
// JSON, Go and URLs write them, and whatever has the form of one.
type Scrubber struct{ known *strings.Replacer }

// NewScrubber makes one that knows some secrets. Those of less than leastSecret bytes are
// not looked for.
func NewScrubber(secrets []string) *Scrubber {
	var all []string
	for _, s := range secrets {
		if s = strings.TrimSpace(s); len(s) < leastSecret {
			continue
		}
		all = append(all, s, url.QueryEscape(s), url.PathEscape(s), inside(strconv.Quote(s)))
		if quoted, err := json.Marshal(s); err == nil { // it is a text: invalid UTF-8 is replaced
			all = append(all, inside(string(quoted)))
		}
	}
	slices.SortFunc(all, func(a, b string) int { return cmp.Or(len(b)-len(a), strings.Compare(a, b)) }) // one may be a part of another
	var pairs []string
	for _, s := range slices.Compact(all) {
		pairs = append(pairs, s, Hidden)
	}
	return &Scrubber{strings.NewReplacer(pairs...)}
}

func inside(quoted string) string { return quoted[1 : len(quoted)-1] }

// form is how a kind of secret looks, and what is put in its place.
type form struct {
	has   string // what is in each of them, in small letters; several with a bar between them
	looks *regexp.Regexp
	shown string
}

// forms are gone through in this order.
var forms = []form{
	{"-----begin ", regexp.MustCompile(`-----BEGIN [A-Z ]*(?:PRIVATE KEY|SEED)-----[\s\S]*?(?:-----END [A-Z ]*-----|$)`), Hidden},
	{"crk_", regexp.MustCompile(`\bcrk_[A-Za-z0-9_-]{32,}`), "crk_" + Hidden},                                         // API keys
	{"crier_", regexp.MustCompile(`\bcrier_[a-z0-9_-]*[A-Z][A-Za-z0-9_-]{8,}`), "crier_" + Hidden},                    // admin keys: a metric's name has no capitals
	{"a", regexp.MustCompile(`\bA[Q-Za-f][A-Za-z0-9_-]{58}([^A-Za-z0-9_-]|$)`), Hidden + "${1}"},                      // recipients' tokens
	{"whsec_", regexp.MustCompile(`\bwhsec_[A-Za-z0-9+/=_-]+`), "whsec_" + Hidden},                                    // secrets of webhooks
	{"s", regexp.MustCompile(`\bS[NCOAUX][A-Z2-7]{54,}\b`), Hidden},                                                   // seeds of NATS
	{"eyj", regexp.MustCompile(`\beyJ[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]*`), Hidden},                        // JSON web tokens
	{"bearer|basic", regexp.MustCompile(`(?i)\b(bearer|basic)\s+[A-Za-z0-9+/=._~-]{8,}`), "${1} " + Hidden},           // headers
	{"://", regexp.MustCompile(`([A-Za-z][A-Za-z0-9+.-]*://)[^\s"'<>]+@`), "${1}" + Hidden + "@"},                     // who a URL says to be
	{"@tcp|@unix", regexp.MustCompile(`([^\s"'=,({\[:@/]+):[^\s"']+@((?:tcp6?|unix)\()`), "${1}:" + Hidden + "@${2}"}, // the password of a DSN
	{"=", regexp.MustCompile(`(?i)([?&;](?:[a-z_-]*(?:token|key|secret|password|passwd|signature|sig|auth))=)[^&\s"'<>]+`), "${1}" + Hidden},
	{"password|passwd|secret|token|authorization", regexp.MustCompile(`(?i)([a-z_-]*(?:password|passwd|secret|token|authorization)\\?["']?\s*[:=]\s*\\?["']?)[^\s"'\\,;&]{4,}`), "${1}" + Hidden},
	{"recipient", regexp.MustCompile(`(?i)\b(recipient\\?["']?[ :=]+\\?["']?)[0-9]+\b`), "${1}" + Hidden}, // whom something is about
}

// Text takes the secrets out of a text.
func (s *Scrubber) Text(text string) string {
	text = s.known.Replace(text)
	small := strings.ToLower(text) // to look for words is quick, to match patterns is not
	for _, f := range forms {
		if slices.ContainsFunc(strings.Split(f.has, "|"), func(word string) bool { return strings.Contains(small, word) }) {
			text = f.looks.ReplaceAllString(text, f.shown)
		}
	}
	return text
}

// Bytes takes the secrets out of a text.
func (s *Scrubber) Bytes(text []byte) []byte {
	if len(text) == 0 {
		return nil
	}
	return []byte(s.Text(string(text)))
}
