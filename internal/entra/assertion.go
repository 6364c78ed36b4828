package entra

import (
	"context"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"net/url"
	"slices"
	"strings"

	"lazurite.dev/internal/apierr"
	"lazurite.dev/internal/directory"
	"lazurite.dev/internal/token"
	"lazurite.dev/internal/trace"
)

// assertion checks a client assertion: the client's own, signed with the key of
// a registered certificate, or one of an issuer that the client trusts.
func (s *Service) assertion(ctx context.Context, r *tokenRequest, raw string) (reuse string, err error) {
	a, err := s.cfg.Federation.Parse(raw)
	if err != nil {
		trace.Add(ctx, trace.Hop{Step: "assertion", Found: apierr.From(err).Message})
		return "", err
	}
	if strings.EqualFold(a.Issuer, r.client.id) {
		return "", s.certificate(ctx, r, a)
	}
	cred, err := s.federated(ctx, r.client, a)
	if err != nil {
		return "", err
	}
	sum := a.Digest()
	return cred.ID + "/" + hex.EncodeToString(sum[:]), nil
}

// certificate checks an assertion that the client signed itself. Source:
// "Microsoft identity platform application authentication certificate
// credentials"; RFC 7523 section 3.
func (s *Service) certificate(ctx context.Context, r *tokenRequest, a *token.Assertion) error {
	if !strings.EqualFold(a.Subject, r.client.id) {
		return aad(apierr.Unauthorized, "invalid_client", "700021", "Client assertion application identifier doesn't match 'client_id' parameter: "+
			"expected '%s', received '%s' as subject.", r.client.id, shorten(a.Subject))
	}
	if err := a.CheckTime(s.now()); err != nil {
		return err
	}
	if err := a.CheckOneAudience(); err != nil {
		return err
	}
	if !s.ourEndpoint(a.Audience()) {
		expected := "https://" + r.host + "/" + s.tokens.TenantID() + "/oauth2/v2.0/token"
		trace.Add(ctx, trace.Hop{Step: "audience", Subject: r.client.id, Expected: expected, Received: a.Audience()})
		return aad(apierr.Unauthorized, "invalid_client", "700023", "Client assertion audience claim does not match Realm issuer. "+
			"Review the documentation at https://learn.microsoft.com/entra/identity-platform/certificate-credentials . expected '%s', received '%s'.",
			expected, shorten(a.Audience()))
	}
	cert, shown := r.client.certificate(a)
	if cert == nil {
		trace.Add(ctx, trace.Hop{Step: "certificate", Subject: r.client.id, Received: shown, Found: "no certificate of the application has this thumbprint",
			Fix: "az ad app credential reset --append --id " + r.client.id + " --cert @CERTIFICATE.pem"})
		return unregistered("The key was not found.", shown, r.client.id)
	}
	if now := s.now(); now.After(cert.End) || now.Before(cert.Start) {
		return unregistered("The key used is expired.", shown, r.client.id)
	}
	parsed, err := x509.ParseCertificate(cert.DER)
	if err != nil {
		return unregistered("The key can't be read.", shown, r.client.id)
	}
	pub, ok := parsed.PublicKey.(*rsa.PublicKey)
	if !ok || pub.N.BitLen() < 2048 {
		return unregistered("The key isn't an RSA key of at least 2048 bits.", shown, r.client.id)
	}
	if err := a.CheckSignature(pub, "RS256", "PS256"); err != nil {
		return err
	}
	trace.Add(ctx, trace.Hop{Step: "certificate", Subject: r.client.id, Found: "signed with " + cert.DisplayName, OK: true})
	return nil
}

func unregistered(reason, thumbprint, app string) error {
	return aad(apierr.Unauthorized, "invalid_client", token.AADSignature, "The certificate with identifier used to sign the client assertion is not "+
		"registered on application. [Reason - %s, Thumbprint of key used by client: '%s', Configured application: '%s']", reason, shorten(thumbprint), app)
}

// certificate is the registered one that a's header names, by x5t#S256, x5t or,
// as older clients do, kid; with the thumbprint as it was named.
func (c *client) certificate(a *token.Assertion) (*directory.Certificate, string) {
	if c.app == nil {
		return nil, ""
	}
	var named [][]byte
	shown := ""
	for _, h := range []string{"x5t#S256", "x5t", "kid"} {
		v, _ := a.Header[h].(string)
		if v == "" {
			continue
		}
		for _, decode := range []func(string) ([]byte, error){base64.RawURLEncoding.DecodeString, base64.StdEncoding.DecodeString, hex.DecodeString} {
			if b, err := decode(v); err == nil && (len(b) == 20 || len(b) == 32) {
				named = append(named, b)
				if shown == "" {
					shown = strings.ToUpper(hex.EncodeToString(b))
				}
			}
		}
	}
	for i, cert := range c.app.Certificates {
		if slices.ContainsFunc(named, func(b []byte) bool { return string(b) == string(cert.SHA1) || string(b) == string(cert.SHA256) }) {
			return &c.app.Certificates[i], shown
		}
	}
	return nil, shown
}

// ourEndpoint reports whether aud names this tenant's token endpoint or issuer,
// under any of our hosts.
func (s *Service) ourEndpoint(aud string) bool {
	u, err := url.Parse(aud)
	if err != nil || u.Scheme != "https" {
		return false
	}
	if _, ours := s.tokens.Authority(u.Host); !ours {
		return false
	}
	name, rest, _ := strings.Cut(strings.TrimPrefix(u.Path, "/"), "/")
	if _, err := s.tenant(name); err != nil {
		return false
	}
	return slices.Contains([]string{"oauth2/v2.0/token", "oauth2/token", "v2.0", ""}, strings.TrimSuffix(rest, "/"))
}
