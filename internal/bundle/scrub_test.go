package bundle

import (
	"encoding/json"
	"net/url"
	"strings"
	"testing"
)

// What is known is found as it is, and as others write it.
func TestWhatIsKnownIsTakenOut(t *testing.T) {
	const word = `pa"ss<w>örd/&%\`
	s := NewScrubber([]string{"", "abc", word, "pa", "lengthy-secret", "lengthy-secret-and-more", " padded-secret\n"})
	quoted, err := json.Marshal(word)
	if err != nil {
		t.Fatal(err)
	}
	for text, want := range map[string]string{
		"x " + word + " y":                      "x *** y",
		"x " + string(quoted) + " y":            `x "***" y`,
		`x "pa\"ss<w>örd/&%\\" y`:               `x "***" y`,
		"?p=" + url.QueryEscape(word):           "?p=***",
		"/p/" + url.PathEscape(word):            "/p/***",
		"lengthy-secret-and-more":               "***",
		"a lengthy-secret-and a padded-secret.": "a ***-and a ***.",
		"abc and pa are too short":              "abc and pa are too short",
	} {
		if got := s.Text(text); got != want {
			t.Errorf("%s becomes %s, want %s", text, got, want)
		}
	}
	if got := s.Bytes(nil); got != nil {
		t.Errorf("nothing becomes %q", got)
	}
}

// What has the form of a secret is taken out though nobody knew of it; what only looks a
// little like one stays.
func TestFormsOfSecrets(t *testing.T) {
	s := NewScrubber(nil)
	key := "AbCdEfGhIjKlMnOpQrStUvWxYz0123456789_-abcdefghij"
	token := "AQ" + strings.Repeat("x", 58)
	for text, want := range map[string]string{
		"key crk_" + key + ".":                                            "key crk_***.",
		`{"token":"crier_` + key + `","pid":7}`:                           `{"token":"***","pid":7}`,
		"the key crier_" + key:                                            "the key crier_***",
		`"a ` + token + `"`:                                               `"a ***"`,
		"whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD":                          "whsec_***",
		"Authorization: Bearer abcdefgh12345":                             "Authorization: *** ***",
		"nats://me:pw@a:4222":                                             "nats://***@a:4222",
		"nats://sometoken@a:4222/x":                                       "nats://***@a:4222/x",
		"dsn=crier:p@ss/w:rd@tcp(db:3306)/crier":                          "dsn=crier:***@tcp(db:3306)/crier",
		"https://h/p?a=1&access_token=abc&b=2":                            "https://h/p?a=1&access_token=***&b=2",
		"password=hunter22 rest":                                          "password=*** rest",
		`{\"nats_token\": \"abcdef\"}`:                                    `{\"nats_token\": \"***\"}`,
		"-----BEGIN PRIVATE KEY-----\nMC4C\n-----END PRIVATE KEY-----\nx": "***\nx",
		"-----BEGIN USER NKEY SEED-----\nSUAM\n":                          "***",
		"SUAMK2FG4MI6UE3ACF3FK3OIQBCEIEZV7NSWFFEW63UXMRLFM2XLAXK4GY":      "***",
		"eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.c2ln":                       "***",
		`level=WARN msg=x recipient=4711 recipients=12`:                   "level=WARN msg=x recipient=*** recipients=12",
		`{"recipient":4711,"recipients":12}`:                              `{"recipient":***,"recipients":12}`,
		// These stay.
		"crier_scheduler_jobs_waiting_longest_seconds_bucket_total 7":             "crier_scheduler_jobs_waiting_longest_seconds_bucket_total 7",
		"sha256 9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08": "sha256 9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
		"job_01JZ0000000000000000000000 of news":                                  "job_01JZ0000000000000000000000 of news",
		`{"setting": "nats.token", "value": "/etc/crier/token"}`:                  `{"setting": "nats.token", "value": "/etc/crier/token"}`,
		"wss://gw1.example/v1/connect":                                            "wss://gw1.example/v1/connect",
	} {
		if got := s.Text(text); got != want {
			t.Errorf("%s becomes\n%s, want\n%s", text, got, want)
		}
		if got := s.Text(want); got != want {
			t.Errorf("%s does not stay: %s", want, got)
		}
	}
}
