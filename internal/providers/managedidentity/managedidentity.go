// Package managedidentity is Microsoft.ManagedIdentity: user-assigned
// identities, whose principals appear in the directory, and the federated
// credentials by which workloads become them.
//
// Sources: the REST API reference of Managed Identity; Microsoft Entra
// documentation, "Important considerations and restrictions for federated
// identity credentials".
package managedidentity

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"strings"
	"time"

	"lazurite.dev/internal/apierr"
	"lazurite.dev/internal/arm"
	"lazurite.dev/internal/directory"
	"lazurite.dev/internal/rid"
	"lazurite.dev/internal/store"
)

// Namespace is the provider's.
const Namespace = "Microsoft.ManagedIdentity"

// versions are the known api-versions, newest first.
func versions() []string {
	return []string{
		"2025-05-31-preview", "2025-01-31-preview", "2024-11-30", "2023-07-31-preview", "2023-01-31",
		"2022-01-31-preview", "2021-09-30-preview", "2018-11-30", "2015-08-31-preview",
	}
}

// Config is what the provider is made of.
type Config struct {
	Store     store.Store
	Directory *directory.Directory
	AzureLike bool             // Azure's limits: 20 credentials an identity, request rates
	Clock     func() time.Time // nil is time.Now
}

type service struct {
	cfg   Config
	res   arm.Resources
	rates arm.Rates
}

// New makes the provider.
func New(cfg Config) arm.Provider {
	if cfg.Clock == nil {
		cfg.Clock = time.Now
	}
	s := &service{cfg: cfg, res: arm.Resources{Store: cfg.Store}}
	return arm.Provider{
		Namespace: Namespace,
		Routes:    []arm.Route{arm.Serve(Namespace, s.identities()), arm.Serve(Namespace, s.credentials())},
		Endpoints: []arm.Endpoint{{
			Method: http.MethodGet, Path: "{scope...}/providers/Microsoft.ManagedIdentity/identities/default",
			Action: "Microsoft.ManagedIdentity/identities/read", APIVersions: versions(), Handle: s.systemAssigned,
		}},
	}
}

// systemAssigned shows the identity that a resource has of its own.
// Source: "System Assigned Identities - Get By Scope".
func (s *service) systemAssigned(ctx context.Context, r *arm.Request) (*arm.Response, error) {
	id, err := rid.Parse(r.Params["scope"])
	if err != nil {
		return nil, err
	}
	missing := apierr.New(apierr.NotFound, "ResourceNotFound", "'%s' has no system-assigned identity.", id)
	e, err := s.res.Get(ctx, id)
	if errors.Is(err, store.ErrNotFound) {
		return nil, missing
	} else if err != nil {
		return nil, err
	}
	ident, err := arm.IdentityOf(e.Extra)
	if err != nil {
		return nil, err
	}
	if ident.PrincipalID == "" {
		return nil, missing
	}
	sp, err := s.cfg.Directory.ServicePrincipal(ident.PrincipalID)
	if errors.Is(err, directory.ErrNotFound) {
		return nil, missing
	} else if err != nil {
		return nil, err
	}
	return &arm.Response{Body: map[string]any{
		"id": e.ID + "/providers/Microsoft.ManagedIdentity/identities/default", "name": "default", "type": "Microsoft.ManagedIdentity/identities",
		"location":   e.Location,
		"properties": map[string]any{"tenantId": ident.TenantID, "principalId": sp.ObjectID, "clientId": sp.AppID},
	}}, nil
}

// associated lists the resources that an identity was given to.
// Source: "User Assigned Identities - List Associated Resources".
func (s *service) associated(ctx context.Context, r *arm.Resource[identity], _ json.RawMessage) (any, error) {
	var out []any
	err := store.All(ctx, s.cfg.Store, store.Query{Prefix: arm.KeyPrefix + "/subscriptions/"}, func(d store.Doc) error {
		e, err := arm.DecodeEnvelope(d)
		if err != nil || e.Extra["identity"] == nil {
			return err
		}
		ident, err := arm.IdentityOf(e.Extra)
		if err != nil {
			return err
		}
		for name := range ident.UserAssigned {
			if strings.EqualFold(name, r.ID.String()) {
				id := e.RID()
				out = append(out, map[string]any{"id": e.ID, "name": e.Name, "type": strings.ToLower(e.Type), "resourceGroup": id.ResourceGroup(), "subscriptionId": id.Subscription()})
			}
		}
		return nil
	})
	if out == nil {
		out = []any{}
	}
	return map[string]any{"totalCount": len(out), "value": out}, err
}
