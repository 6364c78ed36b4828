package pull_test

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"io"
	"math/big"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"

	"lazurite.dev/internal/node/pull"
)

const (
	secret = "0123456789abcdef0123456789abcdef"
	entra  = "token-of-the-identity"
)

// world is a cloud with one registry, whose name is a loopback address's: tests
// have no resolver. It notes who was asked what.
type world struct {
	*httptest.Server
	t        *testing.T
	dir      string
	cfg      pull.Config
	asked    []string
	token    func(w http.ResponseWriter)
	exchange func(w http.ResponseWriter)
	pods     string
	events   []map[string]any
}

func newWorld(t *testing.T) *world {
	t.Helper()
	w := &world{t: t, dir: t.TempDir()}
	w.token = func(rw http.ResponseWriter) {
		_, _ = io.WriteString(rw, `{"access_token":"`+entra+`","expires_in":"3599"}`)
	}
	w.exchange = func(rw http.ResponseWriter) { _, _ = io.WriteString(rw, `{"refresh_token":"refresh"}`) }
	w.Server = httptest.NewTLSServer(http.HandlerFunc(w.serve))
	t.Cleanup(w.Close)
	ca := filepath.Join(w.dir, "ca.crt")
	w.write(ca, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: w.Certificate().Raw}))
	cert := filepath.Join(w.dir, "kubelet.pem")
	w.write(cert, clientPair(t))
	w.cfg = pull.Config{
		Registries: []string{"*.azurecr.io", "example.com"}, TokenURL: w.URL + "/msi/token", CAFile: ca, Node: "n1",
		Cluster: "/subscriptions/s/resourceGroups/rg/providers/Microsoft.ContainerService/managedClusters/c1",
		API:     pull.API{Server: w.URL, CAFile: ca, CertFile: cert},
	}
	return w
}

func clientPair(t *testing.T) []byte {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	tmpl := &x509.Certificate{SerialNumber: big.NewInt(1)}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	raw, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return append(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: raw})...)
}

func (w *world) write(file string, raw []byte) {
	w.t.Helper()
	if err := os.WriteFile(file, raw, 0o600); err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) serve(rw http.ResponseWriter, r *http.Request) {
	w.asked = append(w.asked, r.Method+" "+r.URL.Path)
	switch r.URL.Path {
	case "/msi/token":
		if r.Header.Get("X-IDENTITY-HEADER") != secret || r.URL.Query().Get("resource") != "https://containerregistry.azure.net" || r.URL.Query().Get("api-version") != "2019-08-01" {
			w.t.Errorf("the token is asked for with %v, %v", r.URL, r.Header)
		}
		w.token(rw)
	case "/oauth2/exchange":
		if r.PostFormValue("grant_type") != "access_token" || r.PostFormValue("access_token") != entra || r.PostFormValue("service") != host {
			w.t.Errorf("the exchange is asked with %v", r.PostForm)
		}
		w.exchange(rw)
	case "/api/v1/pods":
		if r.URL.Query().Get("fieldSelector") != "spec.nodeName=n1" {
			w.t.Errorf("pods are listed with %v", r.URL)
		}
		_, _ = io.WriteString(rw, w.pods)
	case "/api/v1/namespaces/ns/events":
		var e map[string]any
		if err := json.NewDecoder(r.Body).Decode(&e); err != nil {
			w.t.Error(err)
		}
		w.events = append(w.events, e)
		rw.WriteHeader(http.StatusCreated)
	default:
		w.t.Errorf("asked for %s", r.URL)
	}
}

// host is a name that the certificate of httptest's servers has.
const host = "example.com"

// ask gives the provider a request for an image.
func (w *world) ask(request string) (string, error) {
	w.t.Helper()
	file := filepath.Join(w.dir, "config.json")
	raw, err := json.Marshal(w.cfg)
	if err != nil {
		w.t.Fatal(err)
	}
	w.write(file, raw)
	var out bytes.Buffer
	dial := func(address string) string { // the registry's name, resolved as a node does
		if address == host+":443" {
			return w.Listener.Addr().String()
		}
		return address
	}
	err = pull.RunWith(w.t.Context(), file, secret, strings.NewReader(request), &out, dial)
	if err != nil && (strings.Contains(err.Error(), secret) || strings.Contains(err.Error(), entra)) {
		w.t.Errorf("a secret is in %v", err)
	}
	return out.String(), err
}

func request(image string) string {
	return `{"apiVersion":"credentialprovider.kubelet.k8s.io/v1","kind":"CredentialProviderRequest","image":"` + image + `"}`
}

func TestRun(t *testing.T) {
	w := newWorld(t)
	out, err := w.ask(request(host + "/team/app"))
	if err != nil {
		t.Fatal(err)
	}
	want := `{"apiVersion":"credentialprovider.kubelet.k8s.io/v1","kind":"CredentialProviderResponse","cacheKeyType":"Registry","cacheDuration":"0s",` +
		`"auth":{"example.com":{"username":"00000000-0000-0000-0000-000000000000","password":"refresh"}}}` + "\n"
	if diff := cmp.Diff(want, out); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff([]string{"GET /msi/token", "POST /oauth2/exchange"}, w.asked); diff != "" {
		t.Error(diff)
	}
}

