package keyvault

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"time"

	"lazurite.dev/internal/apierr"
	"lazurite.dev/internal/arm"
	"lazurite.dev/internal/arm/privatelink"
	"lazurite.dev/internal/rbac"
	"lazurite.dev/internal/rid"
	"lazurite.dev/internal/store"
)

// Namespace is the provider's.
const Namespace = "Microsoft.KeyVault"

// apiVersions of vaults, newest first.
func apiVersions() []string {
	return []string{
		"2025-05-01", "2024-12-01-preview", "2024-11-01", "2024-04-01-preview", "2023-08-01-preview", "2023-07-01", "2023-02-01",
		"2022-11-01", "2022-07-01", "2022-02-01-preview", "2021-11-01-preview", "2021-10-01", "2021-06-01-preview",
		"2021-04-01-preview", "2020-04-01-preview", "2019-09-01", "2018-02-14",
	}
}

// Authorizer asks the policy engine.
type Authorizer interface {
	Check(ctx context.Context, oid, action string, data bool, scope rid.ID) (rbac.Decision, error)
}

// Config is what New needs.
type Config struct {
	Store      store.Store
	Authorizer Authorizer
	TenantID   string
	URI        func(name string) string // "https://NAME.vault.azure.net", no slash at the end

	// Destroy erases the contents of the vault with the uid, Rewrap wraps its
	// data key again under the newest root key, Rotate gives it a further one.
	Destroy func(ctx context.Context, uid string) error
	Rewrap  func(ctx context.Context, uid string) error
	Rotate  func(ctx context.Context, uid string) error

	Links *privatelink.Links // private endpoints' connections; nil: there are none
	Now   func() time.Time   // nil means time.Now
}

type provider struct {
	Config
	names *Registry
}

// New makes the provider.
func New(c Config) arm.Provider {
	if c.Now == nil {
		c.Now = time.Now
	}
	p := &provider{Config: c, names: &Registry{Store: c.Store}}
	return arm.Provider{
		Namespace: Namespace,
		Routes: append(PrivateLink(p.URI).Routes(), arm.Serve(Namespace, arm.Kind[Properties]{
			Type: "vaults", APIVersions: apiVersions(), Tracked: true,
			Name:      checkVaultName,
			ReadOnly:  []string{"vaultUri", "hsmPoolResourceId", "privateEndpointConnections"},
			WriteOnly: []string{"createMode"},
			Default:   p.complete,
			Validate:  p.validate,
			Put:       p.put,
			Delete:    p.delete,
			Read:      p.read,
			Actions:   map[string]arm.Action[Properties]{"rewrap": p.rewrap},
		})),
		Endpoints: p.endpoints(),
	}
}

// PrivateLink is what private endpoints reach of a vault. uri is as in Config.
func PrivateLink(uri func(name string) string) privatelink.Service {
	const zone = "privatelink.vaultcore.azure.net"
	return privatelink.Service{
		Type: Namespace + "/vaults", APIVersions: apiVersions(),
		Groups: []privatelink.Group{{ID: "vault", Members: []string{"default"}, Zone: zone}},
		Names: func(target *arm.Envelope, _ string) []privatelink.Name {
			name := lower(target.Name)
			return privatelink.NamesOf("default", name+"."+zone, name+".vault.azure.net", uri(name))
		},
	}
}

// read shows the vault's private endpoint connections.
func (p *provider) read(ctx context.Context, r *arm.Resource[Properties]) (err error) {
	r.Properties.Connections, err = p.Links.Show(ctx, r.ID)
	return err
}

func (p *provider) endpoints() []arm.Endpoint {
	const sub = "/subscriptions/{subscriptionId}/providers/" + Namespace
	const deleted = sub + "/locations/{location}/deletedVaults/{vaultName}"
	return append(managedHSMs(), []arm.Endpoint{
		{Method: http.MethodPost, Path: sub + "/checkNameAvailability", Action: Namespace + "/checkNameAvailability/read", APIVersions: apiVersions(), Handle: p.checkName},
		{Method: http.MethodGet, Path: sub + "/deletedVaults", Action: Namespace + "/deletedVaults/read", APIVersions: apiVersions(), Handle: p.listDeleted},
		{Method: http.MethodGet, Path: deleted, Action: Namespace + "/locations/deletedVaults/read", APIVersions: apiVersions(), Handle: p.getDeleted},
		{Method: http.MethodPost, Path: deleted + "/purge", Action: Namespace + "/locations/deletedVaults/purge/action", APIVersions: apiVersions(), Handle: p.purge},
		{
			Method: http.MethodPut, APIVersions: apiVersions(), Handle: p.setPolicies, // authorised at the vault by the handler
			Path: "/subscriptions/{subscriptionId}/resourceGroups/{resourceGroupName}/providers/" + Namespace + "/vaults/{vaultName}/accessPolicies/{operation}",
		},
	}...)
}

// uidKey is where a vault's resource keeps its uid.
const uidKey = "uid"

// put claims the name, or takes the deleted vault's back, and records what the
// data plane has to know.
func (p *provider) put(ctx context.Context, _, next *arm.Resource[Properties]) error {
	next.Properties.VaultURI = p.URI(lower(next.ID.Name())) + "/"
	next.Properties.CreateMode = ""
	rec, err := p.claim(ctx, next)
	if err != nil {
		return err
	}
	delete(next.Private, recoverKey)
	next.Private[uidKey] = rec.UID
	return nil
}

// delete soft-deletes: the record keeps name, contents and properties.
func (p *provider) delete(ctx context.Context, old *arm.Resource[Properties]) error {
	return p.names.change(ctx, old.ID.Name(), func(r *Record) error {
		if r == nil || r.Deleted != nil || !rid.MustParse(r.ID).Equal(old.ID) {
			return errUnchanged
		}
		now := p.Now().UTC().Truncate(time.Second)
		r.Properties, r.Tags = old.Properties, old.Tags
		r.Deleted = &Deleted{At: now, PurgeAt: now.AddDate(0, 0, *r.Properties.RetentionDays)}
		return nil
	})
}

// rewrap is POST …/vaults/{name}/rewrap, an action of this service: it wraps
// the vault's data key under the newest root key, and with {"newDataKey":true}
// gives the vault a new data key for what is sealed from then on.
func (p *provider) rewrap(ctx context.Context, r *arm.Resource[Properties], body json.RawMessage) (any, error) {
	var in struct {
		NewDataKey bool `json:"newDataKey"`
	}
	if err := json.Unmarshal(body, &in); err != nil {
		return nil, apierr.New(apierr.BadRequest, "BadRequest", "The body must be an object such as {\"newDataKey\":true}: %v", err)
	}
	do := p.Rewrap
	if in.NewDataKey {
		do = p.Rotate
	}
	if err := do(ctx, r.Private[uidKey]); err != nil {
		return nil, err
	}
	return map[string]any{"id": r.ID.String(), "newDataKey": in.NewDataKey}, nil
}

// errUnchanged ends a change of a record that has nothing to do.
var errUnchanged = errors.New("nothing to change")
