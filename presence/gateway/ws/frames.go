package ws

import (
	"errors"
	"fmt"
	"time"

	"github.com/go-json-experiment/json"

	"crier/job"
	"crier/presence/handoff"
)

// The types of frames; PROTOCOL.md describes them.
const (
	typeHello    = "hello"
	typeMessage  = "message"
	typeAck      = "ack"
	typeSettled  = "settled"
	typeWithdraw = "withdraw" // and what a client says that can take such frames
	typeRedirect = "redirect"
	typeError    = "error"
	typeClose    = "close" // of streams only
)

// Limits of what a client sends.
const (
	maxFrame  = 64 << 10 // bytes
	maxIDs    = 2048     // of a list; no more fit into a frame
	maxClient = 128      // bytes of a client id
)

// clientFrame is a frame from a client.
type clientFrame struct {
	Type   string    `json:"type"`
	Client string    `json:"client"` // hello
	Have   *[]string `json:"have"`   // hello; nil if the client does not say
	Can    []string  `json:"can"`    // hello
	IDs    []string  `json:"ids"`    // ack
}

// parseClient reads a frame of a client. Its errors are for who wrote the client.
func parseClient(b []byte) (*clientFrame, error) {
	f := &clientFrame{}
	if err := json.Unmarshal(b, f); err != nil {
		var semantic *json.SemanticError
		if errors.As(err, &semantic) && semantic.JSONPointer != "" {
			return nil, fmt.Errorf("a wrong value at %s", semantic.JSONPointer)
		}
		return nil, errors.New("not a JSON object of this protocol")
	}
	switch {
	case f.Type == "":
		return nil, errors.New("a frame without type")
	case len(f.Client) > maxClient:
		return nil, fmt.Errorf("a client id of %d bytes; at most %d are allowed", len(f.Client), maxClient)
	}
	return f, nil
}

// jobIDs reads ids. One that cannot be an id of ours is left out: nothing here has
// that name.
func jobIDs(list []string) []job.ID {
	ids := make([]job.ID, 0, min(len(list), maxIDs))
	for _, s := range list[:min(len(list), maxIDs)] {
		if id, err := job.ParseID(s); err == nil {
			ids = append(ids, id)
		}
	}
	return ids
}

// frame is a frame of the gateway.
type frame interface{ kind() string }

func (f messageFrame) kind() string  { return f.Type }
func (f withdrawFrame) kind() string { return f.Type }
func (f redirectFrame) kind() string { return f.Type }
func (f errorFrame) kind() string    { return f.Type }
func (f helloFrame) kind() string    { return f.Type }

type messageFrame struct {
	Type        string    `json:"type"`
	ID          job.ID    `json:"id"`
	Job         job.ID    `json:"job"`
	Account     string    `json:"account"`
	Body        string    `json:"body"`
	SentAt      time.Time `json:"sent_at,omitzero"`
	DisplayAt   time.Time `json:"display_at,omitzero"`
	ExpiresAt   time.Time `json:"expires_at,omitzero"`
	CollapseKey string    `json:"collapse_key,omitzero"`
	Order       uint64    `json:"order"`
	ServerTime  time.Time `json:"server_time"`
}

type withdrawFrame struct {
	Type       string    `json:"type"`
	ID         job.ID    `json:"id"`
	IDs        []job.ID  `json:"ids"`
	Account    string    `json:"account"`
	SentAt     time.Time `json:"sent_at,omitzero"`
	ExpiresAt  time.Time `json:"expires_at,omitzero"`
	Order      uint64    `json:"order"`
	ServerTime time.Time `json:"server_time"`
}

type settledFrame struct {
	Type string   `json:"type"`
	IDs  []job.ID `json:"ids"`
}

type redirectFrame struct {
	Type string `json:"type"`
	URL  string `json:"url"`
}

type errorFrame struct {
	Type    string `json:"type"`
	Code    string `json:"code"`
	Message string `json:"message"`
}

type helloFrame struct {
	Type       string        `json:"type"`
	Gateway    string        `json:"gateway"`
	Recipient  job.Recipient `json:"recipient"`
	Window     int           `json:"window"`
	Ack        string        `json:"ack,omitzero"` // of a stream: where to acknowledge
	ServerTime time.Time     `json:"server_time"`
}

// message is the frame of a message or a withdrawal; every connection of a piece shares
// its bytes.
func message(id job.ID, m *handoff.Message, order uint64) frame {
	account := m.AccountName
	if account == "" {
		account = fmt.Sprint(m.Account)
	}
	if !m.Withdraws.IsZero() {
		return withdrawFrame{Type: typeWithdraw, ID: id, IDs: []job.ID{m.Withdraws}, Account: account, SentAt: at(m.SentAt),
			ExpiresAt: at(m.ExpiresAt), Order: order, ServerTime: serverTime()}
	}
	return messageFrame{Type: typeMessage, ID: id, Job: id, Account: account, Body: string(m.Body),
		SentAt: at(m.SentAt), DisplayAt: at(m.DisplayAt), ExpiresAt: at(m.ExpiresAt),
		CollapseKey: m.CollapseKey, Order: order, ServerTime: serverTime()}
}

func at(ms int64) time.Time {
	if ms == 0 {
		return time.Time{}
	}
	return time.UnixMilli(ms).UTC()
}

func serverTime() time.Time { return time.Now().UTC().Truncate(time.Millisecond) }
