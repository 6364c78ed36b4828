package node

import (
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"log/slog"
	"strings"
)

// Pull is how the kubelets of a cluster get credentials for registries of this
// cloud. It never shows its secret.
type Pull struct {
	Registries []string // host names; a star is for the first label: "*.azurecr.io"
	// TokenURL is where Secret gets tokens of the kubelet's identity, in the way
	// of App Service (api-version 2019-08-01).
	TokenURL string
	CA       []byte // PEM: who signs for TokenURL and the registries
	Secret   string // 32 characters at least; processes of nodes get it, and no pod
}

// LogValue keeps the secret out of logs.
func (p Pull) LogValue() slog.Value { return slog.StringValue(p.String()) }

// String keeps the secret out of messages.
func (p Pull) String() string {
	return fmt.Sprintf("pull from %s", strings.Join(p.Registries, ", "))
}

// GoString keeps the secret out of messages.
func (p Pull) GoString() string { return p.String() }

var (
	registryPattern = pattern(`^(\*\.)?[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?$`)
	pullSecret      = pattern(`^[A-Za-z0-9_-]{32,512}$`)
)

const maxRegistries = 16 // patterns

func (p *problems) pull(from *Pull) {
	if from == nil {
		return
	}
	p.check(len(from.Registries) > 0 && len(from.Registries) <= maxRegistries, "%d patterns of registries, 1 to %d are wanted", len(from.Registries), maxRegistries)
	for _, r := range from.Registries {
		p.check(registryPattern().MatchString(r), "registries %q: that is no host name, with a star for its first label at most", r)
	}
	p.url("address of the kubelets' tokens", from.TokenURL, false)
	p.check(certificates(from.CA), "the authority of the registries is no PEM of certificates")
	p.check(pullSecret().MatchString(from.Secret), "the secret of the kubelets' identity can be guessed")
}

// certificates reports whether text is PEM of certificates, one or more, and
// nothing else.
func certificates(text []byte) bool {
	n := 0
	for ; len(text) > 0; n++ {
		var block *pem.Block
		if block, text = pem.Decode(text); block == nil || block.Type != "CERTIFICATE" {
			return n > 0 && block == nil && strings.TrimSpace(string(text)) == ""
		}
		if _, err := x509.ParseCertificate(block.Bytes); err != nil {
			return false
		}
	}
	return n > 0
}
