package transport

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"math/big"
	"net"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"

	"crier/scheduler/apta/transport/transporttest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestMemory(t *testing.T) {
	n := NewNetwork(time.Millisecond)
	free := 0
	transporttest.Run(t, func(t *testing.T, addr string) transporttest.End {
		if addr == "" {
			free++
			addr = fmt.Sprint("end", free)
		}
		e, err := n.Listen(addr)
		if err != nil {
			t.Fatal(err)
		}
		return e
	})
}

func listenTCP(cfg *tls.Config) transporttest.Listen {
	return func(t *testing.T, addr string) transporttest.End {
		if addr == "" {
			addr = "127.0.0.1:0"
		}
		e, err := ListenTCP(TCPConfig{Listen: addr, TLS: cfg})
		if err != nil {
			t.Fatal(err)
		}
		return e
	}
}

func TestTCP(t *testing.T) { transporttest.Run(t, listenTCP(nil)) }

func TestTLS(t *testing.T) { transporttest.Run(t, listenTCP(mutual(t))) }

// mutual is a configuration by which both ends prove who they are.
func mutual(t *testing.T) *tls.Config {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	cert := &x509.Certificate{SerialNumber: big.NewInt(1), NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth, x509.ExtKeyUsageServerAuth}}
	der, err := x509.CreateCertificate(rand.Reader, cert, cert, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	parsed, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AddCert(parsed)
	return &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}, RootCAs: pool, ClientCAs: pool,
		ClientAuth: tls.RequireAndVerifyClientCert, MinVersion: tls.VersionTLS13}
}

// receive runs a TCP end until the test is over, and counts its frames.
func receive(t *testing.T, cfg TCPConfig) (*TCP, *atomic.Int64) {
	t.Helper()
	e, err := ListenTCP(cfg)
	if err != nil {
		t.Fatal(err)
	}
	var frames atomic.Int64
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- e.Run(ctx, func([]byte) { frames.Add(1) }) }()
	t.Cleanup(func() { cancel(); <-done })
	return e, &frames
}

func eventually(t *testing.T, within time.Duration, what string, so func() bool) {
	t.Helper()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.After(within); !so(); {
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatalf("not within %s: %s", within, what)
		}
	}
}

// TestStrangers: who does not speak the protocol is cut off, and hurts nobody.
func TestStrangers(t *testing.T) {
	e, frames := receive(t, TCPConfig{Listen: "127.0.0.1:0", Wait: 300 * time.Millisecond})
	for _, text := range []string{"GET / HTTP/1.1\r\n\r\n", magic + "\xff\xff\xff\xff", magic + "\x00\x00\x00\x05abc", ""} {
		c, err := net.Dial("tcp", e.Addr())
		if err != nil {
			t.Fatal(err)
		}
		if _, err := c.Write([]byte(text)); err != nil {
			t.Fatal(err)
		}
		if text != magic+"\x00\x00\x00\x05abc" { // that one may still send the rest
			_ = c.SetReadDeadline(time.Now().Add(5 * time.Second))
			if n, err := c.Read(make([]byte, 1)); err == nil || n > 0 {
				t.Errorf("%q is answered", text)
			} else if ne, ok := err.(net.Error); ok && ne.Timeout() {
				t.Errorf("%q is not cut off", text)
			}
		}
		_ = c.Close()
	}
	if frames.Load() != 0 {
		t.Errorf("%d frames come from strangers", frames.Load())
	}
}

// TestTLSRefusesStrangers: without the certificate nothing is taken.
func TestTLSRefusesStrangers(t *testing.T) {
	e, frames := receive(t, TCPConfig{Listen: "127.0.0.1:0", TLS: mutual(t)})
	for _, cfg := range []*tls.Config{nil, {InsecureSkipVerify: true, MinVersion: tls.VersionTLS13}} {
		stranger, _ := receive(t, TCPConfig{Listen: "127.0.0.1:0", TLS: cfg, Wait: 200 * time.Millisecond})
		tick := time.NewTicker(20 * time.Millisecond)
		for range 20 {
			stranger.Send(e.Addr(), []byte("hello"))
			<-tick.C
		}
		tick.Stop()
	}
	if frames.Load() != 0 {
		t.Errorf("%d frames are taken from who has no certificate", frames.Load())
	}
}

// TestSilentPeer: an address that takes bytes and confirms nothing is noticed by Wait,
// and dialled anew.
func TestSilentPeer(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var dialled atomic.Int64
	done := make(chan bool)
	go func() {
		defer close(done)
		var conns []net.Conn
		for {
			c, err := l.Accept()
			if err != nil {
				break
			}
			dialled.Add(1)
			conns = append(conns, c)
		}
		for _, c := range conns {
			_ = c.Close()
		}
	}()
	defer func() { _ = l.Close(); <-done }()
	e, _ := receive(t, TCPConfig{Listen: "127.0.0.1:0", Wait: 100 * time.Millisecond})
	eventually(t, 10*time.Second, "a peer that confirms nothing is dialled three times", func() bool {
		e.Send(l.Addr().String(), []byte("hello"))
		return dialled.Load() >= 3
	})
}
