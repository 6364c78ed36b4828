package proxy_test

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"lazurite.dev/kube/webhook/proxy"
)

type tokens struct{ err error }

func (f tokens) Token(_ context.Context, client, resource string) (proxy.Token, error) {
	return proxy.Token{Value: client + " " + resource, Expires: time.Now().Add(time.Hour)}, f.err
}

func start(t *testing.T, s proxy.Server) *httptest.Server {
	t.Helper()
	if s.Log == nil {
		s.Log = slog.New(slog.DiscardHandler)
	}
	h, err := s.Handler()
	if err != nil {
		t.Fatal(err)
	}
	server := httptest.NewServer(h)
	t.Cleanup(server.Close)
	return server
}

func get(t *testing.T, url string) (int, string, http.Header) {
	t.Helper()
	resp, err := http.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(b), resp.Header
}

func TestTokenAnswers(t *testing.T) {
	s := start(t, proxy.Server{Tokens: tokens{}, ClientID: "own"})
	for path, want := range map[string]string{
		"/metadata/identity/oauth2/token?resource=https://vault.azure.net":              "own https://vault.azure.net",
		"/MetaData/identity/oauth2/token?resource=r&client_id=other&api-version=2018":   "other r",
		"/metadata/identity/oauth2/token/and/more?resource=r&bypass_cache=true":         "own r",
		"/metadata/identity/oauth2/tokens?resource=https%3A%2F%2Fmanagement.azure.com/": "own https://management.azure.com/",
	} {
		code, body, header := get(t, s.URL+path)
		var a map[string]any
		if err := json.Unmarshal([]byte(body), &a); err != nil || code != http.StatusOK {
			t.Fatalf("%s: %d %s", path, code, body)
		}
		in, _ := a["expires_in"].(float64)
		on, _ := a["expires_on"].(string)
		unix, err := strconv.ParseInt(on, 10, 64)
		if a["access_token"] != want || a["refresh_token"] != "" || a["token_type"] != "Bearer" || in < 3580 || in > 3590 ||
			err != nil || time.Until(time.Unix(unix, 0)) < 59*time.Minute || header.Get("Content-Type") != "application/json" || a["not_before"] == nil {
			t.Errorf("%s: got %s", path, body)
		}
	}
}

func TestTokenRefusals(t *testing.T) {
	const path = "/metadata/identity/oauth2/token"
	for _, test := range []struct {
		server proxy.Server
		query  string
		code   int
		want   string
	}{
		{proxy.Server{Tokens: tokens{}}, "?resource=r", 400, "The client_id parameter or AZURE_CLIENT_ID environment variable must be set\n"},
		{proxy.Server{Tokens: tokens{}, ClientID: "c"}, "", 400, "The resource parameter is required.\n"},
		{proxy.Server{Tokens: tokens{errors.New("AADSTS70021")}, ClientID: "c"}, "?resource=r", 500, "AADSTS70021\n"},
	} {
		if code, body, _ := get(t, start(t, test.server).URL+path+test.query); code != test.code || body != test.want {
			t.Errorf("got %d %q, want %d %q", code, body, test.code, test.want)
		}
	}
}

func TestTheRestIsPassedOn(t *testing.T) {
	real := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("X-Real", r.Header.Get("Metadata"))
		w.WriteHeader(http.StatusTeapot)
		_, _ = io.WriteString(w, r.URL.RequestURI()+r.Header.Get("X-Forwarded-For"))
	}))
	defer real.Close()
	s := start(t, proxy.Server{Tokens: tokens{}, Metadata: real.URL})
	req, err := http.NewRequest(http.MethodGet, s.URL+"/metadata/instance?api-version=2021-02-01", nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Metadata", "true")
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	b, _ := io.ReadAll(resp.Body)
	if resp.StatusCode != http.StatusTeapot || string(b) != "/metadata/instance?api-version=2021-02-01" || resp.Header.Get("X-Real") != "true" {
		t.Errorf("got %d %s", resp.StatusCode, b)
	}
	if code, body, _ := get(t, s.URL+"/readyz"); code != http.StatusOK || body != "ok" {
		t.Errorf("got %d %s", code, body)
	}
	real.Close()
	if code, _, _ := get(t, s.URL+"/metadata/instance"); code != http.StatusInternalServerError {
		t.Errorf("got %d", code)
	}
}

