package openai_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"lazurite.dev/internal/apierr"
	"lazurite.dev/internal/arm"
	"lazurite.dev/internal/arm/armtest"
	"lazurite.dev/internal/arrival"
	"lazurite.dev/internal/gate"
	"lazurite.dev/internal/inference"
	"lazurite.dev/internal/providers/cognitiveservices"
	"lazurite.dev/internal/providers/cognitiveservices/openai"
	"lazurite.dev/internal/rbac"
	"lazurite.dev/internal/rid"
	"lazurite.dev/internal/seal"
	"lazurite.dev/internal/store"
	"lazurite.dev/internal/token"
	"lazurite.dev/internal/trace"
)

// world is a management plane, a data plane and a backend.
type world struct {
	t     testing.TB
	arm   *armtest.Plane
	data  http.Handler
	front *httptest.Server // the data plane over a connection
	reg   *prometheus.Registry

	mu       sync.Mutex // guards the rest
	may      map[string]bool
	records  []trace.Trace
	backend  http.HandlerFunc
	from     arrival.Arrival
	now      time.Time
	upstream *httptest.Server
	asked    []json.RawMessage // bodies that the backend got
}

// Verify takes tokens of the form "h.OID.s".
func (w *world) Verify(_ context.Context, raw string, audiences ...string) (*token.Claims, error) {
	parts := strings.Split(raw, ".")
	if len(parts) != 3 || parts[1] == "expired" {
		return nil, apierr.New(apierr.Unauthorized, token.CodeExpired, "no good token")
	}
	if parts[1] == "vault" || audiences[0] != token.CognitiveServices {
		return nil, apierr.New(apierr.Unauthorized, token.CodeAudience, "wrong audience")
	}
	return &token.Claims{ObjectID: parts[1], AppID: "app", TenantID: armtest.Tenant}, nil
}

func (w *world) Check(_ context.Context, oid, action string, data bool, scope rid.ID) (rbac.Decision, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return rbac.Decision{Allowed: data && (w.may[oid+" "+action] || w.may[oid+" *"]) && scope.Type() == "Microsoft.CognitiveServices/accounts"}, nil
}

func (w *world) Record(t trace.Trace) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.records = append(w.records, t)
}

func (w *world) Models() []inference.Model {
	chat := inference.Capabilities{Chat: true, Completions: true, MaxContext: 4096}
	return []inference.Model{
		{Name: "gpt-4o-mini", Version: "2024-07-18", Format: "OpenAI", Default: true, Source: inference.SourceConfig, Capabilities: chat},
		{Name: "text-embedding-3-small", Version: "1", Format: "OpenAI", Default: true, Source: inference.SourceConfig, Capabilities: inference.Capabilities{Embeddings: true}},
		{Name: "tiny", Version: "1", Format: "OpenAI", Default: true, Source: inference.SourceBuiltin, Capabilities: inference.Capabilities{Chat: true}},
		{Name: "lost", Version: "1", Format: "OpenAI", Default: true, Source: inference.SourceConfig, Capabilities: chat},
	}
}

func (w *world) Find(name, version string) (*inference.Model, bool) {
	for _, m := range w.Models() {
		if strings.EqualFold(m.Name, name) && (version == "" || version == m.Version) {
			return &m, true
		}
	}
	return nil, false
}

func (w *world) Do(ctx context.Context, model, _ string, call *inference.Call) (*inference.Answer, error) {
	if model == "lost" {
		return nil, apierr.New(apierr.NotFound, "ModelNotFound", "gone")
	}
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, w.upstream.URL+"/v1/"+string(call.Operation), bytes.NewReader(call.Body))
	if err != nil {
		return nil, err
	}
	for k, v := range call.Header {
		r.Header[k] = v
	}
	resp, err := w.upstream.Client().Do(r)
	if err != nil {
		return nil, err
	}
	return &inference.Answer{Status: resp.StatusCode, Header: resp.Header, Body: resp.Body, Backend: "fake", Attempts: 1}, nil
}

func (w *world) serve(rw http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return
	}
	r.Body = io.NopCloser(bytes.NewReader(body))
	w.mu.Lock()
	w.asked = append(w.asked, body)
	h := w.backend
	w.mu.Unlock()
	h(rw, r)
}

// answers makes the backend answer so.
func (w *world) answers(status int, contentType, body string) {
	w.backs(func(rw http.ResponseWriter, _ *http.Request) {
		rw.Header().Set("Content-Type", contentType)
		rw.WriteHeader(status)
		_, _ = io.WriteString(rw, body)
	})
}

