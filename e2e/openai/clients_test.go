package openai_test

import (
	"context"
	"encoding/json"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/ai/azopenai"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/to"
	"github.com/openai/openai-go/v3"
	"github.com/openai/openai-go/v3/azure"
	"github.com/openai/openai-go/v3/option"
	"github.com/openai/openai-go/v3/responses"
	"github.com/openai/openai-go/v3/shared"

	"lazurite.dev/e2e/live"
)

const (
	version = "2025-04-01-preview"
	scope   = "https://cognitiveservices.azure.com/.default"
)

// onAzure is the client for deployments and api-versions.
func onAzure(endpoint string, signIn option.RequestOption, more ...option.RequestOption) openai.Client {
	return openai.NewClient(append([]option.RequestOption{azure.WithEndpoint(endpoint, version), signIn}, more...)...)
}

// onV1 is OpenAI's own client, which knows nothing of Azure: a key or a token is its key.
func onV1(endpoint, key string, more ...option.RequestOption) openai.Client {
	return openai.NewClient(append([]option.RequestOption{option.WithBaseURL(endpoint + "openai/v1/"), option.WithAPIKey(key)}, more...)...)
}

func TestOpenAIGo_Token(t *testing.T) {
	if as(t, user) {
		everything(t, onAzure(cloud.Vars["AOAI_ENDPOINT"], azure.WithTokenCredential(credential(t))))
	}
}

func TestOpenAIGo_Key(t *testing.T) {
	if cloud.Under(t) {
		everything(t, onAzure(cloud.Vars["AOAI_ENDPOINT"], azure.WithAPIKey(cloud.Vars["AOAI_KEY"])))
	}
}

func TestOpenAIGo_V1WithToken(t *testing.T) {
	if as(t, user) {
		everything(t, onV1(cloud.Vars["AOAI_ENDPOINT"], token(t, scope)))
	}
}

func TestOpenAIGo_V1WithKey(t *testing.T) {
	if cloud.Under(t) {
		everything(t, onV1(cloud.Vars["AOAI_ENDPOINT"], cloud.Vars["AOAI_KEY"]))
	}
}

// The audience that newer clients ask for is the service's, too.
func TestOpenAIGo_TokenOfAIAzureCom(t *testing.T) {
	if as(t, user) {
		signIn := azure.WithTokenCredential(credential(t), azure.WithTokenCredentialScopes([]string{"https://ai.azure.com/.default"}))
		wantChat(t, onAzure(cloud.Vars["AOAI_ENDPOINT"], signIn))
	}
}

func token(t *testing.T, scope string) string {
	t.Helper()
	return must(credential(t).GetToken(t.Context(), policy.TokenRequestOptions{Scopes: []string{scope}}))(t).Token
}

func everything(t *testing.T, client openai.Client) {
	for name, f := range map[string]func(*testing.T, openai.Client){
		"Chat": wantChat, "Image": image, "Stream": stream, "Tools": tools, "ToolsInAStream": toolsInAStream, "Structured": structured,
		"Embeddings": embeddings, "Responses": response, "ResponsesStream": responseStream, "Models": models, "Cancel": cancels, "BuiltIn": builtIn,
	} {
		t.Run(name, func(t *testing.T) { f(t, client) })
	}
}

func says(text string) openai.ChatCompletionNewParams {
	return openai.ChatCompletionNewParams{Model: "chat", Messages: []openai.ChatCompletionMessageParamUnion{openai.UserMessage(text)}}
}

func wantChat(t *testing.T, client openai.Client) {
	t.Helper()
	ask := says("ahoy")
	ask.N = openai.Int(2)
	got := must(client.Chat.Completions.New(t.Context(), ask))(t)
	if len(got.Choices) != 2 || got.Choices[1].Message.Content != "You said: ahoy" || got.Usage.TotalTokens != 12 || got.Model != "parrot" {
		t.Errorf("got %s", got.RawJSON())
	}
}

func image(t *testing.T, client openai.Client) {
	const pixel = "data:image/png;base64,iVBORw0KGgo="
	got := must(client.Chat.Completions.New(t.Context(), openai.ChatCompletionNewParams{Model: "chat", Messages: []openai.ChatCompletionMessageParamUnion{
		openai.UserMessage([]openai.ChatCompletionContentPartUnionParam{
			openai.TextContentPart("see "), openai.ImageContentPart(openai.ChatCompletionContentPartImageImageURLParam{URL: pixel}),
		}),
	}}))(t)
	if want := "You said: see [" + pixel + "]"; got.Choices[0].Message.Content != want {
		t.Errorf("got %q, want %q", got.Choices[0].Message.Content, want)
	}
}

