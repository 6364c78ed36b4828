package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azidentity"
	"github.com/openai/openai-go/v3"
	"github.com/openai/openai-go/v3/azure"
	"github.com/openai/openai-go/v3/option"
)

const (
	apiVersion  = "2024-12-01-preview" // where AZURE_OPENAI_API_VERSION is not set
	openAIModel = "gpt-4o-mini"        // what is asked of OpenAI itself
	answerLimit = time.Minute          // with the client's repetitions
	systemText  = "You write product descriptions for an online store. Answer with the description alone: two or three friendly sentences that name the product and work in its tags."
)

// model is a chat model that a client reaches.
type model struct {
	client      openai.Client
	name        string // the deployment's name, or the model's
	temperature float64
	identity    bool // signs in with an identity, not with a key
}

// connect makes the client that the variables of aks-store-demo ask for. The
// error says which variable is missing.
func connect(env func(string) string) (*model, error) {
	m := &model{temperature: 0.7}
	if t := env("TEMPERATURE"); t != "" {
		v, err := strconv.ParseFloat(t, 64)
		if err != nil || v < 0 || v > 2 {
			return nil, fmt.Errorf("TEMPERATURE is %q and must be a number from 0 to 2", t)
		}
		m.temperature = v
	}
	local, onAzure := isTrue(env("USE_LOCAL_LLM")), isTrue(env("USE_AZURE_OPENAI"))
	switch {
	case local && onAzure:
		return nil, errors.New("USE_LOCAL_LLM and USE_AZURE_OPENAI are both True; set one of them")
	case local:
		return m.local(env)
	case onAzure:
		return m.azure(env)
	}
	if env("OPENAI_API_KEY") == "" {
		return nil, errors.New("OPENAI_API_KEY is not set; for Azure OpenAI set USE_AZURE_OPENAI to True, for a server of your own USE_LOCAL_LLM")
	}
	m.name = openAIModel
	options := []option.RequestOption{option.WithAPIKey(env("OPENAI_API_KEY"))}
	if org := env("OPENAI_ORG_ID"); org != "" {
		options = append(options, option.WithOrganization(org))
	}
	m.client = openai.NewClient(options...)
	return m, nil
}

// local is a server on OpenAI's API that asks for no key.
func (m *model) local(env func(string) string) (*model, error) {
	m.name = env("LOCAL_LLM_MODEL")
	if env("LOCAL_LLM_ENDPOINT") == "" || m.name == "" {
		return nil, errors.New("LOCAL_LLM_ENDPOINT and LOCAL_LLM_MODEL are both needed, such as http://localhost:11434/v1/ and llama3.2")
	}
	m.client = openai.NewClient(option.WithBaseURL(env("LOCAL_LLM_ENDPOINT")), option.WithAPIKey("none"))
	return m, nil
}

// azure is a deployment of Azure OpenAI, with an identity or with a key.
func (m *model) azure(env func(string) string) (*model, error) {
	endpoint := env("AZURE_OPENAI_ENDPOINT")
	m.name = env("AZURE_OPENAI_DEPLOYMENT_NAME")
	switch {
	case endpoint == "":
		return nil, errors.New("AZURE_OPENAI_ENDPOINT is not set; it is the resource's address: az cognitiveservices account show --query properties.endpoint")
	case m.name == "":
		return nil, errors.New("AZURE_OPENAI_DEPLOYMENT_NAME is not set; the names are in: az cognitiveservices account deployment list")
	}
	version := env("AZURE_OPENAI_API_VERSION")
	if version == "" {
		version = apiVersion
	}
	m.identity = isTrue(env("USE_AZURE_AD"))
	var signIn option.RequestOption
	if m.identity {
		credential, err := azidentity.NewDefaultAzureCredential(nil)
		if err != nil {
			return nil, fmt.Errorf("signing in with an identity: %w", err)
		}
		signIn = azure.WithTokenCredential(credential)
	} else {
		key := env("AZURE_OPENAI_API_KEY")
		if key == "" {
			key = env("OPENAI_API_KEY")
		}
		if key == "" {
			return nil, errors.New("AZURE_OPENAI_API_KEY is not set; with USE_AZURE_AD set to True no key is needed")
		}
		signIn = azure.WithAPIKey(key)
	}
	m.client = openai.NewClient(azure.WithEndpoint(endpoint, version), signIn)
	return m, nil
}

