package containerregistry

import (
	"context"
	"encoding/json"
	"errors"
	"strings"
	"time"

	"github.com/google/uuid"

	"lazurite.dev/internal/apierr"
	"lazurite.dev/internal/arm"
	"lazurite.dev/internal/arm/named"
	"lazurite.dev/internal/arm/privatelink"
	"lazurite.dev/internal/store"
)

// Namespace is the provider's.
const Namespace = "Microsoft.ContainerRegistry"

// RegistryType is the type of registries.
const RegistryType = Namespace + "/registries"

// apiVersions of registries, newest first.
func apiVersions() []string {
	return []string{
		"2025-04-01", "2025-03-01-preview", "2024-11-01-preview", "2023-11-01-preview", "2023-08-01-preview", "2023-07-01", "2023-06-01-preview",
		"2023-01-01-preview", "2022-12-01", "2022-02-01-preview", "2021-12-01-preview", "2021-09-01", "2021-08-01-preview", "2021-06-01-preview",
		"2020-11-01-preview", "2019-12-01-preview", "2019-05-01", "2017-10-01",
	}
}

// Config is what New needs.
type Config struct {
	Store  store.Store
	Sealer named.Sealer

	// Server is the login server of a registry, "NAME.azurecr.io".
	Server func(name string) string

	// Refuse says why no registry can be made here; nil or a nil error: it can.
	Refuse func() error

	// Erase removes all that the registry with the uid holds.
	Erase func(ctx context.Context, uid string) error

	// Used is how many bytes the registry with the uid holds.
	Used func(ctx context.Context, uid string) (int64, error)

	Links *privatelink.Links // private endpoints' connections; nil: there are none
	Now   func() time.Time   // nil means time.Now
}

type provider struct {
	Config
	names *named.Records[Properties, secrets]
}

// New makes the provider.
func New(c Config) arm.Provider {
	p := newProvider(c)
	return arm.Provider{
		Namespace: Namespace,
		Routes: append(PrivateLink(p.Server).Routes(), arm.Serve(Namespace, arm.Kind[Properties]{
			Type: "registries", APIVersions: apiVersions(), Tracked: true, Async: true, Identity: true,
			Name:     checkName,
			ReadOnly: readOnly(),
			Default:  p.complete,
			Validate: p.validate,
			Put:      p.put,
			Delete:   p.delete,
			Read:     p.read,
			Actions:  map[string]arm.Action[Properties]{"listCredentials": p.listCredentials, "regenerateCredential": p.regenerate},
		})),
		Endpoints: p.endpoints(),
	}
}

func newProvider(c Config) *provider {
	if c.Now == nil {
		c.Now = time.Now
	}
	names := records(c.Store, c.Sealer)
	names.Taken = func(name string) error { return taken(c.Server(strings.ToLower(name))) }
	return &provider{Config: c, names: names}
}

// PrivateLink is what private endpoints reach of a registry: the login server,
// which answers for blobs, too. server is as in Config.
func PrivateLink(server func(name string) string) privatelink.Service {
	const zone = "privatelink.azurecr.io"
	return privatelink.Service{
		Type: RegistryType, APIVersions: apiVersions(),
		Groups: []privatelink.Group{{ID: "registry", Members: []string{"registry"}, Zone: zone}},
		Names: func(target *arm.Envelope, _ string) []privatelink.Name {
			name := strings.ToLower(target.Name)
			return privatelink.NamesOf("registry", name+"."+zone, name+".azurecr.io", server(name))
		},
	}
}

// read shows the registry's private endpoint connections.
func (p *provider) read(ctx context.Context, r *arm.Resource[Properties]) (err error) {
	r.Properties.Connections, err = p.Links.Show(ctx, r.ID)
	return err
}

// complete gives next its defaults and keeps what a PUT does not speak of.
func (p *provider) complete(_ context.Context, old, next *arm.Resource[Properties]) error {
	n := &next.Properties
	if old == nil {
		next.Private[named.UIDKey] = uuid.NewString()
		n.CreationDate = p.Now().UTC().Format("2006-01-02T15:04:05.0000000Z")
	} else if next.Extra["sku"] == nil {
		next.Extra["sku"] = old.Extra["sku"]
	}
	if err := normalizeSKU(next); err != nil {
		return err
	}
	n.complete()
	n.LoginServer = p.Server(strings.ToLower(next.ID.Name()))
	return nil
}

// put records what the data plane has to know, and takes the name.
func (p *provider) put(ctx context.Context, _, next *arm.Resource[Properties]) error {
	return p.names.Claim(ctx, next, "", "")
}

// delete frees the name, and erases what the registry holds.
func (p *provider) delete(ctx context.Context, old *arm.Resource[Properties]) error {
	uid, err := p.names.Remove(ctx, old.ID, func(uid string) error {
		_, err := store.PutJSON(ctx, p.Store, deadKey(uid), deadKind, 0, struct{}{})
		if errors.Is(err, store.ErrConflict) {
			return nil
		}
		return err
	})
	if err != nil || uid == "" {
		return err
	}
	return p.bury(ctx, uid)
}

// bury removes what a deleted registry leaves.
func (p *provider) bury(ctx context.Context, uid string) error {
	if err := p.Erase(ctx, uid); err != nil {
		return err
	}
	if err := p.names.Destroy(ctx, uid); err != nil {
		return err
	}
	if err := p.Store.Delete(ctx, deadKey(uid), 0); err != nil && !gone(err) {
		return err
	}
	return nil
}

// Sweep erases what interrupted deletions left. c is as for New.
func Sweep(ctx context.Context, c Config) error {
	p := newProvider(c)
	return store.All(ctx, c.Store, store.Query{Prefix: deadPrefix}, func(d store.Doc) error {
		return p.bury(ctx, strings.TrimPrefix(d.Key, deadPrefix))
	})
}

func bad(target, format string, args ...any) *apierr.Error {
	return apierr.New(apierr.BadRequest, "InvalidRequest", format, args...).WithTarget(target)
}

func isSet(raw json.RawMessage) bool {
	s := string(raw)
	return s != "" && s != "null" && s != "[]" && s != "{}"
}
