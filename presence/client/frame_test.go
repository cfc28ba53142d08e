package client

import (
	"archive/tar"
	"compress/gzip"
	"encoding/json"
	"errors"
	"io"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"crier/internal/testdata"
)

// The examples of the protocol's description are frames.
func TestExamplesOfTheDescription(t *testing.T) {
	text, err := os.ReadFile(filepath.Join("..", "gateway", "PROTOCOL.md"))
	if err != nil {
		t.Fatal(err)
	}
	seen := map[string]bool{}
	for _, block := range regexp.MustCompile("(?s)```json\n(.*?)```").FindAllSubmatch(text, -1) {
		f, err := parseFrame(block[1])
		if err != nil {
			t.Errorf("%s: %v", block[1], err)
			continue
		}
		seen[f.kind] = true
		var example struct {
			Client, ID  string
			Have, IDs   []string
			Can         []string
			CollapseKey string    `json:"collapse_key"`
			DisplayAt   time.Time `json:"display_at"`
		}
		if err := json.Unmarshal(block[1], &example); err != nil {
			t.Error(err)
		}
		switch f.kind {
		case typeHello:
			if example.Client == "" {
				continue // the gateway's
			}
			same(t, block[1])(helloFrame(example.Client, example.Have, slices.Equal(example.Can, []string{"withdraw"})))
		case typeAck:
			same(t, block[1])(ackFrame(example.IDs))
		case typeMessage:
			m := f.message
			if m.ID != example.ID || m.Account != "harbour-news" || m.CollapseKey != example.CollapseKey || !m.DisplayAt.Equal(example.DisplayAt) ||
				m.Order != 7 || m.SentAt.IsZero() || m.ExpiresAt.IsZero() || m.ServerTime.IsZero() || m.Body != "The ferry at 18:40 is cancelled." {
				t.Errorf("message %+v", m)
			}
		case typeSettled, typeWithdraw:
			if len(f.ids) != 1 || f.ids[0] != example.IDs[0] || f.id != example.ID {
				t.Errorf("%s %v", f.kind, f.ids)
			}
		case typeRedirect:
			if f.url != "wss://gw2.example.net/v1/connect" {
				t.Errorf("redirect to %q", f.url)
			}
		}
	}
	for _, kind := range []string{typeHello, typeMessage, typeAck, typeSettled, typeWithdraw, typeRedirect, typeError} {
		if !seen[kind] {
			t.Errorf("there is no example of %s", kind)
		}
	}
}

// same compares a frame with an example, as JSON values.
func same(t *testing.T, want []byte) func([]byte, error) {
	return func(got []byte, err error) {
		t.Helper()
		var a, b any
		if err := errors.Join(err, json.Unmarshal(got, &a), json.Unmarshal(want, &b)); err != nil {
			t.Fatal(err)
		}
		x, _ := json.Marshal(a)
		y, _ := json.Marshal(b)
		if string(x) != string(y) {
			t.Errorf("frame %s, example %s", x, y)
		}
	}
}

func TestWhereARedirectMayLead(t *testing.T) {
	for _, c := range []struct{ from, to, want string }{
		{"wss://a.test/v1/connect", "wss://b.test/v1/connect", "wss://b.test/v1/connect"},
		{"wss://a.test/v1/connect", "https://b.test", "https://b.test/v1/connect"},
		{"wss://a.test:81/v1/connect", "/v1/connect?shard=2", "wss://a.test:81/v1/connect?shard=2"},
		{"wss://a.test/v1/connect", "//b.test/v1/connect?token=x#y", "wss://b.test/v1/connect"},
		{"ws://a.test/v1/connect", "wss://b.test/v1/connect", "wss://b.test/v1/connect"},
		{"wss://a.test/v1/connect", "ws://a.test/v1/connect", ""},
		{"https://a.test/v1/connect", "http://a.test/v1/connect", ""},
		{"ws://a.test/v1/connect", "file:///etc/passwd", ""},
		{"ws://a.test/v1/connect", "javascript:alert(1)", ""},
		{"ws://a.test/v1/connect", "ws://user:password@b.test/", ""},
		{"ws://a.test/v1/connect", "ws://b.test:port/", ""},
		{"ws://a.test/v1/connect", "ws:///v1/connect", ""},
	} {
		from, err := url.Parse(c.from)
		if err != nil {
			t.Fatal(err)
		}
		got, err := redirected(from, c.to)
		if (err != nil) != (c.want == "") || err == nil && got.String() != c.want {
			t.Errorf("from %s to %s: %v, %v", c.from, c.to, got, err)
		}
	}
}

