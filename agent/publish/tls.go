package publish

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"os"
	"path/filepath"
)

// config reads the files and makes a TLS configuration. Errors name the
// property and the file, never content.
func (t *tlsSettings) config() (*tls.Config, error) {
	c := &tls.Config{MinVersion: tls.VersionTLS12}
	roots, err := pool("ssl.ca", t.caFile, t.caPEM)
	if err != nil {
		return nil, err
	}
	c.RootCAs = roots
	cert, err := t.certificate()
	if err != nil {
		return nil, err
	}
	if cert != nil {
		c.Certificates = []tls.Certificate{*cert}
	}
	switch {
	case !t.verify:
		c.InsecureSkipVerify = true
	case t.identification == "none":
		// The chain is verified, the name in the certificate is not.
		c.InsecureSkipVerify = true
		c.VerifyConnection = func(s tls.ConnectionState) error {
			o := x509.VerifyOptions{Roots: roots, Intermediates: x509.NewCertPool()}
			for _, cert := range s.PeerCertificates[1:] {
				o.Intermediates.AddCert(cert)
			}
			_, err := s.PeerCertificates[0].Verify(o)
			return err
		}
	}
	return c, nil
}

// https is the TLS configuration for token endpoints, nil for the system's.
func (t *tlsSettings) https() (*tls.Config, error) {
	if t.httpsCAFile == "" && t.httpsCAPEM == "" {
		return nil, nil
	}
	roots, err := pool("https.ca", t.httpsCAFile, t.httpsCAPEM)
	if err != nil {
		return nil, err
	}
	return &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: roots}, nil
}

// pool reads trusted certificates from a file, a folder of them, or text; nil
// means the system's.
func pool(name, path, text string) (*x509.CertPool, error) {
	if text != "" {
		p := x509.NewCertPool()
		if !p.AppendCertsFromPEM([]byte(text)) {
			return nil, fmt.Errorf("kafka: %s.pem: no certificate in it", name)
		}
		return p, nil
	}
	if path == "" || path == "probe" {
		return nil, nil
	}
	files := []string{path}
	if info, err := os.Stat(path); err == nil && info.IsDir() {
		if files, err = filepath.Glob(filepath.Join(path, "*")); err != nil {
			return nil, fmt.Errorf("kafka: %s.location: %w", name, err)
		}
	}
	p := x509.NewCertPool()
	found := false
	for _, f := range files {
		data, err := os.ReadFile(f)
		if err != nil && len(files) == 1 {
			return nil, fmt.Errorf("kafka: %s.location: %w", name, err)
		}
		found = p.AppendCertsFromPEM(data) || found
	}
	if !found {
		return nil, fmt.Errorf("kafka: %s.location: %s: no certificate in it", name, path)
	}
	return p, nil
}

// certificate reads the client's certificate and key, nil when none is set.
func (t *tlsSettings) certificate() (*tls.Certificate, error) {
	cert, err := pemOf("ssl.certificate", t.certFile, t.certPEM)
	if err != nil {
		return nil, err
	}
	key, err := pemOf("ssl.key", t.keyFile, t.keyPEM)
	if err != nil {
		return nil, err
	}
	switch {
	case cert == nil && key == nil:
		return nil, nil
	case cert == nil:
		return nil, errors.New("kafka: ssl.key.* is set, ssl.certificate.* is missing")
	case key == nil: // both in one file, as some tools write them
		key = cert
	}
	if key, err = decryptKey(key, t.keyPass); err != nil {
		return nil, fmt.Errorf("kafka: ssl.key: %w", err)
	}
	pair, err := tls.X509KeyPair(cert, key)
	if err != nil {
		return nil, fmt.Errorf("kafka: ssl.certificate and ssl.key: %w", err)
	}
	return &pair, nil
}

func pemOf(name, path, text string) ([]byte, error) {
	if text != "" {
		return []byte(text), nil
	}
	if path == "" {
		return nil, nil
	}
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("kafka: %s.location: %w", name, err)
	}
	return data, nil
}

// decryptKey gives the PEM text of the private key in data, decrypted when it
// is encrypted.
func decryptKey(data []byte, password string) ([]byte, error) {
	for rest := data; ; {
		var block *pem.Block
		block, rest = pem.Decode(rest)
		if block == nil {
			return nil, errors.New("no private key in it")
		}
		switch {
		case block.Type == "ENCRYPTED PRIVATE KEY":
			if password == "" {
				return nil, errors.New("it is encrypted and ssl.key.password is not set")
			}
			der, err := decryptPKCS8(block.Bytes, []byte(password))
			if err != nil {
				return nil, err
			}
			return pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), nil
		case block.Headers["Proc-Type"] == "4,ENCRYPTED":
			return nil, errors.New("it is encrypted in the old form of OpenSSL; rewrite it with: openssl pkcs8 -topk8 -in FILE -out NEW")
		case bytes.HasSuffix([]byte(block.Type), []byte("PRIVATE KEY")):
			return pem.EncodeToMemory(block), nil
		}
	}
}
