package server

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"lazurite.dev/internal/apierr"
	"lazurite.dev/internal/arm"
	"lazurite.dev/internal/cluster"
	"lazurite.dev/internal/directory"
	"lazurite.dev/internal/rid"
)

const (
	clusterType  = "Microsoft.ContainerService/managedClusters"
	identityType = "Microsoft.ManagedIdentity/userAssignedIdentities"
)

// serviceAccountToken answers `laz run --as`: what a pod of the service account
// would find projected, and in its environment.
func (s *system) serviceAccountToken(ctx context.Context, r TokenRequest) (TokenAnswer, error) {
	c, err := s.pick(ctx, clusterType, "cluster", r.Cluster, "az aks create --name NAME --resource-group GROUP --enable-oidc-issuer --enable-workload-identity --generate-ssh-keys")
	if err != nil {
		return TokenAnswer{}, err
	}
	if power, _ := c.Properties["powerState"].(map[string]any); power["code"] == "Stopped" {
		return TokenAnswer{}, apierr.New(apierr.Conflict, "ClusterStopped",
			"The cluster '%s' is stopped and gives no tokens. Start it: az aks start --name %s --resource-group %s", c.Name, c.Name, c.RID().ResourceGroup())
	}
	t, err := s.issuers.Token(ctx, cluster.Request{
		Cluster: c.ID, Namespace: r.Namespace, ServiceAccount: r.Name, Audience: r.Audience,
		Lifetime: time.Duration(r.ExpirationSeconds) * time.Second,
	})
	switch {
	case errors.Is(err, cluster.ErrInvalid):
		return TokenAnswer{}, apierr.New(apierr.BadRequest, "InvalidTokenRequest", "%v.", err)
	case errors.Is(err, cluster.ErrNotFound):
		return TokenAnswer{}, apierr.New(apierr.Conflict, "OIDCIssuerDisabled",
			"The cluster '%s' issues no tokens that identities could trust. Turn its issuer on: az aks update --name %s --resource-group %s --enable-oidc-issuer --enable-workload-identity",
			c.Name, c.Name, c.RID().ResourceGroup())
	case err != nil:
		return TokenAnswer{}, err
	}
	client, names, err := s.trusting(ctx, t, r)
	if err != nil {
		return TokenAnswer{}, err
	}
	return TokenAnswer{
		Token: t.Value, Expires: t.Expires, ClientID: client, Identities: names, Cluster: c.Name, TenantID: s.in.Tenant, AuthorityHost: s.Config.URL(Login, "") + "/",
	}, nil
}

// trusting is the client id of the identity that is wanted or, where none was
// named, of the only one with a federated credential that accepts the token;
// "" when none or several do. names are those that do.
func (s *system) trusting(ctx context.Context, t cluster.Token, r TokenRequest) (client string, names []string, err error) {
	if r.Identity != "" {
		e, err := s.pick(ctx, identityType, "identity", r.Identity, "az identity create --name NAME --resource-group GROUP")
		if err != nil {
			return "", nil, err
		}
		return clientID(e), nil, nil
	}
	all, err := s.list(ctx, identityType)
	if err != nil {
		return "", nil, err
	}
	audience := r.Audience
	if audience == "" {
		audience = cluster.DefaultAudience
	}
	said := directory.Assertion{
		Issuer: t.Issuer, Subject: t.Subject, Audiences: []string{audience},
		Claims: map[string]any{"iss": t.Issuer, "sub": t.Subject, "aud": audience},
	}
	var found []string
	for _, e := range all {
		if _, _, ok := directory.FindCredential(s.dir.Credentials(clientID(e)), said); ok {
			found, names = append(found, clientID(e)), append(names, e.Name)
		}
	}
	if len(found) != 1 {
		return "", names, nil
	}
	return found[0], names, nil
}

// runSecret answers `laz run --identity`.
func (s *system) runSecret(ctx context.Context, r RunRequest) (RunAnswer, error) {
	e, err := s.pick(ctx, identityType, "identity", r.Identity, "az identity create --name NAME --resource-group GROUP")
	if err != nil {
		return RunAnswer{}, err
	}
	secret, _, err := s.metadata.Grant(ctx, []string{e.ID})
	if err != nil {
		return RunAnswer{}, err
	}
	return RunAnswer{Secret: secret, ClientID: clientID(e), TenantID: s.in.Tenant}, nil
}

// endRun takes back what runSecret gave: a program that has ended needs no
// identity, and whoever found its secret gets none.
func (s *system) endRun(ctx context.Context, r RunEnd) (struct{}, error) {
	return struct{}{}, s.metadata.Revoke(ctx, r.Secret)
}

func clientID(e *arm.Envelope) string {
	id, _ := e.Properties["clientId"].(string)
	return id
}

// pick finds the resource that a person names by name, resource id or client
// id; the only one there is when the name is empty. create is what to type when
// there is none.
func (s *system) pick(ctx context.Context, typ, word, name, create string) (*arm.Envelope, error) {
	all, err := s.list(ctx, typ)
	if err != nil {
		return nil, err
	}
	var found []*arm.Envelope
	var names []string
	for _, e := range all {
		names = append(names, e.Name)
		if name == "" || strings.EqualFold(e.Name, name) || strings.EqualFold(e.ID, name) || clientID(e) != "" && strings.EqualFold(clientID(e), name) {
			found = append(found, e)
		}
	}
	slices.Sort(names)
	switch {
	case len(found) == 1:
		return found[0], nil
	case len(all) == 0:
		return nil, apierr.New(apierr.NotFound, "NotFound", "There is no %s yet. Make one: %s", word, create)
	case len(found) == 0:
		return nil, apierr.New(apierr.NotFound, "NotFound", "There is no %s '%s'. There are: %s.", word, name, strings.Join(names, ", "))
	case name == "":
		return nil, apierr.New(apierr.Conflict, "Ambiguous", "There are several: %s. Name one with --%s.", strings.Join(names, ", "), word)
	default:
		return nil, apierr.New(apierr.Conflict, "Ambiguous", "Several have the name '%s'. Name one with --%s and its resource id, such as %s.", name, word, found[0].ID)
	}
}

func (s *system) list(ctx context.Context, typ string) ([]*arm.Envelope, error) {
	res := arm.Resources{Store: s.Store}
	var all []*arm.Envelope
	for after := ""; ; after = all[len(all)-1].ID {
		page, err := res.List(ctx, rid.ID{}, typ, after, 1000)
		if err != nil {
			return nil, fmt.Errorf("looking for it: %w", err)
		}
		all = append(all, page...)
		if len(page) < 1000 {
			return all, nil
		}
	}
}
