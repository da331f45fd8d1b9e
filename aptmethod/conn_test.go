package aptmethod

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"io"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func TestProxies(t *testing.T) {
	detect := func(answer string) func(context.Context, string, string) (string, error) {
		return func(_ context.Context, command, url string) (string, error) {
			if command != "/detect" || url != "http://example.org/" {
				t.Errorf("detector %s for %s", command, url)
			}
			return answer, nil
		}
	}
	for name, c := range map[string]struct {
		config []string
		env    map[string]string
		told   string
		detect string
		want   string
	}{
		"none":                {},
		"apt's":               {config: []string{"Acquire::http::Proxy=http://p:1/"}, want: "http://p:1"},
		"ours":                {config: []string{"Acquire::http::Proxy=http://p:1/", "Acquire::torrent::Proxy=http://q:2/"}, want: "http://q:2"},
		"of the host":         {config: []string{"Acquire::http::Proxy=http://p:1/", "Acquire::http::Proxy::example.org=DIRECT"}},
		"of another host":     {config: []string{"Acquire::http::Proxy::example.net=http://p:1/"}},
		"environment":         {env: map[string]string{"http_proxy": "http://p:1"}, want: "http://p:1"},
		"not for this domain": {env: map[string]string{"http_proxy": "http://p:1", "no_proxy": "a.b, .org"}},
		"told by apt":         {config: []string{"Acquire::http::Proxy=http://p:1/"}, told: "http://t:3", want: "http://t:3"},
		"detected":            {config: []string{"Acquire::http::Proxy-Auto-Detect=/detect"}, detect: "http://d:4\n", want: "http://d:4"},
		"detected none":       {config: []string{"Acquire::http::Proxy-Auto-Detect=/detect", "Acquire::http::Proxy=http://p:1/"}, detect: "DIRECT\n"},
		"detector is silent":  {config: []string{"Acquire::http::ProxyAutoDetect=/detect", "Acquire::http::Proxy=http://p:1/"}, want: "http://p:1"},
		"socks":               {config: []string{"Acquire::http::Proxy=socks5h://p:1/"}, want: "socks5h://p:1"},
		"unknown kind":        {config: []string{"Acquire::http::Proxy=gopher://p:1/"}, want: "error"},
	} {
		t.Run(name, func(t *testing.T) {
			var config Config
			text := "601 Configuration\n"
			for _, item := range c.config {
				text += "Config-Item: " + item + "\n"
			}
			config.load(parse(t, text+"\n"))
			config.named("torrent+http")
			d := &dialler{config: &config, env: func(name string) string { return c.env[name] }, detect: detect(c.detect)}
			u, _ := parseURI("torrent+http://example.org/debian/x")
			p, trouble := d.proxyFor(t.Context(), u, c.told)
			got := ""
			if p != nil {
				got = p.site()
			}
			if trouble != nil {
				got = "error"
			}
			if got != c.want {
				t.Errorf("%q instead of %q", got, c.want)
			}
		})
	}
}

// authority is a certificate authority for tests.
type authority struct {
	t    *testing.T
	key  *ecdsa.PrivateKey
	cert *x509.Certificate
}

func newAuthority(t *testing.T) *authority {
	a := &authority{t: t}
	a.cert, a.key = a.sign(&x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "Test CA"}, IsCA: true,
		BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign, SubjectKeyId: []byte{1}})
	return a
}

func (a *authority) sign(c *x509.Certificate) (*x509.Certificate, *ecdsa.PrivateKey) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		a.t.Fatal(err)
	}
	c.NotBefore, c.NotAfter = time.Now().Add(-time.Hour), time.Now().Add(time.Hour)
	parent, parentKey := a.cert, a.key
	if parent == nil {
		parent, parentKey = c, key
	}
	der, err := x509.CreateCertificate(rand.Reader, c, parent, &key.PublicKey, parentKey)
	if err != nil {
		a.t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		a.t.Fatal(err)
	}
	return cert, key
}

func (a *authority) revoke(serial int64) string {
	der, err := x509.CreateRevocationList(rand.Reader, &x509.RevocationList{Number: big.NewInt(1), ThisUpdate: time.Now(), NextUpdate: time.Now().Add(time.Hour),
		RevokedCertificateEntries: []x509.RevocationListEntry{{SerialNumber: big.NewInt(serial), RevocationTime: time.Now()}}}, a.cert, a.key)
	if err != nil {
		a.t.Fatal(err)
	}
	return a.file("X509 CRL", der)
}

func (a *authority) file(kind string, der []byte) string {
	path := filepath.Join(a.t.TempDir(), "pem")
	if err := os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600); err != nil {
		a.t.Fatal(err)
	}
	return path
}

