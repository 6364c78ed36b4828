package managedidentity

import (
	"context"
	"errors"
	"regexp"
	"slices"
	"strings"

	"lazurite.dev/internal/apierr"
	"lazurite.dev/internal/arm"
	"lazurite.dev/internal/directory"
	"lazurite.dev/internal/rid"
	"lazurite.dev/internal/store"
)

type credential struct {
	Issuer     string      `json:"issuer,omitempty"`
	Subject    string      `json:"subject,omitempty"`
	Audiences  []string    `json:"audiences,omitempty"`
	Expression *expression `json:"claimsMatchingExpression,omitempty"`
}

type expression struct {
	Value           string `json:"value"`
	LanguageVersion int    `json:"languageVersion"`
}

// azureCredentials is how many credentials an identity has at most in Azure.
const azureCredentials = 20

var credentialName = regexp.MustCompile(`^[a-zA-Z0-9][a-zA-Z0-9_-]{2,119}$`)

func (s *service) credentials() arm.Kind[credential] {
	return arm.Kind[credential]{
		Type: "userAssignedIdentities/federatedIdentityCredentials", APIVersions: versions(), NoState: true, NoPatch: true, Exclusive: true,
		Name: func(name string) error {
			if !credentialName.MatchString(name) {
				return bad("Federated Identity Credential name '%s' is invalid.", name)
			}
			return nil
		},
		Validate: s.checkCredential, Put: s.putCredential, Delete: s.deleteCredential, Limit: s.limit,
	}
}

func bad(format string, args ...any) *apierr.Error {
	return apierr.New(apierr.BadRequest, "BadRequest", format, args...)
}

func (c credential) stored(name string) directory.FederatedCredential {
	out := directory.FederatedCredential{Name: name, Issuer: c.Issuer, Subject: c.Subject, Audiences: c.Audiences}
	if c.Expression != nil {
		out.ClaimsMatchingExpression = &directory.ClaimsMatchingExpression{Value: c.Expression.Value, LanguageVersion: c.Expression.LanguageVersion}
	}
	return out
}

func (s *service) checkCredential(ctx context.Context, old, next *arm.Resource[credential]) error {
	p := next.Properties
	if p.Issuer == "" && p.Subject == "" && len(p.Audiences) == 0 && p.Expression == nil {
		return bad("Federated Identity Credential from HTTP body has empty properties")
	}
	if len(p.Audiences) != 1 {
		return bad("Federated identity credentials must have exactly one audience.").WithTarget("properties.audiences")
	}
	c := p.stored(next.ID.Name())
	if err := c.Check(); err != nil {
		return bad("The federated identity credential is invalid: %v.", strings.TrimSuffix(err.Error(), ": "+directory.ErrInvalid.Error())).WithCause(err)
	}
	client, err := s.client(ctx, next.ID.Parent())
	if err != nil {
		return err
	}
	list := s.cfg.Directory.Credentials(client)
	for _, o := range list {
		if !strings.EqualFold(o.Name, c.Name) && o.Issuer == c.Issuer && sameMatch(o, c) {
			return errTaken()
		}
	}
	if s.cfg.AzureLike && old == nil && len(list) >= azureCredentials {
		return bad("The managed identity '%s' has %d federated identity credentials, the most that Azure allows.", next.ID.Parent().Name(), len(list))
	}
	return nil
}

func sameMatch(a, b directory.FederatedCredential) bool {
	if a.ClaimsMatchingExpression == nil || b.ClaimsMatchingExpression == nil {
		return a.ClaimsMatchingExpression == b.ClaimsMatchingExpression && a.Subject == b.Subject
	}
	return a.ClaimsMatchingExpression.Value == b.ClaimsMatchingExpression.Value
}

func errTaken() error {
	return bad("Issuer and subject combination already exists for this Managed Identity.")
}

// client is the client id of the identity.
func (s *service) client(ctx context.Context, id rid.ID) (string, error) {
	e, err := s.res.Get(ctx, id)
	if errors.Is(err, store.ErrNotFound) {
		return "", apierr.New(apierr.NotFound, "ParentResourceNotFound", "The parent user-assigned identity doesn't exist.")
	} else if err != nil {
		return "", err
	}
	client, _ := e.Properties["clientId"].(string)
	return client, nil
}

func (s *service) putCredential(ctx context.Context, _, next *arm.Resource[credential]) error {
	client, err := s.client(ctx, next.ID.Parent())
	if err != nil {
		return err
	}
	_, err = s.cfg.Directory.SetCredential(ctx, client, next.Properties.stored(next.ID.Name()))
	switch {
	case errors.Is(err, directory.ErrDuplicate):
		return errTaken()
	case errors.Is(err, store.ErrConflict):
		return apierr.New(apierr.Conflict, "ConcurrentFederatedIdentityCredentialsWritesForSingleManagedIdentity",
			"Too many concurrent writes to the federated identity credentials of '%s'. Retry.", next.ID.Parent().Name()).WithCause(err)
	}
	return err
}

func (s *service) deleteCredential(ctx context.Context, old *arm.Resource[credential]) error {
	client, err := s.client(ctx, old.ID.Parent())
	if apierr.Is(err, apierr.NotFound) {
		return nil
	} else if err != nil {
		return err
	}
	err = s.cfg.Directory.RemoveCredential(ctx, client, old.ID.Name())
	if errors.Is(err, directory.ErrNotFound) {
		return nil
	}
	return err
}

// kinds of requests that Azure limits, in requests a second for each resource.
func azureRate(what string) float64 {
	if what == "read" {
		return 0.5
	}
	return 0.25
}

// burst is how many requests may come at once before the rate counts.
const burst = 5

// limit refuses what comes faster than Azure takes it. Each replica counts by itself.
func (s *service) limit(what string, id rid.ID) error {
	if !s.cfg.AzureLike || !slices.Contains([]string{"read", "write", "delete", "list"}, what) {
		return nil
	}
	_, wait := s.rates.Take(what+id.Key(), azureRate(what), burst, s.cfg.Clock())
	if wait == 0 {
		return nil
	}
	err := apierr.New(apierr.TooManyRequests, "TooManyRequests", "Too many requests of the kind '%s' for '%s'. Retry later.", what, id)
	err.RetryAfter = wait
	return err
}
