package daemon

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"lazurite.dev/internal/server"
)

// retryAfter is how long to wait after a renewal that went wrong.
const retryAfter = 5 * time.Second

// projection is a service account's token in a file, as a pod has it.
type projection struct {
	s       *supervised
	request server.TokenRequest
	dir     string
	made    time.Time
	expires time.Time
}

// newProjection asks for the token, writes it where only the user can read it,
// and sets the variables that the webhook sets in a pod.
func newProjection(ctx context.Context, s *supervised) (*projection, error) {
	ns, name, _ := strings.Cut(s.o.as, "/")
	p := &projection{s: s, request: server.TokenRequest{
		Namespace: ns, Name: name, Cluster: s.o.cluster, Audience: s.o.audience, Identity: s.o.identity,
	}}
	parent := filepath.Join(s.h.Run(), "projected")
	err := os.MkdirAll(parent, 0o700)
	sweep(parent)
	if err == nil {
		p.dir, err = os.MkdirTemp(parent, "")
	}
	if err != nil {
		return nil, err
	}
	a, err := p.fetch(ctx)
	if err != nil {
		p.remove()
		return nil, err
	}
	s.vars = append(s.vars,
		variable{"AZURE_TENANT_ID", a.TenantID}, variable{"AZURE_FEDERATED_TOKEN_FILE", p.file()}, variable{"AZURE_AUTHORITY_HOST", a.AuthorityHost})
	if a.ClientID != "" {
		s.vars = append(s.vars, variable{"AZURE_CLIENT_ID", a.ClientID})
	} else {
		warn(s.env.Stderr, "%s", ownerless(s.o.as, a))
	}
	return p, nil
}

// ownerless says why AZURE_CLIENT_ID is not set, and what to type.
func ownerless(as string, a server.TokenAnswer) string {
	if len(a.Identities) == 0 {
		return fmt.Sprintf("no identity trusts %s of cluster %s, so AZURE_CLIENT_ID is not set. To see why: laz explain --as %s --cluster %s", as, a.Cluster, as, a.Cluster)
	}
	return fmt.Sprintf("several identities trust %s (%s), so AZURE_CLIENT_ID is not set. Choose with --identity NAME", as, strings.Join(a.Identities, ", "))
}

func (p *projection) file() string { return filepath.Join(p.dir, "azure-identity-token") }

func (p *projection) remove() { _ = os.RemoveAll(p.dir) } // sweep finds what stays

// sweep removes what runs that were killed have left: tokens long expired.
func sweep(parent string) {
	old, _ := os.ReadDir(parent) // nothing to sweep
	for _, e := range old {
		if fi, err := e.Info(); err == nil && time.Since(fi.ModTime()) > 48*time.Hour {
			_ = os.RemoveAll(filepath.Join(parent, e.Name()))
		}
	}
}

func (p *projection) fetch(ctx context.Context) (server.TokenAnswer, error) {
	var a server.TokenAnswer
	made := time.Now()
	if err := ask(ctx, p.s.h, "/v1/serviceaccount-token", p.request, &a); err != nil {
		return a, err
	}
	tmp := p.file() + ".new"
	if err := os.WriteFile(tmp, []byte(a.Token), 0o600); err != nil {
		return a, err
	}
	if err := os.Rename(tmp, p.file()); err != nil {
		return a, err
	}
	p.made, p.expires = made, a.Expires
	return a, nil
}

// renew replaces the token at four fifths of its life, as the kubelet does,
// until ctx ends.
func (p *projection) renew(ctx context.Context) {
	warned := false
	for {
		wait := time.Until(p.made.Add(p.expires.Sub(p.made) * 4 / 5))
		if warned {
			wait = retryAfter
		}
		timer := time.NewTimer(max(wait, time.Second))
		select {
		case <-ctx.Done():
			timer.Stop()
			return
		case <-timer.C:
		}
		_, err := p.fetch(ctx)
		if err != nil && !warned && !errors.Is(err, context.Canceled) {
			warn(p.s.env.Stderr, "the token of %s could not be renewed, trying again: %v", p.s.o.as, err)
		}
		warned = err != nil
	}
}
