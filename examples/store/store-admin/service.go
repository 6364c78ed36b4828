package main

import (
	"embed"
	"io/fs"
	"log/slog"
	"net/http"
	"net/http/httputil"
	"net/url"
	"strings"

	"lazurite.dev/examples/store/internal/httpd"
)

//go:embed page
var files embed.FS

// policy lets the page load what is in this program and nothing else.
const policy = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' https: data:; connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"

// newService serves the page, and hands what it asks for on to the
// product-service at products.
func newService(products *url.URL) http.Handler {
	page, err := fs.Sub(files, "page")
	if err != nil {
		panic(err) // the folder is in the program
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /health", func(w http.ResponseWriter, _ *http.Request) {
		httpd.JSON(w, http.StatusOK, map[string]string{"status": "ok", "version": httpd.Version()})
	})
	mux.Handle("/api/products", below("/api/products", products))
	mux.Handle("/api/products/", below("/api/products", products))
	mux.Handle("/api/ai/", below("/api", products))
	mux.Handle("/", static(http.FileServerFS(page)))
	return http.NewCrossOriginProtection().Handler(mux)
}

// static adds what a browser should know about the page.
func static(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h.Set("Content-Security-Policy", policy)
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("Referrer-Policy", "no-referrer")
		h.Set("Cache-Control", "no-cache")
		if r.Method != http.MethodGet && r.Method != http.MethodHead {
			h.Set("Allow", "GET, HEAD")
			httpd.Detail(w, http.StatusMethodNotAllowed, "The page can only be read.")
			return
		}
		next.ServeHTTP(w, r)
	})
}

// below hands a request on, without the prefix of its path.
func below(prefix string, to *url.URL) http.Handler {
	return &httputil.ReverseProxy{
		Transport: httpd.Direct(),
		Rewrite: func(r *httputil.ProxyRequest) {
			r.SetURL(to)
			r.Out.URL = to.JoinPath("/" + strings.Trim(strings.TrimPrefix(r.In.URL.Path, prefix), "/"))
			r.Out.URL.RawQuery = r.In.URL.RawQuery
		},
		ErrorHandler: func(w http.ResponseWriter, r *http.Request, err error) {
			if r.Context().Err() != nil {
				return // nobody waits for it
			}
			slog.Error("the product-service does not answer", "url", to.Redacted(), "error", err)
			httpd.Detail(w, http.StatusBadGateway, "The product-service does not answer at %s. Does its pod run? kubectl get pods --selector app=product-service", to.Redacted())
		},
	}
}
