// Package proxy answers, inside a pod, as Azure's instance metadata service
// does, with tokens that it gets for the pod's service-account token. All else
// is passed on to the real service.
package proxy

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"strconv"
	"strings"
	"time"
)

const (
	tokenPath = "identity/oauth2/token"
	readyPath = "/readyz"
	userAgent = "azure-workload-identity/proxy"

	margin = 10 * time.Second // taken off expires_in, for the way
)

// Tokens gets access tokens.
type Tokens interface {
	// Token is an access token of the client for the resource.
	Token(ctx context.Context, client, resource string) (Token, error)
}

// Token is an access token.
type Token struct {
	Value   string
	Expires time.Time
}

// Server is the proxy.
type Server struct {
	Port     int
	ClientID string // where the request names none
	Tokens   Tokens
	Metadata string // base URL of the real service
	Log      *slog.Logger
}

// Run listens on localhost and serves until ctx ends.
func (s *Server) Run(ctx context.Context) error {
	h, err := s.Handler()
	if err != nil {
		return err
	}
	var lc net.ListenConfig
	l, err := lc.Listen(ctx, "tcp", net.JoinHostPort("localhost", strconv.Itoa(s.Port)))
	if err != nil {
		return fmt.Errorf("failed to run proxy: %w", err)
	}
	server := &http.Server{Handler: h, ReadHeaderTimeout: 5 * time.Second}
	s.Log.Info("starting the proxy server", "port", s.Port)
	failed := make(chan error, 1)
	go func() { failed <- server.Serve(l) }()
	select {
	case err := <-failed:
		return fmt.Errorf("failed to run proxy: %w", err)
	case <-ctx.Done():
	}
	end, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
	defer cancel()
	return server.Shutdown(end)
}

// Handler is the proxy without its listener.
func (s *Server) Handler() (http.Handler, error) {
	to, err := url.Parse(s.Metadata)
	if err != nil {
		return nil, fmt.Errorf("metadata service: %w", err)
	}
	pass := &httputil.ReverseProxy{
		Rewrite: func(r *httputil.ProxyRequest) {
			r.SetURL(to)
			r.Out.Header["X-Forwarded-For"] = nil // the real service refuses what was forwarded
		},
		Transport: &http.Transport{Proxy: nil, DialContext: (&net.Dialer{Timeout: 5 * time.Second}).DialContext},
		ErrorHandler: func(w http.ResponseWriter, r *http.Request, err error) {
			s.Log.Error("failed executing request", "path", r.URL.Path, "error", err.Error())
			http.Error(w, err.Error(), http.StatusInternalServerError)
		},
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch {
		case isToken(r.URL.Path):
			s.token(w, r)
		case strings.HasPrefix(r.URL.Path, readyPath):
			_, _ = io.WriteString(w, "ok")
		default:
			pass.ServeHTTP(w, r)
		}
	}), nil
}

// isToken compares the first segment without case, and looks at the beginning only.
func isToken(path string) bool {
	const first = "/metadata/"
	return len(path) >= len(first) && strings.EqualFold(path[:len(first)], first) && strings.HasPrefix(path[len(first):], tokenPath)
}

// answer is what the instance metadata service gives.
type answer struct {
	AccessToken  string      `json:"access_token"`
	RefreshToken string      `json:"refresh_token"`
	ExpiresIn    json.Number `json:"expires_in"`
	ExpiresOn    string      `json:"expires_on"`
	NotBefore    json.Number `json:"not_before"`
	Resource     string      `json:"resource"`
	Type         string      `json:"token_type"`
}

func (s *Server) token(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Server", userAgent)
	q := r.URL.Query()
	client, resource := q.Get("client_id"), q.Get("resource")
	if client == "" {
		client = s.ClientID
	}
	if client == "" {
		http.Error(w, "The client_id parameter or AZURE_CLIENT_ID environment variable must be set", http.StatusBadRequest)
		return
	}
	if resource == "" {
		http.Error(w, "The resource parameter is required.", http.StatusBadRequest)
		return
	}
	token, err := s.Tokens.Token(r.Context(), client, resource)
	if err != nil {
		s.Log.Error("failed to get token", "client", client, "resource", resource, "error", err.Error())
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	s.Log.Info("successfully acquired token", "client", client, "resource", resource)
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(answer{ // the asker went away: nobody left to tell
		AccessToken: token.Value, Resource: resource, Type: "Bearer", NotBefore: "0",
		ExpiresIn: json.Number(strconv.FormatInt(int64((time.Until(token.Expires)-margin)/time.Second), 10)),
		ExpiresOn: strconv.FormatInt(token.Expires.Unix(), 10),
	})
}

// Probe asks the proxy on this host whether it serves: seven times, a second
// apart, five seconds each.
func Probe(ctx context.Context, port int) error {
	client := http.Client{Timeout: 5 * time.Second}
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	var last error
	for range 7 {
		if last = ask(ctx, &client, port); last == nil {
			return nil
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return last
}

func ask(ctx context.Context, client *http.Client, port int) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+net.JoinHostPort("localhost", strconv.Itoa(port))+readyPath, nil)
	if err != nil {
		return err
	}
	resp, err := client.Do(req)
	if err != nil {
		return err
	}
	_, err = io.Copy(io.Discard, io.LimitReader(resp.Body, 1<<10))
	if err = errors.Join(err, resp.Body.Close()); err != nil {
		return err
	}
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("the proxy answered %d", resp.StatusCode)
	}
	return nil
}
