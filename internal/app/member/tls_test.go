package member_test

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"io"
	"log/slog"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"crier/internal/app/member"
	"crier/job"
	"crier/scheduler/apta/transport"
)

// authority signs certificates.
type authority struct {
	t    *testing.T
	dir  string
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

func newAuthority(t *testing.T) *authority {
	a := &authority{t: t, dir: t.TempDir()}
	var err error
	if a.key, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader); err != nil {
		t.Fatal(err)
	}
	a.cert = &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "authority"}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign}
	der, err := x509.CreateCertificate(rand.Reader, a.cert, a.cert, &a.key.PublicKey, a.key)
	if err != nil {
		t.Fatal(err)
	}
	if a.cert, err = x509.ParseCertificate(der); err != nil {
		t.Fatal(err)
	}
	a.write("ca", "CERTIFICATE", der)
	return a
}

func (a *authority) write(name, kind string, der []byte) string {
	path := filepath.Join(a.dir, name)
	if err := os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600); err != nil {
		a.t.Fatal(err)
	}
	return path
}

// member makes a certificate that is good until a time, with names that are no host's.
func (a *authority) member(name string, until time.Time) member.TLS {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		a.t.Fatal(err)
	}
	c := &x509.Certificate{SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: name}, NotBefore: time.Now().Add(-2 * time.Hour), NotAfter: until}
	der, err := x509.CreateCertificate(rand.Reader, c, a.cert, &key.PublicKey, a.key)
	if err != nil {
		a.t.Fatal(err)
	}
	secret, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		a.t.Fatal(err)
	}
	return member.TLS{Cert: a.write(name+".crt", "CERTIFICATE", der), Key: a.write(name+".key", "PRIVATE KEY", secret), CA: filepath.Join(a.dir, "ca")}
}

func TestFilesOfTLS(t *testing.T) {
	ours, theirs := newAuthority(t), newAuthority(t)
	soon := time.Now().Add(time.Hour)
	one, two, stranger, old := ours.member("one", soon), ours.member("two", soon), theirs.member("stranger", soon), ours.member("old", time.Now().Add(-time.Minute))
	none := filepath.Join(t.TempDir(), "none")
	for _, c := range []struct {
		name string
		tls  member.TLS
		want string
	}{
		{"all is well", one, ""},
		{"none", member.TLS{}, ""},
		{"no certificate", member.TLS{Cert: none, Key: one.Key, CA: one.CA}, "cluster.tls.cert: "},
		{"no key", member.TLS{Cert: one.Cert, Key: none, CA: one.CA}, "cluster.tls.key: "},
		{"no authority", member.TLS{Cert: one.Cert, Key: one.Key, CA: none}, "cluster.tls.ca: "},
		{"an authority that is a key", member.TLS{Cert: one.Cert, Key: one.Key, CA: one.Key}, "cluster.tls.ca: "},
		{"a certificate that is a key", member.TLS{Cert: one.Key, Key: one.Key, CA: one.CA}, "cluster.tls.cert: "},
		{"another's key", member.TLS{Cert: one.Cert, Key: two.Key, CA: one.CA}, "cluster.tls.key: "},
		{"another authority", member.TLS{Cert: stranger.Cert, Key: stranger.Key, CA: one.CA}, "cluster.tls.cert: the certificate in " + stranger.Cert + " is not signed"},
		{"one that is over", old, "cluster.tls.cert: the certificate in " + old.Cert + " is good from"},
	} {
		cfg, err := c.tls.Load(time.Now())
		if c.want == "" {
			if err != nil || (cfg == nil) != c.tls.IsZero() {
				t.Errorf("%s: %v, %v", c.name, cfg, err)
			}
			continue
		}
		if job.CodeOf(err) != job.CodeInvalid || !strings.HasPrefix(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", c.name, err, c.want)
		}
	}
}

// heard is a member that listens.
type heard struct {
	*transport.TCP
	frames chan []byte
	log    *lines
}

// lines is a log that several write.
type lines struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (l *lines) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(b)
}

func (l *lines) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

func listen(t *testing.T, cfg *tls.Config) *heard {
	t.Helper()
	h := &heard{frames: make(chan []byte, 16), log: &lines{}}
	var err error
	h.TCP, err = transport.ListenTCP(transport.TCPConfig{Listen: "127.0.0.1:0", TLS: cfg, Logger: slog.New(slog.NewTextHandler(h.log, nil))})
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	ctx, cancel := context.WithCancel(context.Background())
	go func() { defer close(ended); _ = h.Run(ctx, func(f []byte) { h.frames <- f }) }() // until it is cancelled
	t.Cleanup(func() { cancel(); <-ended })
	return h
}

// tapped stands before an address, and keeps what goes there.
func tapped(t *testing.T, addr string) (string, *lines) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	kept := &lines{}
	var all sync.WaitGroup
	t.Cleanup(all.Wait)
	t.Cleanup(func() { l.Close() })
	all.Go(func() {
		in, err := l.Accept()
		if err != nil {
			return
		}
		defer in.Close()
		out, err := net.Dial("tcp", addr)
		if err != nil {
			return
		}
		defer out.Close()
		all.Go(func() { defer in.Close(); _, _ = io.Copy(in, out) }) // until one of them ends
		_, _ = io.Copy(io.MultiWriter(kept, out), in)
	})
	return l.Addr().String(), kept
}

// Two members by one authority hear each other, and nobody between them does; whoever
// has no TLS, or a certificate by another authority, is turned away, and both are told.
func TestMembersByTLS(t *testing.T) {
	ours, theirs := newAuthority(t), newAuthority(t)
	load := func(f member.TLS) *tls.Config {
		cfg, err := f.Load(time.Now())
		if err != nil {
			t.Fatal(err)
		}
		return cfg
	}
	soon := time.Now().Add(time.Hour)
	one, two, stranger := load(ours.member("one", soon)), load(ours.member("two", soon)), load(theirs.member("stranger", soon))
	const text = "a frame that nobody else reads"
	for _, c := range []struct {
		name     string
		from, to *tls.Config
		taken    bool
	}{
		{"one authority", one, two, true}, {"none", nil, nil, true},
		{"none to TLS", nil, two, false}, {"TLS to none", one, nil, false}, {"another authority", stranger, two, false}, {"to another authority", one, stranger, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			to := listen(t, c.to)
			ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
			defer cancel()
			err := transport.Probe(ctx, transport.TCPConfig{TLS: c.from}, to.Addr())
			if !c.taken {
				if !errors.Is(err, transport.ErrTurnedAway) {
					t.Errorf("it is told %v", err)
				}
				tick := time.NewTicker(5 * time.Millisecond) // it says so after the caller knows
				defer tick.Stop()
				for said := ""; !strings.Contains(said, "turned away") || !strings.Contains(said, "cluster.tls"); said = to.log.String() {
					select {
					case <-tick.C:
					case <-ctx.Done():
						t.Fatalf("the other says %q", said)
					}
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if empty := <-to.frames; len(empty) > 0 {
				t.Errorf("a probe is delivered as %q", empty)
			}
			addr, kept := tapped(t, to.Addr())
			listen(t, c.from).Send(addr, []byte(text))
			select {
			case got := <-to.frames:
				if string(got) != text {
					t.Errorf("heard %q", got)
				}
			case <-ctx.Done():
				t.Fatal("it is not heard")
			}
			if plain := strings.Contains(kept.String(), text); plain != (c.from == nil) {
				t.Errorf("who stands between them reads it: %v", plain)
			}
		})
	}
}
