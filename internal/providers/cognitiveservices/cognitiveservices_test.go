package cognitiveservices_test

import (
	"context"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"lazurite.dev/internal/arm"
	"lazurite.dev/internal/arm/armtest"
	"lazurite.dev/internal/inference"
	"lazurite.dev/internal/providers/cognitiveservices"
	"lazurite.dev/internal/seal"
	"lazurite.dev/internal/store"
)

const apiv = "?api-version=2025-06-01"

// models is a catalogue of what tests deploy.
type models []inference.Model

func (m models) Models() []inference.Model { return m }

func (m models) Find(name, version string) (*inference.Model, bool) {
	for _, x := range m {
		if strings.EqualFold(x.Name, name) && (x.Version == version || version == "" && x.Default) {
			return &x, true
		}
	}
	return nil, false
}

func catalogue() models {
	chat := inference.Capabilities{Chat: true, MaxContext: 4096}
	return models{
		{Name: "gpt-35-turbo", Version: "0125", Format: "OpenAI", Default: true, Source: inference.SourceBuiltin, Capabilities: chat},
		{Name: "gpt-4o-mini", Version: "2024-07-18", Format: "OpenAI", Default: true, Source: inference.SourceBuiltin, Capabilities: chat},
		{Name: "text-embedding-3-small", Version: "1", Format: "OpenAI", Default: true, Source: inference.SourceConfig, Capabilities: inference.Capabilities{Embeddings: true}},
	}
}

// world is a management plane with the provider.
type world struct {
	*armtest.Plane
	cfg cognitiveservices.Config

	mu    sync.Mutex // guards what follows
	ahead time.Duration
	hold  bool // sealing waits
}

func (w *world) set(ahead time.Duration, hold bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.ahead, w.hold = ahead, hold
}

// sealer is a keyring on which a test can hold a creation up.
type sealer struct {
	*seal.Keyring
	w *world
}

func (s sealer) Seal(ctx context.Context, scope string, plaintext, aad []byte) ([]byte, error) {
	s.w.mu.Lock()
	hold := s.w.hold
	s.w.mu.Unlock()
	if hold {
		<-ctx.Done()
		return nil, ctx.Err()
	}
	return s.Keyring.Seal(ctx, scope, plaintext, aad)
}

func start(t testing.TB) *world { return startLike(t, false) }

func startLike(t testing.TB, azureLike bool) *world {
	w := &world{}
	dir := t.TempDir()
	w.Plane = armtest.New(t, func(s store.Store) []arm.Provider {
		root, err := seal.OpenFileRoot(filepath.Join(dir, "root.key"))
		if err != nil {
			t.Fatal(err)
		}
		w.cfg = cognitiveservices.Config{
			Store: s, AzureLike: azureLike, Sealer: sealer{seal.NewKeyring(s, root), w}, Catalog: catalogue(),
			URL: func(e cognitiveservices.Endpoint, label string) string {
				return "https://" + label + map[cognitiveservices.Endpoint]string{
					cognitiveservices.OpenAI: ".openai.azure.com", cognitiveservices.Services: ".cognitiveservices.azure.com", cognitiveservices.Regional: ".api.cognitive.microsoft.com",
				}[e]
			},
			Now: func() time.Time {
				w.mu.Lock()
				defer w.mu.Unlock()
				return time.Now().Add(w.ahead)
			},
		}
		return []arm.Provider{cognitiveservices.New(w.cfg)}
	}, nil)
	return w
}

// body is that of an account with further properties.
func body(props string) string {
	return `{"location":"eastus","kind":"OpenAI","sku":{"name":"s0"},"properties":{` + props + `}}`
}

func accountPath(group, name string) string {
	return armtest.Base + "/resourceGroups/" + group + "/providers/Microsoft.CognitiveServices/accounts/" + name
}

const deployment = `{"sku":{"name":"Standard","capacity":1},"properties":{"model":{"format":"OpenAI","name":"gpt-4o-mini","version":"2024-07-18"}}}`

func deploymentPath(account, name string) string { return account + "/deployments/" + name }

func TestContract(t *testing.T) {
	armtest.Run(t, func(t *testing.T) *armtest.Plane { return start(t).Plane }, armtest.Case{
		Type: "Microsoft.CognitiveServices/accounts", Path: "{group}/providers/Microsoft.CognitiveServices/accounts/acc-{n}", Body: body(""),
		BadNames: []string{"a", "-ab", "a~b"},
	}, armtest.Case{
		Type: "Microsoft.CognitiveServices/accounts/deployments", Path: "{group}/providers/Microsoft.CognitiveServices/accounts/parent/deployments/d{n}", Body: deployment,
		Before:   []armtest.Step{{Path: "{group}/providers/Microsoft.CognitiveServices/accounts/parent", Body: body("")}},
		BadNames: []string{"a", "a~b"}, Kept: true,
	})
}