func (w *world) backs(h http.HandlerFunc) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.backend = h
}

// last is what the backend was asked last.
func (w *world) last() map[string]any {
	w.mu.Lock()
	defer w.mu.Unlock()
	var v map[string]any
	if len(w.asked) == 0 || json.Unmarshal(w.asked[len(w.asked)-1], &v) != nil {
		return nil
	}
	return v
}

func newWorld(t testing.TB, adjust ...func(*openai.Config)) *world {
	w := &world{t: t, may: map[string]bool{"me *": true}, from: arrival.Arrival{Client: netip.MustParseAddr("203.0.113.9")}, now: time.Unix(1e9, 0), reg: prometheus.NewRegistry()}
	w.upstream = httptest.NewServer(http.HandlerFunc(w.serve))
	t.Cleanup(w.upstream.Close)
	w.answers(200, "application/json", `{"id":"chatcmpl-1","object":"chat.completion","model":"real-name","choices":[{"index":0,"message":{"role":"assistant","content":"hi"},"finish_reason":"stop"}],"usage":{"prompt_tokens":5,"completion_tokens":2,"total_tokens":7}}`)
	dir := t.TempDir()
	w.arm = armtest.New(t, func(s store.Store) []arm.Provider {
		root, err := seal.OpenFileRoot(filepath.Join(dir, "root.key"))
		if err != nil {
			t.Fatal(err)
		}
		ring := seal.NewKeyring(s, root)
		accounts, err := cognitiveservices.Open(t.Context(), s, ring)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(accounts.Close)
		cfg := openai.Config{
			Gate: gate.Config{Verifier: w, Authorizer: w, Recorder: w}, Accounts: accounts, Models: w, Metrics: w.reg,
			Suffixes: []string{".openai.azure.com", ".openai.laz.test"}, Regional: []string{".api.cognitive.microsoft.com"},
			Audiences: []string{token.CognitiveServices, token.AI},
			Now: func() time.Time {
				w.mu.Lock()
				defer w.mu.Unlock()
				return w.now
			},
		}
		for _, f := range adjust {
			f(&cfg)
		}
		if w.data, err = openai.New(cfg); err != nil {
			t.Fatal(err)
		}
		return []arm.Provider{cognitiveservices.New(cognitiveservices.Config{
			Store: s, Sealer: ring, Catalog: w,
			URL: func(_ cognitiveservices.Endpoint, label string) string {
				return "https://" + label + ".openai.azure.com"
			},
		})}
	}, nil)
	w.arm.Group("g")
	w.front = httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		w.mu.Lock()
		from := w.from
		w.mu.Unlock()
		w.data.ServeHTTP(rw, r.WithContext(arrival.With(r.Context(), from)))
	}))
	t.Cleanup(w.front.Close)
	return w
}

const (
	accountID = armtest.Base + "/resourceGroups/g/providers/Microsoft.CognitiveServices/accounts/"
	mgmt      = "?api-version=2025-06-01"
	ver       = "?api-version=2024-10-21"
	chat      = "https://acc.openai.azure.com/openai/deployments/dd/chat/completions" + ver
	hello     = `{"messages":[{"role":"user","content":"hello"}]}`
)

// account makes an account with further properties and gives a key.
func (w *world) account(name, props string) (key string) {
	w.t.Helper()
	if props == "" {
		props = `"customSubDomainName":"` + name + `"`
	}
	w.arm.Want(201, "PUT", accountID+name+mgmt, `{"location":"eastus","kind":"OpenAI","sku":{"name":"S0"},"properties":{`+props+`}}`)
	return w.arm.Want(200, "POST", accountID+name+"/listKeys"+mgmt, "").Text("key1")
}

func (w *world) deploy(account, name, model, version string, capacity int, tags string) {
	w.t.Helper()
	w.arm.Want(201, "PUT", accountID+account+"/deployments/"+name+mgmt,
		fmt.Sprintf(`{"sku":{"name":"Standard","capacity":%d},"tags":{%s},"properties":{"model":{"format":"OpenAI","name":%q,"version":%q}}}`, capacity, tags, model, version))
}

// standard is an account "acc" with the deployment "dd", and its key.
func (w *world) standard() string {
	w.t.Helper()
	key := w.account("acc", "")
	w.deploy("acc", "dd", "gpt-4o-mini", "2024-07-18", 100, "")
	return key
}

