package cognitiveservices

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"lazurite.dev/internal/apierr"
	"lazurite.dev/internal/arm"
	"lazurite.dev/internal/inference"
	"lazurite.dev/internal/rid"
	"lazurite.dev/internal/store"
)

// DeploymentProperties are those of a deployment.
type DeploymentProperties struct {
	Model     *DeploymentModel `json:"model,omitempty"`
	Upgrade   string           `json:"versionUpgradeOption,omitempty"`
	RAIPolicy string           `json:"raiPolicyName,omitempty"`
	Scale     *ScaleSettings   `json:"scaleSettings,omitempty"` // before there was a sku

	// Computed.
	RateLimits   []RateLimit       `json:"rateLimits,omitempty"`
	Capabilities map[string]string `json:"capabilities,omitempty"`
	Current      *int              `json:"currentCapacity,omitempty"`

	// What is refused unless it says nothing.
	Spillover string         `json:"spilloverDeploymentName,omitempty"`
	Parent    string         `json:"parentDeploymentName,omitempty"`
	Settings  map[string]any `json:"capacitySettings,omitempty"`
}

// DeploymentModel names a model of the catalogue.
type DeploymentModel struct {
	Format    string `json:"format,omitempty"`
	Name      string `json:"name,omitempty"`
	Version   string `json:"version,omitempty"`
	Publisher string `json:"publisher,omitempty"`
	Source    string `json:"source,omitempty"`
	Account   string `json:"sourceAccount,omitempty"`
}

// ScaleSettings are the older form of a deployment's sku.
type ScaleSettings struct {
	ScaleType string `json:"scaleType,omitempty"`
	Capacity  *int   `json:"capacity,omitempty"`
}

// RateLimit says how much may be asked for.
type RateLimit struct {
	Key    string `json:"key"`           // "request" or "token"
	Period int    `json:"renewalPeriod"` // seconds
	Count  int    `json:"count"`         // per Period
}

// Deployment is one that answers.
type Deployment struct {
	ID         rid.ID
	Name       string
	Model      string
	Version    string
	Format     string
	SKU        string
	Capacity   int // thousands of tokens a minute
	RateLimits []RateLimit

	// ContentLogging says that the owner wants prompts and answers logged: the
	// deployment has the tag ContentLoggingTag with the value "true".
	ContentLogging bool
}

// ContentLoggingTag is the tag of a deployment whose prompts and answers its
// owner wants logged, with the value "true". Azure has no such property.
const ContentLoggingTag = "laz-content-logging"

// RateLimits are those of a deployment with a capacity. Source: "Azure OpenAI
// quotas and limits": 1000 tokens a minute and 6 requests a minute for each
// unit; Azure counts requests in 10 seconds.
func RateLimits(capacity int) []RateLimit {
	return []RateLimit{{Key: "request", Period: 10, Count: capacity}, {Key: "token", Period: 60, Count: capacity * 1000}}
}

// decodeDeployment is nil for a deployment that is being made or deleted.
func decodeDeployment(d store.Doc) (*Deployment, error) {
	e, err := arm.DecodeEnvelope(d)
	if err != nil {
		return nil, err
	}
	return deploymentOf(e)
}

func deploymentOf(e *arm.Envelope) (*Deployment, error) {
	v, err := arm.View[DeploymentProperties](e)
	if err != nil {
		return nil, err
	}
	sku, err := skuOf(v.Extra["sku"])
	if err != nil {
		return nil, err
	}
	if s := e.State(); v.Properties.Model == nil || sku.Capacity == nil || s != "Succeeded" && s != "Updating" {
		return nil, nil
	}
	m := v.Properties.Model
	return &Deployment{
		ID: v.ID, Name: v.ID.Name(), Model: m.Name, Version: m.Version, Format: m.Format, SKU: sku.Name, Capacity: *sku.Capacity,
		RateLimits: RateLimits(*sku.Capacity), ContentLogging: logs(v.Tags),
	}, nil
}

func logs(tags map[string]string) bool {
	for k, v := range tags {
		if strings.EqualFold(k, ContentLoggingTag) {
			return strings.EqualFold(v, "true")
		}
	}
	return false
}

// Deployment finds an account's deployment by its name, without case. Where
// there is none the error is a NotFound.
func (a *Accounts) Deployment(ctx context.Context, account rid.ID, name string) (*Deployment, error) {
	none := apierr.New(apierr.NotFound, "DeploymentNotFound",
		"The API deployment for this resource does not exist. If you created the deployment within the last 5 minutes, please wait a moment and try again.")
	id, err := rid.Parse(account.String() + "/deployments/" + name)
	if err != nil {
		return nil, none
	}
	var d *Deployment
	if a.deployments != nil && a.deployments.Fresh() == nil {
		d, _ = a.deployments.Get(arm.ResourceKey(id))
	} else {
		e, err := arm.Resources{Store: a.Store}.Get(ctx, id)
		if err != nil && !errors.Is(err, store.ErrNotFound) {
			return nil, err
		}
		if err == nil {
			if d, err = deploymentOf(e); err != nil {
				return nil, err
			}
		}
	}
	if d == nil {
		return nil, none
	}
	return d, nil
}