func stream(t *testing.T, client openai.Client) {
	for _, counted := range []bool{false, true} {
		ask := says("ahoy there")
		if counted {
			ask.StreamOptions = openai.ChatCompletionStreamOptionsParam{IncludeUsage: openai.Bool(true)}
		}
		chunks, text, used := 0, "", int64(0)
		for s := client.Chat.Completions.NewStreaming(t.Context(), ask); ; {
			if !s.Next() {
				if s.Err() != nil {
					t.Fatal(s.Err())
				}
				break
			}
			chunks++
			used += s.Current().Usage.TotalTokens
			for _, c := range s.Current().Choices {
				text += c.Delta.Content
			}
		}
		if text != "You said: ahoy there" || chunks < 5 {
			t.Errorf("got %q in %d chunks", text, chunks)
		}
		if want := map[bool]int64{true: 12}[counted]; used != want {
			t.Errorf("usage asked for: %v; got %d tokens, want %d", counted, used, want)
		}
	}
}

func withTools(text string) openai.ChatCompletionNewParams {
	ask := says(text)
	ask.Tools = []openai.ChatCompletionToolUnionParam{openai.ChatCompletionFunctionTool(shared.FunctionDefinitionParam{
		Name: "weather", Parameters: shared.FunctionParameters{"type": "object", "properties": map[string]any{"city": map[string]any{"type": "string"}}},
	})}
	return ask
}

func tools(t *testing.T, client openai.Client) {
	ask := withTools("weather?")
	got := must(client.Chat.Completions.New(t.Context(), ask))(t).Choices[0]
	if got.FinishReason != "tool_calls" || len(got.Message.ToolCalls) != 2 || got.Message.ToolCalls[1].Function.Arguments != `{"city":"Bergen"}` {
		t.Fatalf("got %s", got.RawJSON())
	}
	ask.Messages = append(ask.Messages, got.Message.ToParam())
	for _, c := range got.Message.ToolCalls {
		ask.Messages = append(ask.Messages, openai.ToolMessage("rain", c.ID))
	}
	if got := must(client.Chat.Completions.New(t.Context(), ask))(t).Choices[0].Message.Content; got != "You said: rain" {
		t.Errorf("after the tool: %q", got)
	}
}

func toolsInAStream(t *testing.T, client openai.Client) {
	all := openai.ChatCompletionAccumulator{}
	s := client.Chat.Completions.NewStreaming(t.Context(), withTools("weather?"))
	for s.Next() {
		if !all.AddChunk(s.Current()) {
			t.Fatalf("this chunk does not fit: %s", s.Current().RawJSON())
		}
	}
	if s.Err() != nil {
		t.Fatal(s.Err())
	}
	got := all.Choices[0].Message.ToolCalls
	if len(got) != 2 || got[0].Function.Arguments != `{"city":"Oslo"}` || got[1].ID != "call_1" || got[1].Function.Arguments != `{"city":"Bergen"}` {
		t.Errorf("got %+v", got)
	}
}

func structured(t *testing.T, client openai.Client) {
	ask := says("a rope")
	ask.ResponseFormat = openai.ChatCompletionNewParamsResponseFormatUnion{OfJSONSchema: &shared.ResponseFormatJSONSchemaParam{
		JSONSchema: shared.ResponseFormatJSONSchemaJSONSchemaParam{Name: "product", Strict: openai.Bool(true), Schema: map[string]any{"type": "object"}},
	}}
	var got struct {
		Name  string
		Price float64
	}
	text := must(client.Chat.Completions.New(t.Context(), ask))(t).Choices[0].Message.Content
	if err := json.Unmarshal([]byte(text), &got); err != nil || got.Name != "rope" || got.Price != 9.5 {
		t.Errorf("got %q (%v)", text, err)
	}
}

func embeddings(t *testing.T, client openai.Client) {
	got := must(client.Embeddings.New(t.Context(), openai.EmbeddingNewParams{
		Model: "vectors", Input: openai.EmbeddingNewParamsInputUnion{OfArrayOfStrings: []string{"four", "sevenss"}},
	}))(t)
	if len(got.Data) != 2 || got.Data[1].Embedding[0] != 7 || got.Usage.TotalTokens != 3 {
		t.Errorf("got %s", got.RawJSON())
	}
}

func response(t *testing.T, client openai.Client) {
	got := must(client.Responses.New(t.Context(), responses.ResponseNewParams{
		Model: "chat", Input: responses.ResponseNewParamsInputUnion{OfString: openai.String("ahoy")},
	}))(t)
	if got.OutputText() != "You said: ahoy" || got.Status != "completed" || got.Usage.TotalTokens != 12 {
		t.Errorf("got %s", got.RawJSON())
	}
}

