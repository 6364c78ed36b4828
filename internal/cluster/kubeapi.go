package cluster

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"
)

// FieldManager is under which name what we apply is ours (Kubernetes,
// "Server-Side Apply").
const FieldManager = "lazurite"

const (
	maxKubeAnswer = 64 << 20 // bytes of an API server's answer
	kubeTimeout   = 30 * time.Second
)

// KubeAPI speaks to an API server: plain REST, since a client library would be
// most of this program. Close it.
type KubeAPI struct {
	base   string
	token  string
	http   *http.Client
	stream *http.Client // without a limit of time
}

// KubeError is an answer of an API server that is no success.
// Source: Kubernetes API conventions, Status.
type KubeError struct {
	Code    int    // of HTTP
	Reason  string // "NotFound", "Invalid", …
	Message string
}

// Error implements error.
func (e *KubeError) Error() string {
	if e.Message == "" {
		return fmt.Sprintf("the API server answered %d", e.Code)
	}
	return fmt.Sprintf("the API server answered %d: %s", e.Code, e.Message)
}

// kubeCode is the HTTP status that err carries, 0 when none does.
func kubeCode(err error) int {
	if e, ok := errors.AsType[*KubeError](err); ok {
		return e.Code
	}
	return 0
}

// OpenKube makes a client from what a driver gives access with.
func OpenKube(a Access) (*KubeAPI, error) {
	if u, err := url.Parse(a.Server); err != nil || u.Scheme != "https" || u.Host == "" {
		return nil, fmt.Errorf("the API server's URL %q is no https URL", a.Server)
	}
	cfg := &tls.Config{MinVersion: tls.VersionTLS12, ServerName: a.ServerName}
	if len(a.CA) > 0 {
		cfg.RootCAs = x509.NewCertPool()
		if !cfg.RootCAs.AppendCertsFromPEM(a.CA) {
			return nil, errors.New("the API server's authority is no PEM certificate")
		}
	}
	if len(a.Cert) > 0 {
		pair, err := tls.X509KeyPair(a.Cert, a.Key)
		if err != nil {
			return nil, fmt.Errorf("the client certificate for the API server: %w", err)
		}
		cfg.Certificates = []tls.Certificate{pair}
	}
	t := &http.Transport{TLSClientConfig: cfg, ForceAttemptHTTP2: true, MaxIdleConnsPerHost: 4, IdleConnTimeout: time.Minute} // no proxy: the server is on this machine or named by its owner
	return &KubeAPI{base: strings.TrimSuffix(a.Server, "/"), token: a.Token, http: &http.Client{Transport: t, Timeout: kubeTimeout}, stream: &http.Client{Transport: t}}, nil
}

// Close lets go of idle connections.
func (k *KubeAPI) Close() { k.http.CloseIdleConnections() }

// request is one for the API server.
func (k *KubeAPI) request(ctx context.Context, method, path string, body []byte) (*http.Request, error) {
	req, err := http.NewRequestWithContext(ctx, method, k.base+path, bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	req.Header.Set("User-Agent", FieldManager)
	if k.token != "" {
		req.Header.Set("Authorization", "Bearer "+k.token)
	}
	return req, nil
}

// do sends a request and decodes the answer into out, which may be nil.
func (k *KubeAPI) do(ctx context.Context, method, path, contentType string, body []byte, out any) error {
	req, err := k.request(ctx, method, path, body)
	if err != nil {
		return err
	}
	req.Header.Set("Accept", "application/json")
	if contentType != "" {
		req.Header.Set("Content-Type", contentType)
	}
	resp, err := k.http.Do(req)
	if err != nil {
		return fmt.Errorf("ask the API server: %w", err)
	}
	defer func() { _ = resp.Body.Close() }() // read below
	b, err := io.ReadAll(io.LimitReader(resp.Body, maxKubeAnswer))
	if err != nil {
		return fmt.Errorf("read the API server's answer: %w", err)
	}
	if resp.StatusCode/100 != 2 {
		return kubeError(resp.StatusCode, b)
	}
	if out == nil {
		return nil
	}
	if err := json.Unmarshal(b, out); err != nil {
		return fmt.Errorf("decode the API server's answer: %w", err)
	}
	return nil
}

func kubeError(code int, body []byte) error {
	e := &KubeError{Code: code}
	var status struct{ Reason, Message string }
	if json.Unmarshal(body, &status) == nil {
		e.Reason, e.Message = status.Reason, status.Message
	} else if text := strings.TrimSpace(string(body)); len(text) < 300 {
		e.Message = strings.ToValidUTF8(text, "?")
	}
	return e
}

// Get reads the object at path into out.
func (k *KubeAPI) Get(ctx context.Context, path string, out any) error {
	return k.do(ctx, http.MethodGet, path, "", nil, out)
}

// Delete takes the object away, and what depends on it; one that is not there
// is no error.
func (k *KubeAPI) Delete(ctx context.Context, path string) error {
	err := k.do(ctx, http.MethodDelete, path, "application/json", []byte(`{"propagationPolicy":"Background"}`), nil)
	if kubeCode(err) == http.StatusNotFound {
		return nil
	}
	return err
}

// Apply makes the object be as o says, taking fields over from other managers
// (server-side apply), and gives it as it then is.
func (k *KubeAPI) Apply(ctx context.Context, o Object) (Object, error) {
	path, err := o.Path()
	if err != nil {
		return nil, err
	}
	b, err := json.Marshal(o)
	if err != nil {
		return nil, fmt.Errorf("encode %s: %w", o, err)
	}
	var now Object
	if err := k.do(ctx, http.MethodPatch, path+"?fieldManager="+FieldManager+"&force=true", "application/apply-patch+yaml", b, &now); err != nil {
		return nil, fmt.Errorf("apply %s: %w", o, err)
	}
	return now, nil
}

// Patch merges a patch (RFC 7396) into the object at path.
func (k *KubeAPI) Patch(ctx context.Context, path string, patch any) error {
	b, err := json.Marshal(patch)
	if err != nil {
		return fmt.Errorf("encode a patch: %w", err)
	}
	return k.do(ctx, http.MethodPatch, path+"?fieldManager="+FieldManager, "application/merge-patch+json", b, nil)
}

// Create posts an object to a collection, as a query such as "dryRun=All" says.
func (k *KubeAPI) Create(ctx context.Context, collection, query string, o, out any) error {
	b, err := json.Marshal(o)
	if err != nil {
		return fmt.Errorf("encode an object: %w", err)
	}
	if query != "" {
		collection += "?" + query
	}
	return k.do(ctx, http.MethodPost, collection, "application/json", b, out)
}

// Ready asks the API server whether it is (Kubernetes, "API health endpoints").
func (k *KubeAPI) Ready(ctx context.Context) error {
	err := k.do(ctx, http.MethodGet, "/readyz", "", nil, nil)
	return err
}