func TestCertificates(t *testing.T) {
	a := newAuthority(t)
	ca := "Acquire::https::CaInfo=" + a.file("CERTIFICATE", a.cert.Raw)
	named, namedKey := a.sign(&x509.Certificate{SerialNumber: big.NewInt(2), IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}})
	old, oldKey := a.sign(&x509.Certificate{SerialNumber: big.NewInt(3), Subject: pkix.Name{CommonName: "localhost"}})
	for name, c := range map[string]struct {
		cert   *x509.Certificate
		key    *ecdsa.PrivateKey
		host   string
		config []string
		works  bool
	}{
		"of no known authority":      {named, namedKey, "127.0.0.1", nil, false},
		"nobody looks":               {named, namedKey, "127.0.0.1", []string{"Acquire::https::Verify-Peer=false"}, true},
		"of the authority":           {named, namedKey, "127.0.0.1", []string{ca}, true},
		"for another host":           {named, namedKey, "localhost", []string{ca}, false},
		"for whatever host":          {named, namedKey, "localhost", []string{ca, "Acquire::https::Verify-Host=false"}, true},
		"nobody looks at this host":  {named, namedKey, "localhost", []string{ca, "Acquire::https::localhost::Verify-Host=false"}, true},
		"common name":                {old, oldKey, "localhost", []string{ca}, true},
		"another common name":        {old, oldKey, "127.0.0.1", []string{ca}, false},
		"revoked":                    {named, namedKey, "127.0.0.1", []string{ca, "Acquire::https::CrlFile=" + a.revoke(2)}, false},
		"another one is revoked":     {named, namedKey, "127.0.0.1", []string{ca, "Acquire::https::CrlFile=" + a.revoke(9)}, true},
		"TLS is off":                 {named, namedKey, "127.0.0.1", []string{ca, "Acquire::AllowTLS=false"}, false},
		"an option that has gone":    {named, namedKey, "127.0.0.1", []string{ca, "Acquire::https::IssuerCert=/x"}, false},
		"no such authority":          {named, namedKey, "127.0.0.1", []string{"Acquire::https::CaInfo=/no/such/file"}, false},
		"no such client certificate": {named, namedKey, "127.0.0.1", []string{ca, "Acquire::https::SslCert=/no/such/file"}, false},
	} {
		t.Run(name, func(t *testing.T) {
			srv := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "hello") }))
			srv.TLS = &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{c.cert.Raw}, PrivateKey: c.key}}}
			srv.Config.ErrorLog = nil
			srv.StartTLS()
			defer srv.Close()
			m := serve(t, &Method{Name: "torrent+https"}, append(c.config, "Acquire::ForceIPv4=true")...)
			url := strings.Replace("torrent+"+srv.URL, "127.0.0.1", c.host, 1)
			m.say("600 URI Acquire\nURI: " + url + "/f\nFilename: " + filepath.Join(t.TempDir(), "f") + "\n")
			msg := m.next()
			if msg.code == 200 {
				msg = m.next()
			}
			if works := msg.code == 201; works != c.works {
				t.Errorf("%d %s", msg.code, msg.get("Message"))
			}
			if err := m.end(); err != nil {
				t.Error(err)
			}
		})
	}
}

// TestClientCertificate: who has to show a certificate shows it, for large files too.
func TestClientCertificate(t *testing.T) {
	a := newAuthority(t)
	cert, key := a.sign(&x509.Certificate{SerialNumber: big.NewInt(2), IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}})
	mine, mineKey := a.sign(&x509.Certificate{SerialNumber: big.NewInt(3), ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}})
	der, err := x509.MarshalPKCS8PrivateKey(mineKey)
	if err != nil {
		t.Fatal(err)
	}
	content := strings.Repeat("x", 2<<20)
	srv := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, content) }))
	pool := x509.NewCertPool()
	pool.AddCert(a.cert)
	srv.TLS = &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{cert.Raw}, PrivateKey: key}},
		ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: pool}
	srv.StartTLS()
	defer srv.Close()
	was := false
	m := serve(t, &Method{Name: "torrent+https", Engine: engine(func(_ context.Context, f File) (int64, error) {
		was = true
		res, err := (&http.Client{Transport: f.Transport}).Get(f.URL.String())
		if err != nil {
			t.Error(err)
			return 0, err
		}
		defer res.Body.Close()
		got, err := io.ReadAll(res.Body)
		if err == nil {
			err = os.WriteFile(f.Path, got, 0o600)
		}
		return 0, err
	})}, "Acquire::https::CaInfo="+a.file("CERTIFICATE", a.cert.Raw), "Acquire::https::SslCert="+a.file("CERTIFICATE", mine.Raw),
		"Acquire::https::SslKey="+a.file("PRIVATE KEY", der))
	path := filepath.Join(t.TempDir(), "f")
	m.say(ask("torrent+"+srv.URL+"/f", path, content))
	m.want(200)
	m.want(201)
	if !was {
		t.Error("the engine was not asked")
	}
	m.say("600 URI Acquire\nURI: torrent+" + srv.URL + "/g\nFilename: " + path + ".small\n")
	m.want(200)
	m.want(201)
	if err := m.end(); err != nil {
		t.Error(err)
	}
}
