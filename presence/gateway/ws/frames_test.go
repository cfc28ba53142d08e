package ws

import (
	"encoding/json"
	"strings"
	"testing"
	"unicode/utf8"

	"crier/internal/badinput"
)

var clientFrames = []string{
	`{"type":"hello","client":"phone-1","have":["job_01M8B8YWTQBZCHW4B8PAM6Q0J0"]}`, `{"type":"hello","client":"x","have":[]}`, `{"type":"hello"}`,
	`{"type":"ack","ids":["job_01M8B8YWTQBZCHW4B8PAM6Q0J0","job_01M8B8YWTF1HMNWZQYGVG30HCV","no id"]}`, `{"type":"of the future","unheard":{"a":[1,null]}}`,
}

// hold reads a frame and holds what is taken to what must be so.
func hold(t *testing.T, b []byte) (ok bool) {
	t.Helper()
	f, err := parseClient(b)
	if err != nil {
		if s := err.Error(); s == "" || strings.Contains(s, "Go ") || !utf8.ValidString(s) {
			t.Errorf("%q: the error is %q", b, err)
		}
		return false
	}
	if !json.Valid(b) || !utf8.Valid(b) || f.Type == "" || len(f.Client) > maxClient {
		t.Errorf("%q is taken as %+v", b, f)
	}
	ids := f.IDs
	if f.Have != nil {
		ids = append(ids, *f.Have...)
	}
	known := jobIDs(ids)
	if len(known) > maxIDs || len(known) > len(ids) {
		t.Errorf("%q: %d ids of %d", b, len(known), len(ids))
	}
	for _, id := range known {
		if !strings.Contains(strings.ToUpper(string(b)), strings.ToUpper(id.String())) && !strings.Contains(string(b), `\`) {
			t.Errorf("%q: %s is not in it", b, id)
		}
	}
	return true
}

// Mutants of clients' frames, and every text of the JSON suite as a frame.
func TestFramesMutated(t *testing.T) {
	var samples [][]byte
	for _, s := range clientFrames {
		samples = append(samples, []byte(s))
	}
	limit := func(n int) uint64 { return 512<<10 + 512*uint64(n) }
	badinput.Feed(t, limit, func(m badinput.Mutant) bool { return hold(t, m.Bytes) }, samples...)
	for _, text := range badinput.JSON(t) {
		hold(t, []byte(text))
		hold(t, []byte(`{"type":"ack","ids":`+text+`}`))
		hold(t, []byte(`{"type":"hello","have":[`+text+`]}`))
	}
	for _, text := range badinput.Strings(t) {
		for _, frame := range []string{`{"type":%,"client":"x"}`, `{"type":"hello","client":%}`, `{"type":"ack","ids":[%]}`} {
			quoted, err := json.Marshal(text)
			if err != nil {
				t.Fatal(err)
			}
			hold(t, []byte(strings.Replace(frame, "%", string(quoted), 1)))
		}
	}
}

func FuzzParseClient(f *testing.F) {
	for _, s := range clientFrames {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, b []byte) { hold(t, b) })
}
