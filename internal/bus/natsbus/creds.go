package natsbus

import (
	"fmt"
	"os"
	"strings"

	"github.com/nats-io/nats.go"
)

// Creds is who connects to servers elsewhere.
type Creds struct {
	User, Password string
	File           string // of credentials (JWT and seed), instead
}

// credsMark stands in a file of credentials.
const credsMark = "-----BEGIN NATS USER JWT-----"

// ReadCreds reads who connects from a file: credentials as NATS writes them, or one
// line user:password.
func ReadCreds(path string) (Creds, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return Creds{}, fmt.Errorf("reading who connects to the bus: %w", err)
	}
	if strings.Contains(string(b), credsMark) {
		return Creds{File: path}, nil
	}
	user, password, ok := strings.Cut(strings.TrimSpace(string(b)), ":")
	if !ok || user == "" || strings.ContainsAny(password, "\r\n") {
		return Creds{}, fmt.Errorf("reading who connects to the bus: %s is neither a file of NATS credentials nor a line user:password", path)
	}
	return Creds{User: user, Password: password}, nil
}

// ReadToken reads a token from a file, which has nothing else.
func ReadToken(path string) (string, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return "", fmt.Errorf("reading the bus's token: %w", err)
	}
	token := strings.TrimSpace(string(b))
	if token == "" || strings.ContainsAny(token, " \r\n") {
		return "", fmt.Errorf("reading the bus's token: %s has not one word", path)
	}
	return token, nil
}

func (c Creds) options() []nats.Option {
	switch {
	case c.File != "":
		return []nats.Option{nats.UserCredentials(c.File)}
	case c.User != "":
		return []nats.Option{nats.UserInfo(c.User, c.Password)}
	}
	return nil
}

// TLS names files; each may be empty.
type TLS struct {
	CA        string // who signed the servers' certificates; default: the system's
	Cert, Key string // our own, if the servers ask for one
}

func (t TLS) options() (opts []nats.Option) {
	if t.CA != "" {
		opts = append(opts, nats.RootCAs(t.CA))
	}
	if t.Cert != "" || t.Key != "" {
		opts = append(opts, nats.ClientCert(t.Cert, t.Key))
	}
	return opts
}