const me = "Bearer h.me.s"

// do asks the data plane; credential is a key, or the Authorization header
// where it has a blank in it.
func (w *world) do(credential, method, url, body string, headers ...string) *armtest.Answer {
	w.t.Helper()
	w.mu.Lock()
	from := w.from
	w.mu.Unlock()
	r := httptest.NewRequestWithContext(arrival.With(w.t.Context(), from), method, url, strings.NewReader(body))
	authenticate(r, credential)
	for i := 0; i+1 < len(headers); i += 2 {
		r.Header.Set(headers[i], headers[i+1])
	}
	rec := httptest.NewRecorder()
	w.data.ServeHTTP(rec, r)
	a := &armtest.Answer{Status: rec.Code, Header: rec.Result().Header, Raw: rec.Body.Bytes()}
	if json.Unmarshal(a.Raw, &a.JSON) != nil {
		a.JSON = nil
	}
	return a
}

func authenticate(r *http.Request, credential string) {
	switch {
	case strings.Contains(credential, " "):
		r.Header.Set("Authorization", credential)
	case credential != "":
		r.Header.Set("api-key", credential)
	}
}

func (w *world) want(status int, code, credential, method, url, body string, headers ...string) *armtest.Answer {
	w.t.Helper()
	a := w.do(credential, method, url, body, headers...)
	if a.Status != status || a.Text("error", "code") != code {
		w.t.Fatalf("%s %s: got %d %s, want %d %s", method, url, a.Status, a.Raw, status, code)
	}
	return a
}

// recorded is the last trace that was kept, and none is kept after it.
func (w *world) recorded() trace.Trace {
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.records) == 0 {
		return trace.Trace{}
	}
	t := w.records[len(w.records)-1]
	w.records = nil
	return t
}

// fix is the command of the last hop.
func fix(t trace.Trace) string {
	if len(t.Hops) == 0 {
		return ""
	}
	return t.Hops[len(t.Hops)-1].Fix
}

func TestChat_WithTokenAndKey(t *testing.T) {
	w := newWorld(t)
	key := w.standard()
	for _, credential := range []string{key, me} {
		a := w.want(200, "", credential, "POST", chat, hello)
		if a.Text("choices", "0", "message", "content") != "" && a.Text("model") != "real-name" {
			t.Errorf("%s", a.Raw)
		}
		if !bytes.Contains(a.Raw, []byte(`"content":"hi"`)) || !bytes.Contains(a.Raw, []byte(`"model":"real-name"`)) {
			t.Errorf("%s", a.Raw)
		}
		for name, want := range map[string]string{
			"x-ms-region": "East US", "Cache-Control": "no-cache, must-revalidate", "X-Content-Type-Options": "nosniff", "Content-Type": "application/json",
			"Strict-Transport-Security": "max-age=31536000; includeSubDomains; preload", "x-accel-buffering": "no", "access-control-allow-origin": "*",
		} {
			if got := a.Header.Get(name); got != want {
				t.Errorf("%s: %q", name, got)
			}
		}
		if a.Header.Get("x-ratelimit-remaining-tokens") == "" || a.Header.Get("x-ratelimit-remaining-requests") == "" || a.Header.Values("apim-request-id") == nil {
			t.Errorf("headers %v", a.Header)
		}
	}
	if len(w.records) != 0 {
		t.Errorf("recorded %+v", w.records)
	}
	for name, url := range map[string]string{
		"another letter case": "https://ACC.openai.azure.com/OpenAI/Deployments/DD/chat/Completions" + ver,
		"own name with port":  "https://acc.openai.laz.test:8443/openai/deployments/dd/chat/completions" + ver,
		"doubled slash":       "https://acc.openai.azure.com//openai/deployments/dd/chat/completions" + ver,
		"newer version":       "https://acc.openai.azure.com/openai/deployments/dd/chat/completions?api-version=2031-01-01",
		"version's letters":   "https://acc.openai.azure.com/openai/deployments/dd/chat/completions?API-Version=2025-04-01-Preview",
	} {
		if a := w.do(key, "POST", url, hello); a.Status != 200 {
			t.Errorf("%s: %d %s", name, a.Status, a.Raw)
		}
	}
	if a := w.do(key, "POST", strings.Replace(chat, "2024-10-21", "2031-01-01", 1), hello); a.Header.Get("x-laz-served-api-version") != "2025-04-01-preview" {
		t.Errorf("served %v", a.Header)
	}
}

