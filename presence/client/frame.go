package client

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/go-json-experiment/json"
)

// Message is one message. Times are zero if unset.
type Message struct {
	ID          string    `json:"id"`      // names the message; repeats have the same
	Job         string    `json:"job"`     // the job that sent it
	Account     string    `json:"account"` // the sender's name
	Body        string    `json:"body"`    // at most 256 KiB of UTF-8
	SentAt      time.Time `json:"sent_at"`
	DisplayAt   time.Time `json:"display_at"`   // do not display it earlier
	ExpiresAt   time.Time `json:"expires_at"`   // do not display it later
	CollapseKey string    `json:"collapse_key"` // only the one with the latest SentAt is displayed
	Order       uint64    `json:"order"`        // grows within a connection
	ServerTime  time.Time `json:"server_time"`  // the gateway's clock when it wrote the frame
}

// The bounds of what comes from a gateway.
const (
	maxFrame = 2 << 20
	maxBody  = 256 << 10
	maxID    = 128
	maxIDs   = 4096 // in a frame
	maxURL   = 8 << 10
)

// The types of frames.
const (
	typeHello    = "hello"
	typeMessage  = "message"
	typeAck      = "ack"
	typeSettled  = "settled"
	typeWithdraw = "withdraw"
	typeRedirect = "redirect"
	typeError    = "error"
)

// frame is a frame from a gateway; which fields are set depends on its type.
type frame struct {
	kind    string
	message Message
	id      string // of a withdrawal; "" if it is not to be acknowledged
	ids     []string
	url     string
	code    string
	text    string
}

// parseFrame reads a frame. Unknown fields are ignored; so are frames of an unknown
// type, of which only the type is read.
func parseFrame(data []byte) (*frame, error) {
	var head struct {
		Type string `json:"type"`
	}
	if err := json.Unmarshal(data, &head); err != nil {
		return nil, fmt.Errorf("read a frame: %w", err)
	}
	f := &frame{kind: head.Type}
	var err error
	switch head.Type {
	case "":
		err = errors.New("it has no type")
	case typeMessage:
		err = f.readMessage(data)
	case typeSettled, typeWithdraw:
		var body struct {
			ID  string   `json:"id"`
			IDs []string `json:"ids"`
		}
		err = json.Unmarshal(data, &body)
		f.id, f.ids = body.ID, body.IDs
		switch {
		case err != nil:
		case len(f.ids) > maxIDs:
			err = fmt.Errorf("it has %d ids, at most %d are allowed", len(f.ids), maxIDs)
		case f.id != "" && !validID(f.id):
			err = errID(f.id)
		}
		f.ids = slices.DeleteFunc(f.ids, func(id string) bool { return !validID(id) })
	case typeRedirect:
		var body struct {
			URL string `json:"url"`
		}
		err = json.Unmarshal(data, &body)
		if f.url = body.URL; err == nil && len(f.url) > maxURL {
			err = fmt.Errorf("its URL has %d bytes, at most %d are allowed", len(f.url), maxURL)
		}
	case typeError:
		var body struct {
			Code    string `json:"code"`
			Message string `json:"message"`
		}
		err = json.Unmarshal(data, &body)
		f.code, f.text = clip(body.Code), clip(body.Message)
	}
	if err != nil {
		return nil, fmt.Errorf("read a frame %q: %w", clip(head.Type), err)
	}
	return f, nil
}

func (f *frame) readMessage(data []byte) error {
	if err := json.Unmarshal(data, &f.message); err != nil {
		return err
	}
	switch m := &f.message; {
	case !validID(m.ID):
		return errID(m.ID)
	case len(m.Body) > maxBody:
		return fmt.Errorf("its body has %d bytes, at most %d are allowed", len(m.Body), maxBody)
	}
	return nil
}

func errID(id string) error {
	return fmt.Errorf("its id %q is not 1 to %d bytes without control characters", clip(id), maxID)
}

// validID reports whether a message or a client can be named so.
func validID(id string) bool {
	for i := range len(id) {
		if id[i] < ' ' || id[i] == 0x7f {
			return false
		}
	}
	return len(id) > 0 && len(id) <= maxID
}

// clip shortens what a gateway wrote for a log.
func clip(s string) string {
	if len(s) > maxID {
		return strings.ToValidUTF8(s[:maxID], "") + "…"
	}
	return s
}

// helloFrame says who the client is, what it has (an empty list, never none), and what
// it can.
func helloFrame(client string, have []string, withdraws bool) ([]byte, error) {
	if have == nil {
		have = []string{}
	}
	var can []string
	if withdraws {
		can = []string{typeWithdraw}
	}
	return json.Marshal(struct {
		Type   string   `json:"type"`
		Client string   `json:"client"`
		Have   []string `json:"have"`
		Can    []string `json:"can,omitempty"`
	}{typeHello, client, have, can})
}

func ackFrame(ids []string) ([]byte, error) {
	return json.Marshal(struct {
		Type string   `json:"type"`
		IDs  []string `json:"ids"`
	}{typeAck, ids})
}
