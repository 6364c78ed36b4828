package web_test

import (
	"crypto/tls"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"lazurite.dev/internal/web"
)

func hosts(t *testing.T) *web.Hosts {
	t.Helper()
	h := &web.Hosts{}
	for _, p := range []string{"login.microsoftonline.com", "*.vault.azure.net", "special.vault.azure.net", "**.inference.ml.azure.com", "*.ml.azure.com"} {
		s := &web.Surface{Name: p, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			_, _ = w.Write([]byte(web.MatchFrom(r.Context()).Label))
		})}
		if err := h.Add(p, s); err != nil {
			t.Fatal(err)
		}
	}
	return h
}

func TestHosts_Find(t *testing.T) {
	h := hosts(t)
	for _, c := range []struct{ host, pattern, label string }{
		{"login.microsoftonline.com", "login.microsoftonline.com", ""},
		{"LOGIN.microsoftonline.com.:443", "login.microsoftonline.com", ""},
		{"kv1.vault.azure.net:443", "*.vault.azure.net", "kv1"},
		{"special.vault.azure.net", "special.vault.azure.net", ""},
		{"e1.westeurope.inference.ml.azure.com", "**.inference.ml.azure.com", "e1.westeurope"},
		{"e1.inference.ml.azure.com", "**.inference.ml.azure.com", "e1"},
		{"inference.ml.azure.com", "*.ml.azure.com", "inference"},
		{"a.b.vault.azure.net", "", ""},
		{"vault.azure.net", "", ""},
		{".vault.azure.net", "", ""},
		{"a..vault.azure.net", "", ""},
		{"a/b.vault.azure.net", "", ""},
		{strings.Repeat("a", 64) + ".vault.azure.net", "", ""},
		{"evil.com", "", ""},
		{"login.microsoftonline.com.evil.com", "", ""},
		{"127.0.0.1:80", "", ""},
		{"", "", ""},
	} {
		m, ok := h.Find(c.host)
		if ok != (c.pattern != "") || m.Pattern != c.pattern || m.Label != c.label {
			t.Errorf("Find(%q): got %q %q, want %q %q", c.host, m.Pattern, m.Label, c.pattern, c.label)
		}
	}
}

func TestHosts_AddRefuses(t *testing.T) {
	h := hosts(t)
	for _, p := range []string{"", "*.", "a.*.b", "*a.b", "x:1", "LOGIN.microsoftonline.com", "*.vault.azure.net"} {
		if err := h.Add(p, &web.Surface{}); err == nil {
			t.Errorf("Add(%q) was accepted", p)
		}
	}
}

func TestHandler(t *testing.T) {
	f, _ := newFront(t)
	handler := f.Handler(hosts(t), nil)
	for _, c := range []struct {
		name, sni, host string
		status          int
		body            string
	}{
		{"agree", "kv1.vault.azure.net", "kv1.vault.azure.net:443", 200, "kv1"},
		{"no sni", "", "kv1.vault.azure.net", 200, "kv1"},
		{"another owned name", "kv2.vault.azure.net", "kv1.vault.azure.net", 421, "MisdirectedRequest"},
		{"owned name, foreign sni", "example.com", "kv1.vault.azure.net", 421, "MisdirectedRequest"},
		{"foreign name, owned sni", "kv1.vault.azure.net", "example.com", 421, "MisdirectedRequest"},
		{"foreign", "example.com", "example.com", 404, "NoSurface"},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := httptest.NewRequest("GET", "https://"+c.host+"/", nil)
			r.TLS = &tls.ConnectionState{ServerName: c.sni}
			w := httptest.NewRecorder()
			handler.ServeHTTP(w, r)
			if w.Code != c.status || !strings.Contains(w.Body.String(), c.body) {
				t.Errorf("got %d %q, want %d with %q", w.Code, w.Body, c.status, c.body)
			}
		})
	}
}

func FuzzHostsFind(f *testing.F) {
	for _, s := range []string{"a.vault.azure.net:443", "[::1]:80", "::", "a:b:c", ".", "**.vault.azure.net"} {
		f.Add(s)
	}
	h := &web.Hosts{}
	for _, p := range []string{"*.vault.azure.net", "**.b.c", "x.y"} {
		if err := h.Add(p, &web.Surface{}); err != nil {
			f.Fatal(err)
		}
	}
	f.Fuzz(func(t *testing.T, host string) {
		m, ok := h.Find(host)
		if ok && (m.Host == "" || strings.ContainsAny(m.Host, " :/*")) {
			t.Errorf("Find(%q): got host %q", host, m.Host)
		}
	})
}