func TestChat_EverythingPassesUntouched(t *testing.T) {
	w := newWorld(t)
	w.standard()
	const body = `{"messages":[{"role":"user","content":[{"type":"text","text":"\u00e4 <b>"},{"type":"image_url","image_url":{"url":"data:image/png;base64,AAAA"}}]}],` +
		`"tools":[{"type":"function","function":{"name":"f","parameters":{"type":"object"}}}],"response_format":{"type":"json_schema","json_schema":{"name":"x","schema":{}}},"logprobs":true,"n":3,"seed":1,"never_heard_of":[1e3,{"a":null}]}`
	const answer = `{"choices":[{"index":0,"message":{"tool_calls":[{"index":0,"id":"c","function":{"arguments":"{\"usage\":{}}"}}]},"logprobs":{"content":[]}}],"usage":{"prompt_tokens":1,"completion_tokens":1},"x":[ 1 ]}`
	w.answers(200, "application/json; charset=utf-8", answer)
	a := w.want(200, "", me, "POST", chat, body)
	if string(a.Raw) != answer {
		t.Errorf("answer %s", a.Raw)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if string(w.asked[0]) != body {
		t.Errorf("asked %s", w.asked[0])
	}
}

func TestRefusals(t *testing.T) {
	w := newWorld(t)
	key := w.standard()
	otherKey := w.account("other", "")
	noKeys := w.account("nokeys", "")
	w.arm.Want(200, "PUT", accountID+"nokeys"+mgmt, `{"location":"eastus","kind":"OpenAI","sku":{"name":"S0"},"properties":{"customSubDomainName":"nokeys","disableLocalAuth":true}}`)
	w.deploy("nokeys", "dd", "gpt-4o-mini", "2024-07-18", 1, "")
	w.deploy("acc", "embed", "text-embedding-3-small", "1", 1, "")
	w.deploy("acc", "small", "tiny", "1", 1, "")
	w.deploy("acc", "lost", "lost", "1", 1, "")
	const base = "https://acc.openai.azure.com/openai/"
	tests := []struct {
		name, credential, method, url, body string
		status                              int
		code, text                          string
		hop                                 string // in the last hop's fix; "-": nothing is recorded
	}{
		{"no account", key, "POST", "https://absent.openai.azure.com/openai/models" + ver, "", 404, "404", "Resource not found", "-"},
		{"no credential", "", "POST", chat, hello, 401, "401", "Access denied due to invalid subscription key or wrong API endpoint. Make sure to provide a valid key for an active subscription and use a correct regional API endpoint for your resource.", ""},
		{"a wrong key", "nonsense", "POST", chat, hello, 401, "401", "Access denied due to invalid subscription key", "az cognitiveservices account keys list --name acc --resource-group g"},
		{"another account's key", otherKey, "POST", chat, hello, 401, "401", "Access denied due to invalid subscription key", "az cognitiveservices account keys list"},
		{"a key as Bearer where that is not taken", "Bearer " + key, "POST", chat, hello, 401, "", "Unauthorized. Access token is missing, invalid, audience is incorrect (https://cognitiveservices.azure.com), or have expired.", ""},
		{"a wrong key as Bearer", "Bearer nonsense", "POST", base + "v1/chat/completions", `{"model":"dd"}`, 401, "401", "Access denied due to invalid subscription key", "az cognitiveservices account keys list"},
		{"keys are off", noKeys, "POST", "https://nokeys.openai.azure.com/openai/deployments/dd/chat/completions" + ver, hello, 403, "AuthenticationTypeDisabled", "Key based authentication is disabled for this resource.", "properties.disableLocalAuth=false"},
		{"a token for another resource", "Bearer h.vault.s", "POST", chat, hello, 401, "", "Unauthorized. Access token is missing, invalid, audience is incorrect", ""},
		{"an expired token", "Bearer h.expired.s", "POST", chat, hello, 401, "", "or have expired.", ""},
		{"no role", "Bearer h.stranger.s", "POST", chat, hello, 401, "PermissionDenied",
			"The principal `stranger` lacks the required data action `Microsoft.CognitiveServices/accounts/OpenAI/deployments/chat/completions/action` to perform `POST /openai/deployments/{deployment-id}/chat/completions` operation.", ""},
		{"an older api-version", me, "POST", strings.Replace(chat, "2024-10-21", "2022-03-01-preview", 1), hello, 404, "404", "Resource not found", "-"},
		{"no api-version", me, "POST", strings.TrimSuffix(chat, ver), hello, 404, "404", "Resource not found", "-"},
		{"a version without the operation", me, "POST", base + "responses" + ver, `{"model":"dd","input":"x"}`, 404, "404", "Resource not found", "-"},
		{"a dated version on v1", me, "POST", base + "v1/chat/completions" + ver, `{"model":"dd"}`, 400, "BadRequest", "api-version query parameter is not allowed when using /v1 path", "-"},
		{"no such path", me, "POST", base + "deployments/dd/nonsense" + ver, hello, 404, "404", "Resource not found", "-"},
		{"assistants", me, "POST", base + "assistants?api-version=2024-05-01-preview", hello, 404, "404", "Resource not found", "-"},
		{"batches", me, "GET", base + "v1/batches", "", 404, "404", "Resource not found", "-"},
		{"realtime", me, "GET", base + "realtime?api-version=2024-10-01-preview&deployment=dd", "", 404, "404", "Resource not found", "-"},
		{"another method", me, "GET", chat, "", 404, "404", "Resource not found", "-"},
		{"no deployment", me, "POST", base + "deployments/absent/chat/completions" + ver, hello, 404, "DeploymentNotFound", "The API deployment for this resource does not exist. If you created the deployment within the last 5 minutes, please wait a moment and try again.", "--deployment-name absent "},
		{"no deployment of the model", key, "POST", base + "v1/chat/completions", `{"model":"$(rm)"}`, 404, "DeploymentNotFound", "does not exist", "--deployment-name NAME "},
		{"no model", key, "POST", base + "v1/chat/completions", `{}`, 400, "BadRequest", "you must provide a model parameter", "-"},
		{"not JSON", me, "POST", chat, `{`, 400, "BadRequest", "not JSON", "-"},
		{"a wrong type", me, "POST", chat, `{"stream":1}`, 400, "BadRequest", "'stream' must be a boolean", "-"},
		{"another model's operation", me, "POST", base + "deployments/embed/chat/completions" + ver, hello, 400, "OperationNotSupported", "The chatCompletion operation does not work with the specified model, text-embedding-3-small. Please choose different model and try again.", ""},
		{"embeddings of the built-in model", me, "POST", base + "deployments/small/embeddings" + ver, `{"input":"x"}`, 400, "OperationNotSupported", "the setting `models:` names a backend", "laz models list"},
		{"audio", me, "POST", base + "deployments/dd/audio/speech?api-version=2025-04-01-preview", `{}`, 400, "OperationNotSupported", "The audioSpeech operation does not work with the specified model, gpt-4o-mini.", ""},
		{"a lost model", me, "POST", base + "deployments/lost/chat/completions" + ver, hello, 503, "ModelNotAvailable", "is not served at the moment", "laz models test lost"},
		{"a stored response", me, "GET", base + "v1/responses/resp_1", "", 404, "invalid_request_error", "Response with id 'resp_1' not found. Responses are not stored here", "-"},
		{"deleting a stored response", me, "DELETE", base + "responses/resp_1?api-version=2025-04-01-preview", "", 404, "invalid_request_error", "Responses are not stored here", "-"},
		{"going on with a response", me, "POST", base + "v1/responses", `{"model":"dd","previous_response_id":"resp_1"}`, 400, "invalid_request_error", "Previous response with id 'resp_1' not found.", "-"},
		{"a background response", me, "POST", base + "v1/responses", `{"model":"dd","background":true}`, 400, "invalid_request_error", "Background responses are not supported", "-"},
		{"a conversation", me, "POST", base + "v1/responses", `{"model":"dd","conversation":"c"}`, 400, "invalid_request_error", "Conversations are not supported", "-"},
		{"no such model", me, "GET", base + "models/gpt-9" + ver, "", 404, "ResourceNotFound", "'gpt-9' does not exist", "-"},
		{"deployments in a version without them", me, "GET", base + "deployments" + ver, "", 404, "404", "Resource not found", "-"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			w.t = t
			w.recorded()
			a := w.want(tt.status, tt.code, tt.credential, tt.method, tt.url, tt.body)
			text := a.Text("error", "message")
			if tt.code == "" {
				text = a.Text("message")
			}
			if !strings.Contains(text, tt.text) {
				t.Errorf("says %q", a.Raw)
			}
			kept := w.recorded()
			if (len(kept.Hops) == 0) != (tt.hop == "-") || !strings.Contains(fix(kept), strings.TrimPrefix(tt.hop, "-")) {
				t.Errorf("recorded %+v", kept)
			}
		})
	}
	if w.last() != nil {
		t.Errorf("the backend was asked %v", w.last())
	}
}

