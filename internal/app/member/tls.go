package member

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"os"
	"time"

	"crier/job"
)

// TLS names the files by which members know each other: a member is whoever has a
// certificate that the authority signed, whatever its name is, so that the authority is to
// sign nothing else. The zero value: members talk without TLS.
type TLS struct {
	Cert, Key string // this member's, PEM
	CA        string // certificates of the authority, PEM; several while it changes
}

// IsZero reports whether members talk without TLS.
func (t TLS) IsZero() bool { return t == TLS{} }

// The settings.
const (
	certSetting = "cluster.tls.cert"
	keySetting  = "cluster.tls.key"
	caSetting   = "cluster.tls.ca"
)

// Load reads the files, and refuses what the other members would refuse at now. Both ends
// of a connection use the same configuration.
func (t TLS) Load(now time.Time) (*tls.Config, error) {
	if t.IsZero() {
		return nil, nil
	}
	cert, err := read(certSetting, t.Cert)
	if err != nil {
		return nil, err
	}
	key, err := read(keySetting, t.Key)
	if err != nil {
		return nil, err
	}
	ca, err := read(caSetting, t.CA)
	if err != nil {
		return nil, err
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(ca) {
		return nil, job.Invalid(caSetting, fmt.Sprintf("%s: %s has no certificate in PEM; give that of the authority", caSetting, t.CA), nil)
	}
	if block, _ := pem.Decode(bytes.TrimSpace(cert)); block == nil || block.Type != "CERTIFICATE" {
		return nil, job.Invalid(certSetting, fmt.Sprintf("%s: %s has no certificate in PEM", certSetting, t.Cert), nil)
	}
	pair, err := tls.X509KeyPair(cert, key)
	if err != nil {
		return nil, job.Invalid(keySetting, fmt.Sprintf("%s: %s is not the key of the certificate in %s; give the two that belong together", keySetting, t.Key, t.Cert), err)
	}
	if err := signed(pair.Leaf, chain(pair), roots, now); err != nil {
		what := "is not signed by the authority in " + t.CA + "; have it sign one, or correct cluster.tls.ca"
		var bad x509.CertificateInvalidError
		if errors.As(err, &bad) && bad.Reason == x509.Expired {
			what = fmt.Sprintf("is good from %s to %s; have a new one signed", pair.Leaf.NotBefore.Format(time.RFC3339), pair.Leaf.NotAfter.Format(time.RFC3339))
		}
		return nil, job.Invalid(certSetting, fmt.Sprintf("%s: the certificate in %s %s", certSetting, t.Cert, what), err)
	}
	verify := func(s tls.ConnectionState) error {
		if len(s.PeerCertificates) == 0 {
			return errors.New("the other end has no certificate")
		}
		return signed(s.PeerCertificates[0], s.PeerCertificates[1:], roots, time.Now())
	}
	return &tls.Config{
		MinVersion: tls.VersionTLS13, Certificates: []tls.Certificate{pair}, ClientAuth: tls.RequireAnyClientCert, ClientCAs: roots, RootCAs: roots,
		// Members are told apart by the authority and not by names of hosts: VerifyConnection
		// does all that is skipped here but the name, at both ends.
		InsecureSkipVerify: true, VerifyConnection: verify,
	}, nil
}

func read(setting, path string) ([]byte, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, job.Invalid(setting, setting+": give a file that this process may read", err)
	}
	return b, nil
}

func chain(pair tls.Certificate) (more []*x509.Certificate) {
	for _, der := range pair.Certificate[1:] {
		if c, err := x509.ParseCertificate(der); err == nil {
			more = append(more, c)
		}
	}
	return more
}

// signed gives no error if a certificate is good now and by the authority.
func signed(leaf *x509.Certificate, more []*x509.Certificate, roots *x509.CertPool, now time.Time) error {
	between := x509.NewCertPool()
	for _, c := range more {
		between.AddCert(c)
	}
	_, err := leaf.Verify(x509.VerifyOptions{Roots: roots, Intermediates: between, CurrentTime: now, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageAny}})
	return err
}
