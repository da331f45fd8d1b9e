package aptmethod

import (
	"crypto/x509"
	"encoding/pem"
	"errors"
	"os"
)

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