func TestNetworkComesBeforeTheKey(t *testing.T) {
	w := newWorld(t)
	key := w.account("walled", `"customSubDomainName":"walled","networkAcls":{"defaultAction":"Deny","ipRules":[{"value":"198.51.100.0/24"}]}`)
	closed := w.account("closed", `"customSubDomainName":"closed","publicNetworkAccess":"Disabled"`)
	w.deploy("walled", "dd", "gpt-4o-mini", "2024-07-18", 1, "")
	const path = "/openai/deployments/dd/chat/completions" + ver
	for _, credential := range []string{"", "nonsense", key, me} {
		a := w.want(403, "403", credential, "POST", "https://walled.openai.azure.com"+path, hello)
		if a.Text("error", "message") != "Access denied due to Virtual Network/Firewall rules." {
			t.Errorf("%s", a.Raw)
		}
		if got, want := fix(w.recorded()), "az cognitiveservices account network-rule add --name walled --resource-group g --ip-address 203.0.113.9"; got != want {
			t.Errorf("fix %q", got)
		}
	}
	a := w.want(403, "403", closed, "POST", "https://closed.openai.azure.com"+path, hello)
	if a.Text("error", "message") != "Public access is disabled. Please configure private endpoint." {
		t.Errorf("%s", a.Raw)
	}
	w.from.Client = netip.MustParseAddr("198.51.100.7")
	w.want(200, "", key, "POST", "https://walled.openai.azure.com"+path, hello)
}

