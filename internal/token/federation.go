package token

import (
	"context"
	"crypto/x509"
	"fmt"
	"net/netip"
	"strings"
	"time"

	"github.com/go-jose/go-jose/v4"
)

// IssuerKeys gives the keys of issuers that run in this process: our clusters.
type IssuerKeys interface {
	// Keys gives the key set of issuer; ok is false when it isn't one of these.
	Keys(ctx context.Context, issuer string) (set jose.JSONWebKeySet, ok bool, err error)
}

// FederationConfig says whose assertions can be checked, and how.
type FederationConfig struct {
	Own     *Service     // its tokens are refused as assertions
	Issuers []IssuerKeys // asked first, in order

	// AllowPrivateIssuers lists where issuers may live that are not on public
	// addresses: names ("idp.corp.example"), names with a port, prefixes of
	// addresses ("10.1.0.0/16"). Of the machine itself too, if it is listed.
	AllowPrivateIssuers []string

	// Offline lets no other issuer be asked than those in AllowPrivateIssuers.
	Offline bool

	// Roots certify external issuers; nil means the system's.
	Roots *x509.CertPool

	// Timeout is how long discovery document and key set may take together; 0
	// means 5 s.
	Timeout time.Duration

	// Clock tells the time; nil means time.Now.
	Clock func() time.Time
}

// Federation checks assertions of other issuers.
type Federation struct {
	cfg    FederationConfig
	now    func() time.Time
	seen   *cache[verifiedAssertion]
	remote *remoteKeys
}

// NewFederation fails when an entry of AllowPrivateIssuers can't be understood.
func NewFederation(cfg FederationConfig) (*Federation, error) {
	if cfg.Clock == nil {
		cfg.Clock = time.Now
	}
	if cfg.Timeout == 0 {
		cfg.Timeout = 5 * time.Second
	}
	guard := guard{names: map[string]bool{}, offline: cfg.Offline}
	for _, entry := range cfg.AllowPrivateIssuers {
		switch {
		case strings.Contains(entry, "://"):
			return nil, fmt.Errorf("allowing private issuers: %q must be a host, host:port or address/bits", entry)
		case strings.Contains(entry, "/"):
			p, err := netip.ParsePrefix(entry)
			if err != nil {
				return nil, fmt.Errorf("allowing private issuers: %w", err)
			}
			guard.prefixes = append(guard.prefixes, p.Masked())
		default:
			guard.names[strings.ToLower(entry)] = true
		}
	}
	return &Federation{
		cfg: cfg, now: cfg.Clock, seen: newCache[verifiedAssertion](4096), remote: newRemoteKeys(cfg, guard),
	}, nil
}
