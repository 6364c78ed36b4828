package cognitiveservices

import (
	"context"
	"errors"
	"slices"
	"strconv"
	"strings"

	"lazurite.dev/internal/apierr"
	"lazurite.dev/internal/arm"
	"lazurite.dev/internal/inference"
	"lazurite.dev/internal/rid"
	"lazurite.dev/internal/store"
)

// Catalog is what can be deployed; *inference.Catalog is one.
type Catalog interface {
	Models() []inference.Model                          // sorted
	Find(name, version string) (*inference.Model, bool) // without case; version "" is the default one
}

// accountSKU is the one that accounts have.
const accountSKU = "S0"

// quota is how much capacity the deployments of one model in one kind of sku
// may have together in a region, in thousands of tokens a minute.
const quota = 10000

// words are the model's capabilities as Azure names them, and who serves it.
func words(m *inference.Model) map[string]string {
	c := &m.Capabilities
	out := map[string]string{"servedBy": m.Source}
	for word, has := range map[string]bool{
		"chatCompletion": c.Chat, "completion": c.Completions, "embeddings": c.Embeddings, "responses": c.Can(inference.Responses),
		"imageGenerations": c.Images, "toolCalls": c.Tools,
	} {
		if has {
			out[word] = "true"
		}
	}
	if c.MaxContext > 0 {
		out["maxContextToken"] = strconv.Itoa(c.MaxContext)
	}
	if c.MaxOutput > 0 {
		out["maxOutputToken"] = strconv.Itoa(c.MaxOutput)
	}
	return out
}

// limits are how much capacity a deployment may have.
func limits() map[string]any {
	return map[string]any{"minimum": 1, "maximum": quota, "step": 1, "default": 10}
}

func usageName(sku, model string) string { return "OpenAI." + sku + "." + model }

// wire is a model as "Accounts - List Models" shows it.
func wire(m *inference.Model) map[string]any {
	var skus []any
	for _, s := range deploymentSKUs() {
		skus = append(skus, map[string]any{"name": s, "usageName": usageName(s, m.Name), "capacity": limits()})
	}
	return map[string]any{
		"format": m.Format, "name": m.Name, "version": m.Version, "isDefaultVersion": m.Default, "maxCapacity": quota,
		"capabilities": words(m), "lifecycleStatus": "GenerallyAvailable", "skus": skus,
	}
}

func (p *provider) accountModels(context.Context, *arm.Envelope, *arm.Request) (any, error) {
	value := []any{}
	for _, m := range p.Catalog.Models() {
		value = append(value, wire(&m))
	}
	return map[string]any{"value": value}, nil
}

// inRegion is the region that a path names.
func inRegion(r *arm.Request) (string, error) {
	l := arm.NormalizeLocation(r.Params["location"])
	if !arm.KnownLocation(l) {
		return "", apierr.New(apierr.BadRequest, "InvalidLocation", "The location '%s' is not a region.", r.Params["location"])
	}
	return l, nil
}

func (p *provider) regionModels(_ context.Context, r *arm.Request) (*arm.Response, error) {
	if _, err := inRegion(r); err != nil {
		return nil, err
	}
	value := []any{}
	for _, m := range p.Catalog.Models() {
		for _, k := range kinds() {
			value = append(value, map[string]any{"kind": k, "skuName": accountSKU, "model": wire(&m), "description": "Served by " + m.Source + "."})
		}
	}
	return &arm.Response{Body: map[string]any{"value": value}}, nil
}

// listSKUs is "Resource Skus - List": each kind in each region.
func (p *provider) listSKUs(context.Context, *arm.Request) (*arm.Response, error) {
	value := []any{}
	for _, k := range kinds() {
		for _, l := range arm.LocationNames() {
			value = append(value, map[string]any{
				"resourceType": "accounts", "name": accountSKU, "tier": "Standard", "kind": k, "locations": []string{strings.ToUpper(l)}, "restrictions": []any{},
			})
		}
	}
	return &arm.Response{Body: map[string]any{"value": value}}, nil
}

func (p *provider) accountSKUs(context.Context, *arm.Envelope, *arm.Request) (any, error) {
	return map[string]any{"value": []any{map[string]any{"resourceType": AccountType, "sku": SKU{Name: accountSKU, Tier: "Standard"}}}}, nil
}

// deploymentChoices are the skus that a deployment may change to.
func (p *provider) deploymentChoices(ctx context.Context, account *arm.Envelope, r *arm.Request) (any, error) {
	id := account.RID().Child("deployments", r.Params["deploymentName"])
	if _, err := (arm.Resources{Store: p.Store}).Get(ctx, id); errors.Is(err, store.ErrNotFound) {
		return nil, arm.NotFound(id)
	} else if err != nil {
		return nil, err
	}
	value := []any{}
	for _, s := range deploymentSKUs() {
		value = append(value, map[string]any{"resourceType": DeploymentType, "sku": SKU{Name: s}, "capacity": limits()})
	}
	return map[string]any{"value": value}, nil
}

func usage(name string, current, limit int) map[string]any {
	return map[string]any{"name": map[string]any{"value": name, "localizedValue": name}, "unit": "Count", "currentValue": current, "limit": limit}
}

// accountUsages is "Accounts - List Usages": the capacity of each deployment.
func (p *provider) accountUsages(ctx context.Context, account *arm.Envelope, _ *arm.Request) (any, error) {
	list, err := p.accounts.Deployments(ctx, account.RID())
	if err != nil {
		return nil, err
	}
	sum := map[string]int{}
	for _, d := range list {
		sum[usageName(d.SKU, d.Model)] += d.Capacity
	}
	return map[string]any{"value": usages(sum)}, nil
}

