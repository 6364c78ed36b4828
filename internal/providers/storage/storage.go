package storage

import (
	"context"
	"encoding/json"
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
const Namespace = "Microsoft.Storage"

// The types of resources.
const (
	AccountType   = Namespace + "/storageAccounts"
	ServiceType   = AccountType + "/blobServices"
	ContainerType = ServiceType + "/containers"
)

// apiVersions of accounts, newest first.
func apiVersions() []string {
	return []string{
		"2025-06-01", "2025-01-01", "2024-01-01", "2023-05-01", "2023-04-01", "2023-01-01", "2022-09-01", "2022-05-01", "2021-09-01", "2021-08-01",
		"2021-06-01", "2021-05-01", "2021-04-01", "2021-02-01", "2021-01-01", "2020-08-01-preview", "2019-06-01", "2019-04-01", "2018-11-01",
		"2018-07-01", "2018-03-01-preview", "2018-02-01", "2017-10-01", "2017-06-01", "2016-12-01",
	}
}

// Config is what New needs.
type Config struct {
	Store    store.Store
	Sealer   named.Sealer
	Accounts *Accounts // of Open with the same Sealer; nil: the provider reads the store itself

	// URL is where an account's blobs answer, "https://HOST" without a slash at
	// the end.
	URL func(name string) string

	// Refuse says why no account can be made here; nil or a nil error: it can.
	Refuse func() error

	// Erase removes all blobs of an account, or of one of its containers where
	// container is not "". Both are uids.
	Erase func(ctx context.Context, account, container string) error

	Links *privatelink.Links // private endpoints' connections; nil: there are none
	Now   func() time.Time   // nil means time.Now
}

type provider struct {
	Config
	accounts *Accounts
}

// New makes the provider.
func New(c Config) arm.Provider {
	p := newProvider(c)
	return arm.Provider{
		Namespace: Namespace,
		Routes: append(PrivateLink(p.URL).Routes(),
			arm.Serve(Namespace, arm.Kind[Properties]{
				Type: "storageAccounts", APIVersions: apiVersions(), Tracked: true, Plain: true, Identity: true,
				Name:     checkName,
				ReadOnly: readOnly(),
				Default:  p.complete,
				Validate: p.validate,
				Put:      p.put,
				Delete:   p.delete,
				Read:     p.read,
				Actions: map[string]arm.Action[Properties]{
					"listKeys": p.listKeys, "regenerateKey": p.regenerateKey, "listAccountSas": p.listAccountSAS,
					"listServiceSas": p.listServiceSAS, "revokeUserDelegationKeys": p.revokeDelegation,
				},
			}),
			arm.Serve(Namespace, arm.Kind[ServiceProperties]{
				Type: "storageAccounts/blobServices", APIVersions: apiVersions(), NoState: true, NoCreate: true,
				ReadOnly:  []string{"deleteRetentionPolicy.allowPermanentDelete"},
				Default:   completeService,
				Validate:  validateService,
				Deletable: keepService,
			}),
			arm.Serve(Namespace, arm.Kind[ContainerProperties]{
				Type: "storageAccounts/blobServices/containers", APIVersions: apiVersions(), NoState: true,
				Name:     CheckContainerName,
				ReadOnly: containerReadOnly(),
				Default:  p.completeContainer,
				Validate: p.validateContainer,
				Delete:   p.deleteContainer,
				Read:     showContainer,
			}),
		),
		Endpoints: p.endpoints(),
	}
}

func newProvider(c Config) *provider {
	if c.Now == nil {
		c.Now = time.Now
	}
	if c.Accounts == nil {
		c.Accounts = newAccounts(c.Store, c.Sealer, c.URL, c.Now)
	}
	return &provider{Config: c, accounts: c.Accounts}
}

// PrivateLink is what private endpoints reach of an account: its blobs. url is
// as in Config.
func PrivateLink(url func(name string) string) privatelink.Service {
	const zone = "privatelink.blob.core.windows.net"
	return privatelink.Service{
		Type: AccountType, APIVersions: apiVersions(),
		Groups: []privatelink.Group{{ID: "blob", Members: []string{"blob"}, Zone: zone}},
		Names: func(target *arm.Envelope, _ string) []privatelink.Name {
			name := strings.ToLower(target.Name)
			return privatelink.NamesOf("blob", name+"."+zone, name+".blob.core.windows.net", url(name))
		},
	}
}

// read shows the account's private endpoint connections, and when its keys
// were made.
func (p *provider) read(ctx context.Context, r *arm.Resource[Properties]) (err error) {
	list, err := p.Links.Show(ctx, r.ID)
	if err != nil {
		return err
	}
	if r.Properties.Connections = list; list == nil {
		r.Properties.Connections = []privatelink.Shown{}
	}
	rec, err := p.accounts.names.Of(ctx, r.ID)
	if err != nil || rec == nil {
		return err // it is being made
	}
	s, err := p.accounts.names.Open(ctx, rec)
	if err == nil {
		r.Properties.KeyTimes = &KeyTimes{s.Made[0].Format(azureTime), s.Made[1].Format(azureTime)}
	}
	return err
}

const uidKey = named.UIDKey

// azureTime is how this namespace writes times.
const azureTime = "2006-01-02T15:04:05.0000000Z"

// complete gives next its defaults and keeps what a PUT does not speak of.
func (p *provider) complete(_ context.Context, old, next *arm.Resource[Properties]) error {
	n := &next.Properties
	if old == nil {
		next.Private[uidKey] = uuid.NewString()
		n.CreationTime = p.Now().UTC().Format(azureTime)
	} else {
		for _, k := range []string{"sku", "kind"} {
			if next.Extra[k] == nil {
				next.Extra[k] = old.Extra[k]
			}
		}
		n.keep(&old.Properties)
	}
	if err := normalize(next); err != nil {
		return err
	}
	n.complete()
	n.PrimaryLocation, n.StatusOfPrimary = next.Location, "available"
	n.Endpoints = map[string]string{"blob": p.URL(strings.ToLower(next.ID.Name())) + "/"}
	return nil
}

// put records what the data plane has to know, takes the name, and makes the
// resource under which containers stand.
func (p *provider) put(ctx context.Context, _, next *arm.Resource[Properties]) error {
	if err := p.accounts.names.Claim(ctx, next, skuOf(next), kindOf(next)); err != nil {
		return err
	}
	return p.makeService(ctx, next)
}

// delete frees the name, and erases what the account holds.
func (p *provider) delete(ctx context.Context, old *arm.Resource[Properties]) error {
	uid, err := p.accounts.names.Remove(ctx, old.ID, func(uid string) error { return p.accounts.markDead(ctx, dead{Account: uid}) })
	if err != nil || uid == "" {
		return err
	}
	return p.buryNow(ctx, dead{Account: uid})
}

// buryTime is how long a deletion waits until all is erased; Sweep goes on.
const buryTime = 20 * time.Second

func (p *provider) buryNow(ctx context.Context, d dead) error {
	short, cancel := context.WithTimeout(ctx, buryTime)
	defer cancel()
	err := p.bury(short, d)
	if short.Err() != nil && ctx.Err() == nil {
		return nil
	}
	return err
}

// bury removes what a deleted account or container leaves.
func (p *provider) bury(ctx context.Context, d dead) error {
	if p.Erase != nil {
		if err := p.Erase(ctx, d.Account, d.Container); err != nil {
			return err
		}
	}
	if d.Container != "" {
		return nil
	}
	return p.accounts.names.Destroy(ctx, d.Account)
}

// keepDead is how long what was deleted is looked at again: a request that was
// under way may have written after all was erased.
const keepDead = time.Hour

// Sweep erases what interrupted deletions left. c is as for New.
func Sweep(ctx context.Context, c Config) error {
	p := newProvider(c)
	return store.All(ctx, c.Store, store.Query{Prefix: deadPrefix}, func(doc store.Doc) error {
		var d dead
		if err := json.Unmarshal(doc.Value, &d); err != nil {
			return err
		}
		if err := p.bury(ctx, d); err != nil {
			return err
		}
		if p.Now().Sub(d.Time) < keepDead {
			return nil
		}
		if err := p.Store.Delete(ctx, doc.Key, doc.Rev); err != nil && !gone(err) {
			return err
		}
		return nil
	})
}

func bad(target, format string, args ...any) *apierr.Error {
	return apierr.New(apierr.BadRequest, "InvalidRequestPropertyValue", format, args...).WithTarget(target)
}