func TestRegion_OnlyKeysSayWhichAccountIsMeant(t *testing.T) {
	w := newWorld(t)
	key := w.account("plain", `"publicNetworkAccess":"Enabled"`)
	named := w.account("named", "")
	w.deploy("plain", "dd", "gpt-4o-mini", "2024-07-18", 10, "")
	const url = "https://eastus.api.cognitive.microsoft.com/openai/deployments/dd/chat/completions" + ver
	w.want(200, "", key, "POST", url, hello)
	w.want(200, "", "Bearer "+key, "POST", "https://eastus.api.cognitive.microsoft.com/openai/v1/chat/completions", `{"model":"dd","messages":[]}`)
	w.recorded()
	a := w.want(400, "BadRequest", me, "POST", url, hello)
	if got, want := a.Text("error", "message"), "Please provide a custom subdomain for token authentication, otherwise API key is required."; got != want {
		t.Errorf("%s", got)
	}
	if !strings.HasPrefix(fix(w.recorded()), "az cognitiveservices account update") {
		t.Error("no command")
	}
	w.want(401, "401", named, "POST", url, hello)
	if !strings.HasPrefix(fix(w.recorded()), "az cognitiveservices account keys list") {
		t.Error("no command")
	}
	w.want(401, "401", "", "POST", url, hello)
	w.want(401, "401", key, "POST", strings.Replace(url, "eastus", "westus", 1), hello)
	w.want(404, "404", key, "POST", "https://nowhere.example/openai/models"+ver, hello)
}

func TestLeastPrivilege_EachOperationHasItsAction(t *testing.T) {
	w := newWorld(t)
	w.standard()
	w.deploy("acc", "embed", "text-embedding-3-small", "1", 1, "")
	const base, cs = "https://acc.openai.azure.com/openai/", "Microsoft.CognitiveServices/accounts/OpenAI/"
	ops := [][4]string{
		{"POST", base + "deployments/dd/chat/completions" + ver, hello, "deployments/chat/completions/action"},
		{"POST", base + "deployments/dd/completions" + ver, `{"prompt":"x"}`, "deployments/completions/action"},
		{"POST", base + "deployments/embed/embeddings" + ver, `{"input":"x"}`, "deployments/embeddings/action"},
		{"GET", base + "models" + ver, "", "models/read"},
		{"GET", base + "models/gpt-4o-mini" + ver, "", "models/read"},
		{"GET", base + "models/gpt-4o-mini-2024-07-18" + ver, "", "models/read"},
		{"GET", base + "deployments?api-version=2022-12-01", "", "deployments/read"},
		{"GET", base + "deployments/DD?api-version=2023-03-15-preview", "", "deployments/read"},
		{"POST", base + "responses?api-version=2025-04-01-preview", `{"model":"dd","input":"x"}`, "responses/write"},
		{"POST", base + "v1/chat/completions", `{"model":"dd","messages":[]}`, "deployments/chat/completions/action"},
		{"POST", base + "v1/completions?api-version=preview", `{"model":"dd","prompt":"x"}`, "deployments/completions/action"},
		{"POST", base + "v1/embeddings?api-version=latest", `{"model":"embed","input":"x"}`, "deployments/embeddings/action"},
		{"POST", base + "v1/responses", `{"model":"dd","input":"x"}`, "responses/write"},
		{"GET", base + "v1/models", "", "models/read"},
		{"GET", base + "v1/models/gpt-4o-mini", "", "models/read"},
	}
	for i, op := range ops {
		who := fmt.Sprintf("p%d", i)
		w.may[who+" "+cs+op[3]] = true
		for _, other := range ops {
			want := 401
			if other[3] == op[3] {
				want = 200
			}
			if a := w.do("Bearer h."+who+".s", other[0], other[1], other[2]); a.Status != want {
				t.Errorf("with %s: %s %s: %d %s", op[3], other[0], other[1], a.Status, a.Raw)
			}
		}
	}
}

