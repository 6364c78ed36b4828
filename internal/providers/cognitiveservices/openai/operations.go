package openai

import (
	"net/http"
	"strings"

	"lazurite.dev/internal/gate"
	"lazurite.dev/internal/inference"
)

// operation is one row of the table.
type operation struct {
	method, path string
	action       string              // below Microsoft.CognitiveServices/accounts/OpenAI/
	since, until string              // dates of the first and last api-version that have it; "" is no bound
	v1           bool                // it has no api-version
	byModel      bool                // the deployment is the body's model
	op           inference.Operation // what models are asked for; "" for what they are not
	name, word   string              // as the texts for limits and for models that can't call it
	run          func(*gate.Call) (any, error)
}

func rowOf(c *gate.Call) *operation { return c.Operation.Data.(*operation) }

// operations are all rows: those of api-versions, and the same under /openai/v1.
func (p *plane) operations() []gate.Operation {
	const deployment = "/openai/deployments/{deployment}"
	rows := []operation{
		{method: http.MethodPost, path: deployment + "/chat/completions", action: "deployments/chat/completions/action", since: "2023-03-15", op: inference.Chat, name: "ChatCompletions_Create", word: "chatCompletion", run: p.ask},
		{method: http.MethodPost, path: deployment + "/completions", action: "deployments/completions/action", op: inference.Completions, name: "Completions_Create", word: "completion", run: p.ask},
		{method: http.MethodPost, path: deployment + "/embeddings", action: "deployments/embeddings/action", op: inference.Embeddings, name: "Embeddings_Create", word: "embeddings", run: p.ask},
		{method: http.MethodPost, path: deployment + "/images/generations", action: "images/generations/action", since: "2023-12-01", op: inference.Images, name: "ImageGenerations_Create", word: "imageGeneration", run: p.ask},
		{method: http.MethodPost, path: deployment + "/images/edits", action: "images/generations/action", since: "2025-04-01", word: "imageEdit", run: p.never},
		{method: http.MethodPost, path: deployment + "/audio/transcriptions", action: "deployments/audio/action", since: "2023-09-01", word: "audioTranscription", run: p.never},
		{method: http.MethodPost, path: deployment + "/audio/translations", action: "deployments/audio/action", since: "2023-09-01", word: "audioTranslation", run: p.never},
		{method: http.MethodPost, path: deployment + "/audio/speech", action: "deployments/audio/action", since: "2024-02-15", word: "audioSpeech", run: p.never},
		{method: http.MethodPost, path: "/openai/responses", action: "responses/write", since: "2025-03-01", byModel: true, op: inference.Responses, name: "Responses_Create", word: "responses", run: p.ask},
		{method: http.MethodGet, path: "/openai/responses/{response}", action: "responses/read", since: "2025-03-01", run: noResponse},
		{method: http.MethodDelete, path: "/openai/responses/{response}", action: "responses/delete", since: "2025-03-01", run: noResponse},
		{method: http.MethodPost, path: "/openai/responses/{response}/cancel", action: "responses/write", since: "2025-03-01", run: noResponse},
		{method: http.MethodGet, path: "/openai/responses/{response}/input_items", action: "responses/read", since: "2025-03-01", run: noResponse},
		{method: http.MethodGet, path: "/openai/models", action: "models/read", run: p.listModels},
		{method: http.MethodGet, path: "/openai/models/{model}", action: "models/read", run: p.getModel},
		{method: http.MethodGet, path: "/openai/deployments", action: "deployments/read", until: "2023-03-15", run: p.listDeployments},
		{method: http.MethodGet, path: deployment, action: "deployments/read", until: "2023-03-15", run: p.getDeployment},
	}
	for _, r := range rows {
		if r.until != "" {
			continue
		}
		if rest, ok := strings.CutPrefix(r.path, deployment); ok {
			r.path, r.byModel = "/openai"+rest, true
		}
		r.path, r.v1 = "/openai/v1"+strings.TrimPrefix(r.path, "/openai"), true
		if r.op != "" || !r.byModel { // the others have forms for bodies
			rows = append(rows, r)
		}
	}
	out := make([]gate.Operation, len(rows))
	for i := range rows {
		r := &rows[i]
		out[i] = gate.Operation{Method: r.method, Path: r.path, Action: "Microsoft.CognitiveServices/accounts/OpenAI/" + r.action, Body: MaxBody, Handle: r.run, Data: r}
	}
	return out
}