// Deployments are an account's, by name.
func (a *Accounts) Deployments(ctx context.Context, account rid.ID) ([]*Deployment, error) {
	list, err := a.deploymentsUnder(ctx, account)
	slices.SortFunc(list, func(x, y *Deployment) int { return strings.Compare(lower(x.Name), lower(y.Name)) })
	return list, err
}

// deploymentsUnder are those under a scope, in no order.
func (a *Accounts) deploymentsUnder(ctx context.Context, scope rid.ID) ([]*Deployment, error) {
	var list []*Deployment
	prefix := arm.ResourceKey(scope) + "/"
	if a.deployments != nil && a.deployments.Fresh() == nil {
		a.deployments.Range(func(key string, d *Deployment) bool {
			if d != nil && strings.HasPrefix(key, prefix) {
				list = append(list, d)
			}
			return true
		})
		return list, nil
	}
	err := store.All(ctx, a.Store, store.Query{Prefix: prefix, Kind: lower(DeploymentType)}, func(doc store.Doc) error {
		d, err := decodeDeployment(doc)
		if d != nil {
			list = append(list, d)
		}
		return err
	})
	return list, err
}

func checkDeploymentName(name string) error {
	if len(name) < 2 || !nameRule.MatchString(name) {
		return apierr.New(apierr.BadRequest, "InvalidResourceName", "The deployment name '%s' is invalid: it must have 2 to 64 letters, digits, dots, underscores and dashes, and begin with a letter or a digit.", name)
	}
	return nil
}

// completeDeployment gives next its defaults, and both forms of the sku.
func (p *provider) completeDeployment(_ context.Context, old, next *arm.Resource[DeploymentProperties]) error {
	n := &next.Properties
	if err := p.completeSKU(old, next); err != nil {
		return err
	}
	if n.Model == nil && old != nil {
		n.Model = old.Properties.Model
	}
	if m := n.Model; m != nil {
		if m.Format == "" {
			m.Format = inference.FormatOpenAI
		}
		if m.Version == "" && old != nil && old.Properties.Model != nil && strings.EqualFold(old.Properties.Model.Name, m.Name) {
			m.Version = old.Properties.Model.Version
		}
		if x, ok := p.Catalog.Find(m.Name, m.Version); ok {
			m.Name, m.Version = x.Name, x.Version
		}
	}
	if n.Upgrade == "" {
		n.Upgrade = "OnceNewDefaultVersionAvailable"
	}
	return nil
}

// completeSKU works out the sku: what was sent last, in either form.
func (p *provider) completeSKU(old, next *arm.Resource[DeploymentProperties]) error {
	n := &next.Properties
	sku, err := skuOf(next.Extra["sku"])
	if err != nil {
		return err
	}
	var was SKU
	if old != nil {
		if was, err = skuOf(old.Extra["sku"]); err != nil {
			return err
		}
	}
	sent := sku.Name != "" && (old == nil || string(next.Extra["sku"]) != string(old.Extra["sku"]))
	if s := n.Scale; s != nil && !sent {
		sku = SKU{Name: s.ScaleType, Capacity: s.Capacity}
	} else if sku.Name == "" {
		sku = was
	}
	if sku.Name == "" {
		sku.Name = "Standard"
	}
	if i := slices.IndexFunc(deploymentSKUs(), func(x string) bool { return strings.EqualFold(x, sku.Name) }); i >= 0 {
		sku.Name = deploymentSKUs()[i]
	}
	if sku.Capacity == nil {
		if sku.Capacity = was.Capacity; sku.Capacity == nil {
			one := 1
			sku.Capacity = &one
		}
	}
	if n.Scale != nil {
		n.Scale = &ScaleSettings{ScaleType: sku.Name, Capacity: sku.Capacity}
	}
	next.Extra["sku"] = skuJSON(SKU{Name: sku.Name, Capacity: sku.Capacity})
	return nil
}

// deploymentSKUs are those of which a deployment may be.
func deploymentSKUs() []string { return []string{"Standard", "GlobalStandard", "DataZoneStandard"} }