func TestModels_SayWhatAnswers(t *testing.T) {
	w := newWorld(t)
	w.standard()
	a := w.want(200, "", me, "GET", "https://acc.openai.azure.com/openai/models"+ver, "")
	list, _ := a.At("data").([]any)
	if len(list) != 4 || a.Text("object") != "list" || !bytes.Contains(a.Raw, []byte(`"owned_by":"builtin/tiny-writer"`)) || !bytes.Contains(a.Raw, []byte(`"id":"gpt-4o-mini-2024-07-18"`)) {
		t.Errorf("%s", a.Raw)
	}
	a = w.want(200, "", me, "GET", "https://acc.openai.azure.com/openai/deployments?api-version=2022-12-01", "")
	if !bytes.Contains(a.Raw, []byte(`"id":"dd","object":"deployment","status":"succeeded","model":"gpt-4o-mini"`)) {
		t.Errorf("%s", a.Raw)
	}
}

func TestEmbeddings_Base64WhereTheBackendKnowsOnlyNumbers(t *testing.T) {
	w := newWorld(t)
	w.standard()
	w.deploy("acc", "embed", "text-embedding-3-small", "1", 10, "")
	const url = "https://acc.openai.azure.com/openai/deployments/embed/embeddings" + ver
	const numbers = `{"object":"list","data":[{"object":"embedding","index":0,"embedding":[1,-0.5,0]},{"index":1,"embedding":"AAAA"}],"usage":{"prompt_tokens":3,"total_tokens":3}}`
	w.answers(200, "application/json", numbers)
	if a := w.want(200, "", me, "POST", url, `{"input":"x"}`); string(a.Raw) != numbers {
		t.Errorf("%s", a.Raw)
	}
	a := w.want(200, "", me, "POST", url, `{"input":"base64","encoding_format":"base64"}`)
	if want := strings.Replace(numbers, "[1,-0.5,0]", `"AACAPwAAAL8AAAAA"`, 1); string(a.Raw) != want {
		t.Errorf("got %s\nwant %s", a.Raw, want)
	}
	w.answers(200, "application/json", `{"data":[{"embedding":["x"]}]}`)
	w.want(503, "ServiceUnavailable", me, "POST", url, `{"input":"x","encoding_format":"base64"}`)
}

