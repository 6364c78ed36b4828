package cognitiveservices

import (
	"context"
	"strconv"
	"strings"

	"lazurite.dev/internal/apierr"
	"lazurite.dev/internal/inference"
	"lazurite.dev/internal/rid"
)

// Catalog is what can be deployed; *inference.Catalog is one.
type Catalog interface {
	Models() []inference.Model                          // sorted
	Find(name, version string) (*inference.Model, bool) // without case; version "" is the default one
}

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

// quota is how much capacity the deployments of one model in one kind of sku
// may have together in a region, in thousands of tokens a minute.
const quota = 10000

// used is the capacity in the region, but for that of the deployment except.
func (p *provider) used(ctx context.Context, subscription rid.ID, region, sku, model string, except rid.ID) (int, error) {
	list, err := p.accounts.deploymentsUnder(ctx, subscription)
	if err != nil {
		return 0, err
	}
	sum := 0
	for _, d := range list {
		if d.SKU != sku || !strings.EqualFold(d.Model, model) || d.ID.Equal(except) {
			continue
		}
		rec, err := p.accounts.Get(ctx, d.ID.Parent())
		if err != nil {
			return 0, err
		}
		if rec != nil && rec.Location == region {
			sum += d.Capacity
		}
	}
	return sum, nil
}

// quotaLeft refuses a capacity that the subscription does not have left.
func (p *provider) quotaLeft(ctx context.Context, id rid.ID, sku SKU, model string, was int) error {
	sub, _ := id.SubscriptionID()
	account, err := p.accounts.Get(ctx, id.Parent())
	if err != nil || account == nil {
		return err
	}
	used, err := p.used(ctx, sub, account.Location, sku.Name, model, id)
	if err != nil {
		return err
	}
	if used+*sku.Capacity > quota {
		name := "Tokens Per Minute (thousands) - " + model + " - " + sku.Name
		return apierr.New(apierr.BadRequest, "InsufficientQuota",
			"This operation require %d new capacity in quota %s, which is bigger than the current available capacity %d. The current quota usage is %d and the quota limit is %d for quota %s.",
			*sku.Capacity-was, name, quota-used-was, used+was, quota, name)
	}
	return nil
}