func TestHelloWithoutIDsHasAnEmptyList(t *testing.T) {
	if b, err := helloFrame("c", nil, false); err != nil || !strings.Contains(string(b), `"have":[]`) || strings.Contains(string(b), "can") {
		t.Errorf("%s %v", b, err)
	}
}

// JSON that the standard refuses is refused inside a frame, and what it accepts is
// an unknown field, but for names that come twice.
func TestFramesAreStrictJSON(t *testing.T) {
	n := 0
	jsonSuite(t, func(name string, data []byte) {
		frame := append(append([]byte(`{"type":"settled","ids":["a"],"later":`), data...), '}')
		_, err := parseFrame(frame)
		kind := filepath.Base(name)[0]
		// Cut at its end, a text may be whole again inside an object.
		if twice := strings.Contains(name, "duplicated"); kind == 'y' && !twice && err != nil {
			t.Errorf("%s: %v", name, err)
		} else if kind == 'n' && err == nil && !json.Valid(frame) {
			t.Errorf("%s was accepted: %.100s", name, frame)
		}
		n++
	})
	if n < 10 {
		t.Errorf("only %d texts", n)
	}
}

func jsonSuite(t *testing.T, do func(name string, data []byte)) {
	path, ok := testdata.Path(t, "badinput/jsontestsuite_even.tar.gz")
	if !ok {
		for _, s := range []string{"y1", "y[]", `y"\u0000"`, "y{}", "y-0.5e+9", "n", "n[", "n{", `n"`, "n01", "n'a'", "n[1,]", "nnul", "n\"\xff\""} {
			do(s[:1], []byte(s[1:]))
		}
		return
	}
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	z, err := gzip.NewReader(f)
	if err != nil {
		t.Fatal(err)
	}
	for r := tar.NewReader(z); ; {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			return
		}
		if err != nil {
			t.Fatal(err)
		}
		data, err := io.ReadAll(r)
		if err != nil {
			t.Fatal(err)
		}
		if strings.HasSuffix(h.Name, ".json") {
			do(h.Name, data)
		}
	}
}

func FuzzParseFrame(f *testing.F) {
	for _, s := range []string{`{"type":"message","id":"a","body":"b","order":1,"sent_at":"2026-03-01T17:02:11.482Z"}`, `{"type":"settled","ids":["a",""]}`,
		`{"type":"redirect","url":"x"}`, `{"type":"error","code":"c","message":"m"}`, `{"type":"x"}`} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		fr, err := parseFrame(data)
		if err != nil {
			return
		}
		if !json.Valid(data) || fr.kind == "" {
			t.Fatalf("accepted %q", data)
		}
		if fr.kind == typeMessage && (!validID(fr.message.ID) || len(fr.message.Body) > maxBody) || len(fr.ids) > maxIDs {
			t.Fatalf("beyond the bounds: %q", data)
		}
		for _, id := range fr.ids {
			if !validID(id) {
				t.Fatalf("id %q", id)
			}
		}
	})
}

func FuzzParseLog(f *testing.F) {
	f.Add([]byte("a"), []byte("b"))
	f.Fuzz(func(t *testing.T, junk, id []byte) {
		data := append([]byte(logMagic), junk...)
		data = append(data, '\n')
		before, err := parseLog(data)
		if err != nil {
			t.Fatal(err)
		}
		if !validID(string(id)) {
			return
		}
		// A record after a line feed is read whatever is in front of it.
		m, err := parseLog(appendRecord(data, opAdd, string(id)))
		if _, there := m.ids[string(id)]; err != nil || !there || m.damaged != before.damaged {
			t.Fatalf("%v %v", m, err)
		}
	})
}
