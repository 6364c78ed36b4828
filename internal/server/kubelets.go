package server

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"net/http"
	"os"

	"lazurite.dev/internal/arrival"
	"lazurite.dev/internal/cluster"
	"lazurite.dev/internal/store"
)

const (
	kubeletPrefix = "kubelets/" // by a cluster's uid
	kubeletKind   = "kubelet.secret"
)

// kubeletDoc is what proves the identity of a cluster's kubelets.
type kubeletDoc struct {
	Secret []byte `json:"secret"` // sealed
}

func kubeletScope(uid string) string { return "kubelet/" + uid }

// pulls makes the kubelets of a cluster able to get tokens of an identity, and
// of no other, and says how.
func (s *system) pulls(ctx context.Context, uid, identity string) (*cluster.Pull, error) {
	secret, err := s.kubeletSecret(ctx, uid)
	if err != nil {
		return nil, err
	}
	if err := s.metadata.Attach(ctx, secret, []string{identity}); err != nil {
		return nil, err
	}
	p := &cluster.Pull{Secret: secret}
	for _, f := range families() {
		switch f.surface {
		case Registry:
			p.Registries = append(append(p.Registries, f.azure...), f.own+"."+s.Config.Domain)
		case Login:
			p.TokenURL = "https://" + f.azure[0] + kubeletPath
		}
	}
	authorities := s.CA.CertFile()
	if len(s.Config.Certificates) > 0 { // which may be others'
		authorities = s.CA.BundleFile()
	}
	if p.CA, err = os.ReadFile(authorities); err != nil {
		return nil, fmt.Errorf("reading the certificate of the authority: %w", err)
	}
	return p, nil
}

// kubeletSecret is the cluster's, made when it is first asked for.
func (s *system) kubeletSecret(ctx context.Context, uid string) (string, error) {
	for {
		doc, _, err := store.GetJSON[kubeletDoc](ctx, s.Store, kubeletPrefix+uid)
		if err == nil {
			raw, err := s.keyring.Open(ctx, kubeletScope(uid), doc.Secret, []byte(uid))
			return string(raw), err
		}
		if !errors.Is(err, store.ErrNotFound) {
			return "", err
		}
		raw := make([]byte, 32)
		_, _ = rand.Read(raw) // never fails (crypto/rand)
		secret := base64.RawURLEncoding.EncodeToString(raw)
		if doc.Secret, err = s.keyring.Seal(ctx, kubeletScope(uid), []byte(secret), []byte(uid)); err != nil {
			return "", err
		}
		_, err = store.PutJSON(ctx, s.Store, kubeletPrefix+uid, kubeletKind, 0, doc)
		if errors.Is(err, store.ErrConflict) && ctx.Err() == nil {
			continue // another made it
		}
		return secret, err
	}
}

// pullsNot ends what the kubelets of a cluster have; none is no error.
func (s *system) pullsNot(ctx context.Context, uid string) error {
	doc, _, err := store.GetJSON[kubeletDoc](ctx, s.Store, kubeletPrefix+uid)
	if errors.Is(err, store.ErrNotFound) {
		return s.keyring.Destroy(ctx, kubeletScope(uid))
	} else if err != nil {
		return err
	}
	secret, err := s.keyring.Open(ctx, kubeletScope(uid), doc.Secret, []byte(uid))
	if err != nil {
		return err
	}
	if err := s.metadata.Revoke(ctx, string(secret)); err != nil {
		return err
	}
	if err := s.Store.Delete(ctx, kubeletPrefix+uid, 0); err != nil && !errors.Is(err, store.ErrNotFound) {
		return err
	}
	return s.keyring.Destroy(ctx, kubeletScope(uid))
}

// kubeletPath is where kubelets get tokens of their identity, at the name of
// sign-in: over TLS, as pods of a node's own network see what it sends.
const kubeletPath = "/msi/token"

// kubeletTokens answers kubelets; everything else goes to next.
func (s *Server) kubeletTokens(next http.Handler) http.Handler {
	if s.system.MSI == nil {
		return next
	}
	identity := s.wrap("msi", s.system.MSI)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == kubeletPath && arrival.From(r.Context()).Network != "" {
			if m, ok := s.hosts.Find(r.Host); ok && m.Surface.Name == Login {
				identity.ServeHTTP(w, r)
				return
			}
		}
		next.ServeHTTP(w, r)
	})
}