func TestBackendFailures(t *testing.T) {
	w := newWorld(t)
	w.standard()
	for _, tt := range []struct {
		status     int
		body       string
		want       int
		code, text string
		passed     bool
	}{
		{400, `{"error":{"message":"bad temperature","type":"invalid_request_error","param":"temperature","code":null}}`, 400, "", "bad temperature", true},
		{422, `{"detail":"x"}`, 422, "", "", true},
		{400, `<html>`, 400, "BadRequest", "refused the request with the status 400", false},
		{401, `{"error":{"message":"backend key sk-secret is wrong"}}`, 503, "ServiceUnavailable", "refused this gateway's request with the status 401", false},
		{404, `{}`, 503, "ServiceUnavailable", "status 404", false},
		{429, `{}`, 429, "TooManyRequests", "too much to do", false},
		{500, `{"error":{"message":"trace"}}`, 500, "InternalServerError", "The server had an error while processing your request. Sorry about that!", false},
		{502, `bad gateway`, 503, "ServiceUnavailable", "status 502", false},
	} {
		w.recorded()
		w.answers(tt.status, "application/json", tt.body)
		a := w.do(me, "POST", chat, hello)
		if a.Status != tt.want || a.Text("error", "code") != tt.code || !strings.Contains(a.Text("error", "message"), tt.text) || tt.passed != (string(a.Raw) == tt.body) {
			t.Errorf("%d %s: %d %s", tt.status, tt.body, a.Status, a.Raw)
		}
		if bytes.Contains(a.Raw, []byte("sk-secret")) {
			t.Errorf("what the backend said of its key is told: %s", a.Raw)
		}
		if kept := w.recorded(); strings.Contains(fmt.Sprint(kept), "sk-secret") || (tt.want >= 500) != strings.Contains(fix(kept), "laz models test gpt-4o-mini") {
			t.Errorf("%d: recorded %+v", tt.status, kept)
		}
	}
	w.upstream.CloseClientConnections()
	w.backs(func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) })
	w.want(503, "ServiceUnavailable", me, "POST", chat, hello)
	w.backs(func(rw http.ResponseWriter, _ *http.Request) {
		rw.Header().Set("Content-Length", "100")
		_, _ = io.WriteString(rw, `{"choices":`)
	})
	w.want(503, "ServiceUnavailable", me, "POST", chat, hello)
}

func TestLongAnswersPass(t *testing.T) {
	w := newWorld(t)
	w.standard()
	long := `{"choices":[{"message":{"content":"` + strings.Repeat("words ", 100_000) + `"}}],"usage":{"prompt_tokens":7,"completion_tokens":11}}`
	w.answers(200, "application/json", long)
	resp, raw := w.over(me, chat, hello)
	if resp.StatusCode != 200 || string(raw) != long {
		t.Errorf("%d, %d bytes of %d", resp.StatusCode, len(raw), len(long))
	}
	if got := w.metric("laz_openai_tokens_total", "completion"); got != 11 {
		t.Errorf("%v tokens counted", got)
	}
}

// over asks over a connection and reads the answer as far as it comes.
func (w *world) over(credential, url, body string) (*http.Response, []byte) {
	w.t.Helper()
	resp, raw, err := w.try(w.t.Context(), credential, url, body)
	if err != nil {
		w.t.Fatal(err)
	}
	return resp, raw
}

func (w *world) try(ctx context.Context, credential, url, body string) (*http.Response, []byte, error) {
	host, path, _ := strings.Cut(strings.TrimPrefix(url, "https://"), "/")
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, w.front.URL+"/"+path, strings.NewReader(body))
	if err != nil {
		return nil, nil, err
	}
	r.Host = host
	authenticate(r, credential)
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		return nil, nil, err
	}
	defer resp.Body.Close()
	raw, err := io.ReadAll(resp.Body)
	return resp, raw, err
}

// metric is the sum of a counter's series that have all the label values.
func (w *world) metric(name string, labels ...string) float64 {
	w.t.Helper()
	families, err := w.reg.Gather()
	if err != nil {
		w.t.Fatal(err)
	}
	sum := 0.0
	for _, f := range families {
		if f.GetName() != name {
			continue
		}
		for _, m := range f.GetMetric() {
			var values []string
			for _, l := range m.GetLabel() {
				values = append(values, l.GetValue())
			}
			if !slices.ContainsFunc(labels, func(l string) bool { return !slices.Contains(values, l) }) {
				sum += m.GetCounter().GetValue()
			}
		}
	}
	return sum
}

// eventually waits until f is content.
func eventually(t testing.TB, f func() error) {
	t.Helper()
	deadline := time.Now().Add(10 * time.Second)
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for {
		err := f()
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			t.Fatal(err)
		}
		<-tick.C
	}
}

func TestMetering_CountsByPrincipalAndDeployment(t *testing.T) {
	w := newWorld(t)
	key := w.standard()
	for range 3 {
		w.want(200, "", me, "POST", chat, hello)
	}
	w.want(200, "", key, "POST", chat, hello)
	for labels, want := range map[[3]string]float64{{"me", "dd", "prompt"}: 15, {"me", "acc", "completion"}: 6, {"account key", "dd", "prompt"}: 5} {
		if got := w.metric("laz_openai_tokens_total", labels[:]...); got != want {
			t.Errorf("%v: %v tokens, want %v", labels, got, want)
		}
	}
	if got := w.metric("laz_openai_requests_total", "acc", "dd", "chat/completions", "200"); got != 4 {
		t.Errorf("%v requests", got)
	}
}

var errNot = errors.New("not yet")
