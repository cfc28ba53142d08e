package badinput_test

import (
	"bufio"
	"fmt"
	"net/http"
	"net/url"
	"testing"

	"crier/internal/badinput"
)

// TestRecipients puts every string where a recipient's client says something of itself, byte
// by byte: its token, its name and what it has. It is let in, or told why not; and whoever
// speaks the protocol is served before and after.
func TestRecipients(t *testing.T) {
	t.Parallel()
	x := start(t)
	shown := x.listen(7)
	var tok struct{ Token string }
	x.made("POST", "/v1/tokens", `{"recipient":9}`, &tok)
	let, refused := 0, 0
	for _, s := range badinput.Strings(t) {
		q := url.QueryEscape(s)
		for what, request := range map[string]string{
			"token":           "GET /v1/stream?client=x&have=&token=" + q,
			"client":          "GET /v1/stream?have=&token=" + tok.Token + "&client=" + q,
			"have":            "GET /v1/stream?client=x&token=" + tok.Token + "&have=" + q,
			"Last-Event-ID":   "GET /v1/stream?client=x&token=" + tok.Token,
			"connection":      "POST /v1/stream/ack?token=" + tok.Token + "&connection=" + q,
			"websocket token": "GET /v1/connect?token=" + q,
		} {
			header := ""
			if what == "Last-Event-ID" {
				header = what + ": " + s + "\r\n"
			}
			status, err := x.statusOf(fmt.Sprintf("%s HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n%s\r\n", request, header))
			switch {
			case err != nil:
				t.Errorf("%s %.80q: %v", what, s, err)
			case status == http.StatusOK && (what == "token" || what == "connection" || what == "websocket token"):
				t.Errorf("%s %.80q: let in", what, s)
			case status == http.StatusOK:
				let++
			case status/100 != 4:
				t.Errorf("%s %.80q: %d", what, s, status)
			default:
				refused++
			}
		}
	}
	t.Logf("%d were let in, %d refused", let, refused)
	if let == 0 || refused == 0 {
		t.Errorf("%d were let in, %d refused", let, refused)
	}
	x.made("POST", "/v1/jobs", `{"account":"sender","audience":"followers","body":"still there?"}`, nil)
	for m := range shown {
		if m.Body == "still there?" {
			return
		}
	}
}

// statusOf gives the status of an answer that may have no end.
func (x *server) statusOf(request string) (int, error) {
	conn, err := x.dial(request)
	if err != nil {
		return 0, err
	}
	defer conn.Close()
	resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		return 0, err
	}
	return resp.StatusCode, resp.Body.Close()
}
