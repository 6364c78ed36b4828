package openai

import (
	"context"
	"strings"

	"lazurite.dev/internal/apierr"
	"lazurite.dev/internal/gate"
	"lazurite.dev/internal/inference"
	"lazurite.dev/internal/providers/cognitiveservices"
	"lazurite.dev/internal/trace"
)

// model is one of the list of models. Source: Azure OpenAI, "Models - List";
// created and owned_by are what clients of OpenAI expect.
type model struct {
	ID           string       `json:"id"`
	Object       string       `json:"object"`
	Created      int64        `json:"created"`
	CreatedAt    int64        `json:"created_at"`
	OwnedBy      string       `json:"owned_by"`
	Status       string       `json:"status"`
	Lifecycle    string       `json:"lifecycle_status"`
	Capabilities capabilities `json:"capabilities"`
}

type capabilities struct {
	FineTune       bool `json:"fine_tune"`
	Inference      bool `json:"inference"`
	Completion     bool `json:"completion"`
	ChatCompletion bool `json:"chat_completion"`
	Embeddings     bool `json:"embeddings"`
}

// modelID is a model's name with its version, as Azure names models here.
func modelID(m *inference.Model) string {
	if m.Version == "" {
		return m.Name
	}
	return m.Name + "-" + m.Version
}

func shown(m *inference.Model) model {
	owner := "system"
	if m.Builtin() {
		owner = inference.SourceBuiltin
	}
	return model{
		ID: modelID(m), Object: "model", OwnedBy: owner, Status: "succeeded", Lifecycle: "generally-available",
		Capabilities: capabilities{
			Inference: true, Completion: m.Capabilities.Completions, ChatCompletion: m.Capabilities.Chat, Embeddings: m.Capabilities.Embeddings,
		},
	}
}

func (p *plane) listModels(*gate.Call) (any, error) {
	all := p.Models.Models()
	list := make([]model, len(all))
	for i := range all {
		list[i] = shown(&all[i])
	}
	return map[string]any{"object": "list", "data": list}, nil
}

func (p *plane) getModel(c *gate.Call) (any, error) {
	asked := c.Params["model"]
	all := p.Models.Models()
	for i := range all {
		if m := &all[i]; strings.EqualFold(asked, modelID(m)) || strings.EqualFold(asked, m.Name) && m.Default {
			return shown(m), nil
		}
	}
	return nil, apierr.New(apierr.NotFound, "ResourceNotFound", "The model '%s' does not exist in this resource.", clip(asked))
}

// deployed is a deployment in the oldest api-versions.
type deployed struct {
	ID     string            `json:"id"`
	Object string            `json:"object"`
	Status string            `json:"status"`
	Model  string            `json:"model"`
	Owner  string            `json:"owner"`
	Scale  map[string]string `json:"scale_settings"`
}

func shownDeployment(d *cognitiveservices.Deployment) deployed {
	return deployed{ID: d.Name, Object: "deployment", Status: "succeeded", Model: d.Model, Owner: "organization-owner", Scale: map[string]string{"scale_type": "standard"}}
}

func (p *plane) listDeployments(c *gate.Call) (any, error) {
	all, err := p.Accounts.Deployments(c.Context, c.Target.ID)
	if err != nil {
		return nil, err
	}
	list := make([]deployed, len(all))
	for i, d := range all {
		list[i] = shownDeployment(d)
	}
	return map[string]any{"object": "list", "data": list}, nil
}

func (p *plane) getDeployment(c *gate.Call) (any, error) {
	d, err := p.deployment(c.Context, c, c.Params["deployment"])
	if err != nil {
		return nil, err
	}
	return shownDeployment(d), nil
}

func (p *plane) deployment(ctx context.Context, c *gate.Call, name string) (*cognitiveservices.Deployment, error) {
	d, err := p.Accounts.Deployment(ctx, c.Target.ID, name)
	if apierr.Is(err, apierr.NotFound) {
		return nil, noDeployment(c, name)
	}
	return d, err
}

// never answers what no model here does.
func (p *plane) never(c *gate.Call) (any, error) {
	d, err := p.deployment(c.Context, c, c.Params["deployment"])
	if err != nil {
		return nil, err
	}
	trace.Add(c.Context, trace.Hop{Step: "model", Subject: d.ID.String(), Received: rowOf(c).word, Found: "this gateway does not pass this operation on to any model"})
	return nil, unsupported(rowOf(c).word, d.Model)
}

// noResponse answers for stored responses: none is ever stored.
func noResponse(c *gate.Call) (any, error) {
	return nil, apierr.New(apierr.NotFound, "invalid_request_error", "Response with id '%s' not found. Responses are not stored here: send the conversation with each request.", clip(c.Params["response"]))
}

// clip keeps what a stranger wrote from flooding a message.
func clip(s string) string {
	if len(s) > 100 {
		s = strings.ToValidUTF8(s[:100], "") + "…"
	}
	return s
}
