package main

import (
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"lazurite.dev/examples/store/internal/httpd"
)

// backend is a server on Azure OpenAI's API over TLS, that the client trusts.
var backend struct {
	sync.Mutex
	url    string
	answer func(w http.ResponseWriter)
	path   string // of the last request, with its query
	header http.Header
	body   struct {
		Model       string
		Temperature float64
		Messages    []struct{ Role, Content string }
	}
}

func TestMain(m *testing.M) { os.Exit(run(m)) }

func run(m *testing.M) int {
	server := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		backend.Lock()
		defer backend.Unlock()
		backend.path, backend.header = r.URL.RequestURI(), r.Header
		_ = json.NewDecoder(r.Body).Decode(&backend.body) // tests look at what there is
		w.Header().Set("Content-Type", "application/json")
		backend.answer(w)
	}))
	defer server.Close()
	backend.url = server.URL
	dir, err := os.MkdirTemp("", "ai-service-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer func() { _ = os.RemoveAll(dir) }()
	roots := filepath.Join(dir, "roots.pem")
	cert := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw})
	if os.WriteFile(roots, cert, 0o600) != nil || os.Setenv("SSL_CERT_FILE", roots) != nil {
		return 1
	}
	return m.Run()
}

// says makes the backend answer with a status and a body.
func says(code int, body string) {
	backend.Lock()
	defer backend.Unlock()
	backend.answer = func(w http.ResponseWriter) {
		w.Header().Set("X-Should-Retry", "false")
		w.WriteHeader(code)
		_, _ = io.WriteString(w, body)
	}
}

func chat(text string) string {
	content, _ := json.Marshal(text)
	return `{"id":"1","object":"chat.completion","created":1,"model":"m","choices":[{"index":0,"finish_reason":"stop","message":{"role":"assistant","content":` + string(content) + `}}]}`
}

// variables are those of a service with a key.
func variables(change map[string]string) func(string) string {
	v := map[string]string{
		"USE_AZURE_OPENAI": "True", "AZURE_OPENAI_ENDPOINT": backend.url + "/", "AZURE_OPENAI_DEPLOYMENT_NAME": "description", "AZURE_OPENAI_API_KEY": "k1",
	}
	for name, value := range change {
		v[name] = value
	}
	return func(name string) string { return v[name] }
}

// start serves with these variables.
func start(t *testing.T, env func(string) string) string {
	t.Helper()
	server := httptest.NewServer(httpd.Slashes(newService(connect(env))))
	t.Cleanup(server.Close)
	return server.URL
}

func post(t *testing.T, url, body string) (int, map[string]string) {
	t.Helper()
	answer, err := http.Post(url, "application/json", strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = answer.Body.Close() }()
	got := map[string]string{}
	if err := json.NewDecoder(answer.Body).Decode(&got); err != nil {
		t.Fatal(err)
	}
	return answer.StatusCode, got
}

const rope = `{"name":"Salty Sailor's rope","tags":["dog"," toy ","rope",""]}`

func TestDescription(t *testing.T) {
	says(200, chat("A rope.\nFor dogs. "))
	at := start(t, variables(nil))
	code, got := post(t, at+"//generate/description", rope)
	if want := "A rope. For dogs."; code != 200 || got["description"] != want {
		t.Errorf("got %d %v, want %q", code, got, want)
	}
	if want := "/openai/deployments/description/chat/completions?api-version=2024-12-01-preview"; backend.path != want {
		t.Errorf("asked %s, want %s", backend.path, want)
	}
	if backend.header.Get("Api-Key") != "k1" || backend.header.Get("Authorization") != "" {
		t.Error("the key did not arrive as a key")
	}
	messages := backend.body.Messages
	if len(messages) != 2 || messages[0].Role != "system" || messages[1].Content != "Write a product description.\nProduct name: Salty Sailor's rope\nTags: dog, toy, rope" {
		t.Errorf("the messages are %+v", messages)
	}
	if backend.body.Temperature != 0.7 {
		t.Errorf("the temperature is %v", backend.body.Temperature)
	}
}

func TestLocalModel(t *testing.T) {
	says(200, chat("Ahoy."))
	at := start(t, variables(map[string]string{"USE_AZURE_OPENAI": "False", "USE_LOCAL_LLM": "true", "LOCAL_LLM_ENDPOINT": backend.url + "/v1", "LOCAL_LLM_MODEL": "llama", "TEMPERATURE": "0"}))
	code, got := post(t, at+"/generate/description", rope)
	if code != 200 || got["description"] != "Ahoy." || backend.path != "/v1/chat/completions" || backend.body.Model != "llama" || backend.body.Temperature != 0 {
		t.Errorf("got %d %v from %s %q", code, got, backend.path, backend.body.Model)
	}
}

func TestRefusalsAreExplained(t *testing.T) {
	for _, c := range []struct {
		code int
		body string
		want []string
	}{
		{401, `{"error":{"code":"PermissionDenied","message":"The principal lacks the data action."}}`, []string{"answered 401, PermissionDenied: The principal lacks", "AZURE_OPENAI_API_KEY"}},
		{403, `{"error":{"code":"AuthenticationTypeDisabled","message":"Key based authentication is disabled for this resource."}}`, []string{"403", "are keys allowed"}},
		{404, `{"error":{"code":"DeploymentNotFound","message":"There is none."}}`, []string{"404", `"description"`, "AZURE_OPENAI_DEPLOYMENT_NAME"}},
		{429, `{"error":{"code":"429","message":"Slow down."}}`, []string{"429", "capacity"}},
		{500, `not JSON`, []string{"500", "Internal Server Error"}},
		{200, chat(" "), []string{"empty answer (stop)"}},
		{200, `{"choices":[]}`, []string{"no answer"}},
	} {
		says(c.code, c.body)
		code, got := post(t, start(t, variables(nil))+"/generate/description", rope)
		if code != 500 || !strings.HasPrefix(got["detail"], "Error generating description: ") {
			t.Errorf("%d: got %d %v", c.code, code, got)
		}
		for _, want := range c.want {
			if !strings.Contains(got["detail"], want) {
				t.Errorf("%d: %q is not said in %q", c.code, want, got["detail"])
			}
		}
	}
}

