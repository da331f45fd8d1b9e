package aptmethod

import (
	"cmp"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"os"
	"strings"
	"syscall"
)

// secure speaks TLS from here on.
func (d *dialler) secure(ctx context.Context, c *conn, u uri, config *Config) *trouble {
	if !config.Bool("Acquire::AllowTLS", true) {
		return permanent("TLS support has been disabled: Acquire::AllowTLS is false.")
	}
	settings, t := tlsConfig(config, u.host)
	if t != nil {
		return t
	}
	ctx, cancel := context.WithTimeout(ctx, d.timeout(u.host))
	defer cancel()
	s := tls.Client(c.net, settings)
	if err := s.HandshakeContext(ctx); err != nil {
		var verify *tls.CertificateVerificationError
		if errors.As(err, &verify) {
			return transient("Certificate verification failed: %v. Could not handshake: Error in the certificate verification.", verify.Err)
		}
		if errors.Is(err, context.DeadlineExceeded) {
			return transient("Could not wait for server fd - select (%d: %s)", int(syscall.EAGAIN), sentence(syscall.EAGAIN))
		}
		return transient("Could not handshake: %s", cause(err))
	}
	c.net = s
	return nil
}

// forNames is the configuration as methods of other names see it.
func (c *Config) forNames(names ...string) *Config {
	other := *c
	other.names = names
	return &other
}

// tlsConfig reads Acquire::https::* for a host.
func tlsConfig(c *Config, host string) (*tls.Config, *trouble) {
	for _, gone := range []string{"IssuerCert", "SslForceVersion"} {
		if c.ours(host, gone) != "" {
			return nil, permanent("The option '%s' is not supported anymore", gone)
		}
	}
	settings := &tls.Config{ServerName: host, MinVersion: tls.VersionTLS12, NextProtos: []string{"http/1.1"}}
	if file := c.ours(host, "CaInfo"); file != "" {
		pem, err := os.ReadFile(file)
		settings.RootCAs = x509.NewCertPool()
		if err != nil || !settings.RootCAs.AppendCertsFromPEM(pem) {
			return nil, permanent("Could not load certificates from %s (CaInfo option)", file)
		}
	}
	if file := c.ours(host, "SslCert"); file != "" {
		key := c.ours(host, "SslKey")
		if key == "" {
			key = file
		}
		cert, err := tls.LoadX509KeyPair(file, key)
		if err != nil {
			return nil, permanent("Could not load client certificate (%s, SslCert option) or key (%s, SslKey option)", file, key)
		}
		settings.Certificates = []tls.Certificate{cert}
	}
	var revoked *x509.RevocationList
	if file := c.ours(host, "CrlFile"); file != "" {
		var err error
		if revoked, err = readCRL(file); err != nil {
			return nil, permanent("Could not load custom certificate revocation list %s (CrlFile option): %v", file, err)
		}
	}
	peer, name := c.ourBool(host, "Verify-Peer", true), c.ourBool(host, "Verify-Host", true)
	if peer && name && revoked == nil && settings.RootCAs == nil {
		return settings, nil
	}
	settings.InsecureSkipVerify = true // what follows does it
	if !peer {
		return settings, nil
	}
	settings.VerifyConnection = func(s tls.ConnectionState) error {
		how := x509.VerifyOptions{Roots: settings.RootCAs, Intermediates: x509.NewCertPool()}
		for _, cert := range s.PeerCertificates[1:] {
			how.Intermediates.AddCert(cert)
		}
		chains, err := s.PeerCertificates[0].Verify(how)
		if err == nil && name {
			err = checkName(s.PeerCertificates[0], cmp.Or(s.ServerName, host), settings.RootCAs != nil)
		}
		if err == nil {
			err = checkRevoked(chains, revoked)
		}
		if err != nil {
			return &tls.CertificateVerificationError{UnverifiedCertificates: s.PeerCertificates, Err: err}
		}
		return nil
	}
	return settings, nil
}

// checkName checks whom a certificate is for. Those of a private authority, which the user named, may say it in the
// common name alone, as GnuTLS and so apt accept it.
func checkName(cert *x509.Certificate, host string, private bool) error {
	named := len(cert.DNSNames)+len(cert.IPAddresses)+len(cert.EmailAddresses)+len(cert.URIs) > 0
	if private && !named && strings.EqualFold(cert.Subject.CommonName, host) {
		return nil
	}
	return cert.VerifyHostname(host)
}

// readCRL reads a certificate revocation list (RFC 5280) in PEM.
func readCRL(file string) (*x509.RevocationList, error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	block, _ := pem.Decode(text)
	if block == nil {
		return nil, errors.New("it is not in PEM")
	}
	return x509.ParseRevocationList(block.Bytes)
}

// checkRevoked refuses if every chain has a certificate that its issuer revoked.
func checkRevoked(chains [][]*x509.Certificate, list *x509.RevocationList) error {
	if list == nil {
		return nil
	}
	for _, chain := range chains {
		good := true
		for i, cert := range chain[:max(len(chain)-1, 0)] {
			if list.CheckSignatureFrom(chain[i+1]) != nil {
				continue
			}
			for _, entry := range list.RevokedCertificateEntries {
				good = good && entry.SerialNumber.Cmp(cert.SerialNumber) != 0
			}
		}
		if good {
			return nil
		}
	}
	return errors.New("the certificate has been revoked")
}
