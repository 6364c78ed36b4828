package main

import (
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"regexp"
	"strings"
	"testing"

	"lazurite.dev/examples/store/internal/httpd"
)

// start serves with a product-service that says what it was asked.
func start(t *testing.T) string {
	t.Helper()
	products := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		_, _ = io.WriteString(w, r.Method+" "+r.URL.RequestURI()+" "+string(body))
	}))
	t.Cleanup(products.Close)
	return startAt(t, products.URL+"/")
}

func startAt(t *testing.T, products string) string {
	t.Helper()
	at, err := url.Parse(products)
	if err != nil {
		t.Fatal(err)
	}
	server := httptest.NewServer(httpd.Slashes(newService(at)))
	t.Cleanup(server.Close)
	return server.URL
}

func do(t *testing.T, method, url, body string, headers ...string) (int, string, http.Header) {
	t.Helper()
	ask, err := http.NewRequest(method, url, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i < len(headers); i += 2 {
		ask.Header.Set(headers[i], headers[i+1])
	}
	answer, err := http.DefaultClient.Do(ask)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = answer.Body.Close() }()
	got, err := io.ReadAll(answer.Body)
	if err != nil {
		t.Fatal(err)
	}
	return answer.StatusCode, string(got), answer.Header
}

func TestPage(t *testing.T) {
	at := start(t)
	code, page, header := do(t, "GET", at+"/", "")
	if code != 200 || !strings.HasPrefix(header.Get("Content-Type"), "text/html") || !strings.Contains(page, "<h1>Products</h1>") {
		t.Fatalf("got %d %s", code, header)
	}
	if !strings.Contains(header.Get("Content-Security-Policy"), "default-src 'none'") {
		t.Errorf("the policy is %q", header.Get("Content-Security-Policy"))
	}
	// Everything that the page names is here.
	named := regexp.MustCompile(`(?:src|href)="([^"#]+)"`).FindAllStringSubmatch(page, -1)
	if len(named) < 3 {
		t.Fatalf("the page names %d files", len(named))
	}
	for _, m := range named {
		if code, _, _ := do(t, "GET", at+"/"+m[1], ""); code != 200 {
			t.Errorf("%s: %d", m[1], code)
		}
	}
}

func TestHopToTheProducts(t *testing.T) {
	at := start(t)
	for _, c := range [][3]string{
		{"GET", "/api/products", "GET / "},
		{"GET", "/api/products/", "GET / "},
		{"POST", "/api/products", "POST / {}"},
		{"DELETE", "/api/products/7", "DELETE /7 "},
		{"GET", "/api/ai/health", "GET /ai/health "},
		{"POST", "/api//ai/generate/description", "POST /ai/generate/description {}"},
	} {
		body := ""
		if c[0] == "POST" {
			body = "{}"
		}
		if code, got, _ := do(t, c[0], at+c[1], body); code != 200 || got != c[2] {
			t.Errorf("%s %s: got %d %q, want %q", c[0], c[1], code, got, c[2])
		}
	}
}

func TestHealthAndRefusals(t *testing.T) {
	at := start(t)
	if code, got, _ := do(t, "GET", at+"/health", ""); code != 200 || !strings.Contains(got, `"status":"ok"`) {
		t.Errorf("health: %d %s", code, got)
	}
	if code, _, _ := do(t, "GET", at+"/none", ""); code != 404 {
		t.Errorf("a file that is not there: %d", code)
	}
	if code, _, _ := do(t, "POST", at+"/api/products", "{}", "Origin", "https://elsewhere.example", "Sec-Fetch-Site", "cross-site"); code != 403 {
		t.Errorf("another site's page may write: %d", code)
	}
	if code, got, _ := do(t, "GET", startAt(t, "http://127.0.0.1:1/")+"/api/products", ""); code != 502 || !strings.Contains(got, `"detail":"The product-service does not answer at http://127.0.0.1:1/`) {
		t.Errorf("a product-service that is away: %d %s", code, got)
	}
}