// TestRun_OtherHosts: nobody is asked anything for an image that is not in a
// registry of this cloud.
func TestRun_OtherHosts(t *testing.T) {
	w := newWorld(t)
	for _, image := range []string{
		"ghcr.io/a/b", "azurecr.io/a", ".azurecr.io/a", "a.b.azurecr.io/x", "r.azurecr.io.evil.example/x", "evil.example/r.azurecr.io/x", "r.azurecr.io@evil.example/x",
		"evil.example#.azurecr.io/x", "evil.example?.azurecr.io/x", "r.azurecr.io:8443/x", "r.azurecr.io", "", "R.AZURECR.IO/x", `r\\.azurecr.io/x`, "user:pass@r.azurecr.io/x",
		strings.Repeat("a", 300) + ".azurecr.io/x", "example.com.:443/x", "notexample.com/x",
	} {
		out, err := w.ask(request(image))
		if err == nil || !strings.Contains(err.Error(), "not in a registry of this cloud") || out != "" {
			t.Errorf("%s: %q, %v", image, out, err)
		}
	}
	w.cfg.Elsewhere = []string{"example.com"}
	if out, err := w.ask(request(host + "/x")); err == nil || !strings.Contains(err.Error(), "mirror") || out != "" {
		t.Errorf("with a mirror: %q, %v", out, err)
	}
	w.cfg.Elsewhere, w.cfg.Registries = []string{"*"}, []string{"*.com"}
	if out, err := w.ask(request(host + "/x")); err == nil || !strings.Contains(err.Error(), "mirror") || out != "" {
		t.Errorf("with a mirror of all: %q, %v", out, err)
	}
	if len(w.asked) > 0 {
		t.Errorf("asked: %v", w.asked)
	}
}

func TestRun_MalformedRequests(t *testing.T) {
	w := newWorld(t)
	for _, r := range []string{
		"", "{", "[]", "null", `"x"`, `{"image":"example.com/x"}`, strings.Replace(request("example.com/x"), "/v1", "/v2", 1),
		strings.Replace(request("example.com/x"), "Request", "Response", 1), strings.Repeat(" ", 2<<20) + request("example.com/x"),
	} {
		if out, err := w.ask(r); err == nil || out != "" {
			t.Errorf("%.40q: %q, %v", r, out, err)
		}
	}
	if len(w.asked) > 0 {
		t.Errorf("asked: %v", w.asked)
	}
}

// TestRun_Refused: what is refused or malformed gives no credentials, and the
// pods that wait for the image are told why.
func TestRun_Refused(t *testing.T) {
	denied := `{"errors":[{"code":"DENIED","message":"no role that lets it do 'pull/read'"}]}`
	says := func(status int, body string) func(http.ResponseWriter) {
		return func(w http.ResponseWriter) {
			w.WriteHeader(status)
			_, _ = io.WriteString(w, body)
		}
	}
	for name, tt := range map[string]struct {
		token, exchange func(http.ResponseWriter)
		want            string
	}{
		"no role":             {nil, says(403, denied), "the registry refuses the kubelet's identity: 403 Forbidden: no role that lets it do 'pull/read'"},
		"no reason":           {nil, says(500, entra), "500 Internal Server Error: it does not say why"},
		"an empty reason":     {nil, says(500, "{}"), "it does not say why"},
		"a long reason":       {nil, says(403, `{"errors":[{"message":"`+strings.Repeat("x", 5000)+`"}]}`), "xx…"},
		"no JSON":             {nil, says(200, "<html>"), "the answer is no JSON object"},
		"another JSON":        {nil, says(200, "[1]"), "the answer is no JSON object"},
		"no refresh token":    {nil, says(200, `{"refresh_token":7}`), "the answer has no refresh_token"},
		"elsewhere":           {nil, func(w http.ResponseWriter) { w.Header().Set("Location", "https://evil.example/"); w.WriteHeader(307) }, "307 Temporary Redirect"},
		"a wrong secret":      {says(401, `{"error":"unauthorized","error_description":"not the secret"}`), nil, "the kubelet's identity gets no token: 401 Unauthorized: not the secret"},
		"no token":            {says(200, `{}`), nil, "the answer has no access_token"},
		"a token of no JSON":  {says(200, "token"), nil, "the answer is no JSON object"},
		"a token elsewhere":   {func(w http.ResponseWriter) { w.Header().Set("Location", "/oauth2/exchange"); w.WriteHeader(302) }, nil, "302 Found"},
		"an unbounded answer": {says(200, strings.Repeat(" ", 2<<20)+"{}"), nil, "no JSON"},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			if tt.token != nil {
				w.token = tt.token
			}
			if tt.exchange != nil {
				w.exchange = tt.exchange
			}
			w.pods = `{"items":[{"metadata":{"name":"p","namespace":"ns","uid":"u"},"spec":{"containers":[{"name":"a","image":"example.com/x:v1"}]}}]}`
			out, err := w.ask(request(host + "/x"))
			if err == nil || !strings.Contains(err.Error(), tt.want) || out != "" {
				t.Fatalf("%q, %v", out, err)
			}
			if len(w.events) != 1 {
				t.Fatalf("events: %v", w.events)
			}
			message, _ := w.events[0]["message"].(string)
			if !strings.Contains(message, tt.want) || !strings.HasSuffix(message, "az aks update --name c1 --resource-group rg --attach-acr example") || len(message) > 1024 {
				t.Errorf("the event says %q", message)
			}
			if w.events[0]["type"] != "Warning" || w.events[0]["reason"] != "FailedToGetImageCredentials" {
				t.Errorf("event %v", w.events[0])
			}
		})
	}
}

