package cognitiveservices

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/google/uuid"

	"lazurite.dev/internal/apierr"
	"lazurite.dev/internal/arm"
	"lazurite.dev/internal/arm/privatelink"
	"lazurite.dev/internal/store"
)

// Namespace is the provider's.
const Namespace = "Microsoft.CognitiveServices"

// The types of the resources.
const (
	AccountType    = Namespace + "/accounts"
	DeploymentType = AccountType + "/deployments"
)

// apiVersions of accounts, newest first.
func apiVersions() []string {
	return []string{
		"2025-06-01", "2025-04-01-preview", "2024-10-01", "2024-06-01-preview", "2024-04-01-preview", "2023-10-01-preview", "2023-05-01",
		"2022-12-01", "2022-10-01", "2022-03-01", "2021-10-01", "2021-04-30", "2017-04-18",
	}
}

// Sealer seals the keys of accounts; *seal.Keyring is one.
type Sealer interface {
	Seal(ctx context.Context, scope string, plaintext, aad []byte) ([]byte, error)
	Open(ctx context.Context, scope string, ciphertext, aad []byte) ([]byte, error)
	Destroy(ctx context.Context, scope string) error
}

// Config is what New needs.
type Config struct {
	Store   store.Store
	Sealer  Sealer
	Catalog Catalog // what can be deployed

	// URL is where an account answers, "https://HOST" without a slash at the
	// end: with its subdomain by OpenAI, in its region without one by Regional,
	// and the name that accounts of the kind AIServices show by Services.
	URL func(endpoint Endpoint, label string) string

	Links     *privatelink.Links // private endpoints' connections; nil: there are none
	AzureLike bool               // keeps Azure's limits of numbers
	Now       func() time.Time   // nil means time.Now
}

// Endpoint is a family of host names.
type Endpoint int

// The families of host names.
const (
	OpenAI   Endpoint = iota // {subdomain}.openai.azure.com
	Services                 // {subdomain}.cognitiveservices.azure.com
	Regional                 // {region}.api.cognitive.microsoft.com
)

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
				Type: "accounts", APIVersions: apiVersions(), Tracked: true, Async: true, Identity: true,
				Name:      checkAccountName,
				ReadOnly:  readOnly(),
				WriteOnly: []string{"restore"},
				Default:   p.complete,
				Validate:  p.validate,
				Put:       p.put,
				Delete:    p.delete,
				Read:      p.read,
				Actions:   map[string]arm.Action[Properties]{"listKeys": p.listKeys, "regenerateKey": p.regenerateKey},
			}),
			arm.Serve(Namespace, arm.Kind[DeploymentProperties]{
				Type: "accounts/deployments", APIVersions: apiVersions(), Async: true,
				Name:     checkDeploymentName,
				ReadOnly: []string{"rateLimits", "capabilities", "callRateLimit", "dynamicThrottlingEnabled", "currentCapacity", "model.callRateLimit", "scaleSettings.activeCapacity"},
				Default:  p.completeDeployment,
				Validate: p.validateDeployment,
				Read:     p.showDeployment,
			}),
		),
		Endpoints: p.endpoints(),
	}
}

// PrivateLink is what private endpoints reach of an account. url is as in Config.
func PrivateLink(url func(endpoint Endpoint, label string) string) privatelink.Service {
	return privatelink.Service{
		Type: AccountType, APIVersions: apiVersions(),
		Groups: []privatelink.Group{{ID: "account", Members: []string{"default", "secondary"}, Zone: "privatelink.cognitiveservices.azure.com"}},
		Names: func(target *arm.Envelope, _ string) []privatelink.Name {
			label, _ := target.Properties["customSubDomainName"].(string)
			if label = lower(label); label == "" {
				return nil // a name of the region stands for many accounts
			}
			var out []privatelink.Name
			for _, f := range []struct {
				family       Endpoint
				public, zone string
			}{
				{Services, ".cognitiveservices.azure.com", ".privatelink.cognitiveservices.azure.com"},
				{OpenAI, ".openai.azure.com", ".privatelink.openai.azure.com"},
			} {
				out = append(out, privatelink.NamesOf("default", label+f.zone, label+f.public, url(f.family, label))...)
			}
			return append(out, privatelink.NamesOf("default", label+".privatelink.services.ai.azure.com", label+".services.ai.azure.com")...)
		},
	}
}

// read shows the account's private endpoint connections.
func (p *provider) read(ctx context.Context, r *arm.Resource[Properties]) (err error) {
	r.Properties.Connections, err = p.Links.Show(ctx, r.ID)
	return err
}

func newProvider(c Config) *provider {
	if c.Now == nil {
		c.Now = time.Now
	}
	return &provider{Config: c, accounts: &Accounts{Store: c.Store, Sealer: c.Sealer}}
}