func usages(sum map[string]int) []any {
	names := []string{}
	for n := range sum {
		names = append(names, n)
	}
	slices.Sort(names)
	value := []any{}
	for _, n := range names {
		value = append(value, usage(n, sum[n], quota))
	}
	return value
}

// regionUsages is "Usages - List": of each model in each sku what the
// subscription's deployments in the region have.
func (p *provider) regionUsages(ctx context.Context, r *arm.Request) (*arm.Response, error) {
	region, err := inRegion(r)
	if err != nil {
		return nil, err
	}
	sum := map[string]int{}
	for _, m := range p.Catalog.Models() {
		for _, s := range deploymentSKUs() {
			sum[usageName(s, m.Name)] = 0
		}
	}
	list, err := p.deployed(ctx, r.Params["subscriptionId"], region)
	if err != nil {
		return nil, err
	}
	for _, d := range list {
		sum[usageName(d.SKU, d.Model)] += d.Capacity
	}
	return &arm.Response{Body: map[string]any{"value": usages(sum)}}, nil
}

// deployed are the deployments of a subscription in a region; in all where
// region is "".
func (p *provider) deployed(ctx context.Context, subscription, region string) ([]*Deployment, error) {
	sub, err := rid.Parse("/subscriptions/" + subscription)
	if err != nil {
		return nil, bad("", "The subscription's id is malformed: %v.", err)
	}
	list, err := p.accounts.deploymentsUnder(ctx, sub)
	if err != nil {
		return nil, err
	}
	var out []*Deployment
	for _, d := range list {
		rec, err := p.accounts.Get(ctx, d.ID.Parent())
		if err != nil {
			return nil, err
		}
		if rec != nil && (region == "" || rec.Location == region) {
			out = append(out, d)
		}
	}
	return out, nil
}

// capacities is "Model Capacities - List": how much more of a model can be
// deployed, in a region or in each.
func (p *provider) capacities(ctx context.Context, r *arm.Request) (*arm.Response, error) {
	q := r.HTTP.URL.Query()
	name, version := q.Get("modelName"), q.Get("modelVersion")
	if name == "" || version == "" {
		return nil, bad("modelName", "The query parameters modelFormat, modelName and modelVersion are required.")
	}
	regions := arm.LocationNames()
	if r.Params["location"] != "" {
		l, err := inRegion(r)
		if err != nil {
			return nil, err
		}
		regions = []string{l}
	}
	value := []any{}
	m, ok := p.Catalog.Find(name, version)
	if !ok {
		return &arm.Response{Body: map[string]any{"value": value}}, nil
	}
	for _, region := range regions {
		list, err := p.deployed(ctx, r.Params["subscriptionId"], region)
		if err != nil {
			return nil, err
		}
		for _, s := range deploymentSKUs() {
			left := quota
			for _, d := range list {
				if d.SKU == s && strings.EqualFold(d.Model, m.Name) {
					left -= d.Capacity
				}
			}
			value = append(value, map[string]any{
				"id":   "/subscriptions/" + r.Params["subscriptionId"] + "/providers/" + Namespace + "/locations/" + region + "/modelCapacities/" + s,
				"name": s, "type": Namespace + "/locations/modelCapacities", "location": region,
				"properties": map[string]any{"model": map[string]any{"format": m.Format, "name": m.Name, "version": m.Version}, "skuName": s, "availableCapacity": max(left, 0)},
			})
		}
	}
	return &arm.Response{Body: map[string]any{"value": value}}, nil
}

// quotaLeft refuses a capacity that the subscription does not have left.
func (p *provider) quotaLeft(ctx context.Context, id rid.ID, sku SKU, model string, was int) error {
	account, err := p.accounts.Get(ctx, id.Parent())
	if err != nil || account == nil {
		return err
	}
	list, err := p.deployed(ctx, id.Subscription(), account.Location)
	if err != nil {
		return err
	}
	used := was
	for _, d := range list {
		if d.SKU == sku.Name && strings.EqualFold(d.Model, model) && !d.ID.Equal(id) {
			used += d.Capacity
		}
	}
	more := *sku.Capacity - was
	if used+more > quota {
		name := "Tokens Per Minute (thousands) - " + model + " - " + sku.Name
		return apierr.New(apierr.BadRequest, "InsufficientQuota",
			"This operation require %d new capacity in quota %s, which is bigger than the current available capacity %d. The current quota usage is %d and the quota limit is %d for quota %s.",
			more, name, quota-used, used, quota, name)
	}
	return nil
}

// Azure's limits. Source: "Azure OpenAI in Azure AI Foundry Models quotas and
// limits".
const (
	maxAccounts    = 30 // of a subscription in a region
	maxDeployments = 32 // of an account
)

// roomFor refuses an account too many in a region.
func (p *provider) roomFor(ctx context.Context, next *arm.Resource[Properties]) error {
	list, err := p.accounts.all(ctx, accountKind)
	if err != nil {
		return err
	}
	n := 0
	for _, r := range list {
		if r.Location == next.Location && strings.EqualFold(r.id().Subscription(), next.ID.Subscription()) && !r.id().Equal(next.ID) {
			n++
		}
	}
	if n >= maxAccounts {
		return apierr.New(apierr.BadRequest, "SubscriptionIsOverQuotaForSku", "This region has quota of %d accounts for your subscription. Try selecting different region or SKU.", maxAccounts)
	}
	return nil
}

// roomUnder refuses a deployment too many in an account.
func (p *provider) roomUnder(ctx context.Context, id rid.ID) error {
	list, err := p.accounts.Deployments(ctx, id.Parent())
	if err != nil {
		return err
	}
	if len(list) >= maxDeployments {
		return apierr.New(apierr.BadRequest, "DeploymentLimitReached", "The account '%s' has %d deployments, and can have no more.", id.Parent().Name(), maxDeployments)
	}
	return nil
}
