package job

import (
	"fmt"
	"net/url"
	"slices"
	"strings"
	"time"
)

// MaxWebhookURL is the longest URL of a webhook, in bytes.
const MaxWebhookURL = 2048

// Webhook is where a job's states are told, by a POST of the event.
type Webhook struct {
	URL string   `json:"url" doc:"https, without user and password, at most 2,048 bytes."`
	On  []string `json:"on,omitzero" doc:"States of which it is told; absent means those that end the job."`
}

// Wants are the states of which it is told.
func (w Webhook) Wants() []string {
	if len(w.On) > 0 {
		return w.On
	}
	var ends []string
	for s := Submitted; s <= FailedOver; s++ {
		if s.Terminal() {
			ends = append(ends, s.String())
		}
	}
	return ends
}

// Host is the name or the address in the URL.
func (w Webhook) Host() string {
	u, err := url.Parse(w.URL)
	if err != nil {
		return ""
	}
	return strings.ToLower(u.Hostname())
}

// Validate names the first field at fault; nil is no webhook, and fine.
func (w *Webhook) Validate() error {
	if w == nil {
		return nil
	}
	const field = "/webhook/url"
	u, err := url.Parse(w.URL)
	switch {
	case w.URL == "" || len(w.URL) > MaxWebhookURL:
		return Invalid(field, fmt.Sprintf("a webhook needs a URL of at most %d bytes", MaxWebhookURL), nil)
	case err != nil || u.Scheme != "https" && u.Scheme != "http" || u.Opaque != "":
		return Invalid(field, "the URL of a webhook is one such as https://example.com/hook", nil)
	case u.User != nil:
		return Invalid(field, "the URL of a webhook has no user and password in it: its requests are signed", nil)
	case u.Hostname() == "" || len(u.Hostname()) > 253 || strings.Contains(u.Hostname(), "%"):
		return Invalid(field, "the URL of a webhook needs a host", nil)
	case u.Fragment != "":
		return Invalid(field, "the URL of a webhook has no fragment", nil)
	}
	for i, s := range w.On {
		if new(State).UnmarshalText([]byte(s)) != nil {
			return Invalid("/webhook/on", fmt.Sprintf("%q is no state of a job", s), nil)
		}
		if slices.Contains(w.On[:i], s) {
			return Invalid("/webhook/on", fmt.Sprintf("the state %s is given twice", s), nil)
		}
	}
	return nil
}

// The outcomes of a delivery.
const (
	DeliveryOpen      = "open" // it is tried again
	DeliveryDelivered = "delivered"
	DeliveryGone      = "gone"     // the receiver answered 410: it wants nothing more of the job
	DeliveryGivenUp   = "given-up" // a day was not enough
)

// Delivery is how far a webhook was told of one state.
type Delivery struct {
	Version  uint64    `json:"version" doc:"Of the job."`
	State    string    `json:"state"`
	Outcome  string    `json:"outcome" enum:"open,delivered,gone,given-up"`
	Attempts uint32    `json:"attempts"`
	Status   int       `json:"status,omitzero" doc:"Of HTTP, of the last answer; absent: there was none."`
	Error    string    `json:"error,omitzero" doc:"Why the last attempt failed."`
	Due      time.Time `json:"due,omitzero" doc:"When it is tried next; absent: it is over."`
	Ended    time.Time `json:"ended,omitzero"`
}

// WebhookState is a job's webhook, and how far it was told.
type WebhookState struct {
	Webhook
	Deliveries []Delivery `json:"deliveries,omitzero" doc:"In the order of the versions; absent from lists."`
}
