package webhook

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// SecretBytes is how long a secret is.
const SecretBytes = 32

// Secret is what sender and receiver know.
type Secret []byte

// String is the form in which receivers are given it.
func (s Secret) String() string { return "whsec_" + base64.StdEncoding.EncodeToString(s) }

// Sign sets the headers of Standard Webhooks: with a signature by each of the secrets, so
// that a receiver may know any of them.
func Sign(h http.Header, id string, at time.Time, body []byte, secrets []Secret) {
	stamp := strconv.FormatInt(at.Unix(), 10)
	var all []string
	for _, s := range secrets {
		mac := hmac.New(sha256.New, s)
		mac.Write([]byte(id + "." + stamp + ".")) // a hash never fails
		mac.Write(body)
		all = append(all, "v1,"+base64.StdEncoding.EncodeToString(mac.Sum(nil)))
	}
	h.Set("Webhook-Id", id)
	h.Set("Webhook-Timestamp", stamp)
	h.Set("Webhook-Signature", strings.Join(all, " "))
}
