package openai_test

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"strings"
	"testing"
)

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
		{"going on with a response, hidden", me, "POST", base + "v1/responses", `{"model":"dd","previous_response_id":"resp_1","Previous_Response_Id":null}`, 400, "BadRequest", "is to be written \"previous_response_id\"", "-"},
		{"another model, hidden", me, "POST", chat, `{"messages":[],"model":"dd","MODEL":"other"}`, 400, "BadRequest", "is to be written \"model\"", "-"},
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
		{429, `{}`, 429, "429", "too much to do", false},
		{501, `{}`, 400, "OperationNotSupported", "does not do what the request asks for", false},
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
	w.answers(400, "application/json", `{"error":{"message":"org-SECRET1234 may not use https://gpu1.internal:8000/v1 with sk-abcdef123 from gpu2.internal or 127.0.0.1, see the manual","code":"x"}}`)
	if a := w.do(me, "POST", chat, hello); string(a.Raw) != `{"error":{"message":"*** may not use *** with *** from *** or ***, see the manual","code":"x"}}` {
		t.Errorf("what is the operator's is told: %s", a.Raw)
	}
	w.answers(203, "application/json", `{"choices":[]}`) // another success stays what it is
	w.want(203, "", me, "POST", chat, hello)
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