func TestRunAndProbe(t *testing.T) {
	l, err := net.Listen("tcp", "localhost:0")
	if err != nil {
		t.Fatal(err)
	}
	port := l.Addr().(*net.TCPAddr).Port
	_ = l.Close()
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	s := proxy.Server{Port: port, Tokens: tokens{}, Metadata: "http://127.0.0.1:1", Log: slog.New(slog.DiscardHandler)}
	go func() { done <- s.Run(ctx) }()
	if err := proxy.Probe(ctx, port); err != nil {
		t.Error(err)
	}
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
	if err := proxy.Probe(ctx, port); err == nil {
		t.Error("a proxy that has ended is ready")
	}
}

// TestExchange: what is asked of the token service, and how often.
func TestExchange(t *testing.T) {
	var asked atomic.Int32
	var answer atomic.Value
	answer.Store(`{"access_token":"t","expires_in":3600}`)
	s := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked.Add(1)
		if err := r.ParseForm(); err != nil || r.URL.Path != "/tenant/oauth2/v2.0/token" || r.Form.Get("client_assertion") != "jwt" ||
			r.Form.Get("grant_type") != "client_credentials" || r.Form.Get("scope") != r.Form.Get("client_id")+"/.default" {
			t.Errorf("asked %s %v", r.URL, r.Form)
		}
		text, _ := answer.Load().(string)
		if strings.Contains(text, "error") {
			w.WriteHeader(http.StatusBadRequest)
		}
		_, _ = io.WriteString(w, text)
	}))
	defer s.Close()
	file := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(file, []byte("jwt\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	e, err := proxy.NewExchange(s.URL+"/", "tenant", file)
	if err != nil {
		t.Fatal(err)
	}
	e.SetClient(s.Client())
	for range 3 {
		if token, err := e.Token(t.Context(), "a", "a"); err != nil || token.Value != "t" || asked.Load() != 1 {
			t.Errorf("got %v, %v after %d", token, err, asked.Load())
		}
	}
	answer.Store(`{"access_token":"t","expires_in":"200"}`) // it is renewed before it ends
	for i := range 2 {
		if _, err := e.Token(t.Context(), "b", "b"); err != nil || asked.Load() != int32(2+i) {
			t.Errorf("got %v after %d", err, asked.Load())
		}
	}
	answer.Store(`{"error":"invalid_client","error_description":"AADSTS700213: no match"}`)
	if token, err := e.Token(t.Context(), "b", "b"); err != nil || token.Value != "t" {
		t.Errorf("the old one still lives: %v, %v", token, err)
	}
	if _, err := e.Token(t.Context(), "c", "c"); err == nil || !strings.Contains(err.Error(), "invalid_client: AADSTS700213: no match") {
		t.Errorf("got %v", err)
	}
	for _, bad := range []string{`{}`, `nothing`, `{"access_token":"","expires_in":1}`, `{"access_token":"t","expires_in":"soon"}`} {
		answer.Store(bad)
		if _, err := e.Token(t.Context(), "d", "d"); err == nil {
			t.Errorf("%s: no error", bad)
		}
	}
	if _, err := e.Token(t.Context(), "a", "a"); err != nil {
		t.Error(err)
	}
}

func TestExchangeRefuses(t *testing.T) {
	for _, args := range [][3]string{{"http://host/", "t", "f"}, {"host", "t", "f"}, {"https://host/", "t", ""}, {"https://host/", "a/b", "f"}} {
		if _, err := proxy.NewExchange(args[0], args[1], args[2]); err == nil {
			t.Errorf("%v: no error", args)
		}
	}
	e, err := proxy.NewExchange("https://host/", "t", filepath.Join(t.TempDir(), "missing"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := e.Token(t.Context(), "c", "r"); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("got %v", err)
	}
}
