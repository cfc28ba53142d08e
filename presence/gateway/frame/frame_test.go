package frame

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"time"

	"crier/job"
)

const anID = "job_0123456789ABCDEFGHJKMNPQRS"

func TestClientFrames(t *testing.T) {
	for _, x := range []struct{ name, in, err string }{
		{"hello", `{"type":"hello","client":"phone","have":["` + anID + `"],"new":{"a":1}}`, ""},
		{"no have", `{"type":"hello"}`, ""},
		{"ack", `{"type":"ack","ids":["` + anID + `"]}`, ""},
		{"a type of the future", `{"type":"typing","ids":[]}`, ""},
		{"not json", `hello`, "not a JSON object"},
		{"no type", `{"ids":[]}`, "no type"},
		{"no id", `{"type":"ack","ids":["5"]}`, "wrong value at /ids/0"},
		{"a name twice", `{"type":"ack","type":"hello"}`, "not a JSON object"},
		{"not utf-8", "{\"type\":\"hello\",\"client\":\"\xff\"}", "not a JSON object"},
		{"long client", `{"type":"hello","client":"` + strings.Repeat("x", MaxClient+1) + `"}`, "at most 128"},
		{"long have", `{"type":"hello","have":["` + strings.Repeat(anID+`","`, MaxIDs) + anID + `"]}`, "have lists 257"},
		{"long ack", `{"type":"ack","ids":["` + strings.Repeat(anID+`","`, MaxIDs) + anID + `"]}`, "ids lists 257"},
	} {
		f, err := ParseClient([]byte(x.in))
		if x.err == "" {
			if err != nil || f.Type == "" {
				t.Errorf("%s: %v", x.name, err)
			}
			continue
		}
		if !errors.Is(err, ErrFrame) || !strings.Contains(err.Error(), x.err) || strings.Contains(err.Error(), "Go ") {
			t.Errorf("%s: %v, want one about %q", x.name, err, x.err)
		}
	}
	f, err := ParseClient([]byte(`{"type":"hello","have":[]}`))
	if err != nil || f.Have == nil {
		t.Errorf("an empty have is no have: %v", err)
	}
	if f, err = ParseClient([]byte(`{"type":"hello","have":null}`)); err != nil || f.Have != nil {
		t.Errorf("have null: %v", err)
	}
}

// TestServerFramesHaveTheNamesOfTheProtocol reads what is written with another
// library, by the names that clients of all kinds use.
func TestServerFramesHaveTheNamesOfTheProtocol(t *testing.T) {
	id, err := job.ParseID(anID)
	if err != nil {
		t.Fatal(err)
	}
	body, at := "", time.Date(2026, 5, 1, 12, 0, 0, 7e6, time.UTC)
	f := &Server{Type: Message, ID: id, Job: id, Account: "news", Body: &body, SentAt: at, DisplayAt: at, ExpiresAt: at, CollapseKey: "k", Order: 5, ServerTime: at}
	b, err := f.Bytes()
	if err != nil {
		t.Fatal(err)
	}
	var got map[string]any
	if err := json.Unmarshal(b, &got); err != nil {
		t.Fatal(err)
	}
	when := "2026-05-01T12:00:00.007Z"
	for name, want := range map[string]any{"type": "message", "id": anID, "job": anID, "account": "news", "body": "", "sent_at": when,
		"display_at": when, "expires_at": when, "collapse_key": "k", "order": 5.0, "server_time": when} {
		if got[name] != want {
			t.Errorf("%s is %v, want %v", name, got[name], want)
		}
		delete(got, name)
	}
	if len(got) != 0 {
		t.Errorf("more fields: %v", got)
	}
	back, err := ParseServer(b)
	if err != nil || back.ID != id || *back.Body != "" || !back.SentAt.Equal(at) {
		t.Errorf("read back: %+v, %v", back, err)
	}
	for _, bad := range []string{`{"type":"message","id":"` + anID + `"}`, `{"type":"message","body":"x"}`, `{"type":"redirect"}`, `[]`} {
		if _, err := ParseServer([]byte(bad)); !errors.Is(err, ErrFrame) {
			t.Errorf("%s: %v", bad, err)
		}
	}
	hello := &Client{Type: Hello, Client: "c", Have: &[]job.ID{}}
	if b, err = hello.Bytes(); err != nil || string(b) != `{"type":"hello","client":"c","have":[]}` {
		t.Errorf("a hello: %s %v", b, err)
	}
}

func FuzzParseClient(f *testing.F) {
	f.Add([]byte(`{"type":"hello","have":["` + anID + `"]}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		c, err := ParseClient(b)
		if err != nil {
			return
		}
		if _, err := c.Bytes(); err != nil {
			t.Fatal(err)
		}
	})
}