// validateDeployment refuses what cannot be served as it is asked for.
func (p *provider) validateDeployment(ctx context.Context, old, next *arm.Resource[DeploymentProperties]) error {
	n := &next.Properties
	m := n.Model
	if m == nil || m.Name == "" {
		return invalid("properties.model", "The deployment's model is missing: {\"format\":\"OpenAI\",\"name\":…,\"version\":…}.")
	}
	for property, refused := range map[string]bool{
		"model.source": m.Source != "", "model.sourceAccount": m.Account != "", "spilloverDeploymentName": n.Spillover != "",
		"parentDeploymentName": n.Parent != "", "capacitySettings": len(n.Settings) > 0,
	} {
		if refused {
			return invalid("properties."+property, "The property '%s' of a deployment is not supported.", property)
		}
	}
	if !slices.Contains([]string{"oncenewdefaultversionavailable", "oncecurrentversionexpired", "noautoupgrade"}, lower(n.Upgrade)) {
		return invalid("properties.versionUpgradeOption", "The versionUpgradeOption '%s' is none of OnceNewDefaultVersionAvailable, OnceCurrentVersionExpired and NoAutoUpgrade.", n.Upgrade)
	}
	if !slices.Contains([]string{"", "microsoft.default", "microsoft.defaultv2", "microsoft.nil"}, lower(n.RAIPolicy)) {
		return invalid("properties.raiPolicyName", "The RAI policy '%s' does not exist: a content filter of your own is not supported.", n.RAIPolicy)
	}
	if err := p.validateModel(old, m); err != nil {
		return err
	}
	if old == nil && p.AzureLike {
		if err := p.roomUnder(ctx, next.ID); err != nil {
			return err
		}
	}
	return p.validateSKU(ctx, old, next)
}

func invalid(target, format string, args ...any) *apierr.Error {
	return apierr.New(apierr.BadRequest, "InvalidResourceProperties", format, args...).WithTarget(target)
}

// validateModel refuses a model that is not in the catalogue. One that was
// deployed before it went may stay.
func (p *provider) validateModel(old *arm.Resource[DeploymentProperties], m *DeploymentModel) error {
	if old != nil && old.Properties.Model != nil && *old.Properties.Model == *m {
		return nil
	}
	x, ok := p.Catalog.Find(m.Name, m.Version)
	if !ok || !strings.EqualFold(x.Format, m.Format) {
		why := "."
		if !ok && m.Version != "" {
			if other, ok := p.Catalog.Find(m.Name, ""); ok {
				why = fmt.Sprintf(": its version here is %s.", other.Version)
			}
		}
		if why == "." {
			why = ". `laz models list` shows what there is; further models are added by the `models:` setting."
		}
		return apierr.New(apierr.BadRequest, "DeploymentModelNotSupported",
			"The model 'Format: %s, Name: %s, Version: %s' of account deployment is not supported%s", m.Format, m.Name, m.Version, why).WithTarget("properties.model")
	}
	return nil
}

// validateSKU refuses skus that promise what is not there, and more capacity
// than the subscription has.
func (p *provider) validateSKU(ctx context.Context, old, next *arm.Resource[DeploymentProperties]) error {
	sku, err := skuOf(next.Extra["sku"])
	if err != nil {
		return err
	}
	m := next.Properties.Model
	if !slices.Contains(deploymentSKUs(), sku.Name) {
		return invalid("sku.name", "The specified SKU '%s' of account deployment is not supported by the model '%s' version: '%s': no throughput is reserved and nothing is run in batches here. There are %s.", sku.Name, m.Name, m.Version, strings.Join(deploymentSKUs(), ", "))
	}
	if *sku.Capacity < 1 || *sku.Capacity > quota {
		return invalid("sku.capacity", "The capacity %d is not between 1 and %d (thousands of tokens a minute).", *sku.Capacity, quota)
	}
	var was int
	if old != nil && old.Properties.Model != nil {
		if o, err := skuOf(old.Extra["sku"]); err == nil && o.Capacity != nil && o.Name == sku.Name && old.Properties.Model.Name == m.Name {
			was = *o.Capacity
		}
	}
	if *sku.Capacity <= was {
		return nil
	}
	return p.quotaLeft(ctx, next.ID, sku, m.Name, was)
}

// showDeployment fills in what follows from capacity and model.
func (p *provider) showDeployment(_ context.Context, r *arm.Resource[DeploymentProperties]) error {
	sku, err := skuOf(r.Extra["sku"])
	if err != nil || sku.Capacity == nil || r.Properties.Model == nil {
		return err
	}
	r.Properties.RateLimits = RateLimits(*sku.Capacity)
	r.Properties.Current = sku.Capacity
	if x, ok := p.Catalog.Find(r.Properties.Model.Name, r.Properties.Model.Version); ok {
		r.Properties.Capabilities = words(x)
	}
	return nil
}