// TestRun_WhoIsTold: pods that wait for the image and bring no credentials.
func TestRun_WhoIsTold(t *testing.T) {
	w := newWorld(t)
	w.exchange = func(rw http.ResponseWriter) { rw.WriteHeader(403) }
	pod := func(name, spec, status string) string {
		return `{"metadata":{"name":"` + name + `","namespace":"ns"},"spec":{` + spec + `},"status":{` + status + `}}`
	}
	const mine = `"containers":[{"name":"a","image":"example.com/x@sha256:aa"}]`
	w.pods = `{"items":[` + strings.Join([]string{
		pod("waits", mine, `"containerStatuses":[{"name":"a","state":{"waiting":{}}}]`),
		pod("init", `"initContainers":[{"name":"i","image":"example.com/x"}]`, ""),
		pod("debug", `"ephemeralContainers":[{"name":"i","image":"example.com/x:1"}]`, ""),
		pod("runs", mine, `"containerStatuses":[{"name":"a","state":{"running":{}}}]`),
		pod("secret", mine+`,"imagePullSecrets":[{"name":"s"}]`, ""),
		pod("other", `"containers":[{"name":"a","image":"example.com/y:v1"}]`, ""),
	}, ",") + `]}`
	if _, err := w.ask(request(host + "/x")); err == nil {
		t.Fatal("taken")
	}
	var told []string
	for _, e := range w.events {
		told = append(told, e["involvedObject"].(map[string]any)["name"].(string))
	}
	if diff := cmp.Diff([]string{"waits", "init", "debug"}, told); diff != "" {
		t.Error(diff)
	}
}

// TestRun_Strangers: who is not of this cloud, whatever its name, gets nothing.
func TestRun_Strangers(t *testing.T) {
	w, other := newWorld(t), newWorld(t)
	w.cfg.CAFile = filepath.Join(w.dir, "other.crt")
	w.write(w.cfg.CAFile, selfSigned(t))
	out, err := w.ask(request(host + "/x"))
	if err == nil || !strings.Contains(err.Error(), "certificate") || out != "" {
		t.Errorf("%q, %v", out, err)
	}
	w.cfg.CAFile = filepath.Join(w.dir, "none.crt")
	w.write(w.cfg.CAFile, []byte("nothing"))
	if _, err := w.ask(request(host + "/x")); err == nil || !strings.Contains(err.Error(), "has no certificate") {
		t.Errorf("without an authority: %v", err)
	}
	for _, asked := range append(w.asked, other.asked...) {
		if strings.Contains(asked, "/msi/") || strings.Contains(asked, "/oauth2/") {
			t.Errorf("asked: %s", asked)
		}
	}
}

func selfSigned(t *testing.T) []byte {
	t.Helper()
	block, _ := pem.Decode(clientPair(t))
	return pem.EncodeToMemory(block)
}

func FuzzRun(f *testing.F) {
	f.Add(request("r.azurecr.io/app"))
	f.Add(`{"image":1}`)
	dir := f.TempDir()
	file := filepath.Join(dir, "config.json")
	if err := os.WriteFile(file, []byte(`{"registries":["*.azurecr.io"],"caFile":"/nonexistent"}`), 0o600); err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, request string) {
		var out bytes.Buffer
		if err := pull.Run(t.Context(), file, secret, strings.NewReader(request), &out); err == nil || out.Len() > 0 {
			t.Errorf("%q: %s, %v", request, out.String(), err)
		}
	})
}

func FuzzReason(f *testing.F) {
	f.Add([]byte(`{"errors":[{"message":"m"}]}`))
	f.Add([]byte(`{"error_description":"d"}`))
	f.Fuzz(func(t *testing.T, raw []byte) {
		if s := pull.Reason(raw); s == "" || len(s) > 503 || !utf8.ValidString(s) {
			t.Errorf("%q: %q", raw, s)
		}
	})
}

func TestRepository(t *testing.T) {
	for image, want := range map[string]string{
		"r.azurecr.io/a/b": "r.azurecr.io/a/b", "r.azurecr.io/a:v1": "r.azurecr.io/a", "r.azurecr.io/a:v1@sha256:aa": "r.azurecr.io/a",
		"r.azurecr.io/a@sha256:aa": "r.azurecr.io/a", "localhost:5000/a": "localhost:5000/a", "localhost:5000/a:b": "localhost:5000/a",
	} {
		if got := pull.Repository(image); got != want {
			t.Errorf("%s: got %s, want %s", image, got, want)
		}
	}
}