const (
	uidKey     = "uid"     // in Private: of this account alone, for ever
	restoreKey = "restore" // in Private: the uid of the deleted account that is taken back
)

// complete gives next its defaults, keeps what a PUT does not speak of, and
// takes over what a deleted account had where it is restored.
func (p *provider) complete(ctx context.Context, old, next *arm.Resource[Properties]) error {
	n := &next.Properties
	switch restore := n.Restore != nil && *n.Restore; {
	case old == nil && restore:
		if err := p.restore(ctx, next); err != nil {
			return err
		}
	case old == nil:
		next.Private[uidKey] = uuid.NewString()
		n.InternalID = strings.ReplaceAll(next.Private[uidKey], "-", "")
		n.DateCreated = p.Now().UTC().Format(time.RFC3339Nano)
	default:
		for _, k := range []string{"kind", "sku"} {
			if next.Extra[k] == nil {
				next.Extra[k] = old.Extra[k]
			}
		}
		if n.Subdomain == "" {
			n.Subdomain = old.Properties.Subdomain
		}
	}
	n.Restore = nil
	if n.PublicAccess == "" {
		n.PublicAccess = "Enabled"
	}
	if a := n.Network; a != nil && a.DefaultAction == "" && len(a.IPRules) > 0 {
		a.DefaultAction = "Deny" // rules that let somebody in mean that others are not
	}
	n.Network.Complete("None")
	if err := normalize(next); err != nil {
		return err
	}
	p.addresses(next)
	return nil
}

// restore gives next what the deleted account of its id had and the request
// does not speak of.
func (p *provider) restore(ctx context.Context, next *arm.Resource[Properties]) error {
	rec, err := p.accounts.fresh(ctx, next.ID)
	if err != nil {
		return err
	}
	if rec == nil || rec.Deleted == nil || rec.due(p.Now()) {
		return apierr.New(apierr.Conflict, "CanNotRestoreANonExistingResource", "Can not restore the account '%s': no account of this name was deleted in the resource group '%s' in the last %d hours.", next.ID.Name(), next.ID.ResourceGroup(), int(retention.Hours()))
	}
	if rec.Location != next.Location {
		return bad("location", "The deleted account '%s' is in the location '%s' and can only be restored there.", next.ID.Name(), rec.Location)
	}
	if kind, err := textOf(next.Extra["kind"], "kind"); err != nil {
		return err
	} else if kind != "" && !strings.EqualFold(kind, rec.Kind) {
		return bad("kind", "The deleted account is of the kind '%s' and can only be restored as one.", rec.Kind)
	}
	if s := next.Properties.Subdomain; s != "" && rec.Properties.Subdomain != "" && !strings.EqualFold(s, rec.Properties.Subdomain) {
		return bad("properties.customSubDomainName", "The subdomain of the deleted account is '%s': it cannot be changed once it is set.", rec.Properties.Subdomain)
	}
	sent, err := json.Marshal(next.Properties)
	if err != nil {
		return fmt.Errorf("encode properties of %s: %w", next.ID, err)
	}
	props := rec.Properties
	props.Network = nil // of which no part is to stay where the request has another
	if err := json.Unmarshal(sent, &props); err != nil {
		return fmt.Errorf("decode properties of %s: %w", next.ID, err)
	}
	if next.Properties.Network == nil {
		props.Network = rec.Properties.Network
	}
	if next.Properties = props; next.Tags == nil {
		next.Tags = rec.Tags
	}
	next.Extra["kind"] = text(rec.Kind)
	if next.Extra["sku"] == nil {
		next.Extra["sku"] = skuJSON(SKU{Name: rec.SKU})
	}
	next.Private[uidKey], next.Private[restoreKey] = rec.UID, rec.UID
	return nil
}

// put claims the subdomain and records what the data plane has to know.
func (p *provider) put(ctx context.Context, _, next *arm.Resource[Properties]) error {
	if err := p.claimName(ctx, next); err != nil {
		return err
	}
	if err := p.claim(ctx, next); err != nil {
		return err
	}
	delete(next.Private, restoreKey)
	return nil
}

// delete soft-deletes: the record keeps keys, properties and subdomain.
func (p *provider) delete(ctx context.Context, old *arm.Resource[Properties]) error {
	return p.accounts.change(ctx, old.ID, func(r *Record) error {
		if r == nil || r.Deleted != nil {
			return errUnchanged
		}
		now := p.Now().UTC().Truncate(time.Second)
		r.Deleted = &Deleted{At: now, PurgeAt: now.Add(retention)}
		return nil
	})
}

// errUnchanged ends a change of a record that has nothing to do.
var errUnchanged = errors.New("nothing to change")