func responseStream(t *testing.T, client openai.Client) {
	text, completed := "", false
	s := client.Responses.NewStreaming(t.Context(), responses.ResponseNewParams{
		Model: "chat", Input: responses.ResponseNewParamsInputUnion{OfString: openai.String("ahoy")},
	})
	for s.Next() {
		switch e := s.Current(); e.Type {
		case "response.output_text.delta":
			text += e.Delta
		case "response.completed":
			completed = true
		}
	}
	if s.Err() != nil || text != "You said: ahoy" || !completed {
		t.Errorf("got %q, completed %v (%v)", text, completed, s.Err())
	}
}

func models(t *testing.T, client openai.Client) {
	seen := []string{}
	for page := client.Models.ListAutoPaging(t.Context()); page.Next(); {
		seen = append(seen, page.Current().ID)
	}
	for _, want := range []string{"parrot-1", "parrot-2", "vectors-1", "tiny-writer-1"} {
		if !strings.Contains(strings.Join(seen, " "), want) {
			t.Errorf("%s is not among %q", want, seen)
		}
	}
}

// A client that goes away ends what the model does for it.
func cancels(t *testing.T, client openai.Client) {
	before := gone(t)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	s := client.Chat.Completions.NewStreaming(ctx, says("go on for ever"))
	for range 3 {
		if !s.Next() {
			t.Fatalf("the stream ended: %v", s.Err())
		}
	}
	cancel()
	if !live.Until(10*time.Second, func() bool { return gone(t) > before }) {
		t.Error("the model still writes for a client that is gone")
	}
}

func gone(t *testing.T) int {
	t.Helper()
	answer := must(http.Get(cloud.Vars["FAKE"] + "/gone"))(t)
	defer func() { _ = answer.Body.Close() }()
	var n int
	if err := json.NewDecoder(answer.Body).Decode(&n); err != nil {
		t.Fatal(err)
	}
	return n
}

// The model that needs no configuration writes with the product's words, and counts its tokens.
func builtIn(t *testing.T, client openai.Client) {
	ask := says("Write a product description.\nProduct name: Salty Sailor rope\nTags: dog, toy")
	ask.Model = "description"
	got := must(client.Chat.Completions.New(t.Context(), ask))(t)
	text := strings.ToLower(got.Choices[0].Message.Content)
	for _, want := range []string{"rope", "dog", "toy"} {
		if !strings.Contains(text, want) {
			t.Errorf("%q is not in %q", want, text)
		}
	}
	if got.Usage.CompletionTokens == 0 || got.Usage.TotalTokens != got.Usage.PromptTokens+got.Usage.CompletionTokens {
		t.Errorf("the usage is %+v", got.Usage)
	}
	_, err := client.Embeddings.New(t.Context(), openai.EmbeddingNewParams{Model: "description", Input: openai.EmbeddingNewParamsInputUnion{OfString: openai.String("x")}})
	refused(t, err, 400, "OperationNotSupported", "`models:`")
}

// Microsoft's own client of before, for Go.
func TestAzopenai(t *testing.T) {
	if !as(t, user) {
		return
	}
	byToken := must(azopenai.NewClient(cloud.Vars["AOAI_ENDPOINT"], credential(t), nil))(t)
	byKey := must(azopenai.NewClientWithKeyCredential(cloud.Vars["AOAI_ENDPOINT"], azcore.NewKeyCredential(cloud.Vars["AOAI_KEY"]), nil))(t)
	messages := []azopenai.ChatRequestMessageClassification{&azopenai.ChatRequestUserMessage{Content: azopenai.NewChatRequestUserMessageContent("ahoy")}}
	for _, client := range []*azopenai.Client{byToken, byKey} {
		got := must(client.GetChatCompletions(t.Context(), azopenai.ChatCompletionsOptions{Messages: messages, DeploymentName: to.Ptr("chat")}, nil))(t)
		if *got.Choices[0].Message.Content != "You said: ahoy" || *got.Usage.TotalTokens != 12 {
			t.Errorf("got %+v", got.Choices[0].Message)
		}
		chunks := must(client.GetChatCompletionsStream(t.Context(), azopenai.ChatCompletionsStreamOptions{Messages: messages, DeploymentName: to.Ptr("chat")}, nil))(t)
		text := ""
		for {
			chunk, err := chunks.ChatCompletionsStream.Read()
			if err == io.EOF {
				break
			}
			for _, c := range must(chunk, err)(t).Choices {
				if c.Delta.Content != nil {
					text += *c.Delta.Content
				}
			}
		}
		if text != "You said: ahoy" {
			t.Errorf("streamed %q", text)
		}
		vectors := must(client.GetEmbeddings(t.Context(), azopenai.EmbeddingsOptions{Input: []string{"four"}, DeploymentName: to.Ptr("vectors")}, nil))(t)
		if vectors.Data[0].Embedding[0] != 4 {
			t.Errorf("got %v", vectors.Data[0].Embedding)
		}
	}
}