func isTrue(s string) bool { return strings.EqualFold(strings.TrimSpace(s), "true") }

// describe asks for the description of a product.
func (m *model) describe(ctx context.Context, name string, tags []string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, answerLimit)
	defer cancel()
	prompt := "Write a product description.\nProduct name: " + name
	if len(tags) > 0 {
		prompt += "\nTags: " + strings.Join(tags, ", ")
	}
	answer, err := m.client.Chat.Completions.New(ctx, openai.ChatCompletionNewParams{
		Model:       m.name,
		Messages:    []openai.ChatCompletionMessageParamUnion{openai.SystemMessage(systemText), openai.UserMessage(prompt)},
		Temperature: openai.Float(m.temperature),
	})
	if err != nil {
		return "", err
	}
	if len(answer.Choices) == 0 {
		return "", errors.New("the model gave no answer")
	}
	text := strings.Join(strings.Fields(answer.Choices[0].Message.Content), " ")
	if text == "" {
		return "", fmt.Errorf("the model gave an empty answer (%s)", answer.Choices[0].FinishReason)
	}
	return text, nil
}

// reason says why a description was not written, and what to do about it.
func (m *model) reason(err error) string {
	var refused *openai.Error
	var signIn *azidentity.AuthenticationFailedError
	var stranger *tls.CertificateVerificationError
	switch {
	case errors.As(err, &refused):
		said := strings.TrimSpace(refused.Code + ": " + refused.Message)
		if refused.Message == "" {
			said = http.StatusText(refused.StatusCode)
		}
		return fmt.Sprintf("the model's service answered %d, %s%s", refused.StatusCode, said, m.advice(refused.StatusCode))
	case errors.As(err, &signIn):
		return "signing in failed: " + firstLines(signIn.Error()) +
			" (Does the pod have the label azure.workload.identity/use: \"true\" and a service account that a federated credential of the identity names?)"
	case errors.As(err, &stranger):
		return firstLines(err.Error()) + " (Who signed the certificate is not trusted here. On Lazurite pods with an identity trust it; others where their namespace had the label lazurite.dev/ca-bundle=enabled when they were made.)"
	case errors.Is(err, context.DeadlineExceeded):
		return fmt.Sprintf("the model did not answer within %s", answerLimit)
	}
	return firstLines(err.Error())
}

// advice is what usually mends an answer with this status.
func (m *model) advice(status int) string {
	switch {
	case (status == http.StatusUnauthorized || status == http.StatusForbidden) && m.identity:
		return " (Does this service's identity have the role \"Cognitive Services OpenAI User\" on the resource, and may it be reached from this network?)"
	case status == http.StatusUnauthorized || status == http.StatusForbidden:
		return " (Is AZURE_OPENAI_API_KEY a key of this resource, and are keys allowed on it?)"
	case status == http.StatusNotFound:
		return fmt.Sprintf(" (Is there a deployment %q? AZURE_OPENAI_DEPLOYMENT_NAME names it.)", m.name)
	case status == http.StatusTooManyRequests:
		return " (The deployment's capacity is used up: wait, or give it more.)"
	}
	return ""
}

// firstLines is s in one line, cut to what a person reads.
func firstLines(s string) string {
	const most = 600
	s = strings.Join(strings.Fields(s), " ")
	if len(s) > most {
		return strings.ToValidUTF8(s[:most], "") + "…"
	}
	return s
}