// What is not configured is said to whoever asks; the service runs.
func TestCertificateOfAStranger(t *testing.T) {
	elsewhere := strings.Replace(backend.url, "127.0.0.1", "localhost", 1) // a name that its certificate lacks
	url := start(t, variables(map[string]string{"AZURE_OPENAI_ENDPOINT": elsewhere}))
	if code, got := post(t, url+"/generate/description", `{"name":"rope","tags":["dog"]}`); code != http.StatusInternalServerError || !strings.Contains(got["detail"], "lazurite.dev/ca-bundle=enabled") {
		t.Errorf("got %d %v", code, got)
	}
}

func TestMissingVariables(t *testing.T) {
	for _, c := range []struct {
		change map[string]string
		want   string
	}{
		{map[string]string{"AZURE_OPENAI_ENDPOINT": ""}, "AZURE_OPENAI_ENDPOINT is not set"},
		{map[string]string{"AZURE_OPENAI_DEPLOYMENT_NAME": ""}, "AZURE_OPENAI_DEPLOYMENT_NAME is not set"},
		{map[string]string{"AZURE_OPENAI_API_KEY": ""}, "AZURE_OPENAI_API_KEY is not set"},
		{map[string]string{"USE_LOCAL_LLM": "True"}, "both True"},
		{map[string]string{"USE_AZURE_OPENAI": ""}, "OPENAI_API_KEY is not set"},
		{map[string]string{"USE_AZURE_OPENAI": "", "USE_LOCAL_LLM": "True"}, "LOCAL_LLM_ENDPOINT and LOCAL_LLM_MODEL"},
		{map[string]string{"TEMPERATURE": "hot"}, "TEMPERATURE"},
	} {
		at := start(t, variables(c.change))
		if code, got := post(t, at+"/generate/description", rope); code != 500 || !strings.Contains(got["detail"], c.want) {
			t.Errorf("%v: got %d %v, want %q", c.change, code, got, c.want)
		}
	}
}

// Signing in fails before anything is asked of the model.
func TestNoIdentity(t *testing.T) {
	t.Setenv("AZURE_TOKEN_CREDENTIALS", "EnvironmentCredential")
	for _, name := range []string{"AZURE_TENANT_ID", "AZURE_CLIENT_ID", "AZURE_CLIENT_SECRET"} {
		t.Setenv(name, "")
	}
	at := start(t, variables(map[string]string{"USE_AZURE_AD": "True", "AZURE_OPENAI_API_KEY": ""}))
	code, got := post(t, at+"/generate/description", rope)
	if code != 500 || !strings.Contains(got["detail"], "EnvironmentCredential") {
		t.Errorf("got %d %v", code, got)
	}
}

func TestRequestsThatAreNone(t *testing.T) {
	says(200, chat("no"))
	at := start(t, variables(nil))
	for body, want := range map[string]int{
		``:                          422,
		`{`:                         422,
		`{"name":"x"}`:              422,
		`{"tags":[]}`:               422,
		`{"name":" ","tags":[]}`:    422,
		`{"name":"x","tags":"dog"}`: 422,
		`{"name":"x","tags":[]} {}`: 422,
		`{"name":"x","tags":["` + strings.Repeat("t", 101) + `"]}`:    422,
		`{"name":"` + strings.Repeat("x", 201) + `","tags":[]}`:       422,
		`{"name":"x","tags":["a"` + strings.Repeat(`,"a"`, 20) + `]}`: 422,
		`{"name":"` + strings.Repeat("x", httpd.MaxBody) + `"}`:       413,
	} {
		if code, got := post(t, at+"/generate/description", body); code != want || got["detail"] == "" {
			t.Errorf("%.60s: got %d %v, want %d and a detail", body, code, got, want)
		}
	}
	if code, _ := post(t, at+"/generate/image", `{"name":"x","description":"y"}`); code != 400 {
		t.Errorf("an image: got %d, want 400", code)
	}
	if code, _ := post(t, at+"/generate/poem", `{}`); code != 404 {
		t.Errorf("a poem: got %d, want 404", code)
	}
}

func TestHealth(t *testing.T) {
	for want, env := range map[string]func(string) string{
		`"capabilities":["description"],"status":"ok"`: variables(nil),
		`"capabilities":[],"status":"ok"`:              variables(map[string]string{"AZURE_OPENAI_ENDPOINT": ""}),
	} {
		answer, err := http.Get(start(t, env) + "//health")
		if err != nil {
			t.Fatal(err)
		}
		got, err := io.ReadAll(answer.Body)
		_ = answer.Body.Close()
		if err != nil || answer.StatusCode != 200 || !strings.Contains(string(got), want) {
			t.Errorf("got %d %s (%v), want %s", answer.StatusCode, got, err, want)
		}
	}
}
