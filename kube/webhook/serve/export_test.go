package serve

import (
	"crypto/x509"
	"encoding/base64"
)

func b64(b []byte) string { return base64.StdEncoding.EncodeToString(b) }

func roots(s serving) *x509.CertPool {
	p := x509.NewCertPool()
	p.AppendCertsFromPEM(s[fileCACert])
	return p
}
