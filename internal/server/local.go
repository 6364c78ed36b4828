package server

import (
	"net"
	"net/http"
	"net/netip"
	"strings"

	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// localHandler answers requests to the local address itself, not through it.
func (s *Server) localHandler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /healthz", s.health)
	mux.Handle("GET /metrics", promhttp.HandlerFor(s.metrics, promhttp.HandlerOpts{}))
	if s.system.MSI != nil {
		mux.Handle("/msi/token", s.wrap("msi", s.system.MSI))
	}
	if s.system.Pages != nil {
		pages := s.system.Surfaces[Login]
		pages.Name, pages.Handler = Login, s.system.Pages
		serve := func(w http.ResponseWriter, r *http.Request) { s.front.Serve(&pages, w, r) }
		mux.HandleFunc("/device", serve)
		mux.HandleFunc("/{tenant}/oauth2/v2.0/authorize", serve)
	}
	mux.HandleFunc("GET /{$}", s.startPage)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		// A web page whose name was pointed at this machine sends its own name.
		if !namesLoopback(r.Host) {
			http.Error(w, "This address answers to localhost only.", http.StatusForbidden)
			return
		}
		mux.ServeHTTP(w, r)
	})
}

func namesLoopback(hostport string) bool {
	host := hostport
	if h, _, err := net.SplitHostPort(hostport); err == nil {
		host = h
	}
	if strings.EqualFold(host, "localhost") {
		return true
	}
	a, err := netip.ParseAddr(strings.Trim(host, "[]"))
	return err == nil && a.IsLoopback()
}

// health says whether the store answers.
func (s *Server) health(w http.ResponseWriter, r *http.Request) {
	if _, err := s.store.Now(r.Context()); err != nil {
		http.Error(w, "the store does not answer", http.StatusServiceUnavailable)
		return
	}
	_, _ = w.Write([]byte("ok\n"))
}
